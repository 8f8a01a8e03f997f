/* See output.h. */
#include "output.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define KEEP_BYTES (1u << 20)

void hf_output_deinit(HfOutput *output)
{
    free(output->data);
    *output = (HfOutput){0};
}

static void move_to_front(HfOutput *output)
{
    size_t size = hf_output_size(output);

    if (output->begin > 0)
        memmove(output->data, output->data + output->begin, size);
    output->begin = 0;
    output->end = size;
}

void hf_output_grow(HfOutput *output, size_t size)
{
    size_t live = hf_output_size(output), capacity;

    if (output->failed < 0)
        return;
    if (output->begin >= live && output->capacity - live >= size) {
        move_to_front(output);
        return;
    }
    capacity = output->capacity < 512 ? 1024 : output->capacity;
    while (capacity - output->end < size)
        capacity *= 2;
    char *data = realloc(output->data, capacity);
    if (data == NULL) {
        output->failed = -ENOMEM;
        return;
    }
    output->data = data;
    output->capacity = capacity;
}

/* The escape of a byte that may not stand in a string as it is; NULL: it may. */
static const char *escape(uint8_t c, char text[static 8])
{
    if (c != '"' && c != '\\' && c >= 0x20)
        return NULL;
    if (c == '"' || c == '\\')
        snprintf(text, 8, "\\%c", c);
    else
        snprintf(text, 8, "\\u%04x", c);
    return text;
}

void hf_output_string(HfOutput *output, const char *characters, size_t size)
{
    size_t run = 0;
    char text[8];

    if (!hf_text_utf8((HoldfastText){characters, size})) {
        if (output->failed == 0)
            output->failed = -EILSEQ;
        return;
    }
    hf_output_append(output, "\"", 1);
    for (size_t i = 0; i < size; i++) {
        const char *escaped = escape((uint8_t)characters[i], text);
        if (escaped == NULL)
            continue;
        hf_output_append(output, characters + run, i - run);
        hf_output_literal(output, escaped);
        run = i + 1;
    }
    hf_output_append(output, characters + run, size - run);
    hf_output_append(output, "\"", 1);
}

void hf_output_value(HfOutput *output, const char *json, size_t size)
{
    HoldfastText value;

    /* A NUL would end the message in the middle. */
    if (json == NULL || !hf_text_whole((HoldfastText){json, size}, &value) ||
        memchr(value.data, '\0', value.size) != NULL) {
        if (output->failed == 0)
            output->failed = -EINVAL;
        return;
    }
    hf_output_append(output, value.data, value.size);
}

void hf_output_integer(HfOutput *output, int64_t value)
{
    char text[24];
    int length = snprintf(text, sizeof(text), "%lld", (long long)value);
    hf_output_append(output, text, (size_t)length);
}

void hf_output_unsigned(HfOutput *output, uint64_t value)
{
    if (value > INT64_MAX) {
        if (output->failed == 0)
            output->failed = -EINVAL;
        return;
    }
    hf_output_integer(output, (int64_t)value);
}

void hf_output_consume(HfOutput *output, size_t size)
{
    output->begin += size;
    if (output->begin < output->end)
        return;
    output->begin = output->end = 0;
    if (output->capacity > KEEP_BYTES)
        hf_output_deinit(output);
}

void hf_output_rewind(HfOutput *output, size_t size)
{
    output->end = output->begin + size;
    output->failed = 0;
}
