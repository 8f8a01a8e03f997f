/* Blocks: small ones in slabs of one size class, large ones in runs of pages of their own.
 *
 * A free block has 0 in its first eight bytes (where an entry has its revision) and the number of
 * the next free block behind; all else about a slab is in the descriptor of its first page. All
 * functions return 0, ARENA_FULL, ARENA_BUSY, ARENA_DAMAGED or a negative errno; what changes is
 * undone by an abort. */
#pragma once

#include "arena/class.h"
#include "arena/runs.h"

/* Takes a block of at least size bytes; its first 16 are zero, the others anything. */
int heap_take(Arena *arena, size_t size, uint64_t *ret_offset);
/* Takes a block of that class. */
int heap_take_class(Arena *arena, unsigned class, uint64_t *ret_offset);
/* Has the block of that size freed at the end of the update; until then its bytes stay. */
int heap_free(Arena *arena, uint64_t offset, size_t size);
int heap_free_class(Arena *arena, uint64_t offset, unsigned class);
/* The same for a run of pages. */
int heap_free_run(Arena *arena, uint64_t page, uint64_t pages, uint8_t kind);
/* Frees what was to be freed; the update's last step. */
int heap_flush(Arena *arena);

/* Takes a slab with room out of its list, so that no block is taken from it, and puts it back. */
int heap_slab_hide(Arena *arena, uint64_t page, unsigned class);
int heap_slab_show(Arena *arena, uint64_t page, unsigned class);

/* The head of the slab that the block lies in, and its number there. */
typedef struct HeapBlock {
    uint64_t head;
    unsigned class;
    unsigned number;
} HeapBlock;
/* 0 or ARENA_DAMAGED: no block of a slab begins there. */
int heap_block(const Arena *arena, uint64_t offset, HeapBlock *ret);
