/* A directory for one test, removed with all that is in it. Functions abort the test where the
 * system refuses. */
#pragma once

#include "base/common.h"

typedef struct Temporary {
    char *path;
    int fd; /* of the directory itself */
} Temporary;

/* Below $TMPDIR, or /tmp. */
Temporary *temporary_new(void);
/* Removes the directory, and everything in it, and closes the descriptor. NULL is fine. */
Temporary *temporary_free(Temporary *temporary);

static inline void temporary_freep(Temporary **temporary)
{
    temporary_free(*temporary);
}

/* The path of a name in the directory; the caller frees it. */
char *temporary_path(const Temporary *temporary, const char *name);
/* Writes a file with this text, anew; an existing one is replaced. */
void temporary_write(const Temporary *temporary, const char *name, const char *text);
/* The content of a file, ended by a NUL that is not counted; the caller frees it. ret_size may be
 * NULL. */
char *temporary_read(const Temporary *temporary, const char *name, size_t *ret_size);
