/* A checkpoint from the request to its end. The normal way is the line of states IDLE, PREPARED,
 * RUNNING, WRITTEN, PUBLISHING and IDLE again; each step that may take long is somebody else's: the
 * child's, or the housekeeper's.
 *
 * What can go wrong ends in DISCARDING: the cause is noted once (the first one counts), the capture
 * is over and parked updates go on, the child is killed where it lives (KILLED, until it is
 * reaped), the temporary file is unlinked, and only then whoever asked is told. The state is
 * untouched and the next request is served. */
#include "checkpoint/job.h"

#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/message-ids.h"
#include "base/parse.h"
#include "checkpoint/job-plan.h"
#include "checkpoint/job-queue.h"
#include "checkpoint/publish.h"
#include "checkpoint/writer.h"

#define TEMPORARY_TRIES 100
/* A stall is noticed this part of StallSec late at most. */
#define STALL_LOOKS 8

typedef enum JobState {
    JOB_IDLE,
    JOB_PREPARED, /* the temporary file is open; waits for the layer above to be ready for a cut */
    JOB_RUNNING,  /* the child writes */
    JOB_KILLED,   /* the child was sent SIGKILL and is not reaped yet */
    JOB_WRITTEN,  /* the image is complete; waits for the journal up to the cut to be durable */
    JOB_PUBLISHING, /* the housekeeper gives the image its name */
    JOB_DISCARDING, /* the housekeeper unlinks the temporary file */
    JOB_STATES,
} JobState;

#define MOVE(state) (1u << (state))

static const unsigned job_moves[JOB_STATES] = {
    [JOB_IDLE] = MOVE(JOB_PREPARED),
    [JOB_PREPARED] = MOVE(JOB_RUNNING) | MOVE(JOB_DISCARDING) | MOVE(JOB_IDLE),
    [JOB_RUNNING] = MOVE(JOB_KILLED) | MOVE(JOB_WRITTEN) | MOVE(JOB_DISCARDING),
    [JOB_KILLED] = MOVE(JOB_DISCARDING),
    [JOB_WRITTEN] = MOVE(JOB_PUBLISHING) | MOVE(JOB_DISCARDING),
    [JOB_PUBLISHING] = MOVE(JOB_IDLE),
    [JOB_DISCARDING] = MOVE(JOB_IDLE),
};

struct Job {
    struct event_base *base;
    Capture *capture;
    Catalog *catalog;
    Housekeeper *housekeeper;
    int directory_fd;
    JobHost host;
    JobOptions options;

    JobState state;
    JobQueue queue;
    bool freed; /* job_free waits for the housekeeper: nobody is told any more */

    /* of the current checkpoint */
    JobRequest *request;
    Checkpoint *checkpoint;
    Publish publish;
    uint64_t temporaries; /* names used so far */
    int image_fd;
    uint64_t cut_usec;

    /* while there is a child */
    Writer *writer;
    pid_t pid;
    int pidfd;
    struct event *report_event;
    struct event *exit_event;
    WriterReport verdict; /* its last report; kind 0: none came */

    /* parked updates */
    struct event *stall_event;
    uint64_t parked_since_usec; /* 0: none is */
    uint64_t held_usec;
    uint64_t freed_seen;
    uint64_t freed_usec; /* when freed_seen last changed */
};

static void job_move(Job *job, JobState state)
{
    assert(job_moves[job->state] & MOVE(state));
    job->state = state;
}

/* Notes why the checkpoint comes to nothing, unless that is known already. */
static _printf_(3, 4) void job_note(Job *job, CheckpointState state, const char *format, ...)
{
    va_list arguments;

    if (job->checkpoint->state != CHECKPOINT_RUNNING)
        return;
    job->checkpoint->state = state;
    va_start(arguments, format);
    (void)vsnprintf(job->checkpoint->reason, sizeof(job->checkpoint->reason), format, arguments);
    va_end(arguments);
}

/* --- the end */

static void job_log(const Checkpoint *checkpoint)
{
    const char *id = checkpoint->spec.id[0] != '\0' ? checkpoint->spec.id : "(before its cut)";
    char bytes[FORMAT_BYTES_MAX], took[FORMAT_DURATION_MAX], pause[FORMAT_DURATION_MAX],
        revision[24];
    LogField fields[] = {
        {"CHECKPOINT", id},
        {"REVISION", revision},
        {checkpoint->reason[0] != '\0' ? "REASON" : NULL, checkpoint->reason},
        {NULL, NULL},
    };

    (void)snprintf(revision, sizeof(revision), "%ju", (uintmax_t)checkpoint->spec.revision);
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
    Job *job = (Job *)((char *)publish - offsetof(Job, publish));

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
    Job *job = (Job *)((char *)publish - offsetof(Job, publish));

    if (publish->result < 0 && publish->result != -ENOENT)
        log_warning("temporary file %s of a checkpoint stays: %s: %s", publish->temporary,
                    publish->step, log_errno(publish->result));
    job_finish(job);
}

static void job_discard(Job *job)
{
    if (job->publish.temporary[0] == '\0') {
        job_finish(job);
        return;
    }
    job_move(job, JOB_DISCARDING);
    job->publish.done = on_discarded;
    publish_discard(&job->publish, job->housekeeper);
}

static void job_publish(Job *job)
{
    job_move(job, JOB_PUBLISHING);
    (void)snprintf(job->publish.name, sizeof(job->publish.name), "%s.image",
                   job->checkpoint->spec.id);
    job->publish.done = on_published;
    publish_image(&job->publish, job->housekeeper);
}

/* --- parked updates */

static void job_resume(Job *job)
{
    if (job->parked_since_usec == 0)
        return;
    job->held_usec += clock_monotonic() - job->parked_since_usec;
    job->parked_since_usec = 0;
    job->checkpoint->summary.held_usec = job->held_usec;
    if (job->writer != NULL)
        writer_set_held(job->writer, job->held_usec, 0);
    event_del(job->stall_event);
    job->host.resume(job->host.context); /* may park again */
}

/* Nothing is captured any more, and the child does not read the arenas any more, or what it makes
 * of them does not matter. */
static void job_capture_over(Job *job)
{
    const JobArena *arenas;
    size_t count;

    if (!capture_armed(job->capture))
        return;
    capture_disarm(job->capture);
    if (job->freed)
        return;
    /* Those of the cut that still exist; no other arena is ever held. */
    count = job->host.arenas(job->host.context, &arenas);
    for (size_t i = 0; i < count; i++)
        arena_hold_pages(arenas[i].arena, false);
    job_resume(job);
}

static void job_kill(Job *job)
{
    job_capture_over(job);
    job_move(job, JOB_KILLED);
    (void)kill(job->pid, SIGKILL);
}

static void stall_watch(Job *job)
{
    uint64_t usec = MAX(job->options.stall_usec / STALL_LOOKS, USEC_PER_MSEC);
    struct timeval interval = {
        .tv_sec = (time_t)(usec / USEC_PER_SEC),
        .tv_usec = (suseconds_t)(usec % USEC_PER_SEC),
    };

    if (job->options.stall_usec > 0)
        (void)event_add(job->stall_event, &interval);
}

static void on_stall_timer(evutil_socket_t fd, short what, void *context)
{
    Job *job = context;
    uint64_t freed = capture_slots_freed(job->capture);
    uint64_t now = clock_monotonic();
    char text[FORMAT_DURATION_MAX];

    (void)fd, (void)what;
    if (job->state != JOB_RUNNING || job->parked_since_usec == 0)
        return;
    if (freed != job->freed_seen) {
        job->freed_seen = freed;
        job->freed_usec = now;
    }
    if (now - job->freed_usec < job->options.stall_usec) {
        stall_watch(job);
        return;
    }
    job_note(job, CHECKPOINT_FAILED, "stalled: updates waited and no room was made for %s",
             format_duration(text, now - job->freed_usec));
    job_kill(job);
}

void job_update_parked(Job *job)
{
    if (job->parked_since_usec != 0 || !capture_armed(job->capture))
        return;
    job->parked_since_usec = job->freed_usec = clock_monotonic();
    job->freed_seen = capture_slots_freed(job->capture);
    writer_set_held(job->writer, job->held_usec, job->parked_since_usec);
    stall_watch(job);
}

/* --- the child */

static void job_take_report(Job *job, const WriterReport *report)
{
    Checkpoint *checkpoint = job->checkpoint;

    checkpoint->pages_done = report->pages_done;
    checkpoint->image_bytes = report->image_bytes;
    checkpoint->summary.pages_captured = report->pages_captured;
    checkpoint->summary.duration_usec = clock_monotonic() - job->cut_usec;
    switch ((WriterReportKind)report->kind) {
    case WRITER_PROGRESS:
        job_request_tell(job->request, JOB_PROGRESS, checkpoint);
        break;
    case WRITER_ROOM:
        job_resume(job);
        break;
    case WRITER_SCANNED:
        job_capture_over(job);
        break;
    case WRITER_DONE:
    case WRITER_FAILED:
        job->verdict = *report;
        break;
    }
}

static void on_report(evutil_socket_t fd, short what, void *context)
{
    Job *job = context;
    WriterReport report;
    int r;

    (void)fd, (void)what;
    while ((r = writer_read(job->writer, &report)) > 0)
        if (job->state == JOB_RUNNING)
            job_take_report(job, &report);
    if (r == -EAGAIN)
        return;
    event_del(job->report_event); /* at the end of file it would be readable for ever */
    if (r < 0 && job->state == JOB_RUNNING) {
        job_note(job, CHECKPOINT_FAILED, "report of the child: %s", log_errno(r));
        job_kill(job);
    }
}

/* The child is gone, or there was none: nothing of it stays. */
static void job_child_over(Job *job)
{
    job_capture_over(job);
    capture_release(job->capture);
    if (job->report_event != NULL)
        event_free(job->report_event);
    if (job->exit_event != NULL)
        event_free(job->exit_event);
    job->report_event = job->exit_event = NULL;
    closep(&job->pidfd);
    job->pidfd = -1;
    job->pid = 0;
    job->writer = writer_free(job->writer);
}

static void job_note_exit(Job *job, int status)
{
    const WriterReport *verdict = &job->verdict;

    if (verdict->kind == WRITER_FAILED)
        job_note(job, CHECKPOINT_FAILED, "%s: %s", verdict->step, log_errno(verdict->error));
    else if (WIFSIGNALED(status))
        job_note(job, CHECKPOINT_FAILED, "child killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) != 0)
        job_note(job, CHECKPOINT_FAILED, "child exited with status %d", WEXITSTATUS(status));
    else if (verdict->kind != WRITER_DONE)
        job_note(job, CHECKPOINT_FAILED, "child exited without a report");
}

static void on_exit_of_child(evutil_socket_t fd, short what, void *context)
{
    Job *job = context;
    int status;
    pid_t pid;

    on_report(-1, 0, job); /* what it said last; the order of two events of one turn is not fixed */
    (void)fd, (void)what;
    pid = waitpid(job->pid, &status, WNOHANG);
    if (pid == 0 || (pid < 0 && errno == EINTR))
        return;
    if (pid < 0)
        job_note(job, CHECKPOINT_FAILED, "waitpid: %s", log_errno(errno));
    else
        job_note_exit(job, status);
    job_child_over(job);
    if (job->checkpoint->state != CHECKPOINT_RUNNING) {
        job_discard(job);
        return;
    }
    job_move(job, JOB_WRITTEN);
    job->checkpoint->summary = job->verdict.summary;
}

/* --- the cut */

/* Opens the temporary file. A name may be taken by one that could not be unlinked. */
static int job_open(Job *job)
{
    char *name = job->publish.temporary;

    for (int i = 0; i < TEMPORARY_TRIES; i++) {
        int fd;

        (void)snprintf(name, sizeof(job->publish.temporary), ".checkpoint-%ju.tmp",
                       (uintmax_t)++job->temporaries);
        fd = openat(job->directory_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                    0600);
        if (fd >= 0) {
            job->image_fd = fd;
            return 0;
        }
        if (errno != EEXIST)
            break;
    }
    name[0] = '\0';
    return -errno;
}

static void job_prepare(Job *job)
{
    int r;

    job->request = job_queue_take(&job->queue);
    job->checkpoint = TAKE_PTR(job->request->checkpoint);
    job->checkpoint->spec.started_usec = clock_realtime();
    job->checkpoint->spec.revision = job->host.revision(job->host.context);
    job->held_usec = job->parked_since_usec = 0;
    job->verdict = (WriterReport){0};
    job_move(job, JOB_PREPARED);
    r = job_open(job);
    if (r < 0) {
        job_note(job, CHECKPOINT_FAILED, "open: %s", log_errno(r));
        job_discard(job);
    }
}

static int job_watch_child(Job *job)
{
    job->pidfd = pidfd_open(job->pid, 0);
    if (job->pidfd < 0)
        return -errno;
    job->report_event =
        event_new(job->base, writer_fd(job->writer), EV_READ | EV_PERSIST, on_report, job);
    job->exit_event = event_new(job->base, job->pidfd, EV_READ | EV_PERSIST, on_exit_of_child, job);
    if (job->report_event == NULL || job->exit_event == NULL ||
        event_add(job->report_event, NULL) < 0 || event_add(job->exit_event, NULL) < 0)
        return -ENOMEM;
    return 0;
}

static void job_describe(Job *job, JobPlan *plan)
{
    Checkpoint *checkpoint = job->checkpoint;
    ImageSpec *spec = &checkpoint->spec;

    spec->revision = job->host.revision(job->host.context);
    spec->started_usec = clock_realtime();
    spec->zstd = job->options.zstd;
    catalog_make_id(job->catalog, spec->revision, spec->started_usec, spec->id);
    checkpoint->arenas = TAKE_PTR(plan->arenas);
    checkpoint->arena_count = plan->count;
    checkpoint->summary.pages_total = plan->pages;
    checkpoint->summary.state_bytes = plan->state_bytes;
}

static int job_make_writer(Job *job, const JobPlan *plan)
{
    WriterPlan writer = {
        .capture = job->capture,
        .image_fd = job->image_fd,
        .spec = &job->checkpoint->spec,
        .arenas = job->checkpoint->arenas,
        .count = job->checkpoint->arena_count,
        .memfds = plan->memfds,
        .state_bytes = plan->state_bytes,
        .bytes_per_sec = job->options.write_bytes_per_sec,
    };
    int r = writer_new(&writer, &job->writer);

    if (r == 0)
        job->image_fd = -1;
    return r;
}

/* Arms the capture and forks; *step names what failed. */
static int job_fork(Job *job, const JobPlan *plan, const JobArena *arenas, const char **step)
{
    int r;

    *step = "prepare";
    r = job_make_writer(job, plan);
    if (r < 0)
        return r;
    r = capture_arm(job->capture, plan->cuts, plan->held);
    if (r < 0)
        return r;
    for (size_t i = 0; i < plan->count; i++)
        if (job->checkpoint->arenas[i].held)
            arena_hold_pages(arenas[i].arena, true);
    job->host.cut(job->host.context);
    *step = "fork";
    r = writer_fork(job->writer, job->cut_usec, &job->pid);
    if (r < 0)
        return r;
    job->checkpoint->pid = job->pid;
    job->checkpoint->summary.pause_usec = clock_monotonic() - job->cut_usec;
    writer_set_pause(job->writer, job->checkpoint->summary.pause_usec);
    writer_close_files(job->writer);
    *step = "watch the child";
    r = job_watch_child(job);
    if (r < 0) {
        (void)kill(job->pid, SIGKILL);
        (void)waitpid(job->pid, NULL, 0); /* it has only begun */
    }
    return r;
}

static void job_cut(Job *job)
{
    const char *step = "prepare";
    const JobArena *arenas;
    JobPlan plan = {0};
    size_t count;
    int r;

    /* All of it is counted as the pause, though only the fork needs to be one piece with the
     * arming: nobody is served meanwhile. */
    job->cut_usec = clock_monotonic();
    count = job->host.arenas(job->host.context, &arenas);
    r = job_plan_init(&plan, job->request, arenas, count);
    if (r == 0 && plan.held == 0 && job->request->count > 0) {
        job_note(job, CHECKPOINT_FAILED, "none of the arenas exists any more");
        r = -ENOENT;
    } else if (r == 0) {
        job_describe(job, &plan);
        r = job_fork(job, &plan, arenas, &step);
    }
    job_plan_deinit(&plan);
    if (r == 0) {
        job_move(job, JOB_RUNNING);
        job_request_tell(job->request, JOB_CUT, job->checkpoint);
        return;
    }
    job_note(job, CHECKPOINT_FAILED, "%s: %s", step, log_errno(r));
    closep(&job->image_fd);
    job->image_fd = -1;
    job_child_over(job);
    job_discard(job);
}

void job_turn(Job *job)
{
    /* Those that were there; one that cannot begin makes place for the next. */
    for (size_t i = job->queue.count; i > 0 && job->state == JOB_IDLE; i--)
        job_prepare(job);
    if (job->state == JOB_PREPARED && job->host.ready(job->host.context))
        job_cut(job);
    if (job->state == JOB_WRITTEN &&
        job->host.durable(job->host.context, job->checkpoint->spec.revision))
        job_publish(job);
}

/* --- life, and who asks */

int job_new(struct event_base *base, Capture *capture, Catalog *catalog, Housekeeper *housekeeper,
            int images_directory_fd, const JobHost *host, const JobOptions *options, Job **ret)
{
    _cleanup_(freep) Job *job = calloc(1, sizeof(*job));

    if (job == NULL)
        return -ENOMEM;
    *job = (Job){
        .base = base,
        .capture = capture,
        .catalog = catalog,
        .housekeeper = housekeeper,
        .directory_fd = images_directory_fd,
        .host = *host,
        .options = *options,
        .image_fd = -1,
        .pidfd = -1,
        .publish = {.directory_fd = images_directory_fd},
    };
    job_queue_init(&job->queue);
    job->stall_event = evtimer_new(base, on_stall_timer, job);
    if (job->stall_event == NULL)
        return -ENOMEM;
    *ret = TAKE_PTR(job);
    return 0;
}

Job *job_free(Job *job)
{
    if (job == NULL)
        return NULL;
    job->freed = true;
    if (job->pid > 0) {
        (void)kill(job->pid, SIGKILL);
        (void)waitpid(job->pid, NULL, 0);
        job_child_over(job);
    }
    if (job->state != JOB_PUBLISHING && job->state != JOB_DISCARDING && job->state != JOB_IDLE) {
        closep(&job->image_fd);
        job_note(job, CHECKPOINT_CANCELLED, "the daemon stops");
        job_discard(job);
    }
    housekeeper_drain(job->housekeeper);
    assert(job->state == JOB_IDLE);
    event_free(job->stall_event);
    job_queue_deinit(&job->queue);
    free(job);
    return NULL;
}

void job_set_options(Job *job, const JobOptions *options)
{
    job->options = *options;
}

int job_request(Job *job, const Identity *arenas, size_t count, const char *label,
                JobWaiter *waiter)
{
    return job_queue_add(&job->queue, arenas, count, label, waiter);
}

void job_forget(Job *job, JobWaiter *waiter)
{
    if (job->request == NULL || !job_request_forget(job->request, waiter))
        job_queue_forget(&job->queue, waiter);
}

int job_cancel(Job *job, const char *id)
{
    if (job_running(job) == NULL || strcmp(job->checkpoint->spec.id, id) != 0)
        return JOB_NO_SUCH;
    if (job->state != JOB_RUNNING && job->state != JOB_WRITTEN)
        return JOB_NO_SUCH; /* it has come to its end already */
    job_note(job, CHECKPOINT_CANCELLED, "cancelled");
    if (job->state == JOB_RUNNING)
        job_kill(job);
    else
        job_discard(job);
    return 0;
}

const Checkpoint *job_running(const Job *job)
{
    return job->checkpoint != NULL && job->checkpoint->spec.id[0] != '\0' ? job->checkpoint : NULL;
}

size_t job_waiting(const Job *job)
{
    return job->queue.count;
}
