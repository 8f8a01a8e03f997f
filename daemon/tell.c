/* What people read of the daemon without asking it: the events of the log with their fields, and
 * the line that `systemctl status` shows. The line is made anew each second and sent where it says
 * something else, at most every few seconds; where no service manager listens nothing is made.
 *
 * What can go wrong: nothing that the daemon would care for. */
#include "tell.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/message-ids.h"
#include "base/parse.h"
#include "service/notify.h"

#define TELL_USEC (5 * USEC_PER_SEC)
/* So long may the last checkpoint take from one piece of progress to the next. */
#define STOP_EXTEND_USEC (120 * USEC_PER_SEC)

/* --- events */

void tell_recovered(const Manager *manager, const Recovery *recovery)
{
    char arenas[LOG_NUMBER_MAX], adopted[LOG_NUMBER_MAX], revision[LOG_NUMBER_MAX],
        duration[LOG_NUMBER_MAX];
    const LogField fields[] = {
        {"RECOVERY", manager->status.recovery},
        {"ARENAS", log_number(arenas, store_count(manager->store))},
        {"ADOPTED", log_number(adopted, recovery->adopted)},
        {"REVISION", log_number(revision, recovery->position.revision)},
        {"DURATION_USEC", log_number(duration, manager->status.recovery_duration_usec)},
        {NULL, NULL},
    };

    log_event(LOG_INFO, MESSAGE_ID_RECOVERED, fields,
              "recovered (%s): %zu arenas (%zu adopted), %llu entries, %llu journal records, "
              "revision %llu, in %.3f s",
              manager->status.recovery, store_count(manager->store), recovery->adopted,
              (unsigned long long)store_entries(manager->store),
              (unsigned long long)recovery->records,
              (unsigned long long)recovery->position.revision,
              (double)manager->status.recovery_duration_usec / (double)USEC_PER_SEC);
}

void tell_started(const Manager *manager)
{
    char arenas[LOG_NUMBER_MAX], revision[LOG_NUMBER_MAX], duration[LOG_NUMBER_MAX];
    uint64_t now = clock_realtime(), begin = manager->status.started_usec;
    const LogField fields[] = {
        {"RECOVERY", manager->status.recovery},
        {"ARENAS", log_number(arenas, store_count(manager->store))},
        {"REVISION", log_number(revision, store_revision(manager->store))},
        {"DURATION_USEC", log_number(duration, now > begin ? now - begin : 0)},
        {NULL, NULL},
    };

    log_event(LOG_INFO, MESSAGE_ID_STARTED, fields, "serving on %s", manager->options->socket);
}

void tell_updates_refused(const Manager *manager, const char *reason, const char *what_heals)
{
    char revision[LOG_NUMBER_MAX];
    const LogField fields[] = {
        {"REVISION", log_number(revision, store_revision(manager->store))},
        {"REASON", reason},
        {NULL, NULL},
    };

    log_event(LOG_ERR, MESSAGE_ID_UPDATES_REFUSED, fields,
              "%s: updates are refused, reads go on; %s", reason, what_heals);
}

void tell_updates_accepted(const Manager *manager)
{
    char revision[LOG_NUMBER_MAX];
    const LogField fields[] = {
        {"REVISION", log_number(revision, store_revision(manager->store))},
        {NULL, NULL},
    };

    log_event(LOG_NOTICE, MESSAGE_ID_UPDATES_ACCEPTED, fields,
              "the journal is written again: updates are accepted");
}

/* --- the line */

static unsigned percent(const Checkpoint *checkpoint)
{
    uint64_t total = checkpoint->summary.pages_total;

    return total > 0 ? (unsigned)(MIN(checkpoint->pages_done, total) * 100 / total) : 0;
}

static const char *age(char text[static FORMAT_DURATION_MAX], uint64_t usec)
{
    /* In whole minutes, so that the line does not change each time. */
    if (usec < 60 * USEC_PER_SEC)
        return "just now";
    format_duration(text, usec - usec % (60 * USEC_PER_SEC));
    return strcat(text, " ago");
}

static void format_checkpoint(const Manager *manager, char *text, size_t size)
{
    const Checkpoint *last = catalog_newest(manager->catalog);
    const Checkpoint *running = job_running(manager->job);
    char ago[FORMAT_DURATION_MAX + 8], took[FORMAT_DURATION_MAX], pause[FORMAT_DURATION_MAX];
    uint64_t now = clock_realtime(), then;

    if (running) {
        snprintf(text, size, "a checkpoint runs, %u%%", percent(running));
    } else if (last) {
        then = last->spec.started_usec + last->summary.duration_usec;
        snprintf(text, size, "last checkpoint %s (%s, pause %s)",
                 age(ago, now > then ? now - then : 0),
                 format_duration(took, last->summary.duration_usec),
                 format_duration(pause, last->summary.pause_usec));
    } else {
        snprintf(text, size, "no checkpoint yet");
    }
}

static void format_line(const Manager *manager, char text[static TELL_LINE_MAX])
{
    const char *reason = store_reason(manager->store);
    size_t arenas = store_count(manager->store);
    char bytes[FORMAT_BYTES_MAX], revision[FORMAT_NUMBER_MAX], checkpoint[200];

    format_checkpoint(manager, checkpoint, sizeof(checkpoint));
    snprintf(text, TELL_LINE_MAX, "%s%s%s%zu arena%s, %s, revision %s; %s",
             reason ? "updates are refused (" : "", reason ? reason : "", reason ? "); " : "",
             arenas, arenas == 1 ? "" : "s", format_bytes(bytes, store_used_bytes(manager->store)),
             format_number(revision, store_revision(manager->store)), checkpoint);
}

static void tell_stopping(Manager *manager)
{
    const Checkpoint *last = job_running(manager->job);
    uint64_t done = last ? last->pages_done + last->image_bytes : 0;

    /* Only while it gets on: a stop that hangs is the service manager's to end. */
    if (!manager->tell.extended || done != manager->tell.stop_done)
        notify_extend(STOP_EXTEND_USEC);
    manager->tell.extended = true;
    manager->tell.stop_done = done;
    if (last)
        notify_status("stopping: last checkpoint, %u%%", percent(last));
    else
        notify_status("stopping");
}

void tell_tick(Manager *manager)
{
    uint64_t now = clock_monotonic();
    char line[TELL_LINE_MAX];

    if (!notify_listens())
        return;
    if (!manager->tell.ready)
        manager->tell.ready = notify_ready();
    if (manager->state == MANAGER_STOPPING) {
        tell_stopping(manager);
        return;
    }
    if (now < manager->tell.next_usec)
        return;
    format_line(manager, line);
    if (strcmp(line, manager->tell.line) == 0)
        return;
    if (!notify_status("%s", line))
        return;
    memcpy(manager->tell.line, line, sizeof(line));
    manager->tell.next_usec = now + TELL_USEC;
}

void tell_soon(Manager *manager)
{
    manager->tell.next_usec = 0;
}
