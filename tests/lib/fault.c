/* A preload library that makes calls of a program fail: tests/lib/faults.py says when.
 *
 * $HOLDFAST_FAULT is "CALL:N:ERROR" or "CALL:N:ERROR:forever": the Nth call (from 1) fails, or that
 * one and all later ones. CALL is a name of the table below; ERROR is an errno's name, or "short":
 * a read or a write does half of what it was asked for. $HOLDFAST_FAULT_CONTROL is a file of a page
 * that test, program and its children share (Control below). Calls are counted while it is armed,
 * over all processes; nothing fails once it says that the fault is over. $HOLDFAST_FAULT_FILE, if
 * set, is a text that the path of the file concerned must contain, else the call is not counted.
 *
 * Counted is what the program's own code calls, not what libraries do for themselves; of memory
 * everything, since a library hands its want of memory to the program. Not seen: system calls that
 * do not go through the C library's functions. */

/* The names that programs call are defined here, both those of 64 bits and the others. */
#undef _FILE_OFFSET_BITS

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <linux/aio_abi.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define CONTROL_BYTES 4096
#define FRAMES_MAX 24
#define SHORT (-1) /* instead of an errno: half of it is done */

typedef enum Call {
    CALL_OPEN,
    CALL_READ,
    CALL_PREAD,
    CALL_WRITE,
    CALL_PWRITE,
    CALL_FSYNC,
    CALL_FDATASYNC,
    CALL_RENAME,
    CALL_LINK,
    CALL_UNLINK,
    CALL_MKDIR,
    CALL_FTRUNCATE,
    CALL_FALLOCATE,
    CALL_MMAP,
    CALL_MEMFD,
    CALL_FORK,
    CALL_PIPE,
    CALL_ACCEPT,
    CALL_RECV,
    CALL_SEND,
    CALL_MALLOC,
    CALL_AIO,
    CALLS,
} Call;

/* The order is known to tests/lib/faults.py too. */
static const char *const call_names[CALLS] = {
    [CALL_OPEN] = "open",
    [CALL_READ] = "read",
    [CALL_PREAD] = "pread",
    [CALL_WRITE] = "write",   /* and writev */
    [CALL_PWRITE] = "pwrite", /* and pwritev, and the end of a write begun by io_submit */
    [CALL_FSYNC] = "fsync",
    [CALL_FDATASYNC] = "fdatasync",
    [CALL_RENAME] = "rename",
    [CALL_LINK] = "link",
    [CALL_UNLINK] = "unlink",
    [CALL_MKDIR] = "mkdir",
    [CALL_FTRUNCATE] = "ftruncate",
    [CALL_FALLOCATE] = "fallocate",
    [CALL_MMAP] = "mmap", /* and mremap */
    [CALL_MEMFD] = "memfd_create",
    [CALL_FORK] = "fork",
    [CALL_PIPE] = "pipe", /* and eventfd */
    [CALL_ACCEPT] = "accept",
    [CALL_RECV] = "recv",
    [CALL_SEND] = "send",     /* and sendmsg */
    [CALL_MALLOC] = "malloc", /* and calloc, realloc, aligned_alloc */
    [CALL_AIO] = "aio",       /* io_setup, io_submit, io_getevents */
};

static const struct {
    const char *name;
    int error;
} errors[] = {
    {"EIO", EIO},       {"ENOSPC", ENOSPC}, {"ENOMEM", ENOMEM},
    {"EAGAIN", EAGAIN}, {"EINTR", EINTR},   {"EMFILE", EMFILE},
    {"EACCES", EACCES}, {"EROFS", EROFS},   {"short", SHORT},
};

/* The page that is shared; words of 32 bits, then the places. */
typedef struct Control {
    _Atomic uint32_t armed;
    _Atomic uint32_t over;
    _Atomic uint32_t fired;        /* calls that failed */
    _Atomic uint32_t count[CALLS]; /* calls made while it is armed */
    uint32_t reserved[40 - CALLS];
    uint32_t frame_count;        /* of the first call that failed */
    uint64_t frames[FRAMES_MAX]; /* relative to the program's beginning */
} Control;

static_assert(sizeof(Control) <= CONTROL_BYTES && CALLS <= 40, "tests/lib/faults.py");

/* A preload library has no object that its state could lie in. */
static struct {
    Control *control; /* NULL until the constructor has run: nothing fails */
    Call call;
    int error;
    uint32_t number;
    bool forever;
    const char *file;
    uintptr_t begin, end; /* of the program's own code */
} fault;

static _Thread_local bool inside __attribute__((tls_model("initial-exec")));

/* --- the beginning */

static int find_program(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    (void)context;
    fault.begin = (uintptr_t)info->dlpi_addr;
    for (size_t i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD)
            fault.end = fault.begin + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
    return 1; /* the program comes first */
}

static void usage(const char *text)
{
    fprintf(stderr, "HOLDFAST_FAULT: %s\n", text);
    _exit(99);
}

static void parse(const char *text)
{
    char call[32], error[32], forever[32] = "";
    size_t i;

    if (sscanf(text, "%31[^:]:%u:%31[^:]:%31s", call, &fault.number, error, forever) < 3)
        usage(text);
    for (i = 0; i < CALLS && strcmp(call, call_names[i]) != 0; i++)
        ;
    if (i == CALLS)
        usage(text);
    fault.call = (Call)i;
    for (i = 0; i < sizeof(errors) / sizeof(errors[0]) && strcmp(error, errors[i].name) != 0; i++)
        ;
    if (i == sizeof(errors) / sizeof(errors[0]))
        usage(text);
    fault.error = errors[i].error;
    fault.forever = strcmp(forever, "forever") == 0;
    if (forever[0] != '\0' && !fault.forever)
        usage(text);
}

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("HOLDFAST_FAULT"), *path = getenv("HOLDFAST_FAULT_CONTROL");
    void *frame, *page;
    int fd;

    if (text == NULL || path == NULL)
        return;
    inside = true;
    parse(text);
    fault.file = getenv("HOLDFAST_FAULT_FILE");
    dl_iterate_phdr(find_program, NULL);
    (void)backtrace(&frame, 1); /* its first call loads a library */
    fd = open(path, O_RDWR | O_CLOEXEC);
    page =
        fd < 0 ? MAP_FAILED : mmap(NULL, CONTROL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        usage(path);
    (void)close(fd);
    unsetenv("LD_PRELOAD");
    fault.control = page;
    inside = false;
}

/* --- whether this call fails */

static void tell_place(Control *control)
{
    void *frames[FRAMES_MAX];
    int count = backtrace(frames, FRAMES_MAX);

    for (int i = 0; i < count; i++)
        control->frames[i] = (uintptr_t)frames[i] - fault.begin;
    control->frame_count = (uint32_t)count;
}

/* 0: it is made. Else an errno, or SHORT. */
static int counted(Call call)
{
    Control *control = fault.control;
    uint32_t number;

    if (!atomic_load_explicit(&control->armed, memory_order_acquire))
        return 0;
    number = atomic_fetch_add(&control->count[call], 1) + 1;
    if (call != fault.call || atomic_load(&control->over))
        return 0;
    if (fault.forever ? number < fault.number : number != fault.number)
        return 0;
    if (atomic_fetch_add(&control->fired, 1) == 0) {
        inside = true;
        tell_place(control);
        inside = false;
    }
    return fault.error;
}

static bool is_own(const void *caller)
{
    return fault.control != NULL && !inside && (uintptr_t)caller >= fault.begin &&
           (uintptr_t)caller < fault.end;
}

/* fd: of the file, or of the directory that name is in; name may be NULL. */
static bool is_file(int fd, const char *name)
{
    char link[64], path[4096];
    ssize_t length;

    if (fault.file == NULL || (name != NULL && strstr(name, fault.file) != NULL))
        return true;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof(path) - 1);
    if (length < 0)
        return false;
    path[length] = '\0';
    return strstr(path, fault.file) != NULL;
}

static int fails_at(const void *caller, Call call, int fd, const char *name)
{
    int saved = errno, error;

    if (!is_own(caller) || !is_file(fd, name)) {
        errno = saved;
        return 0;
    }
    error = counted(call);
    errno = error > 0 ? error : saved;
    return error;
}

#define FAILS(call, fd, name) fails_at(__builtin_return_address(0), call, fd, name)
/* Found before there are threads: a child that looks for a function would wait for ever where
 * another thread was looking for one at the fork. What is called earlier looks for itself. */
#define FIND(name)                                                                                 \
    static __typeof__(&name) real_##name;                                                          \
    __attribute__((constructor)) static void find_##name(void)                                     \
    {                                                                                              \
        if (real_##name == NULL)                                                                   \
            real_##name = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                              \
    }
#define REAL(name) (find_##name(), real_##name)

/* For what cannot be short: the error then is EIO. */
static bool fails_whole(int error)
{
    if (error == SHORT)
        errno = EIO;
    return error != 0;
}

/* --- names */

static mode_t mode_of(int flags, va_list list)
{
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(list, mode_t) : 0;
}

#define DEFINE_OPEN(name)                                                                          \
    FIND(name)                                                                                     \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        va_list list;                                                                              \
        mode_t mode;                                                                               \
                                                                                                   \
        va_start(list, flags);                                                                     \
        mode = mode_of(flags, list);                                                               \
        va_end(list);                                                                              \
        if (fails_whole(FAILS(CALL_OPEN, AT_FDCWD, path)))                                         \
            return -1;                                                                             \
        return REAL(name)(path, flags, mode);                                                      \
    }

#define DEFINE_OPENAT(name)                                                                        \
    FIND(name)                                                                                     \
    int name(int at, const char *path, int flags, ...)                                             \
    {                                                                                              \
        va_list list;                                                                              \
        mode_t mode;                                                                               \
                                                                                                   \
        va_start(list, flags);                                                                     \
        mode = mode_of(flags, list);                                                               \
        va_end(list);                                                                              \
        if (fails_whole(FAILS(CALL_OPEN, at, path)))                                               \
            return -1;                                                                             \
        return REAL(name)(at, path, flags, mode);                                                  \
    }

DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

/* A function whose failure is -1. */
#define DEFINE_INT(call, fd, path, name, parameters, arguments)                                    \
    FIND(name)                                                                                     \
    int name parameters                                                                            \
    {                                                                                              \
        if (fails_whole(FAILS(call, fd, path)))                                                    \
            return -1;                                                                             \
        return REAL(name) arguments;                                                               \
    }

DEFINE_INT(CALL_RENAME, AT_FDCWD, to, rename, (const char *from, const char *to), (from, to))
DEFINE_INT(CALL_RENAME, to_at, to, renameat, (int at, const char *from, int to_at, const char *to),
           (at, from, to_at, to))
DEFINE_INT(CALL_RENAME, to_at, to, renameat2,
           (int at, const char *from, int to_at, const char *to, unsigned int flags),
           (at, from, to_at, to, flags))
DEFINE_INT(CALL_LINK, to_at, to, linkat,
           (int at, const char *from, int to_at, const char *to, int flags),
           (at, from, to_at, to, flags))
DEFINE_INT(CALL_UNLINK, AT_FDCWD, path, unlink, (const char *path), (path))
DEFINE_INT(CALL_UNLINK, at, path, unlinkat, (int at, const char *path, int flags),
           (at, path, flags))
DEFINE_INT(CALL_MKDIR, AT_FDCWD, path, mkdir, (const char *path, mode_t mode), (path, mode))
DEFINE_INT(CALL_MKDIR, at, path, mkdirat, (int at, const char *path, mode_t mode), (at, path, mode))

/* --- files */

DEFINE_INT(CALL_FSYNC, fd, NULL, fsync, (int fd), (fd))
DEFINE_INT(CALL_FDATASYNC, fd, NULL, fdatasync, (int fd), (fd))
DEFINE_INT(CALL_FTRUNCATE, fd, NULL, ftruncate, (int fd, off_t length), (fd, length))
DEFINE_INT(CALL_FTRUNCATE, fd, NULL, ftruncate64, (int fd, off64_t length), (fd, length))
DEFINE_INT(CALL_FALLOCATE, fd, NULL, fallocate, (int fd, int mode, off_t offset, off_t length),
           (fd, mode, offset, length))
DEFINE_INT(CALL_FALLOCATE, fd, NULL, fallocate64,
           (int fd, int mode, off64_t offset, off64_t length), (fd, mode, offset, length))

/* Half of what was asked for, and at least something. */
static size_t half(size_t size)
{
    return size > 1 ? size / 2 : size;
}

/* A function that may do less than it was asked for. */
#define DEFINE_TRANSFER(call, name, parameters, arguments)                                         \
    FIND(name)                                                                                     \
    ssize_t name parameters                                                                        \
    {                                                                                              \
        int error = FAILS(call, fd, NULL);                                                         \
                                                                                                   \
        if (error > 0)                                                                             \
            return -1;                                                                             \
        if (error == SHORT)                                                                        \
            size = half(size);                                                                     \
        return REAL(name) arguments;                                                               \
    }

DEFINE_TRANSFER(CALL_READ, read, (int fd, void *data, size_t size), (fd, data, size))
DEFINE_TRANSFER(CALL_WRITE, write, (int fd, const void *data, size_t size), (fd, data, size))
DEFINE_TRANSFER(CALL_PREAD, pread, (int fd, void *data, size_t size, off_t offset),
                (fd, data, size, offset))
DEFINE_TRANSFER(CALL_PREAD, pread64, (int fd, void *data, size_t size, off64_t offset),
                (fd, data, size, offset))
DEFINE_TRANSFER(CALL_PWRITE, pwrite, (int fd, const void *data, size_t size, off_t offset),
                (fd, data, size, offset))
DEFINE_TRANSFER(CALL_PWRITE, pwrite64, (int fd, const void *data, size_t size, off64_t offset),
                (fd, data, size, offset))
DEFINE_TRANSFER(CALL_RECV, recv, (int fd, void *data, size_t size, int flags),
                (fd, data, size, flags))
DEFINE_TRANSFER(CALL_SEND, send, (int fd, const void *data, size_t size, int flags),
                (fd, data, size, flags))

/* Of several pieces, half of the first one. */
#define DEFINE_GATHER(call, name, parameters, arguments)                                           \
    FIND(name)                                                                                     \
    ssize_t name parameters                                                                        \
    {                                                                                              \
        int error = FAILS(call, fd, NULL);                                                         \
        struct iovec first;                                                                        \
                                                                                                   \
        if (error > 0)                                                                             \
            return -1;                                                                             \
        if (error == SHORT && count > 0) {                                                         \
            first = (struct iovec){pieces[0].iov_base, half(pieces[0].iov_len)};                   \
            pieces = &first;                                                                       \
            count = 1;                                                                             \
        }                                                                                          \
        return REAL(name) arguments;                                                               \
    }

DEFINE_GATHER(CALL_WRITE, writev, (int fd, const struct iovec *pieces, int count),
              (fd, pieces, count))
DEFINE_GATHER(CALL_PWRITE, pwritev, (int fd, const struct iovec *pieces, int count, off_t offset),
              (fd, pieces, count, offset))
DEFINE_GATHER(CALL_PWRITE, pwritev64,
              (int fd, const struct iovec *pieces, int count, off64_t offset),
              (fd, pieces, count, offset))

/* --- writes that the kernel does while the program goes on */

FIND(syscall)

/* The end of each may be told otherwise than it was. */
static void end_writes(const void *caller, struct io_event *events, long count)
{
    for (long i = 0; i < count; i++) {
        const struct iocb *request = (const struct iocb *)(uintptr_t)events[i].obj;
        int saved = errno;
        int error = fails_at(caller, CALL_PWRITE, (int)request->aio_fildes, NULL);

        errno = saved;
        if (error == SHORT && events[i].res > 0)
            events[i].res = (int64_t)half((size_t)events[i].res);
        else if (error > 0)
            events[i].res = -error;
    }
}

/* Like the C library's it passes on more than its caller gave. */
__attribute__((no_sanitize("address"))) long syscall(long number, ...)
{
    bool aio = number == SYS_io_setup || number == SYS_io_submit || number == SYS_io_getevents;
    long a[6], n;
    va_list list;

    va_start(list, number);
    for (size_t i = 0; i < sizeof(a) / sizeof(a[0]); i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (aio && fails_whole(FAILS(CALL_AIO, AT_FDCWD, NULL)))
        return -1;
    n = REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (number == SYS_io_getevents)
        end_writes(__builtin_return_address(0), (struct io_event *)a[3], n);
    return n;
}

FIND(sendmsg)

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    int error = FAILS(CALL_SEND, fd, NULL);
    struct msghdr shorter = *message;
    struct iovec first;

    if (error > 0)
        return -1;
    if (error == SHORT && message->msg_iovlen > 0) {
        first = (struct iovec){message->msg_iov[0].iov_base, half(message->msg_iov[0].iov_len)};
        shorter.msg_iov = &first;
        shorter.msg_iovlen = 1;
    }
    return REAL(sendmsg)(fd, &shorter, flags);
}

/* --- descriptors, processes */

DEFINE_INT(CALL_MEMFD, AT_FDCWD, name, memfd_create, (const char *name, unsigned int flags),
           (name, flags))
DEFINE_INT(CALL_PIPE, AT_FDCWD, NULL, pipe2, (int fds[2], int flags), (fds, flags))
DEFINE_INT(CALL_PIPE, AT_FDCWD, NULL, eventfd, (unsigned int count, int flags), (count, flags))
DEFINE_INT(CALL_ACCEPT, fd, NULL, accept4,
           (int fd, struct sockaddr *address, socklen_t *size, int flags),
           (fd, address, size, flags))
DEFINE_INT(CALL_FORK, AT_FDCWD, NULL, fork, (void), ())
DEFINE_INT(CALL_FORK, AT_FDCWD, NULL, _Fork, (void), ())

/* --- memory */

#define DEFINE_MMAP(name, offset_type)                                                             \
    FIND(name)                                                                                     \
    void *name(void *address, size_t size, int protection, int flags, int fd, offset_type offset)  \
    {                                                                                              \
        if (fails_whole(FAILS(CALL_MMAP, fd, NULL)))                                               \
            return MAP_FAILED;                                                                     \
        return REAL(name)(address, size, protection, flags, fd, offset);                           \
    }

DEFINE_MMAP(mmap, off_t)
DEFINE_MMAP(mmap64, off64_t)

FIND(mremap)

void *mremap(void *address, size_t size, size_t new_size, int flags, ...)
{
    va_list list;
    void *wanted;

    va_start(list, flags);
    wanted = flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) ? va_arg(list, void *) : NULL;
    va_end(list);
    if (fails_whole(FAILS(CALL_MMAP, AT_FDCWD, NULL)))
        return MAP_FAILED;
    return REAL(mremap)(address, size, new_size, flags, wanted);
}

FIND(malloc)
FIND(calloc)
FIND(realloc)
FIND(aligned_alloc)

static bool out_of_memory(void)
{
    if (fault.control == NULL || inside || counted(CALL_MALLOC) == 0)
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return out_of_memory() ? NULL : REAL(malloc)(size);
}

void *calloc(size_t count, size_t size)
{
    return out_of_memory() ? NULL : REAL(calloc)(count, size);
}

void *realloc(void *memory, size_t size)
{
    return size > 0 && out_of_memory() ? NULL : REAL(realloc)(memory, size);
}

void *reallocarray(void *memory, size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(memory, bytes);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return out_of_memory() ? NULL : REAL(aligned_alloc)(alignment, size);
}
