/* Extendible hashing (Fagin and others, 1979).
 *
 * The normal way: the uppermost bits of a hash choose a bucket, through the directory; lower bits
 * the place in the bucket, a small table. A bucket that is three quarters full is made anew with
 * twice the slots, or, once it is large, two take its place, which the next bit tells apart. So an
 * addition moves the hashes of one bucket at most; where the directory is too short, it doubles,
 * which is some KiB for a million hashes.
 *
 * What can go wrong: want of memory; the set is then as it was. Hashes that are alike in too many
 * bits make a bucket grow beyond its size, and nothing worse. */
#include "protocol/hash-set.h"

#define BUCKET_SLOTS_MAX 4096u
#define DEPTH_MAX 20u

void hash_set_init(HashSet *set, Pool *pool, uint64_t *slots, uint32_t count)
{
    *set = (HashSet){
        .pool = pool,
        .buckets = &set->first,
        .count = 1,
        .first = {.slots = slots, .mask = count - 1},
        .first_slots = slots,
    };
    memset(slots, 0, count * sizeof(slots[0]));
}

/* --- slots */

static uint64_t *slots_take(HashSet *set, size_t count)
{
    size_t block;
    uint64_t *slots = pool_take(set->pool, MAX(count * sizeof(*slots), POOL_BLOCK_MIN), &block);

    if (slots == NULL)
        return NULL;
    memset(slots, 0, count * sizeof(*slots));
    set->bytes += block;
    return slots;
}

static void slots_give(HashSet *set, uint64_t *slots, size_t count)
{
    size_t block = MAX(count * sizeof(*slots), POOL_BLOCK_MIN);

    if (slots == NULL || slots == set->first_slots)
        return;
    set->bytes -= block;
    pool_give(set->pool, slots, block);
}

void hash_set_deinit(HashSet *set)
{
    for (uint32_t i = 0; i < set->count; i++)
        slots_give(set, set->buckets[i].slots, set->buckets[i].mask + 1);
    if (set->buckets != &set->first)
        pool_give(set->pool, set->buckets, set->buckets_block);
    if (set->directory != NULL)
        pool_give(set->pool, set->directory, set->directory_block);
}

/* --- buckets */

/* Where the hash is, or the free slot where it goes. */
static uint64_t *bucket_slot(const HashBucket *bucket, uint64_t hash)
{
    uint32_t slot = (uint32_t)(hash >> 20) & bucket->mask;

    while (bucket->slots[slot] != 0 && bucket->slots[slot] != hash)
        slot = (slot + 1) & bucket->mask;
    return &bucket->slots[slot];
}

static void bucket_put(HashBucket *bucket, uint64_t hash)
{
    *bucket_slot(bucket, hash) = hash;
    bucket->used++;
}

static bool bucket_has_room(const HashBucket *bucket)
{
    return (bucket->used + 1) * 4 <= (bucket->mask + 1) * 3;
}

static int bucket_enlarge(HashSet *set, HashBucket *bucket)
{
    HashBucket larger = {.mask = 2 * bucket->mask + 1, .depth = bucket->depth};

    larger.slots = slots_take(set, larger.mask + 1);
    if (larger.slots == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i <= bucket->mask; i++)
        if (bucket->slots[i] != 0)
            bucket_put(&larger, bucket->slots[i]);
    slots_give(set, bucket->slots, bucket->mask + 1);
    *bucket = larger;
    return 0;
}

/* --- many buckets */

static uint32_t directory_entry(const HashSet *set, uint64_t hash)
{
    return set->depth > 0 ? (uint32_t)(hash >> (64 - set->depth)) : 0;
}

static uint32_t bucket_index(const HashSet *set, uint64_t hash)
{
    return set->depth > 0 ? set->directory[directory_entry(set, hash)] : 0;
}

/* The array, where it was or elsewhere, with room for so many bytes; NULL on want of memory. block:
 * of the pool, 0 where it has none yet. */
static void *array_reserve(HashSet *set, void *array, size_t *block, size_t used, size_t bytes)
{
    size_t new_block;

    if (bytes <= *block)
        return array;
    if (*block == 0)
        array = pool_take(set->pool, bytes, &new_block);
    else
        array = pool_grow(set->pool, array, *block, used, bytes, &new_block);
    if (array == NULL)
        return NULL;
    set->bytes += new_block - *block;
    *block = new_block;
    return array;
}

static int buckets_reserve(HashSet *set)
{
    size_t used = set->count * sizeof(HashBucket);
    HashBucket *buckets =
        array_reserve(set, set->buckets, &set->buckets_block, used, used + sizeof(HashBucket));

    if (buckets == NULL)
        return -ENOMEM;
    if (set->buckets == &set->first)
        buckets[0] = set->first;
    set->buckets = buckets;
    return 0;
}

static int directory_double(HashSet *set)
{
    size_t count = (size_t)1 << set->depth, used = count * sizeof(uint32_t);
    uint32_t *directory = array_reserve(set, set->directory, &set->directory_block, used, 2 * used);

    if (directory == NULL)
        return -ENOMEM;
    if (set->depth == 0)
        directory[0] = 0;
    for (size_t i = count; i-- > 0;)
        directory[2 * i] = directory[2 * i + 1] = directory[i];
    set->directory = directory;
    set->depth++;
    return 0;
}

/* The later half of the entries that lead to the bucket of that hash lead to the last one now. */
static void directory_point(HashSet *set, uint64_t hash, unsigned depth)
{
    uint32_t many = UINT32_C(1) << (set->depth - depth);
    uint32_t begin = directory_entry(set, hash) & ~(many - 1);

    for (uint32_t i = begin + many / 2; i < begin + many; i++)
        set->directory[i] = set->count - 1;
}

static int bucket_split(HashSet *set, uint64_t hash)
{
    uint32_t index = bucket_index(set, hash);
    HashBucket old = set->buckets[index];
    HashBucket halves[2];
    int r;

    r = buckets_reserve(set);
    if (r == 0 && old.depth == set->depth)
        r = directory_double(set);
    if (r < 0)
        return r;
    for (size_t i = 0; i < 2; i++)
        halves[i] = (HashBucket){
            .slots = slots_take(set, old.mask + 1), .mask = old.mask, .depth = old.depth + 1};
    if (halves[0].slots == NULL || halves[1].slots == NULL) {
        slots_give(set, halves[0].slots, old.mask + 1);
        slots_give(set, halves[1].slots, old.mask + 1);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i <= old.mask; i++)
        if (old.slots[i] != 0)
            bucket_put(&halves[(old.slots[i] >> (63 - old.depth)) & 1], old.slots[i]);
    slots_give(set, old.slots, old.mask + 1);
    set->buckets[index] = halves[0];
    set->buckets[set->count++] = halves[1];
    directory_point(set, hash, old.depth);
    return 0;
}

int hash_set_add(HashSet *set, uint64_t hash)
{
    hash = MAX(hash, 1);
    for (;;) {
        HashBucket *bucket = &set->buckets[bucket_index(set, hash)];
        uint64_t *slot = bucket_slot(bucket, hash);
        int r;

        if (*slot != 0)
            return HASH_SET_DUPLICATE;
        if (_likely_(bucket_has_room(bucket))) {
            *slot = hash;
            bucket->used++;
            return HASH_SET_NEW;
        }
        if (bucket->mask + 1 < BUCKET_SLOTS_MAX || bucket->depth == DEPTH_MAX)
            r = bucket_enlarge(set, bucket);
        else
            r = bucket_split(set, hash);
        if (r < 0)
            return r;
    }
}
