/* A growing text; a failed addition marks it and is looked at once, at the end. */
#pragma once

#include "../lib/text.h"
#include "base/common.h"

typedef struct TextBuffer {
    char *data;
    size_t size;
    size_t capacity;
    bool failed;
} TextBuffer;

void text_buffer_free(TextBuffer *buffer);
void text_buffer_grow(TextBuffer *buffer, size_t size);

static inline void text_buffer_add(TextBuffer *buffer, const char *data, size_t size)
{
    if (buffer->capacity - buffer->size < size)
        text_buffer_grow(buffer, size);
    if (buffer->failed)
        return;
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

/* A JSON string of these characters, control characters and quotes escaped. */
void text_buffer_string(TextBuffer *buffer, const char *characters);
