/* The buffer holds a run of the file; a range that is not in it is made to be at its beginning,
 * with as much behind it as there is room for. It grows to the largest range asked for. */
#include "journal/reader.h"

#include "base/file.h"

#define READER_BYTES (1 * MIB)
#define READER_ALIGNMENT UINT64_C(512)

int reader_set(Reader *reader, int fd)
{
    closep(&reader->fd);
    reader->fd = fd;
    reader->begin = 0;
    reader->have = 0;
    return file_size(fd, &reader->size);
}

void reader_deinit(Reader *reader)
{
    closep(&reader->fd);
    reader->fd = -1;
    free(reader->buffer);
    reader->buffer = NULL;
    reader->capacity = 0;
}

static int reader_grow(Reader *reader, size_t size)
{
    size_t capacity = MAX(ALIGN_UP(size, (size_t)READER_BYTES), (size_t)READER_BYTES);

    if (capacity <= reader->capacity)
        return 0;
    uint8_t *buffer = aligned_alloc(READER_ALIGNMENT, capacity);
    if (buffer == NULL)
        return -ENOMEM;
    if (reader->have > 0)
        memcpy(buffer, reader->buffer, reader->have);
    free(reader->buffer);
    reader->buffer = buffer;
    reader->capacity = capacity;
    return 0;
}

/* Fills the buffer from the file on: at least up to need bytes. */
static int reader_fill(Reader *reader, size_t need)
{
    while (reader->have < need) {
        ssize_t n = pread(reader->fd, reader->buffer + reader->have,
                          reader->capacity - reader->have, (off_t)(reader->begin + reader->have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -ENODATA; /* it has shrunk meanwhile */
        reader->have += (size_t)n;
    }
    return 0;
}

int reader_get(Reader *reader, uint64_t offset, size_t size, const void **ret)
{
    if (offset > reader->size || size > reader->size - offset)
        return -ENODATA;
    if (offset < reader->begin || offset + size > reader->begin + reader->have) {
        uint64_t begin = offset & ~(READER_ALIGNMENT - 1);
        size_t need = (size_t)(offset - begin) + size;
        if (begin >= reader->begin && begin < reader->begin + reader->have) {
            size_t skip = (size_t)(begin - reader->begin);
            reader->have -= skip;
            memmove(reader->buffer, reader->buffer + skip, reader->have);
        } else {
            reader->have = 0;
        }
        reader->begin = begin;
        int r = reader_grow(reader, need);
        if (r < 0)
            return r;
        r = reader_fill(reader, need);
        if (r < 0)
            return r;
    }
    *ret = reader->buffer + (offset - reader->begin);
    return 0;
}
