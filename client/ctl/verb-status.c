/* status: how the daemon is, for people, in the manner of systemctl status. */
#include "base/clock.h"
#include "base/parse.h"
#include "show.h"

/* How a state of the daemon looks: the dot's colour. */
static const struct {
    const char *state;
    const char *colour;
} looks[] = {
    {"serving", "\x1b[1;32m"},
    {"readonly", "\x1b[1;31m"},
    {"starting", "\x1b[1;33m"},
    {"stopping", "\x1b[1;33m"},
};

static const char *state_colour(const Ctl *ctl, const char *state)
{
    for (size_t i = 0; ctl->colour && i < ARRAY_SIZE(looks); i++)
        if (strcmp(looks[i].state, state) == 0)
            return looks[i].colour;
    return "";
}

static void label(const char *name)
{
    printf("%12s: ", name);
}

static void print_state(const Ctl *ctl, const HoldfastStatus *status)
{
    const char *colour = state_colour(ctl, status->state),
               *normal = colour[0] != '\0' ? "\x1b[0m" : "";
    char time[PRINT_TIME_MAX], age[SHOW_AGE_MAX];

    printf("%s●%s holdfastd %s\n", colour, normal, status->version);
    label("State");
    printf("%s%s%s since %s; %s\n", colour, status->state, normal,
           print_time(time, status->started_usec), show_age(age, status->started_usec));
    if (status->reason != NULL) {
        label("Reason");
        print_plain(ctl, status->reason, strlen(status->reason));
        putchar('\n');
    }
    label("Main PID");
    printf("%u\n", status->pid);
}

static void print_recovery(const HoldfastStatus *status)
{
    static const struct {
        const char *name;
        const char *text;
    } texts[] = {
        {"empty", "nothing to recover"},
        {"image", "from an image"},
        {"journal", "from the journal"},
        {"adopted", "arenas taken over from the process before"},
    };
    const char *text = status->recovery;
    char duration[FORMAT_DURATION_MAX];

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (strcmp(texts[i].name, status->recovery) == 0)
            text = texts[i].text;
    label("Recovery");
    printf("%s, in %s\n", text, format_duration(duration, status->recovery_duration_usec));
}

static void print_memory(const HoldfastStatus *status)
{
    char bytes[FORMAT_BYTES_MAX], arenas[FORMAT_NUMBER_MAX], entries[FORMAT_NUMBER_MAX];

    label("Memory");
    printf("%s, %s %s, %s %s\n", format_bytes(bytes, status->used_bytes),
           format_number(arenas, status->arenas), print_plural(status->arenas, "arena", "arenas"),
           format_number(entries, status->entries),
           print_plural(status->entries, "entry", "entries"));
}

static void print_durability(const HoldfastStatus *status)
{
    char revision[FORMAT_NUMBER_MAX], durable[FORMAT_NUMBER_MAX];

    label("Durable");
    if (status->durable_revision >= status->revision)
        printf("revision %s, everything\n", format_number(revision, status->revision));
    else
        printf("revision %s of %s\n", format_number(durable, status->durable_revision),
               format_number(revision, status->revision));
}

static void print_traffic(const HoldfastStatus *status)
{
    char updates[FORMAT_NUMBER_MAX], reads[FORMAT_NUMBER_MAX], connections[FORMAT_NUMBER_MAX];

    label("Traffic");
    printf("%s %s, %s %s, %s %s now\n", format_number(updates, status->updates),
           print_plural(status->updates, "update", "updates"), format_number(reads, status->reads),
           print_plural(status->reads, "read", "reads"),
           format_number(connections, status->connections),
           print_plural(status->connections, "connection", "connections"));
}

static void print_last(const Ctl *ctl, const HoldfastCheckpoint *checkpoint)
{
    char bytes[FORMAT_BYTES_MAX], duration[FORMAT_DURATION_MAX], pause[FORMAT_DURATION_MAX],
        age[SHOW_AGE_MAX];

    label("Checkpoint");
    if (checkpoint == NULL) {
        printf("none yet\n");
        return;
    }
    printf("%s %s (%s in %s, pause %s)\n", checkpoint->state,
           show_age(age, checkpoint->started_usec), format_bytes(bytes, checkpoint->image_bytes),
           format_duration(duration, checkpoint->duration_usec),
           format_duration(pause, checkpoint->pause_usec));
    printf("%14s%s\n", "", checkpoint->id);
    if (checkpoint->reason != NULL) {
        printf("%14s", "");
        print_plain(ctl, checkpoint->reason, strlen(checkpoint->reason));
        putchar('\n');
    }
}

static void print_running(const HoldfastCheckpoint *checkpoint)
{
    char captured[FORMAT_NUMBER_MAX], duration[FORMAT_DURATION_MAX];
    uint64_t total = MAX(checkpoint->pages_total, 1);

    label("Running");
    printf("%s, %u%% in %s, %s pages captured, PID %u\n", checkpoint->id,
           (unsigned)((double)MIN(checkpoint->pages_done, total) * 100 / (double)total),
           format_duration(duration, checkpoint->duration_usec),
           format_number(captured, checkpoint->pages_captured), checkpoint->pid);
}

static void print_command(const HoldfastCommand *command)
{
    char age[SHOW_AGE_MAX];

    label("Command");
    if (command->pid != 0)
        printf("running, PID %u, after %s\n", command->pid, command->checkpoint);
    else if (command->signal >= 0)
        printf("ended by signal %d, %s, after %s\n", command->signal,
               show_age(age, command->started_usec), command->checkpoint);
    else if (command->exit_status >= 0)
        printf("exit status %d, %s, after %s\n", command->exit_status,
               show_age(age, command->started_usec), command->checkpoint);
    else
        printf("%s, %s, after %s\n",
               command->duration_usec > 0 ? "could not be started" : "is being started",
               show_age(age, command->started_usec), command->checkpoint);
}

static void print_status(const Ctl *ctl, const HoldfastStatus *status)
{
    print_state(ctl, status);
    print_recovery(status);
    print_memory(status);
    print_durability(status);
    print_traffic(status);
    print_last(ctl, status->last_checkpoint);
    if (status->running_checkpoint != NULL)
        print_running(status->running_checkpoint);
    if (status->after_command != NULL)
        print_command(status->after_command);
}

int verb_status(Ctl *ctl, int count, char **arguments)
{
    HoldfastStatus *status;
    uint64_t arenas;
    int r;

    (void)count;
    (void)arguments;
    if (ctl->options.json != JSON_OFF)
        return show_raw(ctl, "GetStatus", "{}", "status");
    r = holdfast_get_status(ctl->connection, &status);
    if (r != 0)
        return failure_call(ctl, r);
    print_status(ctl, status);
    arenas = status->arenas;
    holdfast_status_free(status);
    if (arenas == 0)
        return STATUS_OK;
    putchar('\n');
    return show_arenas(ctl);
}
