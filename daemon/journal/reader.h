/* Reads a file from front to back in large pieces and shows ranges of it as one piece of memory. */
#pragma once

#include "base/common.h"

typedef struct Reader {
    int fd; /* -1: none */
    uint64_t size;
    uint8_t *buffer; /* what lies at begin in the file; by malloc, kept from file to file */
    size_t capacity;
    uint64_t begin;
    size_t have;
} Reader;

/* Goes on with another file; owns the descriptor from now on, whatever is returned. */
int reader_set(Reader *reader, int fd);
void reader_deinit(Reader *reader);
/* Shows [offset, offset + size) of the file, aligned as the offset is (up to 512). Good until the
 * next call. -ENODATA: the file ends before. Other negative values: it could not be read. */
int reader_get(Reader *reader, uint64_t offset, size_t size, const void **ret);
