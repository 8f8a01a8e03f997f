/* Growing bytes in pool memory. The normal way: append at end, consume at begin, start over when
 * empty. Where room runs out, the live bytes move to the front if they are fewer than what was
 * consumed before them (so that moving is paid for by consuming, whatever the pattern), else the
 * block grows, at least twofold as the pool's blocks do. What can go wrong is want of memory alone;
 * it is remembered in `failed` and nothing else changes. */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>

void buffer_init(Buffer *buffer, Pool *pool)
{
    *buffer = (Buffer){.pool = pool};
}

void buffer_clear(Buffer *buffer)
{
    pool_give(buffer->pool, buffer->data, buffer->capacity);
    buffer_init(buffer, buffer->pool);
}

static char *buffer_compact(Buffer *buffer)
{
    size_t live = buffer_size(buffer);

    memmove(buffer->data, buffer->data + buffer->begin, live);
    buffer->begin = 0;
    buffer->end = live;
    return buffer->data + live;
}

/* A block with room for size more bytes, the live bytes at its front. */
static char *buffer_enlarge(Buffer *buffer, size_t size)
{
    size_t live = buffer_size(buffer), capacity;
    char *data;

    if (buffer->begin == 0 && buffer->data != NULL) {
        data =
            pool_grow(buffer->pool, buffer->data, buffer->capacity, live, live + size, &capacity);
        if (data == NULL)
            return NULL;
    } else {
        data = pool_take(buffer->pool, live + size, &capacity);
        if (data == NULL)
            return NULL;
        if (live > 0)
            memcpy(data, buffer->data + buffer->begin, live);
        pool_give(buffer->pool, buffer->data, buffer->capacity);
    }
    buffer->data = data;
    buffer->capacity = capacity;
    buffer->begin = 0;
    buffer->end = live;
    return data + live;
}

char *buffer_reserve_slow(Buffer *buffer, size_t size)
{
    size_t live = buffer_size(buffer);
    char *room = NULL;
    bool fits;

    if (size <= SIZE_MAX - live) {
        fits = buffer->data != NULL && buffer->capacity - live >= size;
        if (fits && live <= buffer->begin)
            return buffer_compact(buffer);
        room = buffer_enlarge(buffer, size);
        if (room == NULL && fits)
            return buffer_compact(buffer);
    }
    if (room == NULL)
        buffer->failed = true;
    return room;
}

void buffer_append_format(Buffer *buffer, const char *format, ...)
{
    size_t room = buffer->capacity - buffer->end;
    char *target = room > 0 ? buffer->data + buffer->end : NULL;
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(target, room, format, arguments);
    va_end(arguments);
    if (length >= 0 && (size_t)length >= room) {
        /* One more than the text needs: vsnprintf ends it with a NUL. */
        target = buffer_reserve(buffer, (size_t)length + 1);
        if (target == NULL)
            return;
        va_start(arguments, format);
        length = vsnprintf(target, (size_t)length + 1, format, arguments);
        va_end(arguments);
    }
    if (length < 0)
        buffer->failed = true;
    else
        buffer->end += (size_t)length;
}

void buffer_consume(Buffer *buffer, size_t size)
{
    assert(size <= buffer_size(buffer));
    buffer->begin += size;
    if (buffer->begin == buffer->end)
        buffer->begin = buffer->end = 0;
}

void buffer_truncate(Buffer *buffer, size_t size)
{
    assert(size <= buffer_size(buffer));
    buffer->end = buffer->begin + size;
    if (size == 0)
        buffer->begin = buffer->end = 0;
}

void buffer_shrink(Buffer *buffer, size_t keep)
{
    if (buffer_size(buffer) > 0 || buffer->capacity <= keep)
        return;
    pool_give(buffer->pool, buffer->data, buffer->capacity);
    buffer->data = NULL;
    buffer->begin = buffer->end = buffer->capacity = 0;
}
