/* The undo log, and the one way to change a byte of an arena.
 *
 * An update is a chain of undo_change calls. Each asks the barrier for the pages, saves the bytes
 * as they are, and only then hands out the pointer to write through. undo_abort puts the saved
 * bytes back, newest first. Contents of fresh blocks need no saving (undo_fresh). What an update
 * frees is kept in a list until its last step, so that nothing that may have to come back is
 * overwritten; what it writes as entries gets its revision at the commit (see HoldfastEntry).
 *
 * All functions here return, or store in *ret, 0, ARENA_BUSY, ARENA_DAMAGED or a negative errno. */
#pragma once

#include <holdfast/layout.h>

#include "base/common.h"

typedef struct Arena Arena;
typedef struct Pool Pool;

#define UNDO_ASKED 64u

/* A growing array in pool memory. */
typedef struct UndoVector {
    uint8_t *data;
    size_t used;
    size_t size;
} UndoVector;

typedef struct UndoFreed {
    uint64_t offset;
    uint32_t class; /* CLASS_LARGE: a run of pages; its kind and length are below */
    uint16_t kind;
    uint16_t pages;
} UndoFreed;

typedef struct UndoPending {
    uint64_t offset;
    uint64_t revision;
} UndoPending;

typedef struct Undo {
    bool open;          /* from begin to commit or abort */
    bool started;       /* something has changed: the change counter is odd */
    uint64_t update;    /* number of the update, for asked */
    uint64_t revision;  /* what pending entries will get */
    UndoVector log;     /* old bytes, each followed by an UndoRecord */
    UndoVector freed;   /* UndoFreed */
    UndoVector pending; /* UndoPending */
    /* Pages that the barrier agreed to in this update, so that it is not asked again and again. */
    struct {
        uint64_t page;
        uint64_t update;
    } asked[UNDO_ASKED];
} Undo;

void undo_deinit(Arena *arena);

/* Opens an update. Changes nothing. */
void undo_begin(Arena *arena);
/* The bytes there, to be changed. Good for writing until the next call; NULL: *ret tells why. */
void *undo_change(Arena *arena, uint64_t offset, size_t length, int *ret);
/* The same for bytes that nobody needs back. */
void *undo_fresh(Arena *arena, uint64_t offset, size_t length, int *ret);
/* The header's counters, saved once an update. */
HoldfastCounters *undo_counters(Arena *arena, int *ret);
/* Gives the entry at offset this revision at the commit. The entry says HOLDFAST_ENTRY_PENDING and
 * revision 0. */
int undo_publish(Arena *arena, uint64_t offset, uint64_t revision);
/* Has a block or a run freed at the update's last step. */
int undo_free(Arena *arena, const UndoFreed *freed);
/* Before entries are moved to other blocks with their revisions as they are: readers of one of them
 * must not take it, moved away and back, for one that stayed. */
int undo_moves(Arena *arena);
void undo_commit(Arena *arena);
void undo_abort(Arena *arena);

static inline size_t undo_freed_count(const Undo *undo)
{
    return undo->freed.used / sizeof(UndoFreed);
}

/* Sets a number of 32 or 64 bits in the arena. */
int undo_set_u32(Arena *arena, uint64_t offset, uint32_t value);
int undo_set_u64(Arena *arena, uint64_t offset, uint64_t value);
