/* Finding keys, and putting slots in and out. How the table grows is in resize.c.
 *
 * Normal way through: the key's hash tells the bucket; header, directory page and segment tell
 * where it lies; then a walk over the chain's slots compares tags, and entries only where the tag
 * fits.
 *
 * What can go wrong: page numbers and slots that lead out of the arena, chains that do not end
 * (ARENA_DAMAGED); more entries in one chain than it may have (ARENA_COLLISIONS). */
#include "arena/index.h"

#include "arena/entry.h"
#include "arena/heap.h"
#include "base/checksum.h"

uint64_t index_hash(const Arena *arena, Bytes key)
{
    return checksum_seeded(key.data, key.size, arena_header(arena)->hash_seed);
}

int index_bucket(const Arena *arena, uint64_t number, uint64_t *ret_offset)
{
    const HoldfastHeader *header = arena_header(arena);
    uint64_t segment = number / HOLDFAST_SEGMENT_BUCKETS;
    uint64_t directory = segment / HOLDFAST_DIRECTORY_SEGMENTS;
    uint64_t page = header->directories[directory % HOLDFAST_DIRECTORIES];
    uint64_t offset =
        page * HOLDFAST_PAGE_BYTES + segment % HOLDFAST_DIRECTORY_SEGMENTS * sizeof(uint32_t);

    const uint32_t *entry = memory_at(arena, offset, sizeof(*entry));
    if (_unlikely_(entry == NULL || page < runs_chunk_first(page)))
        return arena_damaged(arena, "index directory %lu: page %lu is out of range",
                             (unsigned long)directory, (unsigned long)page);
    page = *entry;
    offset =
        page * HOLDFAST_PAGE_BYTES + number % HOLDFAST_SEGMENT_BUCKETS * sizeof(HoldfastBucket);
    if (_unlikely_(memory_at(arena, offset, sizeof(HoldfastBucket)) == NULL ||
                   page < runs_chunk_first(page)))
        return arena_damaged(arena, "index segment %lu: page %lu is out of range",
                             (unsigned long)segment, (unsigned long)page);
    *ret_offset = offset;
    return 0;
}

/* The bucket there. Overflow buckets lie at multiples of their size. */
static const HoldfastBucket *bucket_at(const Arena *arena, uint64_t offset)
{
    if (_unlikely_(offset % sizeof(HoldfastBucket) != 0))
        return NULL;
    return memory_at(arena, offset, sizeof(HoldfastBucket));
}

static int chain_damaged(const Arena *arena, uint64_t number)
{
    return arena_damaged(arena, "bucket %lu: its chain leads out of the arena or has no end",
                         (unsigned long)number);
}

int index_chain(const Arena *arena, uint64_t number, IndexChain *ret)
{
    uint64_t offset = 0;
    int r = index_bucket(arena, number, &offset);
    if (r != 0)
        return r;
    ret->bucket_count = 0;
    ret->count = 0;
    for (; offset != 0; ret->bucket_count++) {
        const HoldfastBucket *bucket = bucket_at(arena, offset);
        if (bucket == NULL || ret->bucket_count == INDEX_CHAIN_BUCKETS)
            return chain_damaged(arena, number);
        ret->buckets[ret->bucket_count] = offset;
        for (unsigned i = 0; i < HOLDFAST_BUCKET_SLOTS; i++)
            if (bucket->slots[i] != 0)
                ret->slots[ret->count++] = bucket->slots[i];
        offset = bucket->next;
    }
    return 0;
}

/* Does the slot lead to an entry of that key? 0, ARENA_NO_ENTRY, ARENA_DAMAGED. */
static int slot_compare(const Arena *arena, uint64_t slot, Bytes key)
{
    const HoldfastEntry *entry = NULL;
    int r = entry_at(arena, index_slot_entry(slot), &entry);
    if (r != 0)
        return r;
    return bytes_equal(entry_key(entry), key) ? 0 : ARENA_NO_ENTRY;
}

int index_find(const Arena *arena, uint64_t hash, Bytes key, IndexPlace *ret)
{
    uint64_t tag = index_tag(hash);
    uint64_t number = index_bucket_of(hash, arena_header(arena)->counters.buckets);
    uint64_t offset = 0;
    int r = index_bucket(arena, number, &offset);
    if (r != 0)
        return r;
    *ret = (IndexPlace){0};
    while (offset != 0) {
        const HoldfastBucket *bucket = bucket_at(arena, offset);
        if (_unlikely_(bucket == NULL || ret->buckets++ == INDEX_CHAIN_BUCKETS))
            return chain_damaged(arena, number);
        for (unsigned i = 0; i < HOLDFAST_BUCKET_SLOTS; i++) {
            uint64_t slot = bucket->slots[i];
            uint64_t place = offset + i * sizeof(slot);
            if (slot == 0 && ret->free_slot == 0)
                ret->free_slot = place;
            if (slot == 0)
                continue;
            ret->count++;
            if ((slot & ~(~UINT64_C(0) >> 24)) != tag)
                continue;
            r = slot_compare(arena, slot, key);
            if (r == ARENA_NO_ENTRY)
                continue;
            ret->slot = place;
            ret->entry = index_slot_entry(slot);
            return r;
        }
        ret->last = offset;
        offset = bucket->next;
    }
    return ARENA_NO_ENTRY;
}

int index_insert(Arena *arena, uint64_t hash, const IndexPlace *place, uint64_t entry)
{
    uint64_t offset = 0;
    if (place->count >= HOLDFAST_CHAIN_MAX)
        return ARENA_COLLISIONS;
    if (place->free_slot != 0)
        return undo_set_u64(arena, place->free_slot, index_slot(hash, entry));

    if (place->buckets >= INDEX_CHAIN_BUCKETS)
        return arena_damaged(arena, "bucket at %#lx: a chain of full buckets that hold too little",
                             (unsigned long)place->last);
    int r = heap_take_class(arena, CLASS_OVERFLOW, &offset);
    if (r != 0)
        return r;
    HoldfastBucket *bucket = undo_fresh(arena, offset, sizeof(*bucket), &r);
    if (bucket == NULL)
        return r;
    *bucket = (HoldfastBucket){.slots = {index_slot(hash, entry)}};
    return undo_set_u64(arena, place->last + offsetof(HoldfastBucket, next), offset);
}

int index_replace(Arena *arena, uint64_t hash, const IndexPlace *place, uint64_t entry)
{
    return undo_set_u64(arena, place->slot, index_slot(hash, entry));
}

int index_remove(Arena *arena, uint64_t hash, const IndexPlace *place)
{
    IndexChain chain;
    uint64_t buckets = arena_header(arena)->counters.buckets;
    int r = index_chain(arena, index_bucket_of(hash, buckets), &chain);
    if (r != 0)
        return r;
    // The last slot in use moves to where the removed one was.
    unsigned last_bucket = chain.bucket_count - 1;
    const HoldfastBucket *last = bucket_at(arena, chain.buckets[last_bucket]);
    unsigned used = 0;
    while (used < HOLDFAST_BUCKET_SLOTS && last->slots[used] != 0)
        used++;
    if (used == 0)
        return arena_damaged(arena, "bucket at %#lx: an empty end of a chain",
                             (unsigned long)chain.buckets[last_bucket]);
    uint64_t moved = last->slots[used - 1];
    uint64_t from = chain.buckets[last_bucket] + (used - 1) * sizeof(uint64_t);
    if (from != place->slot)
        r = undo_set_u64(arena, place->slot, moved);
    if (r != 0)
        return r;
    if (used > 1 || last_bucket == 0)
        return undo_set_u64(arena, from, 0);
    // An overflow bucket that would be empty goes.
    uint64_t link = chain.buckets[last_bucket - 1] + offsetof(HoldfastBucket, next);
    r = undo_set_u64(arena, link, 0);
    return r == 0 ? heap_free_class(arena, chain.buckets[last_bucket], CLASS_OVERFLOW) : r;
}
