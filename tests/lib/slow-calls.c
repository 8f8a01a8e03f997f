/* A preload library that tells where the main thread of a program makes a call that can take long:
 * the loop's thread of holdfastd never may. A call is one line in the file that
 * $HOLDFAST_SLOW_CALLS names, "slow NAME BYTES", with a backtrace below it; the test looks at what
 * was added while the daemon served.
 *
 * Slow is what waits for the disk, fills or removes files or loads programs, always; and giving
 * memory back, where one turn of the loop gives back more than 8 MiB: by unmapping, by advice, by
 * punching, by truncating, by freeing, and by closing the last descriptor of a file that has no
 * name.
 *
 * Other threads, children and what the program executes are free to do all of that. What this does
 * not see: system calls that do not go through the C library's functions, so not the C library's
 * own either (a fclose that closes). */

/* The names that programs call are defined here, both those of 64 bits and the others. */
#undef _FILE_OFFSET_BITS

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <malloc.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define TURN_BYTES_MAX ((size_t)8 << 20)
#define DESCRIPTORS_LOOKED_AT 4096
#define FRAMES_MAX 24

/* glibc's own: dlsym() may free before it has found anything. */
extern void __libc_free(void *memory);
extern void *__libc_realloc(void *memory, size_t size);

/* A preload library has no object that its state could lie in. */
static struct {
    char path[4096];
    pid_t pid;       /* of the program; 0 until the constructor has run */
    size_t returned; /* bytes given back in this turn of the loop */
    bool inside;     /* a call of our own */
} watch;

__attribute__((constructor)) static void watch_begin(void)
{
    const char *path = getenv("HOLDFAST_SLOW_CALLS");
    void *frame;

    if (!path || strlen(path) >= sizeof(watch.path))
        return;
    strcpy(watch.path, path);
    (void)backtrace(&frame, 1); /* its first call loads a library */
    unsetenv("LD_PRELOAD");
    watch.pid = getpid();
}

/* True in the thread that is watched, outside of what this library does itself. */
static bool watched(void)
{
    return watch.pid != 0 && gettid() == watch.pid && !watch.inside;
}

static void tell(const char *name, size_t bytes)
{
    void *frames[FRAMES_MAX];
    int error = errno, fd;

    watch.inside = true;
    fd = open(watch.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || dprintf(fd, "slow %s %zu\n", name, bytes) < 0)
        abort(); /* a test that cannot be told passes for nothing */
    backtrace_symbols_fd(frames, backtrace(frames, FRAMES_MAX), fd);
    (void)close(fd);
    watch.inside = false;
    errno = error;
}

static void slow(const char *name)
{
    if (watched())
        tell(name, 0);
}

/* So much is given back; told when it is too much for one turn. */
static void gives_back(const char *name, size_t bytes)
{
    if (!watched())
        return;
    watch.returned += bytes;
    if (watch.returned <= TURN_BYTES_MAX)
        return;
    tell(name, watch.returned);
    watch.returned = 0;
}

#define REAL(function) ((__typeof__(&function))dlsym(RTLD_NEXT, #function))

/* --- a turn begins */

int epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout)
{
    if (watched())
        watch.returned = 0;
    return REAL(epoll_wait)(epfd, events, maxevents, timeout);
}

/* --- always slow */

int unlink(const char *name)
{
    slow("unlink");
    return REAL(unlink)(name);
}

/* Waits until the program is loaded. */
int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const arguments[],
                char *const environment[])
{
    slow("posix_spawn");
    return REAL(posix_spawn)(pid, path, actions, attributes, arguments, environment);
}

int unlinkat(int fd, const char *name, int flag)
{
    slow("unlinkat");
    return REAL(unlinkat)(fd, name, flag);
}

int remove(const char *filename)
{
    slow("remove");
    return REAL(remove)(filename);
}

int fsync(int fd)
{
    slow("fsync");
    return REAL(fsync)(fd);
}

int fdatasync(int fildes)
{
    slow("fdatasync");
    return REAL(fdatasync)(fildes);
}

int syncfs(int fd)
{
    slow("syncfs");
    return REAL(syncfs)(fd);
}

int msync(void *addr, size_t len, int flags)
{
    slow("msync");
    return REAL(msync)(addr, len, flags);
}

int sync_file_range(int fd, off64_t offset, off64_t count, unsigned int flags)
{
    slow("sync_file_range");
    return REAL(sync_file_range)(fd, offset, count, flags);
}

int posix_fallocate(int fd, off_t offset, off_t len)
{
    slow("posix_fallocate");
    return REAL(posix_fallocate)(fd, offset, len);
}

int posix_fallocate64(int fd, off64_t offset, off64_t len)
{
    slow("posix_fallocate");
    return REAL(posix_fallocate64)(fd, offset, len);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    slow("fallocate");
    return REAL(fallocate)(fd, mode, offset, len);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t len)
{
    slow("fallocate");
    return REAL(fallocate64)(fd, mode, offset, len);
}

/* --- slow when it is much */

int munmap(void *addr, size_t len)
{
    gives_back("munmap", len);
    return REAL(munmap)(addr, len);
}

int madvise(void *addr, size_t len, int advice)
{
    if (advice == MADV_DONTNEED || advice == MADV_REMOVE || advice == MADV_FREE)
        gives_back("madvise", len);
    return REAL(madvise)(addr, len, advice);
}

void *mremap(void *addr, size_t old_len, size_t new_len, int flags, ...)
{
    va_list list;
    void *wanted;

    va_start(list, flags);
    wanted = flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) ? va_arg(list, void *) : NULL;
    va_end(list);
    if (new_len < old_len)
        gives_back("mremap", old_len - new_len);
    return REAL(mremap)(addr, old_len, new_len, flags, wanted);
}

/* Memory that the C library maps and unmaps for one block each. */
static void gives_back_block(const char *name, void *memory, size_t kept)
{
    size_t size = memory && watched() ? malloc_usable_size(memory) : 0;

    if (size >= (size_t)128 << 10 && size > kept)
        gives_back(name, size - kept);
}

void free(void *ptr)
{
    gives_back_block("free", ptr, 0);
    __libc_free(ptr);
}

void *realloc(void *ptr, size_t size)
{
    gives_back_block("realloc", ptr, size);
    return __libc_realloc(ptr, size);
}

/* Bytes on disk or in memory. */
static size_t allocated(const struct stat *status)
{
    return (size_t)status->st_blocks * 512;
}

static void truncates(const char *name, int fd, off64_t length)
{
    struct stat status;

    if (watched() && fstat(fd, &status) == 0 && status.st_size > length) {
        size_t removed = (size_t)(status.st_size - length);

        gives_back(name, removed < allocated(&status) ? removed : allocated(&status));
    }
}

int ftruncate(int fd, off_t length)
{
    truncates("ftruncate", fd, length);
    return REAL(ftruncate)(fd, length);
}

int ftruncate64(int fd, off64_t length)
{
    truncates("ftruncate", fd, length);
    return REAL(ftruncate64)(fd, length);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool is_mapped(const struct stat *file)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned int high, low;
    unsigned long inode;
    char line[8192];
    bool found = false;

    while (maps && !found && fgets(line, sizeof(line), maps))
        found = sscanf(line, "%*s %*s %*s %x:%x %lu", &high, &low, &inode) == 3 &&
                makedev(high, low) == file->st_dev && inode == file->st_ino;
    if (maps)
        fclose(maps);
    return found;
}

/* True when a file goes with this descriptor: it has no name, and nothing else here holds it. */
static bool is_last(int fd, const struct stat *file)
{
    struct stat other;

    if (file->st_nlink != 0)
        return false;
    for (int i = 0; i < DESCRIPTORS_LOOKED_AT; i++)
        if (i != fd && fstat(i, &other) == 0 && same_file(file, &other))
            return false;
    return !is_mapped(file);
}

int close(int fd)
{
    struct stat status;
    bool last = false;

    if (watched() && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
        allocated(&status) >= (size_t)128 << 10) {
        watch.inside = true;
        last = is_last(fd, &status);
        watch.inside = false;
    }
    if (last)
        gives_back("close", allocated(&status));
    return REAL(close)(fd);
}
