/* What the store's files share. Private to this folder. */
#pragma once

#include "store/store.h"

struct Store {
    StoreOptions options;
    Journal *journal; /* NULL while recovery runs: nothing is updated then */

    StoreArena **arenas;  /* sorted by name */
    JobArena *job_arenas; /* the same ones, in the same order */
    size_t count;
    size_t capacity;

    StoreArena **dropped; /* no longer there, but a checkpoint is still saving them */
    size_t dropped_count;

    uint64_t revision;
    uint64_t used_bytes; /* over all arenas */
    uint64_t updates;
    uint64_t now_usec; /* realtime of this turn, for records */
    Buffer result;     /* what merges and increments made */
    bool ring_full;
    bool batch_full;
    char reason[256]; /* why updates are refused; empty: they are not */
};

/* Before an update of this arena (NULL: of none in particular): STORE_READ_ONLY, STORE_DAMAGED,
 * STORE_PARKED or 0. */
int store_may_update(Store *store, StoreArena *arena);
/* What the arena layer and the journal answered, as one of the store's outcomes. Parks the arena
 * where there was no room. */
int store_arena_outcome(Store *store, StoreArena *arena, int code, StoreOutcome *outcome);
int store_record_outcome(Store *store, StoreArena *arena, int code, StoreOutcome *outcome);

/* A limit that stands against it: fills the outcome. */
static inline int store_exceeded(StoreOutcome *outcome, const char *limit, uint64_t maximum)
{
    outcome->limit = limit;
    outcome->maximum = maximum;
    return STORE_LIMIT;
}
