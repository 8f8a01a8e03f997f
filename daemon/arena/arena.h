/* An arena: a named region of shared memory with entries. The only way to change one is an update:
 *
 *     arena_begin -> arena_put, arena_delete, ... -> arena_prepare -> arena_commit
 *                        (any failure or a change of mind: arena_abort)
 *
 * An update happens whole or not at all. Before a page changes, the barrier is asked; where it has
 * no room the update is rolled back and the caller tries again later. The header's change counter
 * is odd from the first change to the commit. No pointer into an arena is kept over a change of it,
 * a commit (which may move other entries together) or arena_upkeep. */
#pragma once

#include <holdfast/layout.h>

#include "base/common.h"

typedef struct Arena Arena;
typedef struct Pool Pool;
typedef struct Housekeeper Housekeeper;

typedef struct Identity {
    uint8_t bytes[16];
} Identity;

static inline bool identity_equal(const Identity *a, const Identity *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

/* Outcomes that callers must handle; negative values are errnos. */
enum {
    ARENA_NO_ENTRY = 1, /* there is no entry of that key */
    ARENA_FULL,         /* would pass maxBytes; nothing changed once arena_abort was called */
    ARENA_COLLISIONS,   /* more than HOLDFAST_CHAIN_MAX entries would share an index position */
    ARENA_BUSY,         /* the barrier has no room; abort, try again when it has */
    ARENA_DAMAGED, /* memory is not what was written: arena_damage tells the place; the arena takes
                      no more */
};

/* Asked before pages change. 0: go on. -EAGAIN: no room now, nothing may change. */
typedef struct ArenaBarrier {
    int (*change)(void *context, uint64_t first_page, uint64_t pages);
    void *context;
} ArenaBarrier;

/* Where an arena takes its private memory from (the undo log) and who punches its holes, populates
 * ahead and unmaps. */
typedef struct ArenaContext {
    Pool *pool;
    Housekeeper *housekeeper; /* NULL: such things are done at once (tests, tools) */
} ArenaContext;

/* What people may set of an arena. */
typedef struct ArenaAttributes {
    uint64_t max_bytes; /* rounded down to pages; at least ARENA_BYTES_MIN */
    uint32_t uid;
    uint32_t gid;
    uint32_t mode; /* within ARENA_MODE_MASK */
} ArenaAttributes;

#define ARENA_BYTES_MIN (512 * KIB)
#define ARENA_MODE_MASK 0666u

typedef struct ArenaEntry {
    Bytes key;
    Bytes value; /* in the arena; good until its next change */
    uint64_t revision;
} ArenaEntry;

/* --- life */

/* [A-Za-z0-9][A-Za-z0-9_.-]{0,63} */
bool arena_name_valid(Bytes name);
/* Makes a memfd with an empty arena in it. name: a valid one. The hash seed comes from the
 * identity. created_revision: of the update that creates it (kept in the header: recovery asks
 * from where on the journal is needed). */
int arena_new(const ArenaContext *context, const char *name, const Identity *identity,
              const ArenaAttributes *attributes, uint64_t created_usec, uint64_t created_revision,
              Arena **ret);
/* Takes over a memfd that holds an arena (adopted from an earlier process, or filled from an image)
 * and counts its generation up. Checks the header; -EBADMSG where it is none, -EPROTONOSUPPORT for
 * another layout version, -EBUSY where it was left in the middle of an update (read ret of
 * arena_peek for details), -ESTALE where it was dropped. Owns fd on success only. */
int arena_open(const ArenaContext *context, int fd, Arena **ret);
/* The same for memory of another layout version: it is read, entry by entry, into a new arena of
 * the same identity, with all revisions. fd stays the caller's, and is of no more use. Every
 * version that was released is known, and this program's own; -EPROTONOSUPPORT for others; else as
 * arena_open. */
int arena_convert(const ArenaContext *context, int fd, Arena **ret);
/* The layout version of this program's own arenas; and whether another one can be converted. */
uint32_t arena_layout_own(void);
bool arena_layout_known(uint32_t version);
/* For memory out of an image: opened where it is of this layout, else converted. Owns fd on success
 * only. */
int arena_open_any(const ArenaContext *context, int fd, Arena **ret);
/* Unmaps and closes (through the housekeeper where there is one). NULL is fine. */
Arena *arena_free(Arena *arena);
/* Marks the header dropped where arena_set_dropped has not (and not where the barrier has no room),
 * gives the pages back through the housekeeper, frees the object. */
void arena_drop(Arena *arena);
/* Memory that is not taken over, though it is ours: the header is marked dropped at once, so that
 * whoever has it mapped sees it and no later process takes it over; the pages go through the
 * housekeeper, and the descriptor, which is owned. */
void arena_discard(const ArenaContext *context, int fd);

void arena_set_barrier(Arena *arena, const ArenaBarrier *barrier);

/* --- what it is; all O(1) */

const char *arena_name(const Arena *arena);
const Identity *arena_identity(const Arena *arena);
void arena_attributes(const Arena *arena, ArenaAttributes *ret);
uint64_t arena_created_usec(const Arena *arena);
uint64_t arena_created_revision(const Arena *arena);
/* Revision of the last change; 0: never changed. */
uint64_t arena_revision(const Arena *arena);
uint64_t arena_entries(const Arena *arena);
/* Bytes of memory that live data, index and allocator occupy: allocated pages, free runs not
 * counted. */
uint64_t arena_used_bytes(const Arena *arena);
/* Pages below the high-water mark: what an image may have to hold. */
uint64_t arena_high_water_pages(const Arena *arena);
uint64_t arena_capacity_pages(const Arena *arena);
/* The memfd; still owned by the arena. */
int arena_fd(const Arena *arena);
/* Where the page lies in memory now; it moves when max_bytes changes. For the barrier, which keeps
 * pages as they were. */
const void *arena_page(const Arena *arena, uint64_t page);
/* The place of the damage, once an operation returned ARENA_DAMAGED; else NULL. */
const char *arena_damage(const Arena *arena);

/* --- handing out */

/* Opens a descriptor of the arena's memory that can only read, for another process; the caller's to
 * close. From now on whoever waits for the arena to change is woken. 0 or a negative errno. */
int arena_share(Arena *arena, int *ret_fd);
/* Another process may have the memory already: it was handed out by an earlier process. */
void arena_set_shared(Arena *arena);
/* Wakes those that wait for a change, if there was one since the last time and the arena was handed
 * out. Call once a turn. */
void arena_wake(Arena *arena);

/* --- reading */

/* 0, ARENA_NO_ENTRY or ARENA_DAMAGED. */
int arena_find(const Arena *arena, Bytes key, ArenaEntry *ret);

/* Return false to stop before this entry (it comes first on the next page). */
typedef bool (*ArenaVisitor)(void *context, const ArenaEntry *entry);
/* Visits entries in the order of their bit-reversed hash, from *position on (0 at first). Ends when
 * the visitor stops it or after about slots_max slots; then *position is where to go on. Positions
 * stay valid over growth, restart and adoption: an entry that stays is visited at least once.
 * Returns 0 when there may be more, 1 at the end, negative: -EBADMSG for damage. */
int arena_walk(const Arena *arena, uint64_t *position, uint64_t slots_max, ArenaVisitor visit,
               void *context);

/* --- changing */

void arena_begin(Arena *arena);
/* Makes or replaces the entry. key: 1 to HOLDFAST_KEY_MAX bytes; value: 1 to HOLDFAST_VALUE_MAX
 * bytes, outside of this arena. Returns 0 or an outcome above; after any but 0 only arena_abort may
 * follow. */
int arena_put(Arena *arena, Bytes key, Bytes value, uint64_t revision);
/* 0 or an outcome; ARENA_NO_ENTRY changes nothing, the update may go on. */
int arena_delete(Arena *arena, Bytes key);
/* New owner, group, mode, limit. A lower max_bytes than the high-water mark: ARENA_FULL. */
int arena_change(Arena *arena, const ArenaAttributes *attributes);
/* The arena's last update: marks the header dropped. arena_commit follows, not arena_prepare. Works
 * on a damaged arena, too. */
int arena_set_dropped(Arena *arena);
/* The last step that can fail: frees what was replaced, notes the revision in the header. */
int arena_prepare(Arena *arena, uint64_t revision);
/* Makes the update final; cannot fail. Between prepare and commit the caller appends the record to
 * the journal. */
void arena_commit(Arena *arena);
/* Puts everything back as it was at arena_begin. */
void arena_abort(Arena *arena);

/* --- upkeep */

/* Gives runs of free pages back to the system, in the housekeeper's thread, a bounded amount a
 * call; call once a turn of the loop. Cheap when there is nothing to do. */
void arena_upkeep(Arena *arena);
/* While held (a checkpoint saves the arena) no hole is punched. */
void arena_hold_pages(Arena *arena, bool held);
bool arena_pages_held(const Arena *arena);

/* --- checking (daemon/arena/check.c) */

typedef struct ArenaReport {
    uint64_t entries;
    uint64_t pages_used;
    uint64_t pages_free;
    uint64_t live_bytes; /* keys, values and entry headers */
    char where[160];     /* the first fault, as text; empty when there is none */
} ArenaReport;

/* Every byte belongs to exactly one thing, every index slot leads to an entry whose key hashes
 * there, all counts agree. Reads the whole arena. 0 or -EBADMSG; report is filled either way. */
int arena_check(const Arena *arena, ArenaReport *report);

/* Looks at a memfd without taking it over. -EBADMSG where it holds no arena header. Of a layout
 * version that is not known only version, state and identity are told. */
typedef struct ArenaPeek {
    uint32_t layout_version;
    uint32_t state;
    Identity identity;
    char name[HOLDFAST_NAME_MAX + 1];
    uint64_t revision;
    uint64_t generation;
    bool mid_update;
} ArenaPeek;
int arena_peek(int fd, ArenaPeek *ret);
