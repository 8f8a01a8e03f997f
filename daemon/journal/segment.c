/* Files of the journal: making, filling, removing them, and the two sectors at their beginning.
 *
 * A segment is made as new.segment, with all that belongs in it, synced, and renamed. One that is
 * retired may be kept as spare.segment, from which the next one is made: that saves writing every
 * byte twice. What makes, fills and removes is slow and runs in the housekeeper's prompt lane (or
 * before the loop), one after the other, so the two fixed names are safe. */
#include "journal/segment.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "base/checksum.h"
#include "base/clock.h"
#include "base/file.h"

#define SEGMENT_NEW "new.segment"
#define SEGMENT_SPARE "spare.segment"
#define SEGMENT_SUFFIX ".journal"
#define SEGMENT_DIGITS 10

#define ZERO_BYTES (64 * KIB)
#define ZERO_PIECES 16

const char *segment_name(uint64_t sequence, char name[static SEGMENT_NAME_MAX])
{
    snprintf(name, SEGMENT_NAME_MAX, "%010llu" SEGMENT_SUFFIX, (unsigned long long)sequence);
    return name;
}

uint64_t segment_parse_name(const char *name)
{
    uint64_t sequence = 0;

    for (int i = 0; i < SEGMENT_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9')
            return 0;
        sequence = sequence * 10 + (uint64_t)(name[i] - '0');
    }
    return strcmp(name + SEGMENT_DIGITS, SEGMENT_SUFFIX) == 0 ? sequence : 0;
}

int segment_fill(int fd, uint64_t from, uint64_t to)
{
    /* Never written to: it costs no memory but one shared page of zeros a read touches. */
    static const uint8_t zeros[ZERO_BYTES];
    struct iovec pieces[ZERO_PIECES];

    while (from < to) {
        uint64_t left = to - from;
        int count = 0;
        for (; count < ZERO_PIECES && left > 0; count++) {
            size_t size = (size_t)MIN(left, ZERO_BYTES);
            pieces[count] = (struct iovec){.iov_base = (void *)zeros, .iov_len = size};
            left -= size;
        }
        ssize_t n = pwritev(fd, pieces, count, (off_t)from);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
        from += (uint64_t)n;
    }
    return 0;
}

/* The descriptor of new.segment: the spare file where there is one, and how much of it is
 * allocated. */
static int segment_open_new(int directory_fd, int *ret_fd, uint64_t *ret_size)
{
    _cleanup_(closep) int fd = -1;

    if (renameat(directory_fd, SEGMENT_SPARE, directory_fd, SEGMENT_NEW) == 0) {
        fd = openat(directory_fd, SEGMENT_NEW, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
            return -errno;
        int r = file_size(fd, ret_size);
        if (r < 0)
            return r;
    } else if (errno == ENOENT) {
        fd = openat(directory_fd, SEGMENT_NEW, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                    0600);
        if (fd < 0)
            return -errno;
        *ret_size = 0;
    } else {
        return -errno;
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int segment_write_header(int fd, const SegmentSpec *spec)
{
    struct {
        SegmentHeader header;
        MarkSector mark;
    } begin = {.header = {
                   .magic = SEGMENT_MAGIC,
                   .version = SEGMENT_VERSION,
                   .lineage = spec->lineage,
                   .sequence = spec->sequence,
                   .salt = spec->salt,
                   .created_usec = clock_realtime(),
               }};

    size_t skip = sizeof(begin.header.checksum);
    begin.header.checksum =
        checksum((const uint8_t *)&begin.header + skip, sizeof(begin.header) - skip);
    return file_write_at(fd, &begin, sizeof(begin), 0);
}

static int segment_write_new(int fd, const SegmentSpec *spec, uint64_t size, uint64_t *ret_filled)
{
    int r;

    if (size < spec->fill) {
        r = segment_fill(fd, size, spec->fill);
        if (r < 0)
            return r;
    }
    r = segment_write_header(fd, spec);
    if (r < 0)
        return r;
    if (spec->first != NULL) {
        r = file_write_at(fd, spec->first, spec->first_bytes, SEGMENT_BATCHES_OFFSET);
        if (r < 0)
            return r;
    }
    if (fsync(fd) < 0)
        return -errno;
    *ret_filled = MAX(size, spec->fill);
    return 0;
}

int segment_make(const SegmentSpec *spec, int *ret_fd, uint64_t *ret_filled)
{
    _cleanup_(closep) int fd = -1;
    char name[SEGMENT_NAME_MAX];
    uint64_t size = 0, filled = 0;

    int r = segment_open_new(spec->directory_fd, &fd, &size);
    if (r == 0)
        r = segment_write_new(fd, spec, size, &filled);
    if (r == 0 && renameat2(spec->directory_fd, SEGMENT_NEW, spec->directory_fd,
                            segment_name(spec->sequence, name), RENAME_NOREPLACE) < 0)
        r = -errno;
    if (r < 0) {
        /* Gives the room back. Should this fail too, the next try truncates it. */
        (void)unlinkat(spec->directory_fd, SEGMENT_NEW, 0);
        return r;
    }
    r = file_sync_directory(spec->directory_fd);
    if (r < 0) {
        (void)unlinkat(spec->directory_fd, name, 0);
        return r;
    }
    *ret_fd = TAKE_FD(fd);
    *ret_filled = filled;
    return 0;
}

/* Keeps the segment as the spare file, if it is worth it and there is none. */
static int segment_spare(int directory_fd, const char *name, uint64_t bytes_max)
{
    struct stat status;

    if (fstatat(directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode) || status.st_size <= 0 || (uint64_t)status.st_size > bytes_max)
        return -EFBIG;
    if (renameat2(directory_fd, name, directory_fd, SEGMENT_SPARE, RENAME_NOREPLACE) < 0)
        return -errno;
    return 0;
}

int segment_remove(int directory_fd, uint64_t sequence, uint64_t spare_bytes_max)
{
    char name[SEGMENT_NAME_MAX];
    int left = -1;

    segment_name(sequence, name);
    if (spare_bytes_max > 0 && segment_spare(directory_fd, name, spare_bytes_max) == 0)
        return file_sync_directory(directory_fd);
    int r = file_unlink(directory_fd, name, &left);
    file_give_back(left);
    return r == -ENOENT ? file_sync_directory(directory_fd) : r;
}

int segment_clean(int directory_fd)
{
    if (unlinkat(directory_fd, SEGMENT_NEW, 0) < 0 && errno != ENOENT)
        return -errno;
    if (unlinkat(directory_fd, SEGMENT_SPARE, 0) < 0 && errno != ENOENT)
        return -errno;
    return 0;
}

int segment_set_aside(int directory_fd, uint64_t sequence, bool stays)
{
    enum { TRIES = 1000 };
    char name[SEGMENT_NAME_MAX];
    char aside[SEGMENT_NAME_MAX + 24];

    segment_name(sequence, name);
    for (int i = 0; i < TRIES; i++) {
        if (i == 0)
            snprintf(aside, sizeof(aside), "%s.damaged", name);
        else
            snprintf(aside, sizeof(aside), "%s.damaged.%d", name, i);
        int r = stays ? linkat(directory_fd, name, directory_fd, aside, 0)
                      : renameat2(directory_fd, name, directory_fd, aside, RENAME_NOREPLACE);
        if (r == 0)
            return 0;
        if (errno != EEXIST)
            return -errno;
    }
    return -EEXIST;
}

static void closedirp(DIR **directory)
{
    if (*directory != NULL)
        closedir(*directory);
}

static int sequence_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

int segment_list(int directory_fd, uint64_t **ret, size_t *ret_count)
{
    _cleanup_(freep) uint64_t *list = NULL;
    _cleanup_(closedirp) DIR *directory = NULL;
    size_t count = 0, room = 0;

    int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    directory = fdopendir(fd);
    if (directory == NULL) {
        int r = -errno;
        close(fd);
        return r;
    }

    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (entry == NULL) {
            if (errno != 0)
                return -errno;
            break;
        }
        uint64_t sequence = segment_parse_name(entry->d_name);
        if (sequence == 0)
            continue;
        if (count == room) {
            room = MAX(room * 2, 32);
            uint64_t *more = reallocarray(list, room, sizeof(*list));
            if (more == NULL)
                return -ENOMEM;
            list = more;
        }
        list[count++] = sequence;
    }
    if (count > 0)
        qsort(list, count, sizeof(*list), sequence_compare);
    *ret = TAKE_PTR(list);
    *ret_count = count;
    return 0;
}

int segment_read_header(int fd, uint64_t sequence, SegmentHeader *ret)
{
    SegmentHeader header;
    size_t skip = sizeof(header.checksum);

    int r = file_read_at(fd, &header, sizeof(header), 0);
    if (r == -ENODATA)
        return -EBADMSG;
    if (r < 0)
        return r;
    if (memcmp(header.magic, SEGMENT_MAGIC, sizeof(header.magic)) != 0 ||
        header.checksum != checksum((const uint8_t *)&header + skip, sizeof(header) - skip))
        return -EBADMSG;
    if (header.version != SEGMENT_VERSION || header.incompatible_flags != 0) {
        *ret = header;
        return -EPROTONOSUPPORT;
    }
    if (header.sequence != sequence)
        return -EBADMSG;
    *ret = header;
    return 0;
}

static uint64_t mark_checksum(const MarkSector *sector, uint64_t salt)
{
    size_t skip = sizeof(sector->checksum);
    return checksum_seeded((const uint8_t *)sector + skip, sizeof(*sector) - skip, salt);
}

int segment_write_mark(int fd, uint64_t salt, const JournalMark *mark, uint64_t flags)
{
    MarkSector sector = {.flags = flags, .mark = *mark};

    sector.checksum = mark_checksum(&sector, salt);
    return file_write_at(fd, &sector, sizeof(sector), SEGMENT_MARK_OFFSET);
}

int segment_read_mark(int fd, uint64_t salt, JournalMark *ret, uint64_t *ret_flags)
{
    static const MarkSector never;
    MarkSector sector;

    int r = file_read_at(fd, &sector, sizeof(sector), SEGMENT_MARK_OFFSET);
    if (r == -ENODATA)
        return -EBADMSG;
    if (r < 0)
        return r;
    if (memcmp(&sector, &never, sizeof(sector)) == 0)
        return -ENODATA;
    if (sector.checksum != mark_checksum(&sector, salt))
        return -EBADMSG;
    *ret = sector.mark;
    *ret_flags = sector.flags;
    return 0;
}
