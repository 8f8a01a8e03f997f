/* A verification: fork, read the image in the child, tell over a pipe. The image is pinned
 * meanwhile.
 *
 * The child is an ordinary fork(3) (it reads an image with the same code as a restore, which
 * allocates), reads at low priority, and ends with _exit. Reports are of a fixed size and written
 * whole. What can go wrong: the child dies (FAILED: that says nothing about the image), the image
 * is damaged (DAMAGED, renamed), the asker goes away (the child is killed). */

#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/schedule.h"
#include "checkpoint/verify.h"

#define PROGRESS_USEC (100 * USEC_PER_MSEC)

typedef struct VerifyReport {
    int32_t result; /* 1: progress; 0: good; negative errno */
    uint32_t reserved;
    uint64_t pages_done;
    uint64_t pages_total;
    char where[96];
    char why[96];
} VerifyReport;

struct Verify {
    struct event_base *base;
    Catalog *catalog;
    struct event *event;
    VerifyWaiter *waiter;
    Checkpoint *checkpoint; /* NULL: none runs */
    int pipe_fd;
    pid_t pid;
    VerifyReport last; /* what the child said at the end; result 1: nothing yet */
};

/* --- the child */

typedef struct Child {
    int pipe_fd;
    uint64_t told_usec;
} Child;

static bool child_progress(void *context, uint64_t pages_done, uint64_t pages_total)
{
    Child *child = context;
    VerifyReport report = {.result = 1, .pages_done = pages_done, .pages_total = pages_total};
    uint64_t now = clock_monotonic();

    if (now - child->told_usec < PROGRESS_USEC)
        return true;
    child->told_usec = now;
    return write(child->pipe_fd, &report, sizeof(report)) == sizeof(report);
}

static void child_check(Child *child, int image_fd, VerifyReport *report)
{
    const char *where = "", *why = "";
    ImageReader *reader = NULL;
    int r = image_open(image_fd, &reader, &where, &why);

    if (r == 0) {
        r = image_reader_verify(reader, child_progress, child);
        where = image_reader_where(reader);
        why = image_reader_why(reader);
    }
    report->result = r;
    (void)snprintf(report->where, sizeof(report->where), "%s", where && r < 0 ? where : "");
    (void)snprintf(report->why, sizeof(report->why), "%s", why && r < 0 ? why : "");
    image_reader_free(reader);
}

static _Noreturn void child_run(int image_fd, int pipe_fd, pid_t parent)
{
    const int keep[] = {MIN(image_fd, pipe_fd), MAX(image_fd, pipe_fd)};
    Child child = {.pipe_fd = pipe_fd};
    VerifyReport report = {0};
    sigset_t none;

    sigemptyset(&none);
    for (int i = 1; i < NSIG; i++)
        (void)signal(i, i == SIGPIPE ? SIG_IGN : SIG_DFL);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_FAILURE);
    /* Connections of the parent must not stay open in here. */
    file_close_all_but(STDERR_FILENO + 1, keep, ARRAY_SIZE(keep));
    (void)prctl(PR_SET_NAME, "holdfast-verify");
    schedule_behind();
    child_check(&child, image_fd, &report);
    _exit(write(pipe_fd, &report, sizeof(report)) == sizeof(report) ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* --- the parent */

static void verify_over(Verify *verify)
{
    if (verify->event)
        event_free(verify->event);
    verify->event = NULL;
    close(verify->pipe_fd);
    verify->pipe_fd = -1;
    /* The pipe is at its end, so the child is about to be gone; or it was killed. */
    while (waitpid(verify->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    verify->pid = 0;
    verify->checkpoint->pinned--;
}

/* The end: the waiter hears what the child said last. */
static void verify_finish(Verify *verify)
{
    VerifyWaiter *waiter = TAKE_PTR(verify->waiter);
    Checkpoint *checkpoint = verify->checkpoint;
    const VerifyReport *last = &verify->last;
    VerifyEvent event = VERIFY_GOOD;
    const char *why = last->why;

    verify_over(verify);
    verify->checkpoint = NULL;
    if (last->result == -EBADMSG) {
        event = VERIFY_DAMAGED;
        if (checkpoint->pinned == 0)
            catalog_damaged(verify->catalog, checkpoint, last->where, last->why);
    } else if (last->result != 0) {
        event = VERIFY_FAILED;
        why = last->result > 0 ? "the process that read it died" : log_errno(last->result);
        if (waiter) /* else it was given up */
            log_warning("checkpoint %s could not be verified: %s", checkpoint->spec.id, why);
    }
    if (waiter)
        waiter->notify(waiter, event, last->pages_done, last->pages_total, last->where, why);
}

static void on_report(evutil_socket_t fd, short what, void *context)
{
    Verify *verify = context;
    VerifyReport report;
    ssize_t n;

    (void)what;
    n = read(fd, &report, sizeof(report));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n != sizeof(report)) {
        verify_finish(verify);
        return;
    }
    report.where[sizeof(report.where) - 1] = report.why[sizeof(report.why) - 1] = '\0';
    verify->last = report;
    if (report.result == 1 && verify->waiter)
        verify->waiter->notify(verify->waiter, VERIFY_PROGRESS, report.pages_done,
                               report.pages_total, "", "");
}

int verify_new(struct event_base *base, Catalog *catalog, Verify **ret)
{
    Verify *verify = calloc(1, sizeof(*verify));

    if (!verify)
        return -ENOMEM;
    verify->base = base;
    verify->catalog = catalog;
    verify->pipe_fd = -1;
    *ret = verify;
    return 0;
}

Verify *verify_free(Verify *verify)
{
    if (verify) {
        if (verify->checkpoint) {
            (void)kill(verify->pid, SIGKILL);
            verify_over(verify);
        }
        free(verify);
    }
    return NULL;
}

/* Forks; the child's end of the pipe and the image are its alone afterwards. */
static int start_child(Verify *verify, int image_fd)
{
    pid_t parent = getpid(), pid;
    sigset_t all, old;
    int ends[2], error;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    /* A handler of the parent's must not run in the child. */
    sigfillset(&all);
    (void)sigprocmask(SIG_BLOCK, &all, &old);
    pid = fork();
    error = errno;
    if (pid == 0)
        child_run(image_fd, ends[1], parent);
    (void)sigprocmask(SIG_SETMASK, &old, NULL);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return -error;
    }
    verify->pid = pid;
    verify->pipe_fd = ends[0];
    return 0;
}

int verify_start(Verify *verify, Checkpoint *checkpoint, VerifyWaiter *waiter)
{
    _cleanup_(closep) int image_fd = -1;
    char path[4096];
    int r;

    if (verify->checkpoint)
        return VERIFY_BUSY;
    catalog_path(verify->catalog, checkpoint, path, sizeof(path));
    image_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (image_fd < 0)
        return -errno;
    r = start_child(verify, image_fd);
    if (r < 0)
        return r;
    verify->checkpoint = checkpoint;
    checkpoint->pinned++;
    verify->last = (VerifyReport){.result = 1};
    verify->event =
        event_new(verify->base, verify->pipe_fd, EV_READ | EV_PERSIST, on_report, verify);
    if (!verify->event || event_add(verify->event, NULL) < 0) {
        (void)kill(verify->pid, SIGKILL);
        verify_over(verify);
        verify->checkpoint = NULL;
        return -ENOMEM;
    }
    verify->waiter = waiter;
    return 0;
}

void verify_forget(Verify *verify, VerifyWaiter *waiter)
{
    if (!verify->checkpoint || verify->waiter != waiter)
        return;
    verify->waiter = NULL;
    (void)kill(verify->pid, SIGKILL);
}

void verify_abandon(Verify *verify)
{
    VerifyWaiter *waiter = TAKE_PTR(verify->waiter);

    if (!waiter)
        return;
    (void)kill(verify->pid, SIGKILL);
    waiter->notify(waiter, VERIFY_FAILED, 0, 0, "", "the daemon stops");
}
