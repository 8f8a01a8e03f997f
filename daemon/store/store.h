/* The arenas that exist, and the one path of an update: check, apply, record. Everything that
 * changes state comes through here.
 *
 *   store_update: conditions -> arena_begin -> each operation -> arena_prepare ->
 *                 record into the journal's batch -> arena_commit
 *                     (any failure: arena_abort, the record is thrown away, nothing happened)
 *
 * An update that finds no room (the ring of a running checkpoint, or the journal's batch) is
 * parked: nothing happened, the caller tries again after the store's owner was told that there is
 * room, and later updates of the same arena are parked too, so that their order stays. */
#pragma once

#include "arena/arena.h"
#include "base/buffer.h"
#include "checkpoint/capture.h"
#include "checkpoint/job.h"
#include "journal/journal.h"

typedef struct Store Store;

/* Outcomes that callers must handle. */
enum {
    STORE_NO_SUCH_KEY = 1,
    STORE_REVISION_MISMATCH, /* outcome->revision: the entry's, 0 if there is none */
    STORE_WRONG_TYPE,
    STORE_ARENA_FULL, /* outcome->maximum: maxBytes */
    STORE_LIMIT,      /* outcome->limit, outcome->maximum */
    STORE_PARKED,
    STORE_READ_ONLY, /* store_reason tells why */
    STORE_DAMAGED,   /* arena->damage tells where */
    STORE_EXISTS,
};

/* One arena that exists. Valid until it is dropped; look it up again after control went back to the
 * loop. */
typedef struct StoreArena {
    Arena *arena;
    CaptureMarks *marks;
    bool parked;      /* an update of it waits: later ones wait too */
    bool handed_out;  /* a reader may have it mapped */
    char damage[160]; /* its memory is not what was written: it is closed, the others go on */
} StoreArena;

typedef enum StoreOperationKind {
    STORE_PUT,
    STORE_DELETE,
    STORE_MERGE,
    STORE_INCREMENT,
} StoreOperationKind;

typedef struct StoreOperation {
    StoreOperationKind kind;
    Bytes key;            /* 1 to HOLDFAST_KEY_MAX bytes */
    Bytes value;          /* put: the value; merge: the patch; compact JSON text */
    int64_t by;           /* increment */
    bool conditional;     /* only if the entry's revision before the update is if_revision */
    uint64_t if_revision; /* 0: only if there is none */
} StoreOperation;

typedef struct StoreOutcome {
    uint64_t revision; /* of the update, or of the entry (STORE_REVISION_MISMATCH) */
    size_t operation;  /* the one that failed */
    Bytes value;       /* what the last merge or increment made; good until the next update */
    const char *limit;
    uint64_t maximum;
} StoreOutcome;

/* Merges a patch into a value (RFC 7396): appends to out; 0, or -E2BIG where the result passes a
 * limit, -ENOMEM. target.data NULL: there is no value. */
typedef int (*StoreMerge)(Buffer *out, Bytes target, Bytes patch, size_t size_max,
                          unsigned depth_max);

#define STORE_DEPTH_MAX 512

/* Who keeps the arenas' memory for a later process. May be NULL, each. */
typedef struct StoreKeeper {
    void (*created)(void *context, const Identity *identity, int fd); /* the record is in a batch */
    void (*dropped)(void *context, const Identity *identity); /* or damaged: not worth keeping */
    void *context;
} StoreKeeper;

typedef struct StoreOptions {
    Pool *pool;
    Housekeeper *housekeeper;
    Capture *capture;
    StoreMerge merge;
    uint64_t arenas_max;
    uint64_t memory_bytes_max;
    StoreKeeper keeper;
} StoreOptions;

int store_new(const StoreOptions *options, Store **ret);
/* Frees the arenas' objects; what is in a descriptor store stays there. NULL is fine. */
Store *store_free(Store *store);
/* From when on updates are recorded; the store does not own it. NULL: nothing is recorded
 * (recovery). */
void store_set_journal(Store *store, Journal *journal);
void store_set_limits(Store *store, uint64_t arenas_max, uint64_t memory_bytes_max);

/* --- the arenas, sorted by name */

size_t store_arenas(const Store *store, const JobArena **ret);
size_t store_count(const Store *store);
StoreArena *store_at(const Store *store, size_t index);
/* NULL: none of that name. */
StoreArena *store_find(const Store *store, Bytes name);
StoreArena *store_find_identity(const Store *store, const Identity *identity);

/* 0, STORE_EXISTS, STORE_LIMIT (arenas), STORE_PARKED, STORE_READ_ONLY or a negative errno. */
int store_create(Store *store, Bytes name, const ArenaAttributes *attributes, StoreArena **ret,
                 StoreOutcome *outcome);
/* 0, STORE_ARENA_FULL (a lower limit than its memory), STORE_PARKED, STORE_READ_ONLY,
 * STORE_DAMAGED, or a negative errno. */
int store_change(Store *store, StoreArena *arena, const ArenaAttributes *attributes,
                 StoreOutcome *outcome);
/* 0, STORE_PARKED or STORE_READ_ONLY. A damaged arena can be dropped. arena is gone afterwards. */
int store_drop(Store *store, StoreArena *arena, StoreOutcome *outcome);
/* Takes in an arena that recovery made or adopted; the store owns it on success. */
int store_insert(Store *store, Arena *arena);
/* Forgets an arena and frees it without a record; for recovery. */
void store_remove(Store *store, StoreArena *arena);

/* --- entries */

/* 0, STORE_NO_SUCH_KEY or STORE_DAMAGED. */
int store_get(Store *store, StoreArena *arena, Bytes key, ArenaEntry *ret);
/* All of the operations or none. count: at least 1. 0 or an outcome, or a negative errno (-ENOMEM).
 */
int store_update(Store *store, StoreArena *arena, const StoreOperation *operations, size_t count,
                 StoreOutcome *outcome);
/* Where revisions go on; recovery, which applies records by itself, tells it at its end. */
void store_set_revision(Store *store, uint64_t revision);
/* Notes damage found while reading. */
void store_note_damage(Store *store, StoreArena *arena);

/* --- the whole */

/* Revision of the last update. */
uint64_t store_revision(const Store *store);
uint64_t store_entries(const Store *store);
uint64_t store_used_bytes(const Store *store);
uint64_t store_updates(const Store *store);
/* Updates are refused, or (reason NULL) accepted again. */
void store_set_read_only(Store *store, const char *reason);
const char *store_reason(const Store *store);
/* Clears the parked marks before parked updates are tried again in their order. */
void store_resume(Store *store);
/* Was any update parked since the last call, for want of room in the ring? Clears it. */
bool store_was_parked(Store *store);
/* The same for want of room in the journal's batch. */
bool store_was_out_of_batch(Store *store);
/* Once a turn, before its calls: the time that records of this turn carry, and upkeep of the
 * arenas. */
void store_turn(Store *store);
/* Once a turn, after its calls: wakes those that wait for a change of an arena that was handed out.
 */
void store_turn_end(Store *store);
/* A checkpoint is over: arenas that were dropped meanwhile give their memory back. */
void store_release_dropped(Store *store);
/* Counts the used bytes anew: recovery changed arenas behind the store's back. */
void store_recount(Store *store);
