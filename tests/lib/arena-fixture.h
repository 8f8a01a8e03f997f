/* An arena to test with, and a way to see and to damage its memory behind its back. */
#pragma once

#include "arena/arena.h"
#include "base/housekeeper.h"
#include "base/pool.h"

typedef struct ArenaFixture {
    Pool *pool;
    Housekeeper *housekeeper;
    ArenaContext context;
    Arena *arena;
    uint64_t revision;
    char *value; /* of HOLDFAST_VALUE_MAX bytes */
} ArenaFixture;

void arena_fixture_init(ArenaFixture *fixture, uint64_t max_bytes, bool with_housekeeper);
void arena_fixture_deinit(ArenaFixture *fixture);

/* An update of one put or delete; the outcome, after an abort where it is not 0. The value is size
 * bytes that depend on the key. */
int arena_fixture_put(ArenaFixture *fixture, const char *key, size_t size);
int arena_fixture_delete(ArenaFixture *fixture, const char *key);
/* "key-NUMBER", in one of a few buffers of the fixture's own. */
const char *arena_fixture_key(unsigned number);
/* Upkeep until nothing more is to be done. */
void arena_fixture_settle(ArenaFixture *fixture);
/* Frees the arena and takes its memory over again; arena_open's result. */
int arena_fixture_reopen(ArenaFixture *fixture);

/* Memory that the memfd really has. */
uint64_t arena_fixture_memory(const ArenaFixture *fixture);
/* A second, writable mapping of the memfd's pages up to the high-water mark. */
uint8_t *arena_fixture_map(const ArenaFixture *fixture, size_t *ret_size);

/* A copy of the memory, with everything that may be anything zeroed: contents of free blocks and
 * free runs, and the counters of changes and aborts. */
uint8_t *arena_fixture_snapshot(const ArenaFixture *fixture, size_t *ret_size);
