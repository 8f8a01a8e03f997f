/* The child. The normal way: forked with all signals blocked; drops what it inherited and does not
 * need, takes a lower priority, sweeps, finishes the image, sends its last report, _exit(0). What
 * can go wrong: reading or writing fails (the last report names step and errno, exit status 1), the
 * parent dies (SIGKILL by PR_SET_PDEATHSIG), somebody kills it (the parent sees the exit status).
 *
 * Between fork and _exit there is no malloc, no stdio, no lock and no libevent: another thread of
 * the parent may have held any lock at the fork, and the event base's epoll set is shared with the
 * parent. Memory is what was mapped before; what the child alone uses is touched by it alone, so
 * that the fork has nothing to copy. */
#include "checkpoint/writer.h"

#include <fcntl.h>
#include <linux/ioprio.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/schedule.h"
#include "checkpoint/sweep.h"

#define CHILD_NAME "holdfast-image"
#define CHILD_IO_PRIORITY 7
#define CHILD_OOM_SCORE 500
#define OOM_SCORE_MAX 1000
#define PROGRESS_USEC (100 * USEC_PER_MSEC)

/* One page that both see. */
typedef struct WriterShared {
    _Atomic(uint64_t) pause_usec;
    _Atomic(uint64_t) held_usec;
    _Atomic(uint64_t) parked_since_usec;
} WriterShared;

struct Writer {
    Capture *capture;
    ImageWriter *image;
    Sweep *sweep;
    WriterShared *shared;
    uint32_t *table_index; /* of each arena of the cut */
    int *keep;             /* descriptors of the child, ascending */
    size_t keep_count;
    int image_fd;
    int pipe[2];
    uint64_t state_bytes;
    pid_t parent;
    uint64_t cut_usec;
    uint64_t child_usec; /* when the child began */
    uint64_t progress_usec;
};

static_assert(sizeof(WriterReport) <= 512, "POSIX promises whole writes of 512 bytes to a pipe");

/* --- the child */

/* What is meant for the daemon (a terminal's interrupt, a service manager's stop, a request for a
 * checkpoint) reaches its children too; whether the image is still wanted then is the daemon's to
 * decide, and it says so by SIGKILL. A file size limit and a closed pipe are to be errors. All else
 * does what it does to any process. */
static void child_reset_signals(void)
{
    static const int ignored[] = {SIGHUP,  SIGINT,  SIGTERM, SIGQUIT,
                                  SIGUSR1, SIGUSR2, SIGPIPE, SIGXFSZ};
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int number = 1; number < NSIG; number++)
        (void)sigaction(number, &action, NULL);
    action.sa_handler = SIG_IGN;
    for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
        (void)sigaction(ignored[i], &action, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Where memory is short the child is to go first: a checkpoint can be had again. */
static void child_raise_oom_score(void)
{
    int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    char text[16];
    ssize_t n;
    int score = 0;
    bool negative;
    size_t length = 0;

    if (fd < 0)
        return;
    n = read(fd, text, sizeof(text));
    negative = n > 0 && text[0] == '-';
    for (ssize_t i = negative; i < n && text[i] >= '0' && text[i] <= '9'; i++)
        score = score * 10 + (text[i] - '0');
    score = MIN((negative ? -score : score) + CHILD_OOM_SCORE, OOM_SCORE_MAX);
    if (n > 0 && score > 0) {
        for (int unit = OOM_SCORE_MAX; unit > 0; unit /= 10)
            if (score >= unit || length > 0)
                text[length++] = (char)('0' + score / unit % 10);
        (void)!pwrite(fd, text, length, 0);
    }
    close(fd);
}

/* All of it is best effort: a container may forbid some. Not idle I/O, which would throttle the
 * clients through the ring. */
static void child_set_up(const Writer *writer)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != writer->parent)
        _exit(1); /* it died before the line above */
    (void)prctl(PR_SET_NAME, CHILD_NAME);
    child_reset_signals();
    file_close_all_but(0, writer->keep, writer->keep_count);
    schedule_behind();
    (void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0,
                  IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, CHILD_IO_PRIORITY));
    child_raise_oom_score();
}

/* needed: waits until it is written; else it is left out where the pipe is full. */
static void child_send(const Writer *writer, WriterReport *report, bool needed)
{
    report->pages_done = sweep_pages_done(writer->sweep);
    report->pages_captured = sweep_pages_captured(writer->sweep);
    if (report->kind != WRITER_DONE)
        report->image_bytes = image_writer_bytes(writer->image);
    while (write(writer->pipe[1], report, sizeof(*report)) < 0) {
        struct pollfd poller = {.fd = writer->pipe[1], .events = POLLOUT};

        if (errno != EINTR && (errno != EAGAIN || !needed))
            return;
        if (errno == EAGAIN)
            (void)poll(&poller, 1, -1);
    }
}

static int child_buffer(void *context, void **ret)
{
    Writer *writer = context;

    return image_writer_buffer(writer->image, ret);
}

static int child_put(void *context, uint32_t arena, const uint32_t *pages, uint32_t count)
{
    Writer *writer = context;

    return image_writer_put(writer->image, writer->table_index[arena], pages, count);
}

static void child_turn(void *context, bool room)
{
    Writer *writer = context;
    uint64_t now = clock_monotonic();

    if (room)
        child_send(writer, &(WriterReport){.kind = WRITER_ROOM}, true);
    if (now - writer->progress_usec < PROGRESS_USEC)
        return;
    writer->progress_usec = now;
    child_send(writer, &(WriterReport){.kind = WRITER_PROGRESS}, false);
}

static void child_scanned(void *context)
{
    child_send(context, &(WriterReport){.kind = WRITER_SCANNED}, true);
}

static void child_summarize(const Writer *writer, ImageSummary *summary)
{
    uint64_t now = clock_monotonic();
    uint64_t pause = atomic_load(&writer->shared->pause_usec);
    uint64_t since = atomic_load(&writer->shared->parked_since_usec);

    *summary = (ImageSummary){
        /* The parent has not come to tell when this was quick: then what the child saw of it. */
        .pause_usec = pause != 0 ? pause : writer->child_usec - writer->cut_usec,
        .held_usec = atomic_load(&writer->shared->held_usec) + (since != 0 ? now - since : 0),
        .duration_usec = now - writer->cut_usec,
        .pages_total = sweep_pages_total(writer->sweep),
        .pages_captured = sweep_pages_captured(writer->sweep),
        .state_bytes = writer->state_bytes,
    };
}

static int child_write(Writer *writer, WriterReport *report)
{
    const char *step = "finish";
    int r = sweep_run(writer->sweep);

    if (r < 0) {
        step = sweep_step(writer->sweep);
    } else if (sweep_pages_done(writer->sweep) != sweep_pages_total(writer->sweep)) {
        /* Would be a fault of ours. Better no image than one with a hole. */
        step = "count";
        r = -EBADMSG;
    } else {
        child_summarize(writer, &report->summary);
        r = image_writer_finish(writer->image, &report->summary, &report->image_bytes);
    }
    report->kind = r < 0 ? WRITER_FAILED : WRITER_DONE;
    report->error = r;
    if (r < 0)
        memcpy(report->step, step, MIN(strlen(step), sizeof(report->step) - 1));
    return r;
}

_Noreturn static void child_run(Writer *writer)
{
    WriterReport report = {0};
    int r;

    writer->child_usec = clock_monotonic();
    child_set_up(writer);
    r = child_write(writer, &report);
    child_send(writer, &report, true);
    capture_child_leave(writer->capture);
    _exit(r < 0 ? 1 : 0);
}

/* --- the parent */

static int compare_files(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static int writer_make_sweep(Writer *writer, const WriterPlan *plan, size_t held)
{
    _cleanup_(freep) SweepArena *sweeps = calloc(MAX(held, 1u), sizeof(*sweeps));
    SweepOptions options = {
        .capture = plan->capture,
        .arenas = sweeps,
        .count = held,
        .bytes_per_sec = plan->bytes_per_sec,
        .sink = {writer, child_buffer, child_put, child_turn, child_scanned},
    };
    size_t n = 0;

    if (sweeps == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < plan->count; i++) {
        if (!plan->arenas[i].held)
            continue;
        sweeps[n] = (SweepArena){.fd = plan->memfds[n], .pages = plan->arenas[i].pages};
        writer->table_index[n++] = (uint32_t)i;
    }
    return sweep_new(&options, &writer->sweep);
}

static int writer_make_files(Writer *writer, const WriterPlan *plan, size_t held)
{
    if (pipe2(writer->pipe, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    for (size_t i = 0; i < held; i++)
        writer->keep[writer->keep_count++] = plan->memfds[i];
    writer->keep[writer->keep_count++] = STDERR_FILENO; /* a sanitizer may have to say something */
    writer->keep[writer->keep_count++] = plan->image_fd;
    writer->keep[writer->keep_count++] = writer->pipe[1];
    qsort(writer->keep, writer->keep_count, sizeof(writer->keep[0]), compare_files);
    return 0;
}

static void writer_freep(Writer **writer)
{
    writer_free(*writer);
}

int writer_new(const WriterPlan *plan, Writer **ret)
{
    _cleanup_(writer_freep) Writer *writer = calloc(1, sizeof(*writer));
    size_t held = 0;
    void *map;
    int r;

    if (writer == NULL)
        return -ENOMEM;
    writer->capture = plan->capture;
    writer->image_fd = writer->pipe[0] = writer->pipe[1] = -1;
    writer->state_bytes = plan->state_bytes;
    for (size_t i = 0; i < plan->count; i++)
        held += plan->arenas[i].held;
    writer->table_index = calloc(held + 1, sizeof(writer->table_index[0]));
    writer->keep = calloc(held + 3, sizeof(writer->keep[0]));
    if (writer->table_index == NULL || writer->keep == NULL)
        return -ENOMEM;
    map = mmap(NULL, sizeof(*writer->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
               -1, 0);
    if (map == MAP_FAILED)
        return -errno;
    writer->shared = map;
    r = writer_make_sweep(writer, plan, held);
    if (r < 0)
        return r;
    r = image_writer_new(plan->image_fd, plan->spec, plan->arenas, plan->count, &writer->image);
    if (r < 0)
        return r;
    r = writer_make_files(writer, plan, held);
    if (r < 0)
        return r;
    writer->image_fd = plan->image_fd;
    *ret = TAKE_PTR(writer);
    return 0;
}

Writer *writer_free(Writer *writer)
{
    if (writer == NULL)
        return NULL;
    writer_close_files(writer);
    closep(&writer->pipe[0]);
    image_writer_free(writer->image);
    sweep_free(writer->sweep);
    if (writer->shared != NULL)
        munmap(writer->shared, sizeof(*writer->shared));
    free(writer->table_index);
    free(writer->keep);
    free(writer);
    return NULL;
}

void writer_close_files(Writer *writer)
{
    /* The parent's hold on the image goes early: the last close of a file that was unlinked
     * meanwhile frees all its pages, which must not happen in the loop's thread. */
    closep(&writer->image_fd);
    closep(&writer->pipe[1]);
    writer->image_fd = writer->pipe[1] = -1;
}

int writer_fork(Writer *writer, uint64_t cut_usec, pid_t *ret_pid)
{
    sigset_t all, old;
    pid_t pid;
    int error;

    writer->parent = getpid();
    writer->cut_usec = writer->progress_usec = cut_usec;
    /* A handler of the parent's must not run in the child, where it would write to the parent's
     * signal pipe. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    /* Not fork(3), which takes the locks of malloc and stdio, and might wait for a thread that
     * holds one. */
    pid = _Fork();
    error = errno;
    if (pid == 0)
        child_run(writer);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (pid < 0)
        return -error;
    *ret_pid = pid;
    return 0;
}

int writer_fd(const Writer *writer)
{
    return writer->pipe[0];
}

int writer_read(Writer *writer, WriterReport *ret)
{
    WriterReport report;
    ssize_t n;

    do
        n = read(writer->pipe[0], &report, sizeof(report));
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    if (n == 0)
        return 0;
    if (n != sizeof(report) || report.kind < WRITER_PROGRESS || report.kind > WRITER_FAILED)
        return -EBADMSG;
    report.step[sizeof(report.step) - 1] = '\0';
    *ret = report;
    return 1;
}

void writer_set_pause(Writer *writer, uint64_t pause_usec)
{
    atomic_store(&writer->shared->pause_usec, pause_usec);
}

void writer_set_held(Writer *writer, uint64_t held_usec, uint64_t parked_since_usec)
{
    atomic_store(&writer->shared->parked_since_usec, 0);
    atomic_store(&writer->shared->held_usec, held_usec);
    atomic_store(&writer->shared->parked_since_usec, parked_since_usec);
}
