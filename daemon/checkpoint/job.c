/* A checkpoint from the request to its end. The normal way is the line of states IDLE, PREPARED,
 * RUNNING, WRITTEN, PUBLISHING and IDLE again; each step that may take long is somebody else's: the
 * child's, or the housekeeper's.
 *
 * What can go wrong ends in DISCARDING: the cause is noted once (the first one counts), the capture
 * is over and parked updates go on, the child is killed where it lives (KILLED, until it is
 * reaped), the temporary file is unlinked, and only then whoever asked is told. The state is
 * untouched and the next request is served. */
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "checkpoint/job-internal.h"

#define TEMPORARY_TRIES 100

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

void job_move(Job *job, JobState state)
{
    assert(job_moves[job->state] & MOVE(state));
    job->state = state;
}

void job_note(Job *job, CheckpointState state, const char *format, ...)
{
    va_list arguments;

    if (job->checkpoint->state != CHECKPOINT_RUNNING)
        return;
    job->checkpoint->state = state;
    va_start(arguments, format);
    (void)vsnprintf(job->checkpoint->reason, sizeof(job->checkpoint->reason), format, arguments);
    va_end(arguments);
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

static void job_describe(Job *job, JobPlan *plan)
{
    Checkpoint *checkpoint = job->checkpoint;
    ImageSpec *spec = &checkpoint->spec;

    spec->revision = job->host.revision(job->host.context);
    spec->started_usec = clock_realtime();
    spec->zstd = job->options.zstd;
    spec->cached = job->options.cached;
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
    job->stall_event = evtimer_new(base, job_on_stall_timer, job);
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

static void job_abandon_request(JobRequest *request, const char *id, JobEvent event)
{
    Checkpoint told = {.state = CHECKPOINT_CANCELLED, .reason = "the daemon stops"};

    strcpy(told.spec.id, id);
    job_request_end(request, event, &told);
}

void job_abandon(Job *job)
{
    const Checkpoint *running = job_running(job);
    JobRequest *request;

    while ((request = job_queue_take(&job->queue)) != NULL) {
        job_abandon_request(request, "", JOB_FAILED);
        job_request_free(request);
    }
    if (job->request == NULL || job_ending(job))
        return;
    if (running != NULL)
        job_abandon_request(job->request, running->spec.id, JOB_CANCELLED);
    else
        job_abandon_request(job->request, "", JOB_FAILED);
}

bool job_waits_for_journal(const Job *job)
{
    return job->state == JOB_WRITTEN;
}

bool job_ending(const Job *job)
{
    return job->state == JOB_PUBLISHING || job->state == JOB_DISCARDING;
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
