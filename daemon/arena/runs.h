/* Runs of pages: the arena's coarse allocator, and the descriptors that say what each page is.
 *
 * A run lies within one chunk and its head's descriptor tells its kind and length. Free runs are
 * kept in lists by length, those with memory (resident) apart from holes (clean); neighbours of one
 * kind are joined. Where no free run fits, the high-water mark moves up. All functions return 0,
 * ARENA_FULL, ARENA_BUSY, ARENA_DAMAGED or a negative errno; what changes is undone by an abort. */
#pragma once

#include "arena/internal.h"

#define RUNS_PAGES_MAX (HOLDFAST_CHUNK_PAGES - HOLDFAST_CHUNK_MAP_PAGES - 1)

/* Where the page's descriptor lies. */
static inline uint64_t runs_descriptor(uint64_t page)
{
    uint64_t chunk = page - page % HOLDFAST_CHUNK_PAGES;
    uint64_t map = chunk == 0 ? 1 : chunk; // page 0 is the header
    return map * HOLDFAST_PAGE_BYTES + page % HOLDFAST_CHUNK_PAGES * sizeof(HoldfastPage);
}

/* The first page of the chunk behind its map. */
static inline uint64_t runs_chunk_first(uint64_t page)
{
    uint64_t chunk = page - page % HOLDFAST_CHUNK_PAGES;
    return chunk + HOLDFAST_CHUNK_MAP_PAGES + (chunk == 0 ? 1 : 0);
}

/* The page's descriptor; NULL where it lies in a map or not below the high-water mark. */
const HoldfastPage *runs_page(const Arena *arena, uint64_t page);
/* The same, to be changed. */
HoldfastPage *runs_page_change(Arena *arena, uint64_t page, int *ret);

/* The list that free runs of this many pages are in. */
unsigned runs_bin(uint64_t pages);

/* Describes the map of the first chunk and the header's page; for a new arena. */
int runs_create(Arena *arena);
/* Takes pages (at most RUNS_PAGES_MAX) with the head described as kind. Contents are anything. */
int runs_take(Arena *arena, uint64_t pages, uint8_t kind, uint64_t *ret_page);
/* Frees a run whose head is described as kind with that length. The other descriptors must be zero.
 */
int runs_give(Arena *arena, uint64_t page, uint64_t pages, uint8_t kind);

/* Takes a resident free run out of its list, at most pages_max of it, so that a hole can be made of
 * it. */
int runs_punch_begin(Arena *arena, uint64_t page, uint64_t pages_max, uint64_t *ret_pages);
/* Makes it a free run again: clean where the hole was made. */
int runs_punch_end(Arena *arena, uint64_t page, bool clean);
