/* See text-buffer.h. */
#include "text-buffer.h"

#include <stdio.h>

void text_buffer_free(TextBuffer *buffer)
{
    free(buffer->data);
    *buffer = (TextBuffer){0};
}

void text_buffer_grow(TextBuffer *buffer, size_t size)
{
    size_t capacity = MAX(buffer->capacity * 2, buffer->size + size + 4096);
    char *data = buffer->failed ? NULL : realloc(buffer->data, capacity);

    if (data == NULL) {
        buffer->failed = true;
        return;
    }
    buffer->data = data;
    buffer->capacity = capacity;
}

void text_buffer_string(TextBuffer *buffer, const char *characters)
{
    char escape[8];

    text_buffer_add(buffer, "\"", 1);
    for (; *characters != '\0'; characters++) {
        unsigned char c = (unsigned char)*characters;
        if (c >= 0x20 && c != '"' && c != '\\') {
            text_buffer_add(buffer, characters, 1);
            continue;
        }
        int n = snprintf(escape, sizeof(escape), c < 0x20 ? "\\u%04x" : "\\%c", c);
        text_buffer_add(buffer, escape, (size_t)n);
    }
    text_buffer_add(buffer, "\"", 1);
}
