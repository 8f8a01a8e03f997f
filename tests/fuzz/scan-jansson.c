/* Fuzz target: scan, walk and merge against jansson.
 *
 * The input is a text; where it holds a NUL byte, also two, which are checked each by itself and
 * then merged. A difference aborts. */
#include <stdio.h>

#include "lib/differential.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *difference)
{
    if (difference != NULL) {
        fprintf(stderr, "%s\n", difference);
        abort();
    }
}

/* Where the text is cut: the same for the same input. */
static uint64_t place(const uint8_t *data, size_t size)
{
    uint64_t hash = size;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ data[i]) * UINT64_C(0x100000001B3);
    return hash >> 8;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Differential *differential;
    Bytes text = BYTES(data, size);
    const char *separator = size > 0 ? memchr(data, 0, size) : NULL;

    if (differential == NULL && differential_new(&differential) < 0)
        abort();
    check(differential_text(differential, text, place(data, size), NULL));
    if (separator != NULL) {
        Bytes target = BYTES(text.data, separator - text.data);
        Bytes patch = BYTES(separator + 1, size - target.size - 1);
        check(differential_text(differential, target, place(data, size), NULL));
        check(differential_text(differential, patch, place(data, size), NULL));
        check(differential_merge(differential, target, patch));
    }
    return 0;
}
