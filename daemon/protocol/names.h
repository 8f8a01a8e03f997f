/* The names of the objects that are open in a scan, as keyed hashes, to find duplicates: for this
 * folder alone.
 *
 * A stack of 8 bytes a name: those of an inner object lie above those of the outer ones and go when
 * it closes. A small object is searched from end to end, a large one through a table that all open
 * objects share. */
#pragma once

#include "base/common.h"
#include "base/pool.h"

/* Objects of more names than this are in the table. */
#define NAMES_LINEAR_MAX 16
#define NAMES_SMALL 48

typedef struct Names {
    Pool *pool;
    uint64_t *keys;
    uint32_t count;
    uint32_t capacity;
    size_t keys_block; /* 0: keys is `small` */
    uint64_t *table;   /* open addressing, linear; 0: free */
    size_t table_block;
    size_t mask;
    size_t used;
    uint64_t small[NAMES_SMALL];
} Names;

enum {
    NAMES_NEW = 0,
    NAMES_DUPLICATE,
};

void names_init(Names *names, Pool *pool);
/* Gives all memory back but what is inside; empty afterwards. */
void names_clear(Names *names);

/* Adds a name's hash to the object whose first name has (or would have) the index base:
 * names->count when it was opened. NAMES_NEW, NAMES_DUPLICATE, or -ENOMEM. Two names of one hash
 * count as duplicates: with a secret 64-bit seed that is one text in ten million of the largest. */
int names_add(Names *names, uint32_t base, uint64_t hash);
/* Closes that object; it is the innermost. */
void names_pop(Names *names, uint32_t base);
