/* From a key to its entry, in memory that is neither trusted nor at rest. The way is that of
 * daemon/arena/index.c: hash, bucket, directory page, segment, then along the chain's slots, and to
 * an entry only where the slot's tag fits.
 *
 * What can go wrong: a number that leads out of the mapping, or a chain that does not end. It is
 * not told here whether that is damage, growth, or a change that was met in its middle. */
#define XXH_INLINE_ALL
#include <string.h>
#include <xxhash.h>

#include "map.h"

#define GO_ON (-1) /* along the chain */
#define SLOT_OFFSET_MASK ((UINT64_C(1) << HOLDFAST_SLOT_TAG_SHIFT) - 1)

uint64_t hf_map_hash(const HoldfastMap *map, const char *key, size_t key_length)
{
    return XXH3_64bits_withSeed(key, key_length, map->hash_seed);
}

bool hf_map_bucket(const HoldfastMap *map, uint64_t number, uint64_t *ret)
{
    uint64_t segment = number / HOLDFAST_SEGMENT_BUCKETS;
    uint64_t directory = segment / HOLDFAST_DIRECTORY_SEGMENTS;
    uint64_t page = hf_map_u32(map, offsetof(HoldfastHeader, directories) +
                                        directory % HOLDFAST_DIRECTORIES * sizeof(uint32_t));
    uint64_t offset =
        page * HOLDFAST_PAGE_BYTES + segment % HOLDFAST_DIRECTORY_SEGMENTS * sizeof(uint32_t);

    if (hf_unlikely(!hf_map_holds(map, offset, sizeof(uint32_t))))
        return false;
    page = hf_map_u32(map, offset);
    offset =
        page * HOLDFAST_PAGE_BYTES + number % HOLDFAST_SEGMENT_BUCKETS * sizeof(HoldfastBucket);
    *ret = offset;
    return hf_map_holds(map, offset, sizeof(HoldfastBucket));
}

/* The bits that tell a bucket's number: as index_bucket_of of the daemon. */
static uint64_t bucket_of(uint64_t hash, uint64_t buckets)
{
    unsigned level = 63 - (unsigned)__builtin_clzll(buckets);
    uint64_t number = hash & ((UINT64_C(2) << level) - 1);

    return number < buckets ? number : hash & ((UINT64_C(1) << level) - 1);
}

int hf_map_entry(const HoldfastMap *map, uint64_t slot_at, uint64_t slot, HfMapPlace *ret)
{
    uint64_t entry = (slot & SLOT_OFFSET_MASK) * 8;

    if (hf_unlikely(!hf_map_holds(map, entry, sizeof(HoldfastEntry))))
        return HF_MAP_OUTSIDE;
    /* An entry has a few cache lines, which need not come one after the other. */
    __builtin_prefetch(map->base + entry + 64);
    __builtin_prefetch(map->base + entry + 128);
    /* Acquire: what is loaded of the entry from here on is not older than this. */
    uint64_t revision = hf_map_u64_acquire(map, entry);
    uint64_t sizes = hf_map_u64(map, entry + offsetof(HoldfastEntry, value_bytes));
    *ret = (HfMapPlace){
        .slot_at = slot_at,
        .slot = slot,
        .entry = entry,
        .revision = revision,
        .value_bytes = (uint32_t)sizes,
        .key_bytes = (uint16_t)(sizes >> 32),
    };
    if (hf_unlikely(revision == 0))
        return HF_MAP_BUSY;
    if (hf_unlikely(
            ret->key_bytes == 0 || ret->key_bytes > HOLDFAST_KEY_MAX || ret->value_bytes == 0 ||
            ret->value_bytes > HOLDFAST_VALUE_MAX ||
            !hf_map_holds(map, entry,
                          sizeof(HoldfastEntry) + ret->key_bytes + (uint64_t)ret->value_bytes)))
        return HF_MAP_OUTSIDE;
    return HF_MAP_FOUND;
}

/* All slots are compared before one is looked at, without a branch that depends on which it will
 * be: a processor that has guessed the branches right goes on to the next read while the memory of
 * this one is still on its way, and that is most of what a read takes. */
static int find_in_bucket(const HoldfastMap *map, uint64_t bucket, uint64_t tag, const char *key,
                          size_t key_length, HfMapPlace *ret)
{
    uint64_t slots[HOLDFAST_BUCKET_SLOTS];
    unsigned hits = 0;

    for (unsigned i = 0; i < HOLDFAST_BUCKET_SLOTS; i++) {
        slots[i] = hf_map_u64(map, bucket + i * sizeof(uint64_t));
        hits |= (unsigned)(slots[i] >> HOLDFAST_SLOT_TAG_SHIFT == tag) << i;
    }
    for (; hits != 0; hits &= hits - 1) {
        unsigned i = (unsigned)__builtin_ctz(hits);
        if (hf_unlikely(slots[i] == 0))
            break;
        int r = hf_map_entry(map, bucket + i * sizeof(uint64_t), slots[i], ret);
        if (hf_unlikely(r != HF_MAP_FOUND))
            return r;
        if (hf_likely(ret->key_bytes == key_length &&
                      memcmp(hf_map_key(map, ret), key, key_length) == 0))
            return HF_MAP_FOUND;
    }
    /* Slots are filled from the front on: an empty one is the chain's end. */
    return slots[HOLDFAST_BUCKET_SLOTS - 1] == 0 ? HF_MAP_ABSENT : GO_ON;
}

int hf_map_find(const HoldfastMap *map, uint64_t hash, const char *key, size_t key_length,
                HfMapPlace *ret)
{
    uint64_t buckets = HF_MAP_COUNTER(map, buckets);
    uint64_t tag = hash >> HOLDFAST_SLOT_HASH_SHIFT & HOLDFAST_SLOT_TAG_MASK;
    uint64_t offset;

    if (hf_unlikely(buckets < HOLDFAST_BUCKETS_MIN || buckets > HOLDFAST_BUCKETS_MAX) ||
        hf_unlikely(!hf_map_bucket(map, bucket_of(hash, buckets), &offset)))
        return HF_MAP_OUTSIDE;
    for (unsigned links = 0; links < HF_MAP_CHAIN_BUCKETS; links++) {
        int r = find_in_bucket(map, offset, tag, key, key_length, ret);
        if (hf_likely(r != GO_ON))
            return r;
        if (hf_unlikely(!hf_map_next_bucket(map, &offset)))
            return HF_MAP_OUTSIDE;
        if (offset == 0)
            return HF_MAP_ABSENT;
    }
    return HF_MAP_OUTSIDE;
}
