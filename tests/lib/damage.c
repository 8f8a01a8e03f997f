/* Damage to files. Each function opens, harms and closes. */
#include "damage.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"

/* A place from the start, or, negative, from the end. */
static int resolve(int fd, int64_t place, uint64_t *ret)
{
    uint64_t size;
    int r;

    if (place >= 0) {
        *ret = (uint64_t)place;
        return 0;
    }
    r = file_size(fd, &size);
    if (r < 0)
        return r;
    if (size < (uint64_t)-place)
        return -ENODATA;
    *ret = size - (uint64_t)-place;
    return 0;
}

int damage_flip(const char *path, int64_t offset, unsigned char mask)
{
    _cleanup_(closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    unsigned char byte;
    uint64_t at;
    int r;

    if (fd < 0)
        return -errno;
    r = resolve(fd, offset, &at);
    if (r < 0)
        return r;
    r = file_read_at(fd, &byte, 1, at);
    if (r < 0)
        return r;
    byte ^= mask;
    return file_write_at(fd, &byte, 1, at);
}

int damage_truncate(const char *path, int64_t size)
{
    _cleanup_(closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    uint64_t at;
    int r;

    if (fd < 0)
        return -errno;
    r = resolve(fd, size, &at);
    if (r < 0)
        return r;
    return ftruncate(fd, (off_t)at) < 0 ? -errno : 0;
}

int damage_fill(const char *path, uint64_t offset, unsigned char value, uint64_t size)
{
    _cleanup_(closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
    unsigned char block[4096];
    int r = 0;

    if (fd < 0)
        return -errno;
    memset(block, value, sizeof(block));
    while (r == 0 && size > 0) {
        size_t part = MIN(size, sizeof(block));

        r = file_write_at(fd, block, part, offset);
        offset += part;
        size -= part;
    }
    return r;
}

int damage_copy(const char *from, const char *to)
{
    _cleanup_(closep) int in = open(from, O_RDONLY | O_CLOEXEC);
    _cleanup_(closep) int out = -1;
    char block[65536];
    ssize_t n;
    int r;

    if (in < 0)
        return -errno;
    out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out < 0)
        return -errno;
    while ((n = read(in, block, sizeof(block))) > 0) {
        r = file_write(out, block, (size_t)n);
        if (r < 0)
            return r;
    }
    return n < 0 ? -errno : 0;
}
