/* What the files of daemon/arena share: the object, and how its memory is looked at.
 *
 * Arena memory may come from an image or another process. So nothing read from it is believed: an
 * offset is turned into a pointer by memory_at alone, which checks it against the high-water mark.
 * The header's own counters are believed: arena_open checked them, and undo.c lets nobody write to
 * page 0 through an offset read from the arena. */
#pragma once

#include "arena/arena.h"
#include "arena/compact.h"
#include "arena/undo.h"

typedef struct Upkeep Upkeep;

/* The first damage that was found. */
typedef struct ArenaFault {
    bool found;
    char text[160];
} ArenaFault;

struct Arena {
    ArenaContext context;
    ArenaBarrier barrier; /* change is NULL: nobody wants to know */
    uint8_t *base;
    uint64_t mapped_pages;
    uint64_t file_pages; /* size of the memfd */
    int fd;
    bool held;              /* no hole may be punched */
    bool shared;            /* other processes may have it */
    uint64_t woken_counter; /* change counter when those that wait were last woken */
    Undo undo;
    Compact compact;
    Upkeep *upkeep;
    ArenaFault *fault;
#ifdef HOLDFAST_GUARD
    struct GuardRange {
        uint64_t first;
        uint64_t pages;
    } * opened; /* writable until the update ends */
    size_t opened_count;
#endif
};

static inline const HoldfastHeader *arena_header(const Arena *arena)
{
    return (const HoldfastHeader *)arena->base;
}

/* The bytes there, or NULL where they are not wholly behind the header and below the high-water
 * mark. */
static inline const void *memory_at(const Arena *arena, uint64_t offset, size_t length)
{
    uint64_t end = arena_header(arena)->counters.high_water_pages * HOLDFAST_PAGE_BYTES;
    if (_unlikely_(offset < HOLDFAST_PAGE_BYTES || offset > end || length > end - offset))
        return NULL;
    return arena->base + offset;
}

/* Notes the place of the first damage. Returns ARENA_DAMAGED. */
int arena_damaged(const Arena *arena, const char *format, ...) _printf_(2, 3);

/* Maps the arena for at least pages pages of address space, at another place where it was mapped
 * already; the old mapping goes through the housekeeper. */
int memory_map(Arena *arena, uint64_t pages);
/* Makes the memfd at least pages pages large, in steps. */
int memory_extend(Arena *arena, uint64_t pages);
