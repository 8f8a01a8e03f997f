/* The names of the objects that are open in a scan, as keyed hashes, to find duplicates: for this
 * folder alone.
 *
 * The first sixteen of each object are on a stack: those of an inner object lie above those of the
 * outer ones and go when it closes. An object of more has a set of its own. */
#pragma once

#include "base/common.h"
#include "base/pool.h"

/* Objects of more names than this have a set. */
#define NAMES_LINEAR_MAX 16
#define NAMES_SMALL 48

typedef struct NamesTable NamesTable;

typedef struct Names {
    Pool *pool;
    uint64_t *keys;
    uint32_t count;
    uint32_t capacity;
    size_t keys_block;  /* 0: keys is `small` */
    NamesTable *table;  /* of the innermost object that has one */
    size_t table_bytes; /* of all tables */
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
/* Bytes taken from the pool. */
size_t names_memory(const Names *names);
