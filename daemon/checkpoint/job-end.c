/* The end of a checkpoint: the image gets its name, or the temporary file goes; then the catalogue
 * takes over what it came to, old images are retired, and everybody is told. What can go wrong: the
 * rename, and the sync of the directory; then the checkpoint has failed after all. */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/message-ids.h"
#include "base/parse.h"
#include "checkpoint/job-internal.h"

#define LOGGED_ARENAS_MAX 32

/* fields: has room for LOGGED_ARENAS_MAX + 8. */
static void job_log_fields(const Checkpoint *checkpoint, const char *revision, const char *duration,
                           const char *pause, LogField *fields)
{
    size_t arenas = 0;

    if (checkpoint->spec.id[0] != '\0')
        *fields++ = (LogField){"CHECKPOINT_ID", checkpoint->spec.id};
    *fields++ = (LogField){"REVISION", revision};
    if (checkpoint->state == CHECKPOINT_COMPLETE) {
        *fields++ = (LogField){"DURATION_USEC", duration};
        *fields++ = (LogField){"PAUSE_USEC", pause};
    }
    if (checkpoint->reason[0] != '\0')
        *fields++ = (LogField){"REASON", checkpoint->reason};
    for (size_t i = 0; i < checkpoint->arena_count && arenas < LOGGED_ARENAS_MAX; i++)
        if (checkpoint->arenas[i].held) {
            *fields++ = (LogField){"ARENA", checkpoint->arenas[i].name};
            arenas++;
        }
    *fields = (LogField){NULL, NULL};
}

static void job_log(const Checkpoint *checkpoint)
{
    const char *id = checkpoint->spec.id[0] != '\0' ? checkpoint->spec.id : "(before its cut)";
    char bytes[FORMAT_BYTES_MAX], took[FORMAT_DURATION_MAX], pause[FORMAT_DURATION_MAX],
        revision[LOG_NUMBER_MAX], duration[LOG_NUMBER_MAX], paused[LOG_NUMBER_MAX];
    LogField fields[LOGGED_ARENAS_MAX + 8];

    job_log_fields(checkpoint, log_number(revision, checkpoint->spec.revision),
                   log_number(duration, checkpoint->summary.duration_usec),
                   log_number(paused, checkpoint->summary.pause_usec), fields);
    if (checkpoint->state == CHECKPOINT_COMPLETE)
        log_event(LOG_INFO, MESSAGE_ID_CHECKPOINT_COMPLETE, fields,
                  "checkpoint %s complete: %s in %s, pause %s", id,
                  format_bytes(bytes, checkpoint->image_bytes),
                  format_duration(took, checkpoint->summary.duration_usec),
                  format_duration(pause, checkpoint->summary.pause_usec));
    else if (checkpoint->state == CHECKPOINT_CANCELLED)
        log_notice("checkpoint %s cancelled", id);
    else
        log_event(LOG_ERR, MESSAGE_ID_CHECKPOINT_FAILED, fields,
                  "checkpoint %s failed, the state and older images are untouched: %s", id,
                  checkpoint->reason);
}

static void job_retire(Job *job)
{
    const JobArena *arenas;
    size_t count = job->host.arenas(job->host.context, &arenas);
    _cleanup_(freep) Identity *live = calloc(count + 1, sizeof(*live));

    if (live == NULL)
        return; /* the next checkpoint sees to it */
    for (size_t i = 0; i < count; i++)
        live[i] = *arena_identity(arenas[i].arena);
    catalog_retire(job->catalog, job->options.keep, live, count);
}

static bool catalog_has(const Catalog *catalog, const Checkpoint *checkpoint)
{
    for (size_t i = catalog_count(catalog); i-- > 0;)
        if (catalog_at(catalog, i) == checkpoint)
            return true;
    return false;
}

/* What it came to is in the checkpoint; it goes to the catalogue, and everybody is told. */
static void job_finish(Job *job)
{
    static const JobEvent events[] = {
        [CHECKPOINT_COMPLETE] = JOB_COMPLETE,
        [CHECKPOINT_FAILED] = JOB_FAILED,
        [CHECKPOINT_CANCELLED] = JOB_CANCELLED,
    };
    Checkpoint *checkpoint = TAKE_PTR(job->checkpoint);
    Checkpoint copy = *checkpoint;
    JobEvent event = events[checkpoint->state];

    assert(checkpoint->state != CHECKPOINT_RUNNING);
    job_move(job, JOB_IDLE);
    job->publish.temporary[0] = '\0';
    job_log(checkpoint);
    checkpoint->pid = 0;
    catalog_add(job->catalog, checkpoint);
    if (!job->freed && copy.state == CHECKPOINT_COMPLETE)
        job_retire(job);
    if (!catalog_has(job->catalog, checkpoint)) {
        /* For want of memory the catalogue has not kept it. */
        copy.arenas = NULL;
        copy.arena_count = 0;
        checkpoint = &copy;
    }
    if (!job->freed) {
        job_request_end(job->request, event, checkpoint);
        job->host.ended(job->host.context, checkpoint);
    }
    job->request = job_request_free(job->request);
}

static void on_published(Publish *publish)
{
    Job *job = CONTAINER_OF(publish, Job, publish);

    if (publish->result < 0) {
        job_note(job, CHECKPOINT_FAILED, "%s: %s", publish->step, log_errno(publish->result));
    } else {
        job->checkpoint->state = CHECKPOINT_COMPLETE;
        job->checkpoint->summary.duration_usec = clock_monotonic() - job->cut_usec;
    }
    job_finish(job);
}

static void on_discarded(Publish *publish)
{
    Job *job = CONTAINER_OF(publish, Job, publish);

    if (publish->result < 0 && publish->result != -ENOENT)
        log_warning("temporary file %s of a checkpoint stays: %s: %s", publish->temporary,
                    publish->step, log_errno(publish->result));
    job_finish(job);
}

void job_discard(Job *job)
{
    if (job->publish.temporary[0] == '\0') {
        job_finish(job);
        return;
    }
    job_move(job, JOB_DISCARDING);
    job->publish.done = on_discarded;
    publish_discard(&job->publish, job->housekeeper);
}

void job_publish(Job *job)
{
    job_move(job, JOB_PUBLISHING);
    (void)snprintf(job->publish.name, sizeof(job->publish.name), "%s.image",
                   job->checkpoint->spec.id);
    job->publish.done = on_published;
    publish_image(&job->publish, job->housekeeper);
}
