/* Walking over all entries, in pieces, while the table grows and shrinks between them.
 *
 * The order is that of the key's hash read backwards, bit by bit. A bucket, which holds the hashes
 * with the same low bits, so covers one contiguous range of that order; splitting it cuts the range
 * in two, joining puts it together again. A position is a place in that order and knows nothing of
 * buckets.
 *
 * Normal way through: find the bucket whose range the position is in, sort its entries from there
 * on, visit them, go on with the range behind. The low 7 bits of a position count entries that
 * agree in all other bits, so that a page of a listing may end between two of them. */
#include "arena/entry.h"
#include "arena/index.h"

#define ORDINAL_BITS 7
#define ORDINAL_MASK ((UINT64_C(1) << ORDINAL_BITS) - 1)
static_assert(INDEX_CHAIN_SLOTS <= 2 * (ORDINAL_MASK + 1), "ordinals tell a chain's entries apart");

typedef struct WalkItem {
    uint64_t order; /* reversed hash, later with the ordinal in its low bits */
    const HoldfastEntry *entry;
} WalkItem;

static uint64_t reverse(uint64_t x)
{
    x = __builtin_bswap64(x);
    x = (x >> 4 & UINT64_C(0x0f0f0f0f0f0f0f0f)) | (x & UINT64_C(0x0f0f0f0f0f0f0f0f)) << 4;
    x = (x >> 2 & UINT64_C(0x3333333333333333)) | (x & UINT64_C(0x3333333333333333)) << 2;
    return (x >> 1 & UINT64_C(0x5555555555555555)) | (x & UINT64_C(0x5555555555555555)) << 1;
}

static int item_compare(const WalkItem *a, const WalkItem *b)
{
    if (a->order != b->order)
        return a->order < b->order ? -1 : 1;
    Bytes x = entry_key(a->entry);
    Bytes y = entry_key(b->entry);
    int order = memcmp(x.data, y.data, MIN(x.size, y.size));
    return order != 0 ? order : (x.size > y.size) - (x.size < y.size);
}

/* Sorts in place; a chain is short. */
static void items_sort(WalkItem *items, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        WalkItem item = items[i];
        unsigned at = i;
        for (; at > 0 && item_compare(&item, &items[at - 1]) < 0; at--)
            items[at] = items[at - 1];
        items[at] = item;
    }
}

/* Turns sorted hashes into positions: distinct, and in the same order. */
static void items_number(WalkItem *items, unsigned count)
{
    uint64_t ordinal = 0;
    uint64_t group = 0;
    for (unsigned i = 0; i < count; i++) {
        ordinal = i > 0 && items[i].order >> ORDINAL_BITS == group ? ordinal + 1 : 0;
        group = items[i].order >> ORDINAL_BITS;
        items[i].order = group << ORDINAL_BITS | MIN(ordinal, ORDINAL_MASK);
    }
}

/* The bucket's entries, in order, numbered. 0 or ARENA_DAMAGED. */
static int bucket_items(const Arena *arena, uint64_t number, WalkItem *items, unsigned *ret_count)
{
    IndexChain chain;
    int r = index_chain(arena, number, &chain);
    for (unsigned i = 0; r == 0 && i < chain.count; i++) {
        r = entry_at(arena, index_slot_entry(chain.slots[i]), &items[i].entry);
        if (r == 0)
            items[i].order = reverse(index_hash(arena, entry_key(items[i].entry)));
    }
    if (r != 0)
        return r;
    items_sort(items, chain.count);
    items_number(items, chain.count);
    *ret_count = chain.count;
    return 0;
}

/* The last position in the range of the bucket that the position is in. */
static uint64_t range_last(uint64_t position, uint64_t number, uint64_t buckets)
{
    unsigned level = index_level(buckets);
    uint64_t half = UINT64_C(1) << level;
    // Buckets that were split in this round, and those they were split into, are told apart by one
    // bit more.
    unsigned bits = number >= half || number + half < buckets ? level + 1 : level;
    return position | (~UINT64_C(0) >> bits);
}

int arena_walk(const Arena *arena, uint64_t *position, uint64_t slots_max, ArenaVisitor visit,
               void *context)
{
    WalkItem items[INDEX_CHAIN_SLOTS];
    uint64_t buckets = arena_header(arena)->counters.buckets;
    if (arena->fault->found)
        return -EBADMSG;
    for (uint64_t slots = 0; slots < slots_max;) {
        unsigned count = 0;
        uint64_t number = index_bucket_of(reverse(*position), buckets);
        if (bucket_items(arena, number, items, &count) != 0)
            return -EBADMSG;
        for (unsigned i = 0; i < count; i++) {
            if (items[i].order < *position)
                continue;
            const HoldfastEntry *entry = items[i].entry;
            ArenaEntry found = {
                .key = entry_key(entry),
                .value = entry_value(entry),
                .revision = entry->revision != 0 ? entry->revision : arena->undo.revision,
            };
            if (!visit(context, &found)) {
                *position = items[i].order;
                return 0;
            }
        }
        slots += MAX(count, 1u);
        uint64_t last = range_last(*position, number, buckets);
        if (last == UINT64_MAX)
            return 1;
        *position = last + 1;
    }
    return 0;
}
