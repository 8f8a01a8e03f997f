/* Unit tests of base/file and the other small parts of base: checksums, clocks, schedule. */
#include "base/file.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "base/checksum.h"
#include "base/clock.h"
#include "base/schedule.h"
#include "lib/temporary.h"

Test(file, memfd_is_ours_alone_and_sealable)
{
    struct stat status;
    uint64_t size;
    int fd;

    cr_assert(eq(int, file_memfd("holdfast-test", 12345, &fd), 0));
    cr_assert(eq(int, fstat(fd, &status), 0));
    cr_assert(eq(uint, status.st_mode & 07777, 0600));
    cr_assert(eq(int, fcntl(fd, F_GETFD), FD_CLOEXEC));
    cr_assert(eq(int, fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL), 0));
    cr_assert(eq(int, file_size(fd, &size), 0));
    cr_assert(eq(u64, size, 12345));
    cr_assert(eq(int, file_memfd("holdfast-test", UINT64_MAX, &fd), -EFBIG));
    close(fd);
}

Test(file, reads_and_writes_are_whole_or_an_error)
{
    char out[8192], in[8192];
    int fd;

    memset(out, 'a', sizeof(out));
    cr_assert(eq(int, file_memfd("holdfast-test", 0, &fd), 0));
    cr_assert(eq(int, file_write_at(fd, out, sizeof(out), 100), 0));
    cr_assert(eq(int, file_read_at(fd, in, sizeof(in), 100), 0));
    cr_assert(eq(int, memcmp(in, out, sizeof(in)), 0));
    cr_assert(eq(int, file_read_at(fd, in, sizeof(in), 101), -ENODATA));
    cr_assert(eq(int, file_read_at(fd, in, 0, 1 << 20), 0));
    close(fd);
    cr_assert(eq(int, file_read_at(fd, in, 1, 0), -EBADF));
    cr_assert(eq(int, file_write_at(fd, in, 1, 0), -EBADF));
}

Test(file, want_of_room_is_told)
{
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

    cr_assert(ge(int, fd, 0));
    cr_assert(eq(int, file_write_at(fd, "x", 1, 0), -ENOSPC));
    cr_assert(eq(int, file_write(fd, "x", 1), -ENOSPC));
    close(fd);
}

static void on_alarm(int signal)
{
    (void)signal;
}

/* The pipe is small and its reader slow: the write is cut short by a timer's signals over and over.
 */
Test(file, a_write_goes_on_after_signals_and_short_counts, .timeout = 60)
{
    enum { SIZE = 4 << 20 };
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval timer = {.it_interval.tv_usec = 500, .it_value.tv_usec = 500};
    char *data = malloc(SIZE);
    int ends[2], status;
    pid_t child;

    for (size_t i = 0; i < SIZE; i++)
        data[i] = (char)(i * 7);
    cr_assert(eq(int, pipe(ends), 0));
    child = fork();
    if (child == 0) {
        size_t at = 0;
        char part[3001];
        ssize_t n;

        close(ends[1]);
        while ((n = read(ends[0], part, sizeof(part))) > 0) {
            if (at + (size_t)n > SIZE || memcmp(part, data + at, (size_t)n) != 0)
                _exit(1);
            at += (size_t)n;
        }
        _exit(at == SIZE ? 0 : 2);
    }
    close(ends[0]);
    cr_assert(eq(int, sigaction(SIGALRM, &action, NULL), 0));
    cr_assert(eq(int, setitimer(ITIMER_REAL, &timer, NULL), 0));
    cr_assert(eq(int, file_write(ends[1], data, SIZE), 0));
    timer = (struct itimerval){0};
    setitimer(ITIMER_REAL, &timer, NULL);
    close(ends[1]);
    cr_assert(eq(int, waitpid(child, &status, 0), child));
    cr_assert(eq(int, status, 0));
    free(data);
}

/* The lock belongs to the process: a child that inherits the descriptor has none, and is refused.
 */
Test(file, lock_keeps_others_out_and_is_not_inherited)
{
    _cleanup_(temporary_freep) Temporary *directory = temporary_new();
    int fd, status;
    pid_t child;

    fd = openat(directory->fd, "LOCK", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    cr_assert(ge(int, fd, 0));
    cr_assert(eq(int, file_lock(fd), 0));
    cr_assert(eq(int, file_lock(fd), 0), "our own lock is no obstacle");
    child = fork();
    if (child == 0)
        _exit(file_lock(fd) == -EAGAIN ? 0 : 1);
    cr_assert(eq(int, waitpid(child, &status, 0), child));
    cr_assert(eq(int, status, 0));
    close(fd);
}

Test(file, directories_are_made_with_their_parents)
{
    _cleanup_(temporary_freep) Temporary *directory = temporary_new();
    _cleanup_(freep) char *path = temporary_path(directory, "a/b//c/");
    _cleanup_(freep) char *file = temporary_path(directory, "file");
    struct stat status;
    int fd;

    cr_assert(eq(int, file_make_directories(path, 0700), 0));
    cr_assert(eq(int, file_make_directories(path, 0700), 0), "it may be there already");
    cr_assert(eq(int, stat(path, &status), 0));
    cr_assert(eq(uint, status.st_mode & S_IFMT, S_IFDIR));
    cr_assert(eq(uint, status.st_mode & 07777, 0700));
    cr_assert(eq(int, file_sync_directory(directory->fd), 0));

    fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    close(fd);
    cr_assert(eq(int, file_make_directories(file, 0700), -ENOTDIR));
    cr_assert(eq(int, file_make_directories("", 0700), -ENOENT));
    cr_assert(eq(int, file_make_directories("/", 0700), 0));
}

Test(file, a_memfd_is_trusted_only_where_nobody_else_could_have_changed_it)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_SEAL;
    uint64_t size = 0;
    char path[64];
    int fd, reading;

    cr_assert(eq(int, file_memfd("test", 8192, &fd), 0));
    cr_assert(eq(int, file_check_memfd(fd, &size), -EBADMSG), "it can shrink");
    cr_assert(eq(int, fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0));
    cr_assert(eq(int, file_check_memfd(fd, &size), -EBADMSG), "it can be sealed further");
    cr_assert(eq(int, fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL), 0));
    cr_assert(eq(int, file_check_memfd(fd, &size), 0));
    cr_assert(eq(u64, size, 8192));
    cr_assert(eq(int, fchmod(fd, 0660), 0));
    cr_assert(eq(int, file_check_memfd(fd, &size), -EBADMSG), "its group may open it");
    cr_assert(eq(int, fchmod(fd, 0600), 0));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    reading = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert(eq(int, file_check_memfd(reading, &size), -EBADMSG), "it cannot be written");
    close(reading);
    close(fd);

    cr_assert(eq(int, file_memfd("test", 8192, &fd), 0));
    cr_assert(eq(int, fcntl(fd, F_ADD_SEALS, seals | F_SEAL_GROW), 0));
    cr_assert(eq(int, file_check_memfd(fd, &size), -EBADMSG), "it cannot grow");
    close(fd);
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    cr_assert(eq(int, file_check_memfd(fd, &size), -EBADMSG));
    close(fd);
}

static unsigned open_among(const int *fds, unsigned count)
{
    unsigned open = 0;

    for (unsigned i = 0; i < count; i++)
        open |= (unsigned)(fcntl(fds[i], F_GETFD) >= 0) << i;
    return open;
}

Test(file, a_child_keeps_what_it_needs_of_its_descriptors)
{
    int fds[6], status;

    for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
        fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        cr_assert(ge(int, fds[i], 0));
    }
    pid_t pid = fork();
    if (pid == 0) {
        const int keep[] = {fds[1], fds[4]}, first[] = {fds[0]};
        bool right = true;

        file_close_all_but((unsigned)fds[0], keep, ARRAY_SIZE(keep));
        right = right && open_among(fds, ARRAY_SIZE(fds)) == 0x12;
        file_close_all_but((unsigned)fds[2], first, ARRAY_SIZE(first)); /* below: stays anyway */
        right = right && open_among(fds, ARRAY_SIZE(fds)) == 0x02;
        file_close_all_but((unsigned)fds[0], NULL, 0);
        right =
            right && open_among(fds, ARRAY_SIZE(fds)) == 0 && fcntl(STDERR_FILENO, F_GETFD) >= 0;
        _exit(right ? 0 : 1);
    }
    cr_assert(eq(int, waitpid(pid, &status, 0), pid));
    cr_assert(eq(int, status, 0));
    for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
        close(fds[i]);
}

Test(checksum, is_xxh3_with_its_published_values)
{
    /* xxHash's own reference: XXH3_64bits of nothing, seed 0. */
    cr_assert(eq(u64, checksum("", 0), UINT64_C(0x2d06800538d394c2)));
    cr_assert(eq(u64, checksum("abc", 3), checksum_seeded("abc", 3, 0)));
    cr_assert(ne(u64, checksum("abc", 3), checksum_seeded("abc", 3, 1)));
    cr_assert(ne(u64, checksum("abc", 3), checksum("abd", 3)));
}

Test(clock, counts_microseconds)
{
    uint64_t before = clock_monotonic(), real = clock_realtime();

    usleep(2000);
    cr_assert(ge(u64, clock_monotonic(), before + 2000));
    cr_assert(lt(u64, clock_monotonic(), before + 60 * USEC_PER_SEC));
    cr_assert(ge(u64, real / USEC_PER_SEC, (uint64_t)time(NULL) - 1));
    cr_assert(le(u64, real / USEC_PER_SEC, (uint64_t)time(NULL)));
}

/* A file of this size that is all hole but for its ends. */
static int make_large(Temporary *directory, const char *name)
{
    int fd = openat(directory->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    cr_assert(ge(int, fd, 0));
    cr_assert(eq(int, file_write_at(fd, "begin", 5, 0), 0));
    cr_assert(eq(int, file_write_at(fd, "end", 3, 200 * MIB), 0));
    return fd;
}

static uint64_t size_of(int fd)
{
    uint64_t size = 0;

    cr_assert(eq(int, file_size(fd, &size), 0));
    return size;
}

static unsigned refused_opens;

/* The C library's, for file_give_back too: at each step somebody opens the file the one way that is
 * left. */
int ftruncate(int fd, off_t size)
{
    char path[64];
    int other;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    other = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (other >= 0)
        close(other);
    refused_opens += other < 0 && errno == EAGAIN;
    return (int)syscall(SYS_ftruncate, fd, size);
}

Test(file, an_unlinked_file_gives_its_room_back_unless_somebody_has_it)
{
    Temporary *directory = temporary_new();
    int left = -1, reader;

    cr_assert(eq(int, file_unlink(directory->fd, "none", &left), -ENOENT));
    temporary_write(directory, "small", "text");
    cr_assert(eq(int, file_unlink(directory->fd, "small", &left), 0));
    cr_assert(eq(int, left, -1));
    file_give_back(left);

    /* Open elsewhere. */
    reader = make_large(directory, "large");
    cr_assert(eq(int, file_unlink(directory->fd, "large", &left), 0));
    cr_assert(ge(int, left, 0));
    cr_assert(eq(int, faccessat(directory->fd, "large", F_OK, 0), -1));
    file_give_back(left);
    cr_assert(eq(u64, size_of(reader), 200 * MIB + 3));
    close(reader);

    /* Under another name. */
    close(make_large(directory, "large"));
    cr_assert(eq(int, linkat(directory->fd, "large", directory->fd, "other", 0), 0));
    cr_assert(eq(int, file_unlink(directory->fd, "large", &left), 0));
    file_give_back(left);
    reader = openat(directory->fd, "other", O_RDONLY | O_CLOEXEC);
    cr_assert(eq(u64, size_of(reader), 200 * MIB + 3));
    close(reader);

    /* Nobody: what remains is a step at most. */
    close(make_large(directory, "large"));
    cr_assert(eq(int, file_unlink(directory->fd, "large", &left), 0));
    reader = fcntl(left, F_DUPFD_CLOEXEC, 0); /* the same description: no hindrance to a lease */
    refused_opens = 0;
    file_give_back(left);
    cr_assert(le(u64, size_of(reader), 32 * MIB));
    cr_assert(ge(uint, refused_opens, 5)); /* and no signal of theirs ended us */
    close(reader);
    temporary_free(directory);
}

Test(schedule, a_child_steps_behind)
{
    int before = getpriority(PRIO_PROCESS, 0);

    schedule_behind();
    cr_assert(eq(int, sched_getscheduler(0), SCHED_BATCH));
    cr_assert(eq(int, getpriority(PRIO_PROCESS, 0), MIN(before + 5, 19)));
    /* A policy that is not the ordinary one stays. */
    schedule_behind();
    cr_assert(eq(int, sched_getscheduler(0), SCHED_BATCH));
    cr_assert(eq(int, getpriority(PRIO_PROCESS, 0), MIN(before + 10, 19)));
}

/* Where a sandbox does not let it choose the length of its slices. */
Test(schedule, a_child_steps_behind_without_short_slices)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setattr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = ARRAY_SIZE(program), .filter = program};
    int before = getpriority(PRIO_PROCESS, 0);

    cr_assert(eq(int, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0));
    cr_assert(eq(int, prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0));
    schedule_behind();
    cr_assert(eq(int, sched_getscheduler(0), SCHED_BATCH));
    cr_assert(eq(int, getpriority(PRIO_PROCESS, 0), MIN(before + 5, 19)));
}

/* Somebody who has this processor for good. */
static pid_t start_hog(void)
{
    pid_t pid = fork();

    cr_assert(ge(int, pid, 0));
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            atomic_signal_fence(memory_order_seq_cst);
    }
    return pid;
}

Test(schedule, one_who_keeps_the_processor_is_let_go_first_now_and_then_only)
{
    uint64_t deadline = clock_monotonic() + 30 * USEC_PER_SEC;
    YieldBackoff backoff = {0};
    cpu_set_t one;
    uint64_t until;
    pid_t hog;

    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    cr_assert(eq(int, sched_setaffinity(0, sizeof(one), &one), 0));
    hog = start_hog();
    while (backoff.until_usec == 0 && clock_monotonic() < deadline) /* it may not have begun yet */
        schedule_yield(&backoff);
    until = backoff.until_usec;
    cr_assert(ne(u64, until, 0));
    while (clock_monotonic() < until) {
        schedule_yield(&backoff);
        if (clock_monotonic() < until) /* not interrupted just now */
            cr_assert(eq(u64, backoff.until_usec, until));
    }
    cr_assert(le(u64, until, clock_monotonic()));
    while (backoff.until_usec == until && clock_monotonic() < deadline)
        schedule_yield(&backoff);
    cr_assert(gt(u64, backoff.until_usec, until)); /* and tries again, and finds it there */
    kill(hog, SIGKILL);
    cr_assert(eq(int, waitpid(hog, NULL, 0), hog));
}
