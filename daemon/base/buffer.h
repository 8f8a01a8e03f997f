/* A growing run of bytes in pool memory: input and output of connections, scratch texts.
 * Bytes from begin to end are live; consuming moves begin, and the space is reused when all is
 * consumed or when room is needed. A failed append marks the buffer (`failed`) and changes nothing
 * else, so that a writer of many small parts checks once at the end. */
#pragma once

#include "base/common.h"
#include "base/pool.h"

typedef struct Buffer {
    Pool *pool;
    char *data;
    size_t begin;
    size_t end;
    size_t capacity;
    bool failed;
} Buffer;

void buffer_init(Buffer *buffer, Pool *pool);
/* Gives the memory back; the buffer stays usable and empty. */
void buffer_clear(Buffer *buffer);

static inline size_t buffer_size(const Buffer *buffer)
{
    return buffer->end - buffer->begin;
}

static inline char *buffer_begin(const Buffer *buffer)
{
    return buffer->data + buffer->begin;
}

/* Makes room for size more bytes behind end and returns where they go; NULL (and failed) on want of
 * memory. Moves the data: pointers into the buffer are good only until then. */
char *buffer_reserve_slow(Buffer *buffer, size_t size);

static inline char *buffer_reserve(Buffer *buffer, size_t size)
{
    if (_likely_(buffer->capacity - buffer->end >= size && buffer->data != NULL))
        return buffer->data + buffer->end;
    return buffer_reserve_slow(buffer, size);
}

static inline void buffer_append(Buffer *buffer, const void *data, size_t size)
{
    char *room = buffer_reserve(buffer, size);
    if (_likely_(room != NULL)) {
        memcpy(room, data, size);
        buffer->end += size;
    }
}

static inline void buffer_append_bytes(Buffer *buffer, Bytes bytes)
{
    if (bytes.size > 0)
        buffer_append(buffer, bytes.data, bytes.size);
}

static inline void buffer_append_text(Buffer *buffer, const char *text)
{
    buffer_append(buffer, text, strlen(text));
}

void buffer_append_format(Buffer *buffer, const char *format, ...) _printf_(2, 3);

/* Drops size bytes from the front; when nothing is left the buffer starts over at its beginning. */
void buffer_consume(Buffer *buffer, size_t size);
/* Cuts the buffer back so that it holds size bytes, counted from begin. */
void buffer_truncate(Buffer *buffer, size_t size);
/* Gives memory back where an empty buffer holds more than keep bytes. */
void buffer_shrink(Buffer *buffer, size_t keep);
