/* Helpers over descriptors. Reads and writes go on after EINTR and after short counts (a single
 * call moves at most 0x7ffff000 bytes); whatever else goes wrong is handed up as a negative errno.
 */
#include "base/file.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define GIVE_BACK_STEP ((off_t)(4 * MIB))

int file_read_at(int fd, void *data, size_t size, uint64_t offset)
{
    char *to = data;

    while (size > 0) {
        ssize_t n = pread(fd, to, size, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -ENODATA;
        to += n;
        size -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int file_write_at(int fd, const void *data, size_t size, uint64_t offset)
{
    const char *from = data;

    while (size > 0) {
        ssize_t n = pwrite(fd, from, size, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
        from += n;
        size -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int file_write(int fd, const void *data, size_t size)
{
    const char *from = data;

    while (size > 0) {
        ssize_t n = write(fd, from, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
        from += n;
        size -= (size_t)n;
    }
    return 0;
}

int file_memfd(const char *name, uint64_t size, int *ret_fd)
{
    _cleanup_(closep) int fd = -1;

    if (size > INT64_MAX)
        return -EFBIG;
    /* Kernels from 6.3 on want to be told that it is never executed, and may be set to refuse it
     * otherwise (vm.memfd_noexec); older ones do not know the flag. */
    fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (fchmod(fd, 0600) < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int file_check_memfd(int fd, uint64_t *ret_size)
{
    struct stat status;

    if (fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode) || status.st_uid != geteuid() || (status.st_mode & 07777) != 0600)
        return -EBADMSG;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    if ((flags & O_ACCMODE) != O_RDWR)
        return -EBADMSG;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0)
        return errno == EINVAL ? -EBADMSG : -errno;
    if ((seals & (F_SEAL_SHRINK | F_SEAL_SEAL)) != (F_SEAL_SHRINK | F_SEAL_SEAL) ||
        (seals & (F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0)
        return -EBADMSG;
    *ret_size = (uint64_t)status.st_size;
    return 0;
}

int file_lock(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_SETLK, &lock) < 0)
        return errno == EACCES ? -EAGAIN : -errno;
    return 0;
}

int file_sync_directory(int directory_fd)
{
    if (fsync(directory_fd) < 0)
        return -errno;
    return 0;
}

/* Makes the name of path durable in the directory that holds it. */
static int sync_parent(const char *path)
{
    _cleanup_(closep) int fd = -1;
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');

    if (!slash)
        memcpy(parent, ".", 2);
    else if (slash == path)
        memcpy(parent, "/", 2);
    else
        (void)snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
    fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return file_sync_directory(fd);
}

/* 1: made; 0: it was there. */
static int make_directory(const char *path, mode_t mode)
{
    struct stat status;

    if (mkdir(path, mode) == 0)
        return 1;
    if (errno != EEXIST)
        return -errno;
    if (stat(path, &status) < 0)
        return -errno;
    return S_ISDIR(status.st_mode) ? 0 : -ENOTDIR;
}

int file_unlink(int directory_fd, const char *name, int *ret_left)
{
    _cleanup_(closep) int fd = -1;
    struct stat status;
    int r;

    if (fstatat(directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode) &&
        status.st_size > GIVE_BACK_STEP)
        fd = openat(directory_fd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (unlinkat(directory_fd, name, 0) < 0)
        return -errno;
    r = file_sync_directory(directory_fd);
    if (r < 0)
        return r;
    *ret_left = TAKE_FD(fd);
    return 0;
}

/* True where nobody else has the file: under another name, or open, for then no write lease is
 * granted. Whoever opens it later (through /proc) waits until it is closed here; the signal that
 * tells the lease's holder of that would be SIGIO, which kills, so it is one that does nothing. */
static bool file_is_ours_alone(int fd, off_t *ret_size)
{
    struct stat status;

    if (fstat(fd, &status) < 0 || status.st_nlink > 0 || fcntl(fd, F_SETSIG, SIGURG) < 0 ||
        fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
        return false;
    *ret_size = status.st_size;
    return true;
}

/* What is left goes with the last close. */
void file_give_back(int fd)
{
    off_t bytes;

    if (fd < 0)
        return;
    if (file_is_ours_alone(fd, &bytes))
        for (off_t size = bytes - GIVE_BACK_STEP; size > 0; size -= GIVE_BACK_STEP)
            if (ftruncate(fd, size) < 0)
                break;
    close(fd);
}

int file_make_directories(const char *path, mode_t mode)
{
    char prefix[PATH_MAX];
    size_t length = strlen(path);
    int r, made;

    if (length == 0)
        return -ENOENT;
    if (length >= sizeof(prefix))
        return -ENAMETOOLONG;
    memcpy(prefix, path, length + 1);
    while (length > 1 && prefix[length - 1] == '/')
        prefix[--length] = '\0';
    for (size_t i = 1; i < length; i++) {
        if (prefix[i] != '/' || prefix[i - 1] == '/')
            continue;
        prefix[i] = '\0';
        r = make_directory(prefix, 0755);
        /* A parent that exists may lie where we must not write, or on a read-only file system. */
        if (r < 0 && access(prefix, F_OK) < 0)
            return r;
        if (r > 0) {
            r = sync_parent(prefix);
            if (r < 0)
                return r;
        }
        prefix[i] = '/';
    }
    made = make_directory(prefix, mode);
    if (made < 0)
        return made;
    /* Where it was there, too: whoever made it may have died before this. It may then lie where we
     * must not read, which is no reason to refuse it. */
    r = sync_parent(prefix);
    return made == 0 && r == -EACCES ? 0 : r;
}

int file_size(int fd, uint64_t *ret)
{
    struct stat status;

    if (fstat(fd, &status) < 0)
        return -errno;
    *ret = (uint64_t)status.st_size;
    return 0;
}

void file_close_all_but(unsigned first, const int *keep, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unsigned fd = (unsigned)keep[i];

        if (fd > first)
            (void)close_range(first, fd - 1, 0);
        first = MAX(first, fd + 1);
    }
    (void)close_range(first, ~0U, 0);
}
