/* Writes the file of an image.
 *
 * Buffers of whole pages, which is nearly all of an image that is not compressed, go past the page
 * cache (O_DIRECT): that takes a third of the processor's time, the kernel has nothing to write
 * back while clients wait for a processor, and what other programs have in the cache stays there.
 * Where the file system refuses, everything goes through the cache.
 *
 * In a large image one buffer is under way at the disk while the next one is filled and its
 * checksum computed (measured on one disk: 1.9 GB/s instead of 1.4; more, or larger ones, gain
 * nothing). A file system does not let go of a write that makes a file longer before it is done, so
 * the file's size goes ahead of what is written, and back at the end. That takes no room on the
 * disk: want of it is met, and told, where it is met without.
 *
 * What can go wrong is the disk: the errno of the write that failed is handed up with the first
 * call that comes to know it, at the latest by image_file_settle. What only could not be begun (a
 * kernel without such writes, a service that may not use them, a limit to the file's size) is
 * written as if there were no overlapping, which tells what is wrong if anything is. */
#include "checkpoint/image-file.h"

#include <fcntl.h>
#include <holdfast/image.h>
#include <sys/mman.h>
#include <sys/types.h>

#include "base/file.h"
#include "base/schedule.h"
#include "checkpoint/image-format.h"

/* So much is written before the kernel is told to begin moving it to the disk, so that the fsync at
 * the end finds little left to do. */
#define FLUSH_BYTES (4 * MIB)
/* Less is written sooner than a context for overlapping has come to its end. */
#define OVERLAP_BYTES_MIN (64 * MIB)
/* The size goes ahead by so much, or an eighth of the file if that is more: a file system may wait
 * for what is under way before it changes a size. */
#define AHEAD_BYTES_MIN (16 * MIB)
/* Populated in one go. */
#define POPULATE_BYTES (64 * KIB)
static_assert(IMAGE_BLOCK_BYTES % POPULATE_BYTES == 0, "whole steps");

/* --- life */

int image_file_init(ImageFile *file, int fd, bool bypass, uint64_t bytes_expected)
{
    *file = (ImageFile){.fd = fd, .may_bypass = bypass};
    file->may_overlap = bypass && bytes_expected >= OVERLAP_BYTES_MIN;
    file->buffer_count = file->may_overlap ? IMAGE_FILE_BUFFERS : 1;
    file->memory_bytes = file->buffer_count * IMAGE_BLOCK_BYTES;
    file->memory = mmap(NULL, file->memory_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (file->memory == MAP_FAILED) {
        file->memory = NULL;
        return -errno;
    }
    for (unsigned i = 0; i < file->buffer_count; i++)
        file->buffers[i].data = file->memory + i * IMAGE_BLOCK_BYTES;
    return 0;
}

void image_file_deinit(ImageFile *file)
{
    aio_free(file->context);
    if (file->memory != NULL)
        munmap(file->memory, file->memory_bytes);
}

/* --- through the page cache, and past it */

/* sync_file_range of a part of the file. Where there is no such call (ESPIPE, EINVAL, ENOSYS) the
 * fsync does it all. */
static int flush_range(const ImageFile *file, uint64_t from, uint64_t to, unsigned flags)
{
    int r;

    do {
        r = sync_file_range(file->fd, (off_t)from, (off_t)(to - from), flags);
    } while (r < 0 && errno == EINTR);
    return r < 0 && (errno == EIO || errno == ENOSPC || errno == EDQUOT || errno == ENOMEM) ? -errno
                                                                                            : 0;
}

/* Starts the write-back of each FLUSH_BYTES, and waits for the ones before: so the final fsync is
 * short, and no more than twice that is ever queued at the disk, where a sync of the journal would
 * have to wait behind it. */
static int begin_write_back(ImageFile *file)
{
    int r;

    if (file->offset - file->flushed < FLUSH_BYTES)
        return 0;
    r = flush_range(file, file->flushed, file->offset, SYNC_FILE_RANGE_WRITE);
    if (r == 0 && file->flushed > file->waited)
        r = flush_range(file, file->waited, file->flushed,
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                            SYNC_FILE_RANGE_WAIT_AFTER);
    file->waited = file->flushed;
    file->flushed = file->offset;
    return r;
}

static bool is_aligned(uint64_t value)
{
    return value % HOLDFAST_PAGE_BYTES == 0;
}

/* True: what is written now bypasses the page cache. */
static bool bypass(ImageFile *file, bool wanted)
{
    int flags;

    wanted = wanted && file->may_bypass;
    if (wanted == file->bypassing)
        return wanted;
    flags = fcntl(file->fd, F_GETFL);
    if (flags < 0 || fcntl(file->fd, F_SETFL, wanted ? flags | O_DIRECT : flags & ~O_DIRECT) < 0)
        file->may_bypass = false; /* from here on as it was */
    else
        file->bypassing = wanted;
    return file->bypassing;
}

static int write_at(ImageFile *file, const char *data, size_t bytes, uint64_t offset)
{
    bool aligned = is_aligned(offset) && is_aligned(bytes) && is_aligned((uintptr_t)data);
    bool bypassed = bypass(file, aligned && bytes > 0);
    int r = file_write_at(file->fd, data, bytes, offset);

    if (r == -EINVAL && bypassed) {
        /* This file system wants another alignment, or wrote a part that has none. */
        (void)bypass(file, false);
        file->may_bypass = false;
        r = file_write_at(file->fd, data, bytes, offset);
    }
    return r;
}

int image_file_append(ImageFile *file, const void *data, size_t bytes)
{
    int r = write_at(file, data, bytes, file->offset);

    if (r < 0)
        return r;
    file->offset += bytes;
    return file->bypassing ? 0 : begin_write_back(file);
}

int image_file_pad(ImageFile *file, uint64_t alignment)
{
    static const char zeros[HOLDFAST_PAGE_BYTES];
    size_t bytes = ALIGN_UP(file->offset, alignment) - file->offset;

    return bytes > 0 ? image_file_append(file, zeros, bytes) : 0;
}

/* --- overlapping */

/* What of a buffer's write is still to be done when it has ended. */
static int write_rest(ImageFile *file, const ImageFileBuffer *buffer, int64_t result)
{
    uint64_t done = result < 0 ? 0 : (uint64_t)result;

    if (result < 0 && result != -EINVAL && result != -EAGAIN && result != -EINTR)
        return (int)result;
    if (done >= buffer->request.aio_nbytes)
        return 0;
    /* As a whole or a rest, and now by a call that tells why, if it cannot be. */
    return write_at(file, buffer->data + done, buffer->request.aio_nbytes - done,
                    (uint64_t)buffer->request.aio_offset + done);
}

/* Waits for the end of one write. */
static int wait_for_one(ImageFile *file)
{
    ImageFileBuffer *buffer;
    struct iocb *request;
    int64_t result;
    int r = aio_wait(file->context, &request, &result);

    if (r < 0)
        return r;
    buffer = CONTAINER_OF(request, ImageFileBuffer, request);
    buffer->under_way = false;
    file->under_way--;
    return write_rest(file, buffer, result);
}

/* Brings the file's size to the end of what is written next, and further. */
static int go_ahead(ImageFile *file, uint64_t end)
{
    uint64_t size = end + MAX(AHEAD_BYTES_MIN, end / 8);

    if (end <= file->size)
        return 0;
    if (ftruncate(file->fd, (off_t)size) < 0)
        return -errno;
    file->size = size;
    return 0;
}

/* True: the write of the current buffer is under way. */
static bool begin_write(ImageFile *file, size_t bytes)
{
    ImageFileBuffer *buffer = &file->buffers[file->current];
    int r = 0;

    if (!file->may_overlap || !is_aligned(file->offset) || !is_aligned(bytes) ||
        !bypass(file, true))
        return false;
    if (file->context == 0)
        r = aio_new(file->buffer_count, &file->context);
    if (r >= 0)
        r = go_ahead(file, file->offset + bytes);
    if (r >= 0)
        r = aio_write(file->context, &buffer->request, file->fd, buffer->data, bytes, file->offset);
    if (r < 0) {
        file->may_overlap = false; /* those under way are waited for as before */
        return false;
    }
    buffer->under_way = true;
    file->under_way++;
    file->offset += bytes;
    return true;
}

int image_file_append_buffer(ImageFile *file, size_t bytes)
{
    if (begin_write(file, bytes))
        return 0;
    return image_file_append(file, file->buffers[file->current].data, bytes);
}

/* A page populated ahead costs a fraction of a fault. Older kernels do not know it. */
static void populate(ImageFile *file)
{
    YieldBackoff backoff = {0};

    for (size_t done = 0; done < file->memory_bytes; done += POPULATE_BYTES) {
        (void)madvise(file->memory + done, POPULATE_BYTES, MADV_POPULATE_WRITE);
        schedule_yield(&backoff);
    }
    file->populated = true;
}

int image_file_buffer(ImageFile *file, char **ret)
{
    if (!file->populated)
        populate(file);
    if (file->under_way == file->buffer_count) {
        int r = wait_for_one(file);

        if (r < 0)
            return r;
    }
    while (file->buffers[file->current].under_way) /* one is not */
        file->current = (file->current + 1) % file->buffer_count;
    *ret = file->buffers[file->current].data;
    return 0;
}

/* --- the end */

int image_file_settle(ImageFile *file)
{
    while (file->under_way > 0) {
        int r = wait_for_one(file);

        if (r < 0)
            return r;
    }
    if (file->size > file->offset && ftruncate(file->fd, (off_t)file->offset) < 0)
        return -errno;
    file->size = 0;
    return 0;
}

int image_file_sync(ImageFile *file)
{
    return fsync(file->fd) < 0 ? -errno : 0;
}
