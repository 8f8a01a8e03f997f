/* The text of calls as it is built: a growing buffer whose live bytes are [begin, end). The first
 * thing that goes wrong is kept in `failed` and stops all that follows, so that whoever writes many
 * small parts checks once, at the end. */
#pragma once

#include <holdfast.h>
#include <string.h>

typedef struct HfOutput {
    char *data;
    size_t begin;
    size_t end;
    size_t capacity;
    int failed; /* 0 or a negative errno */
} HfOutput;

void hf_output_deinit(HfOutput *output);

static inline size_t hf_output_size(const HfOutput *output)
{
    return output->end - output->begin;
}

/* Makes room for size bytes behind the end, or writes `failed`. What is there may move. */
void hf_output_grow(HfOutput *output, size_t size);

static inline void hf_output_append(HfOutput *output, const char *data, size_t size)
{
    if (size == 0)
        return;
    if (output->capacity - output->end < size)
        hf_output_grow(output, size);
    if (output->failed < 0)
        return;
    memcpy(output->data + output->end, data, size);
    output->end += size;
}

static inline void hf_output_literal(HfOutput *output, const char *text)
{
    hf_output_append(output, text, strlen(text));
}

/* A JSON string of these characters. -EILSEQ where they are not UTF-8, or hold a NUL. */
void hf_output_string(HfOutput *output, const char *characters, size_t size);
/* One JSON value, as it is, less white space around it. -EINVAL where the text is not one. */
void hf_output_value(HfOutput *output, const char *json, size_t size);
void hf_output_integer(HfOutput *output, int64_t value);
/* A revision or a size: -EINVAL beyond 2^63 - 1. */
void hf_output_unsigned(HfOutput *output, uint64_t value);

/* Drops size bytes from the front; gives memory back where little of much is used. */
void hf_output_consume(HfOutput *output, size_t size);
/* Takes back what was appended since it held `size` bytes, and the failure. */
void hf_output_rewind(HfOutput *output, size_t size);
