/* Reading input: whole, or line by line in large reads. */
#pragma once

#include <holdfast.h>

#include "base/common.h"

/* All there is; -EMSGSIZE beyond maximum. To be freed by the caller; ends in a NUL that is not
 * counted. */
int lines_read_all(int fd, size_t maximum, char **ret, size_t *ret_size);

typedef struct Lines {
    int fd;
    bool owned; /* the descriptor is ours to close */
    const char *name;
    char *data;
    size_t begin;
    size_t end;
    size_t capacity;
    size_t scanned;
    bool finished;
    uint64_t number;      /* of the line last returned, from 1 */
    uint64_t bytes_read;  /* of the input, up to the end of that line */
    uint64_t bytes_total; /* 0: not known */
} Lines;

/* path: NULL or "-" is stdin. 0, or a negative errno of open(2). */
int lines_open(Lines *lines, const char *path);
void lines_close(Lines *lines);
/* The next line that holds more than white space, without its end; good until the next call. 1; 0
 * at the end; -EMSGSIZE for a line longer than a message, and errnos of read(2). */
int lines_next(Lines *lines, HoldfastText *ret);
