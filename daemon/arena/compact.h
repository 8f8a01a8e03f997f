/* Compaction: entries move out of slabs that are mostly empty, so that these become free pages. */
#pragma once

#include "base/common.h"

typedef struct Arena Arena;

/* A place in the arena and what may be spent; private to one process. */
typedef struct Compact {
    uint64_t cursor; /* page where the search for a sparse slab goes on */
    uint64_t credit; /* blocks that may be moved: earned by those that were freed */
} Compact;

/* After an update that freed so many blocks: moves some in proportion, in an update of its own,
 * where too much of the slabs is empty. Does nothing where the barrier has no room. */
void compact_after(Arena *arena, size_t freed);
/* The same when nothing else is to be done. */
void compact_idle(Arena *arena);
