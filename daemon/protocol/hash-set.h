/* A set of 64-bit hashes of which no call takes long, however many there are: for this folder
 * alone. Memory comes from a pool: 11 to 22 bytes a hash. */
#pragma once

#include "base/common.h"
#include "base/pool.h"

typedef struct HashBucket {
    uint64_t *slots; /* open addressing, linear; 0: free */
    uint32_t mask;
    uint32_t used;
    unsigned depth; /* so many of the uppermost bits are the same in all its hashes */
} HashBucket;

typedef struct HashSet {
    Pool *pool;
    HashBucket *buckets; /* `first` while it is the only one */
    size_t buckets_block;
    uint32_t count;
    uint32_t *directory; /* from the uppermost `depth` bits to a bucket; NULL: depth is 0 */
    size_t directory_block;
    unsigned depth;
    size_t bytes; /* taken from the pool */
    HashBucket first;
    uint64_t *first_slots;
} HashSet;

enum {
    HASH_SET_NEW = 0,
    HASH_SET_DUPLICATE,
};

/* slots: where the first hashes go, count of them, a power of two; the caller's, for as long as the
 * set is there. */
void hash_set_init(HashSet *set, Pool *pool, uint64_t *slots, uint32_t count);
void hash_set_deinit(HashSet *set);
/* HASH_SET_NEW, HASH_SET_DUPLICATE, or -ENOMEM. 0 and 1 are the same hash. */
int hash_set_add(HashSet *set, uint64_t hash);
