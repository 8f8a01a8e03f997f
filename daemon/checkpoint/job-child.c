/* While there is a child: its reports, its end, and the updates that wait for room in the ring.
 * What can go wrong: it fails and says so, it is killed, it talks nonsense, or it makes no room for
 * StallSec while updates wait; whatever it is, the capture is over, updates go on, and the cause is
 * noted. */
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/parse.h"
#include "checkpoint/job-internal.h"

/* A stall is noticed this part of StallSec late at most. */
#define STALL_LOOKS 8

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

void job_kill(Job *job)
{
    job_capture_over(job);
    job_move(job, JOB_KILLED);
    (void)kill(job->pid, SIGKILL);
}

static void stall_watch(Job *job)
{
    struct timeval interval =
        clock_timeval(MAX(job->options.stall_usec / STALL_LOOKS, USEC_PER_MSEC));

    if (job->options.stall_usec > 0)
        (void)event_add(job->stall_event, &interval);
}

void job_on_stall_timer(int fd, short what, void *context)
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

void job_child_over(Job *job)
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

int job_watch_child(Job *job)
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
