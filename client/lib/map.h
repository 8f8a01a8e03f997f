/* The inside of a map: an arena's memory, which another process changes while it is read here.
 *
 * The memory is looked at only through what is below: an offset is used after hf_map_holds has said
 * that so many bytes are there, and a number is loaded once, whole, into a variable, which is then
 * checked and used; never read again for use. So whatever the memory holds, and however it changes,
 * nothing outside of the mapping is touched.
 *
 * What is not a number (keys, values) is copied and compared by memcpy and memcmp while it may
 * change. To the C standard that is a race, and so it is for every seqlock; what is asked of the
 * compiler is less: that the bytes were read between the loads before and the fence behind. It
 * cannot do otherwise, since the fence orders all accesses to memory. What was copied is used by
 * nobody before the check behind the fence says that it stood still. */
#pragma once

#include <holdfast.h>
#include <holdfast/layout.h>
#include <time.h>

#include "connection.h"

#define HF_MAP_CHECK_MSEC 100 /* how long what the socket said last is believed */
#define HF_MAP_TRIES 100      /* of a read, before the socket is asked */

#define hf_likely(x) __builtin_expect(!!(x), 1)
#define hf_unlikely(x) __builtin_expect(!!(x), 0)

struct HoldfastMap {
    const uint8_t *base; /* NULL: nothing is mapped */
    uint64_t readable;   /* bytes from base on that the memfd has: reading them cannot fault */
    uint64_t mapped;     /* bytes of address space */
    uint64_t hash_seed;
    uint64_t generation;
    uint64_t device; /* of the memfd, and its inode: whether it is another one */
    uint64_t inode;
    int fd;                /* -1: none */
    int error;             /* why nothing can be read now; 0: it can */
    uint64_t checked_msec; /* coarse clock at the last look at the socket */

    HoldfastConnection *connection; /* NULL: none now */
    char *path;                     /* of its socket; NULL: memory alone, without a daemon */
    char *name;
    uint64_t timeout_usec;
    char *buffer; /* of holdfast_map_iterate */
    size_t buffer_size;
};

/* Buckets in one chain, at most. */
#define HF_MAP_CHAIN_BUCKETS                                                                       \
    ((HOLDFAST_CHAIN_MAX + HOLDFAST_BUCKET_SLOTS - 1) / HOLDFAST_BUCKET_SLOTS)

/* What a look at the memory came to; negative: an errno. */
enum {
    HF_MAP_FOUND = 0,
    HF_MAP_ABSENT,
    HF_MAP_BUSY,    /* an entry that an update is about to change */
    HF_MAP_OUTSIDE, /* leads out of what is mapped: it has grown, is in motion, or is damaged */
    HF_MAP_ASK,     /* it does not stand still: ask the socket */
};

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers in an arena are little-endian");

/* --- loads. Relaxed unless an order is named; each is one load of the machine. */

static inline bool hf_map_holds(const HoldfastMap *map, uint64_t offset, uint64_t size)
{
    return offset <= map->readable && size <= map->readable - offset;
}

/* offset: a multiple of 8, held. */
static inline uint64_t hf_map_u64(const HoldfastMap *map, uint64_t offset)
{
    return __atomic_load_n((const uint64_t *)(map->base + offset), __ATOMIC_RELAXED);
}

static inline uint64_t hf_map_u64_acquire(const HoldfastMap *map, uint64_t offset)
{
    return __atomic_load_n((const uint64_t *)(map->base + offset), __ATOMIC_ACQUIRE);
}

/* offset: a multiple of 4, held. */
static inline uint32_t hf_map_u32(const HoldfastMap *map, uint64_t offset)
{
    return __atomic_load_n((const uint32_t *)(map->base + offset), __ATOMIC_RELAXED);
}

#define HF_MAP_CHANGES(map) hf_map_u64_acquire(map, offsetof(HoldfastHeader, change_counter))
#define HF_MAP_ABORTS(map) hf_map_u64_acquire(map, offsetof(HoldfastHeader, abort_counter))
#define HF_MAP_COUNTER(map, member)                                                                \
    hf_map_u64(map, offsetof(HoldfastHeader, counters) + offsetof(HoldfastCounters, member))

static inline bool hf_map_live(const HoldfastMap *map)
{
    return hf_map_u32(map, offsetof(HoldfastHeader, state)) == HOLDFAST_STATE_LIVE;
}

/* What lies behind a copy: none of its loads comes after this. */
static inline void hf_map_fence(void)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
}

/* True when, since the change counter was `changes`, nothing has begun to change. Behind a fence.
 * The state is asked too: the pages of a dropped arena become zero one by one, the first one
 * first. */
static inline bool hf_map_still(const HoldfastMap *map, uint64_t changes)
{
    return changes % 2 == 0 &&
           hf_map_u64(map, offsetof(HoldfastHeader, change_counter)) == changes && hf_map_live(map);
}

/* Waits a moment before the next try: longer each time, 100 us for all of them. */
void hf_map_pause(unsigned try);

/* --- the index (map-find.c) */

typedef struct HfMapPlace {
    uint64_t slot_at; /* offset of the slot */
    uint64_t slot;
    uint64_t entry;    /* offset; it is held with its key and its value */
    uint64_t revision; /* loaded before anything else of it */
    uint32_t value_bytes;
    uint16_t key_bytes;
} HfMapPlace;

static inline const char *hf_map_key(const HoldfastMap *map, const HfMapPlace *place)
{
    return (const char *)map->base + place->entry + sizeof(HoldfastEntry);
}

static inline const char *hf_map_value(const HoldfastMap *map, const HfMapPlace *place)
{
    return hf_map_key(map, place) + place->key_bytes;
}

uint64_t hf_map_hash(const HoldfastMap *map, const char *key, size_t key_length);
/* The offset of a bucket, which is held; false: it leads out. */
bool hf_map_bucket(const HoldfastMap *map, uint64_t number, uint64_t *ret);

/* From a bucket's offset to that of the next in its chain, which is held; 0: there is none. False:
 * it leads out. */
static inline bool hf_map_next_bucket(const HoldfastMap *map, uint64_t *offset)
{
    *offset = hf_map_u64(map, *offset + offsetof(HoldfastBucket, next));
    return *offset % sizeof(HoldfastBucket) == 0 &&
           hf_map_holds(map, *offset, sizeof(HoldfastBucket));
}

/* The entry that the slot leads to: HF_MAP_FOUND, HF_MAP_BUSY, HF_MAP_OUTSIDE. */
int hf_map_entry(const HoldfastMap *map, uint64_t slot_at, uint64_t slot, HfMapPlace *ret);
/* HF_MAP_FOUND, HF_MAP_ABSENT, HF_MAP_BUSY, HF_MAP_OUTSIDE; true of a moment only where the checks
 * of layout.h say so afterwards. */
int hf_map_find(const HoldfastMap *map, uint64_t hash, const char *key, size_t key_length,
                HfMapPlace *ret);

/* --- the mapping (map.c) */

/* A map of a memfd alone: no daemon is asked whether it is still the arena's, nor for what does not
 * stand still (-EAGAIN). Owns fd on success only. */
int hf_map_new(int fd, HoldfastMap **ret);
/* Has the memfd grown? Then more of it can be read. */
bool hf_map_grow(HoldfastMap *map);
/* Looks whether the mapping is still the arena's: at the socket, and what follows from it. 0, or
 * why nothing can be read. */
int hf_map_check(HoldfastMap *map, uint64_t now_msec);
/* What a call on the map's own connection returned, as an errno; the connection goes where it is
 * dead. */
int hf_map_remote(HoldfastMap *map, int r);

/* The kernel's own idea of the time, without a system call. */
static inline uint64_t hf_map_now_msec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Before each use: 0, or why nothing can be read. */
static inline int hf_map_ready(HoldfastMap *map)
{
    uint64_t now = hf_map_now_msec();

    if (hf_likely(now - map->checked_msec < HF_MAP_CHECK_MSEC && map->error == 0 &&
                  hf_map_live(map)))
        return 0;
    return hf_map_check(map, now);
}
