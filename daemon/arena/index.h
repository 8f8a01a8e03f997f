/* The index: linear hashing, from a key's hash to slots. See layout.h for its place in memory.
 *
 * All functions return 0, the outcomes of arena.h, or a negative errno. */
#pragma once

#include "arena/internal.h"

#define INDEX_CHAIN_BUCKETS DIVIDE_UP(HOLDFAST_CHAIN_MAX, HOLDFAST_BUCKET_SLOTS)
#define INDEX_CHAIN_SLOTS (INDEX_CHAIN_BUCKETS * HOLDFAST_BUCKET_SLOTS)

/* A bucket with its overflow buckets, and what their slots hold. */
typedef struct IndexChain {
    uint64_t buckets[INDEX_CHAIN_BUCKETS]; /* offsets */
    unsigned bucket_count;
    uint64_t slots[INDEX_CHAIN_SLOTS]; /* those that are not empty */
    unsigned count;
} IndexChain;

/* Where a key is, or would be put. */
typedef struct IndexPlace {
    uint64_t slot;      /* offset of its slot; 0 where there is none */
    uint64_t entry;     /* offset of its entry */
    uint64_t free_slot; /* offset of an empty slot at the chain's end; 0: there is none */
    uint64_t last;      /* offset of the chain's last bucket */
    unsigned buckets;
    unsigned count; /* entries in the chain */
} IndexPlace;

static inline uint64_t index_slot_entry(uint64_t slot)
{
    return (slot & ((UINT64_C(1) << HOLDFAST_SLOT_TAG_SHIFT) - 1)) * 8;
}

static inline uint64_t index_tag(uint64_t hash)
{
    return (hash >> HOLDFAST_SLOT_HASH_SHIFT & HOLDFAST_SLOT_TAG_MASK) << HOLDFAST_SLOT_TAG_SHIFT;
}

static inline uint64_t index_slot(uint64_t hash, uint64_t entry)
{
    return index_tag(hash) | entry / 8;
}

/* The bits that tell a bucket's number of a table of that many buckets: L, where 2^L <= buckets <
 * 2^(L+1). */
static inline unsigned index_level(uint64_t buckets)
{
    return 63 - (unsigned)__builtin_clzll(buckets);
}

static inline uint64_t index_bucket_of(uint64_t hash, uint64_t buckets)
{
    unsigned level = index_level(buckets);
    uint64_t number = hash & ((UINT64_C(2) << level) - 1);
    return number < buckets ? number : hash & ((UINT64_C(1) << level) - 1);
}

uint64_t index_hash(const Arena *arena, Bytes key);
/* Makes the first buckets of a new arena. */
int index_create(Arena *arena);
/* The offset of the bucket of that number. */
int index_bucket(const Arena *arena, uint64_t number, uint64_t *ret_offset);
int index_chain(const Arena *arena, uint64_t number, IndexChain *ret);
/* ARENA_NO_ENTRY: ret tells where the chain ends. */
int index_find(const Arena *arena, uint64_t hash, Bytes key, IndexPlace *ret);

/* Puts the entry into the empty slot that index_find told of, or a new overflow bucket. */
int index_insert(Arena *arena, uint64_t hash, const IndexPlace *place, uint64_t entry);
/* Has the slot lead to another entry of the same key. */
int index_replace(Arena *arena, uint64_t hash, const IndexPlace *place, uint64_t entry);
/* Takes the slot away; the chain's last one fills its place. */
int index_remove(Arena *arena, uint64_t hash, const IndexPlace *place);

/* Splits one bucket where the table is fuller than it should be with another entry; joins two where
 * it is emptier. A full arena is no error: then nothing is done. */
int index_grow(Arena *arena);
int index_shrink(Arena *arena);
