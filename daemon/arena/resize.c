/* How the index grows and shrinks, one bucket at a time, so that no update pays for more.
 *
 * With N buckets, 2^L <= N < 2^(L+1), bucket N comes into being by splitting bucket N - 2^L: the
 * entries with bit L of their hash set move. That bit is in the slot's tag, so no entry is touched.
 * Joining goes the other way.
 *
 * What can go wrong: no memory for a segment or an overflow bucket. Then the table stays as it is:
 * chains get longer, but nothing fails because of it. */
#include "arena/heap.h"
#include "arena/index.h"

/* Grow above 3/4 of the slots, shrink below 1/5: far enough apart that a table does not swing. */
#define GROW_LOAD_PERCENT 75
#define SHRINK_LOAD_PERCENT 20

static int set_buckets(Arena *arena, uint64_t buckets)
{
    int r = 0;
    HoldfastCounters *counters = undo_counters(arena, &r);
    if (counters == NULL)
        return r;
    counters->buckets = buckets;
    return 0;
}

static uint64_t directory_offset(uint64_t directory)
{
    return offsetof(HoldfastHeader, directories) + directory * sizeof(uint32_t);
}

/* Has the segment that holds bucket number, which is its first, ready. */
static int segment_add(Arena *arena, uint64_t number)
{
    uint64_t segment = number / HOLDFAST_SEGMENT_BUCKETS;
    uint64_t directory = segment / HOLDFAST_DIRECTORY_SEGMENTS;
    uint64_t page = 0;
    bool first = segment % HOLDFAST_DIRECTORY_SEGMENTS == 0;
    int r = runs_take(arena, HOLDFAST_SEGMENT_PAGES, HOLDFAST_PAGE_SEGMENT, &page);
    if (r != 0)
        return r;
    uint64_t directory_page = arena_header(arena)->directories[directory];
    if (first) {
        r = runs_take(arena, 1, HOLDFAST_PAGE_DIRECTORY, &directory_page);
        if (r == ARENA_FULL) {
            // The caller goes on without: the segment must not be lost.
            int freed = heap_free_run(arena, page, HOLDFAST_SEGMENT_PAGES, HOLDFAST_PAGE_SEGMENT);
            return freed == 0 ? r : freed;
        }
        if (r == 0)
            r = undo_set_u32(arena, directory_offset(directory), (uint32_t)directory_page);
        if (r != 0)
            return r;
    }
    return undo_set_u32(arena,
                        directory_page * HOLDFAST_PAGE_BYTES +
                            segment % HOLDFAST_DIRECTORY_SEGMENTS * sizeof(uint32_t),
                        (uint32_t)page);
}

/* Frees the segment whose first bucket, number, was just given up; and its directory page with the
 * last segment. */
static int segment_remove(Arena *arena, uint64_t number)
{
    uint64_t offset = 0;
    uint64_t segment = number / HOLDFAST_SEGMENT_BUCKETS;
    uint64_t directory = segment / HOLDFAST_DIRECTORY_SEGMENTS;
    int r = index_bucket(arena, number, &offset);
    if (r == 0)
        r = heap_free_run(arena, offset / HOLDFAST_PAGE_BYTES, HOLDFAST_SEGMENT_PAGES,
                          HOLDFAST_PAGE_SEGMENT);
    if (r != 0 || segment % HOLDFAST_DIRECTORY_SEGMENTS != 0)
        return r;
    uint64_t page = arena_header(arena)->directories[directory];
    r = undo_set_u32(arena, directory_offset(directory), 0);
    return r == 0 ? heap_free_run(arena, page, 1, HOLDFAST_PAGE_DIRECTORY) : r;
}

/* Takes overflow buckets until the chain has room for count slots. ARENA_FULL: it is as it was. */
static int chain_reserve(Arena *arena, IndexChain *chain, unsigned count)
{
    unsigned had = chain->bucket_count;
    while (chain->bucket_count * HOLDFAST_BUCKET_SLOTS < count) {
        uint64_t offset = 0;
        int r = heap_take_class(arena, CLASS_OVERFLOW, &offset);
        if (r == ARENA_FULL) {
            while (chain->bucket_count > had) {
                int freed =
                    heap_free_class(arena, chain->buckets[--chain->bucket_count], CLASS_OVERFLOW);
                if (freed != 0)
                    return freed;
            }
        }
        if (r != 0)
            return r;
        chain->buckets[chain->bucket_count++] = offset;
    }
    return 0;
}

/* Writes these slots into the chain's buckets, and frees the buckets that are left over. */
static int chain_write(Arena *arena, const IndexChain *chain, const uint64_t *slots, unsigned count)
{
    int r = 0;
    unsigned used = MAX(1u, DIVIDE_UP(count, HOLDFAST_BUCKET_SLOTS));
    for (unsigned i = 0; i < used; i++) {
        HoldfastBucket *bucket = undo_change(arena, chain->buckets[i], sizeof(*bucket), &r);
        if (bucket == NULL)
            return r;
        unsigned part = MIN(count - i * HOLDFAST_BUCKET_SLOTS, HOLDFAST_BUCKET_SLOTS);
        memset(bucket, 0, sizeof(*bucket));
        memcpy(bucket->slots, slots + (size_t)i * HOLDFAST_BUCKET_SLOTS, part * sizeof(*slots));
        bucket->next = i + 1 < used ? chain->buckets[i + 1] : 0;
    }
    for (unsigned i = used; i < chain->bucket_count; i++) {
        r = heap_free_class(arena, chain->buckets[i], CLASS_OVERFLOW);
        if (r != 0)
            return r;
    }
    return 0;
}

int index_create(Arena *arena)
{
    int r = set_buckets(arena, HOLDFAST_BUCKETS_MIN);
    if (r == 0)
        r = segment_add(arena, 0);
    uint64_t offset = 0;
    if (r == 0)
        r = index_bucket(arena, 0, &offset);
    if (r != 0)
        return r;
    size_t bytes = HOLDFAST_BUCKETS_MIN * sizeof(HoldfastBucket);
    HoldfastBucket *buckets = undo_fresh(arena, offset, bytes, &r);
    if (buckets != NULL)
        memset(buckets, 0, bytes);
    return r;
}

/* Splits a bucket into itself and the one after the last. */
static int split(Arena *arena, uint64_t buckets)
{
    unsigned level = index_level(buckets);
    uint64_t bit = UINT64_C(1) << (HOLDFAST_SLOT_TAG_SHIFT + level - HOLDFAST_SLOT_HASH_SHIFT);
    IndexChain chain;
    IndexChain upper = {.bucket_count = 1};
    uint64_t lower[INDEX_CHAIN_SLOTS];
    unsigned lower_count = 0;

    int r = index_chain(arena, buckets - (UINT64_C(1) << level), &chain);
    if (r == 0 && buckets % HOLDFAST_SEGMENT_BUCKETS == 0)
        r = segment_add(arena, buckets);
    if (r == 0)
        r = index_bucket(arena, buckets, &upper.buckets[0]);
    if (r != 0)
        return r;
    for (unsigned i = 0; i < chain.count; i++)
        if (chain.slots[i] & bit)
            upper.slots[upper.count++] = chain.slots[i];
        else
            lower[lower_count++] = chain.slots[i];

    r = chain_reserve(arena, &upper, upper.count);
    if (r == ARENA_FULL && buckets % HOLDFAST_SEGMENT_BUCKETS == 0) {
        int removed = segment_remove(arena, buckets);
        return removed == 0 ? r : removed;
    }
    if (r == 0)
        r = chain_write(arena, &upper, upper.slots, upper.count);
    if (r == 0)
        r = chain_write(arena, &chain, lower, lower_count);
    return r == 0 ? set_buckets(arena, buckets + 1) : r;
}

int index_grow(Arena *arena)
{
    const HoldfastCounters *counters = &arena_header(arena)->counters;
    uint64_t slots = counters->buckets * HOLDFAST_BUCKET_SLOTS;
    if ((counters->entries + 1) * 100 <= slots * GROW_LOAD_PERCENT ||
        counters->buckets >= HOLDFAST_BUCKETS_MAX)
        return 0;
    int r = split(arena, counters->buckets);
    return r == ARENA_FULL ? 0 : r;
}

/* Puts the last bucket's entries back to those it was split from. ARENA_FULL: not now. */
static int join(Arena *arena, uint64_t last)
{
    IndexChain chain;
    IndexChain upper;
    uint64_t into = last - (UINT64_C(1) << index_level(last));
    int r = index_chain(arena, into, &chain);
    if (r == 0)
        r = index_chain(arena, last, &upper);
    if (r != 0)
        return r;
    if (chain.count + upper.count > HOLDFAST_CHAIN_MAX)
        return ARENA_FULL;
    memcpy(chain.slots + chain.count, upper.slots, upper.count * sizeof(*upper.slots));
    unsigned count = chain.count + upper.count;
    r = chain_reserve(arena, &chain, count);
    if (r == 0)
        r = chain_write(arena, &chain, chain.slots, count);
    for (unsigned i = 1; r == 0 && i < upper.bucket_count; i++)
        r = heap_free_class(arena, upper.buckets[i], CLASS_OVERFLOW);
    if (r == 0 && last % HOLDFAST_SEGMENT_BUCKETS == 0)
        r = segment_remove(arena, last);
    return r == 0 ? set_buckets(arena, last) : r;
}

int index_shrink(Arena *arena)
{
    const HoldfastCounters *counters = &arena_header(arena)->counters;
    uint64_t slots = counters->buckets * HOLDFAST_BUCKET_SLOTS;
    if (counters->entries * 100 >= slots * SHRINK_LOAD_PERCENT ||
        counters->buckets <= HOLDFAST_BUCKETS_MIN)
        return 0;
    int r = join(arena, counters->buckets - 1);
    return r == ARENA_FULL ? 0 : r;
}
