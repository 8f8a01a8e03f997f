/* A preload library that records what a program does to files: what tests/lib/disk.py builds states
 * of the disk from. Each call that changes a file or a directory, and the beginning and the end of
 * each that makes something durable, is one Entry, with its data, at the end of the file that
 * $HOLDFAST_RECORD names; its threads, its children and later runs append to the same file, so the
 * file is one order of all of it. $HOLDFAST_RECORD_ROOT is the directory to begin from; which files
 * lie below it is for the reader to tell, from the directories that were made.
 *
 * A change is recorded after it was made and before its caller goes on: what was written before a
 * sync began stands before the sync's beginning, what was answered after it stands behind its end.
 * Two calls that overlap in time may stand in either order, as they may be done in either.
 *
 * SIGRTMIN+5 kills the program as SIGKILL would, but never between a change and its entry, nor in
 * the middle of an entry, not even of a child that dies with it. (A child that is killed alone may
 * leave half an entry, and then the program does not die of this signal any more.)
 *
 * A write that the kernel does while the program goes on (io_submit by syscall(2)) is recorded as
 * it begins: it is done even if the program is killed. A sync that begins before such a write has
 * ended aborts the program, and so does one that ends short.
 *
 * What this does not see: system calls that do not go through these functions of the C library, and
 * stores to mapped files. An entry that cannot be written aborts the program. */

/* The names that programs call are defined here, both those of 64 bits and the others. */
#undef _FILE_OFFSET_BITS

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/aio_abi.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define ENTRY_MAGIC 0x44524648u /* "HFRD" */
#define PIECES_MAX 32
/* Where nothing else will be opened when a child has closed what it does not know. */
#define RECORD_FD 1000
#define COPY_BYTES ((size_t)64 << 10)

/* The same numbers as in disk.py. */
typedef enum EntryKind {
    ENTRY_BEGIN,    /* file: the root's inode; a program begins */
    ENTRY_OPEN,     /* other: directory, offset: flags, text: name; may have made or cut the file */
    ENTRY_WRITE,    /* offset, bytes, data */
    ENTRY_ZEROS,    /* offset, bytes; a write of zeros */
    ENTRY_SIZE,     /* bytes: the file's size from now on */
    ENTRY_ALLOCATE, /* other: mode, offset, bytes */
    ENTRY_MKDIR,    /* other: directory, text: name */
    ENTRY_RENAME,   /* file, other: directories, text: both names */
    ENTRY_LINK,     /* the same */
    ENTRY_UNLINK,   /* other: directory, text: name */
    ENTRY_SYNC_BEGIN, /* by this thread; fsync or fdatasync */
    ENTRY_SYNC_END,   /* bytes: 0, or the errno it failed with */
} EntryKind;

/* Then text_bytes of names, each with its NUL, then the data of an ENTRY_WRITE. */
typedef struct Entry {
    uint32_t magic;
    uint32_t kind;
    uint32_t thread;
    uint32_t text_bytes;
    uint64_t file; /* inodes */
    uint64_t other;
    uint64_t offset;
    uint64_t bytes;
} Entry;
_Static_assert(sizeof(Entry) == 48, "disk.py reads it");

typedef struct Place {
    uint64_t directory;
    const char *name;
    bool watched;
} Place;

/* In memory that children share: a write that a child is killed in would be torn. */
typedef struct Life {
    atomic_int active; /* calls that change something now, and their entries */
    atomic_bool dying;
} Life;

/* A preload library has no object that its state could lie in. */
static struct {
    int fd; /* of the record; -1: nothing is recorded */
    char path[PATH_MAX];
    dev_t device;
    pid_t pid;
    Life *life;
    unsigned under_way; /* writes that this process began and that have not ended */

    /* Found once: a forked child could not ask for them. */
    __typeof__(&open) open;
    __typeof__(&openat) openat;
    __typeof__(&write) write;
    __typeof__(&writev) writev;
    __typeof__(&pwrite) pwrite;
    __typeof__(&pwritev) pwritev;
    __typeof__(&pwritev2) pwritev2;
    __typeof__(&ftruncate) ftruncate;
    __typeof__(&truncate) truncate;
    __typeof__(&fallocate) fallocate;
    __typeof__(&copy_file_range) copy_file_range;
    __typeof__(&sendfile) sendfile;
    __typeof__(&mkdir) mkdir;
    __typeof__(&mkdirat) mkdirat;
    __typeof__(&rename) rename;
    __typeof__(&renameat) renameat;
    __typeof__(&renameat2) renameat2;
    __typeof__(&link) link;
    __typeof__(&linkat) linkat;
    __typeof__(&unlink) unlink;
    __typeof__(&unlinkat) unlinkat;
    __typeof__(&rmdir) rmdir;
    __typeof__(&fsync) fsync;
    __typeof__(&fdatasync) fdatasync;
    __typeof__(&syscall) syscall;
} record = {.fd = -1};

static void fail(const char *what)
{
    (void)dprintf(STDERR_FILENO, "record-disk: %s: %s\n", what, strerror(errno));
    abort();
}

/* --- the record */

static void open_record(void)
{
    int fd = record.open(record.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    if (fd < 0)
        fail(record.path);
    record.fd = fcntl(fd, F_DUPFD_CLOEXEC, RECORD_FD);
    if (record.fd < 0)
        fail("F_DUPFD_CLOEXEC");
    (void)close(fd);
}

static void append(const Entry *entry, const char *text, const char *text2,
                   const struct iovec *data, int count)
{
    struct iovec pieces[PIECES_MAX + 3];
    Entry written = *entry;
    size_t total = sizeof(written);
    int n = 1, error = errno;

    written.magic = ENTRY_MAGIC;
    written.thread = (uint32_t)gettid();
    for (const char *const *name = (const char *const[]){text, text2, NULL}; *name; name++) {
        pieces[n] = (struct iovec){(void *)*name, strlen(*name) + 1};
        written.text_bytes += (uint32_t)pieces[n++].iov_len;
    }
    pieces[0] = (struct iovec){&written, sizeof(written)};
    for (int i = 0; i < count; i++)
        pieces[n++] = data[i];
    for (int i = 1; i < n; i++)
        total += pieces[i].iov_len;
    if (fcntl(record.fd, F_GETFD) < 0)
        open_record();
    if (record.writev(record.fd, pieces, n) != (ssize_t)total)
        fail("cannot write an entry");
    errno = error;
}

/* Around each call that changes something. Where nothing is recorded there is no life to lose. */
static void leave(void)
{
    if (record.life && atomic_fetch_sub(&record.life->active, 1) == 1 &&
        atomic_load(&record.life->dying))
        kill(record.pid, SIGKILL);
}

static void enter(void)
{
    if (!record.life)
        return;
    atomic_fetch_add(&record.life->active, 1);
    if (atomic_load(&record.life->dying)) {
        leave();
        for (;;)
            pause();
    }
}

static void die(int number)
{
    (void)number;
    atomic_store(&record.life->dying, true);
    if (atomic_load(&record.life->active) == 0)
        kill(record.pid, SIGKILL);
}

/* --- which file */

static bool watched(int fd, struct stat *status)
{
    int error = errno;
    bool is = record.fd >= 0 && fstat(fd, status) == 0 && status->st_dev == record.device &&
              (S_ISREG(status->st_mode) || S_ISDIR(status->st_mode));

    errno = error;
    return is;
}

/* The directory and the name in it that a path means. */
static Place place(int at, const char *path)
{
    const char *slash = strrchr(path, '/');
    Place found = {.name = slash ? slash + 1 : path};
    char directory[PATH_MAX] = ".";
    struct stat status;
    int error = errno;

    if (record.fd < 0)
        return found;
    if (slash)
        (void)snprintf(directory, sizeof(directory), "%.*s", (int)(slash - path) + 1, path);
    if (fstatat(at, directory, &status, 0) == 0) {
        found.directory = status.st_ino;
        found.watched = status.st_dev == record.device;
    }
    errno = error;
    return found;
}

__attribute__((constructor)) static void record_begin(void)
{
    const char *path = getenv("HOLDFAST_RECORD"), *root = getenv("HOLDFAST_RECORD_ROOT");
    struct sigaction action = {.sa_handler = die};
    struct stat status;

#define FIND(name) record.name = (__typeof__(record.name))dlsym(RTLD_NEXT, #name)
    FIND(open), FIND(openat), FIND(write), FIND(writev), FIND(pwrite), FIND(pwritev);
    FIND(pwritev2), FIND(ftruncate), FIND(truncate), FIND(fallocate), FIND(copy_file_range);
    FIND(sendfile), FIND(mkdir), FIND(mkdirat), FIND(rename), FIND(renameat), FIND(renameat2);
    FIND(link), FIND(linkat), FIND(unlink), FIND(unlinkat), FIND(rmdir), FIND(fsync);
    FIND(fdatasync), FIND(syscall);
#undef FIND
    if (!path || !root)
        return;
    record.pid = getpid();
    if (stat(root, &status) < 0)
        fail(root);
    record.device = status.st_dev;
    if (snprintf(record.path, sizeof(record.path), "%s", path) >= (int)sizeof(record.path))
        fail("the record's path is too long");
    open_record();
    unsetenv("LD_PRELOAD");
    record.life =
        mmap(NULL, sizeof(*record.life), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (record.life == MAP_FAILED)
        fail("mmap");
    if (sigaction(SIGRTMIN + 5, &action, NULL) < 0)
        fail("sigaction");
    append(&(Entry){.kind = ENTRY_BEGIN, .file = status.st_ino}, NULL, NULL, NULL, 0);
}

/* --- opening */

static int opened(int fd, int at, const char *path, int flags)
{
    struct stat status;
    Place where;

    if (fd < 0 || !(flags & (O_CREAT | O_TRUNC)) || !watched(fd, &status))
        return fd;
    where = place(at, path);
    append(&(Entry){.kind = ENTRY_OPEN,
                    .file = status.st_ino,
                    .other = where.directory,
                    .offset = (uint64_t)(unsigned)flags},
           where.name, NULL, NULL, 0);
    return fd;
}

static int open_at(int at, const char *path, int flags, mode_t mode)
{
    int fd;

    if (flags & __O_TMPFILE && (flags & O_TMPFILE) == O_TMPFILE)
        fail("O_TMPFILE is not recorded");
    enter();
    fd = opened(record.openat(at, path, flags, mode), at, path, flags);
    leave();
    return fd;
}

static mode_t mode_of(int flags, va_list *list)
{
    return flags & O_CREAT ? va_arg(*list, mode_t) : 0;
}

#define DEFINE_OPEN(name)                                                                          \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        va_list list;                                                                              \
        mode_t mode;                                                                               \
                                                                                                   \
        va_start(list, flags);                                                                     \
        mode = mode_of(flags, &list);                                                              \
        va_end(list);                                                                              \
        return open_at(AT_FDCWD, path, flags, mode);                                               \
    }

#define DEFINE_OPENAT(name)                                                                        \
    int name(int at, const char *path, int flags, ...)                                             \
    {                                                                                              \
        va_list list;                                                                              \
        mode_t mode;                                                                               \
                                                                                                   \
        va_start(list, flags);                                                                     \
        mode = mode_of(flags, &list);                                                              \
        va_end(list);                                                                              \
        return open_at(at, path, flags, mode);                                                     \
    }

DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

/* --- writing */

static bool all_zero(const struct iovec *pieces, int count)
{
    for (int i = 0; i < count; i++) {
        const uint8_t *bytes = pieces[i].iov_base;
        size_t size = pieces[i].iov_len;

        if (size > 0 && (bytes[0] != 0 || memcmp(bytes, bytes + 1, size - 1) != 0))
            return false;
    }
    return true;
}

/* written: what the call returned; offset: -1 for the descriptor's. */
static void wrote(int fd, const struct iovec *pieces, int count, ssize_t written, off_t offset)
{
    struct iovec taken[PIECES_MAX];
    size_t left = written > 0 ? (size_t)written : 0;
    struct stat status;
    int n = 0;
    bool zeros;

    if (left == 0 || !watched(fd, &status))
        return;
    if (offset < 0)
        offset = lseek(fd, 0, SEEK_CUR) - written;
    for (; left > 0 && n < count; n++) {
        if (n == PIECES_MAX)
            fail("a write of too many pieces");
        taken[n] = pieces[n];
        if (taken[n].iov_len > left)
            taken[n].iov_len = left;
        left -= taken[n].iov_len;
    }
    zeros = all_zero(taken, n);
    append(&(Entry){.kind = zeros ? ENTRY_ZEROS : ENTRY_WRITE,
                    .file = status.st_ino,
                    .offset = (uint64_t)offset,
                    .bytes = (uint64_t)written},
           NULL, NULL, taken, zeros ? 0 : n);
}

ssize_t write(int fd, const void *data, size_t size)
{
    struct iovec piece = {(void *)data, size};
    ssize_t n;

    enter();
    n = record.write(fd, data, size);
    wrote(fd, &piece, 1, n, -1);
    leave();
    return n;
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    ssize_t n;

    enter();
    n = record.writev(fd, pieces, count);
    wrote(fd, pieces, count, n, -1);
    leave();
    return n;
}

static ssize_t write_at(int fd, const struct iovec *pieces, int count, off_t offset, int flags)
{
    ssize_t n;

    enter();
    n = flags == 0 ? record.pwritev(fd, pieces, count, offset)
                   : record.pwritev2(fd, pieces, count, offset, flags);
    wrote(fd, pieces, count, n, offset);
    leave();
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return write_at(fd, &(struct iovec){(void *)data, size}, 1, offset, 0);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    return write_at(fd, &(struct iovec){(void *)data, size}, 1, offset, 0);
}

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t offset)
{
    return write_at(fd, pieces, count, offset, 0);
}

ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off64_t offset)
{
    return write_at(fd, pieces, count, offset, 0);
}

ssize_t pwritev2(int fd, const struct iovec *pieces, int count, off_t offset, int flags)
{
    return write_at(fd, pieces, count, offset, flags);
}

ssize_t pwritev64v2(int fd, const struct iovec *pieces, int count, off64_t offset, int flags)
{
    return write_at(fd, pieces, count, offset, flags);
}

/* One write at a time is what is begun. */
static long begin_write(aio_context_t context, long count, struct iocb **requests)
{
    const struct iocb *request = requests[0];
    struct iovec piece = {(void *)(uintptr_t)request->aio_buf, request->aio_nbytes};
    long n;

    if (count != 1 || request->aio_lio_opcode != IOCB_CMD_PWRITE)
        fail("an io_submit of another kind is not recorded");
    enter();
    n = record.syscall(SYS_io_submit, context, count, requests);
    if (n == 1) {
        record.under_way++;
        wrote((int)request->aio_fildes, &piece, 1, (ssize_t)piece.iov_len, request->aio_offset);
    }
    leave();
    return n;
}

static long end_writes(aio_context_t context, long least, long most, struct io_event *events,
                       struct timespec *timeout)
{
    long n = record.syscall(SYS_io_getevents, context, least, most, events, timeout);

    for (long i = 0; i < n; i++) {
        const struct iocb *request = (const struct iocb *)(uintptr_t)events[i].obj;

        if (record.fd >= 0 && events[i].res != (int64_t)request->aio_nbytes)
            fail("a write that was begun was not done");
        record.under_way--;
    }
    return n;
}

/* Like the C library's it passes on more than its caller gave. */
__attribute__((no_sanitize("address"))) long syscall(long number, ...)
{
    long arguments[6];
    va_list list;

    va_start(list, number);
    for (size_t i = 0; i < sizeof(arguments) / sizeof(arguments[0]); i++)
        arguments[i] = va_arg(list, long);
    va_end(list);
    if (!record.syscall)
        record.syscall = (__typeof__(record.syscall))dlsym(RTLD_NEXT, "syscall");
    if (number == SYS_io_submit)
        return begin_write((aio_context_t)arguments[0], arguments[1], (struct iocb **)arguments[2]);
    if (number == SYS_io_getevents)
        return end_writes((aio_context_t)arguments[0], arguments[1], arguments[2],
                          (struct io_event *)arguments[3], (struct timespec *)arguments[4]);
    return record.syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
                          arguments[4], arguments[5]);
}

/* What the kernel copied is read back, through a descriptor that may be read. */
static void copied(int fd, ssize_t bytes, off_t offset)
{
    char path[64];
    uint8_t data[COPY_BYTES];
    struct stat status;
    int from;

    if (bytes <= 0 || !watched(fd, &status))
        return;
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    from = record.open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        fail("cannot read back what was copied");
    while (bytes > 0) {
        ssize_t n =
            pread(from, data, (size_t)bytes < sizeof(data) ? (size_t)bytes : sizeof(data), offset);

        if (n <= 0)
            fail("cannot read back what was copied");
        wrote(fd, &(struct iovec){data, (size_t)n}, 1, n, offset);
        bytes -= n;
        offset += n;
    }
    (void)close(from);
}

ssize_t copy_file_range(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size,
                        unsigned int flags)
{
    ssize_t n;

    enter();
    n = record.copy_file_range(from, from_offset, to, to_offset, size, flags);
    if (n > 0)
        copied(to, n, (to_offset ? *to_offset : lseek(to, 0, SEEK_CUR)) - n);
    leave();
    return n;
}

ssize_t sendfile(int to, int from, off_t *offset, size_t size)
{
    ssize_t n;

    enter();
    n = record.sendfile(to, from, offset, size);
    if (n > 0)
        copied(to, n, lseek(to, 0, SEEK_CUR) - n);
    leave();
    return n;
}

ssize_t sendfile64(int to, int from, off64_t *offset, size_t size)
{
    return sendfile(to, from, offset, size);
}

static int set_size(int fd, off_t size)
{
    struct stat status;
    int r;

    enter();
    r = record.ftruncate(fd, size);
    if (r == 0 && watched(fd, &status))
        append(&(Entry){.kind = ENTRY_SIZE, .file = status.st_ino, .bytes = (uint64_t)size}, NULL,
               NULL, NULL, 0);
    leave();
    return r;
}

int ftruncate(int fd, off_t size)
{
    return set_size(fd, size);
}

int ftruncate64(int fd, off64_t size)
{
    return set_size(fd, size);
}

int truncate(const char *path, off_t size)
{
    struct stat status;
    int r;

    enter();
    r = record.truncate(path, size);
    if (r == 0 && record.fd >= 0 && stat(path, &status) == 0 && status.st_dev == record.device)
        append(&(Entry){.kind = ENTRY_SIZE, .file = status.st_ino, .bytes = (uint64_t)size}, NULL,
               NULL, NULL, 0);
    leave();
    return r;
}

static int allocate(int fd, int mode, off_t offset, off_t size)
{
    struct stat status;
    int r;

    enter();
    r = record.fallocate(fd, mode, offset, size);
    if (r == 0 && watched(fd, &status))
        append(&(Entry){.kind = ENTRY_ALLOCATE,
                        .file = status.st_ino,
                        .other = (uint64_t)(unsigned)mode,
                        .offset = (uint64_t)offset,
                        .bytes = (uint64_t)size},
               NULL, NULL, NULL, 0);
    leave();
    return r;
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    return allocate(fd, mode, offset, size);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    return allocate(fd, mode, offset, size);
}

int posix_fallocate(int fd, off_t offset, off_t size)
{
    return allocate(fd, 0, offset, size) < 0 ? errno : 0;
}

int posix_fallocate64(int fd, off64_t offset, off64_t size)
{
    return allocate(fd, 0, offset, size) < 0 ? errno : 0;
}

/* --- directories */

int mkdirat(int at, const char *path, mode_t mode)
{
    struct stat status;
    int r;

    enter();
    r = record.mkdirat(at, path, mode);
    if (r == 0) {
        Place where = place(at, path);

        if (where.watched && fstatat(at, path, &status, 0) == 0)
            append(&(Entry){.kind = ENTRY_MKDIR, .file = status.st_ino, .other = where.directory},
                   where.name, NULL, NULL, 0);
    }
    leave();
    return r;
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

static void named(EntryKind kind, int from_at, const char *from, int to_at, const char *to)
{
    Place old = place(from_at, from), new = place(to_at, to);

    if (old.watched && new.watched)
        append(&(Entry){.kind = kind, .file = old.directory, .other = new.directory}, old.name,
               new.name, NULL, 0);
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned int flags)
{
    int r;

    if (flags & ~RENAME_NOREPLACE)
        fail("a rename of another kind is not recorded");
    enter();
    r = record.renameat2(from_at, from, to_at, to, flags);
    if (r == 0)
        named(ENTRY_RENAME, from_at, from, to_at, to);
    leave();
    return r;
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    return renameat2(from_at, from, to_at, to, 0);
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags)
{
    int r;

    enter();
    r = record.linkat(from_at, from, to_at, to, flags);
    if (r == 0)
        named(ENTRY_LINK, from_at, from, to_at, to);
    leave();
    return r;
}

int link(const char *from, const char *to)
{
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int at, const char *path, int flags)
{
    int r;

    enter();
    r = record.unlinkat(at, path, flags);
    if (r == 0) {
        Place where = place(at, path);

        if (where.watched)
            append(&(Entry){.kind = ENTRY_UNLINK, .other = where.directory}, where.name, NULL, NULL,
                   0);
    }
    leave();
    return r;
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

/* --- durable */

static void sync_entry(EntryKind kind, uint64_t file, int error)
{
    enter();
    append(&(Entry){.kind = kind, .file = file, .bytes = (uint64_t)error}, NULL, NULL, NULL, 0);
    leave();
}

static int synced(int fd, int (*sync)(int))
{
    struct stat status;
    bool is = watched(fd, &status);
    int r, error;

    if (!is)
        return sync(fd);
    if (record.under_way > 0)
        fail("a sync that does not cover what is still being written");
    sync_entry(ENTRY_SYNC_BEGIN, status.st_ino, 0);
    r = sync(fd);
    error = errno;
    sync_entry(ENTRY_SYNC_END, status.st_ino, r < 0 ? error : 0);
    errno = error;
    return r;
}

int fsync(int fd)
{
    return synced(fd, record.fsync);
}

int fdatasync(int fd)
{
    return synced(fd, record.fdatasync);
}
