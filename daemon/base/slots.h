/* The large blocks of a pool (base/pool.h): each in a slot of address space that is as large as
 * such a block can get. So a block grows where it is, and one that comes back leaves its pages to
 * the next: in a steady state nothing is mapped, unmapped or touched for the first time, and the
 * loop's thread does not wait for another that has the process' mappings locked. */
#pragma once

#include <sys/queue.h>

#include "base/common.h"

#if defined(__SANITIZE_ADDRESS__)
#define POOL_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_POISON 1
#endif
#endif
#ifdef POOL_POISON
#include <sanitizer/asan_interface.h>
#define POISON(block, size) ASAN_POISON_MEMORY_REGION(block, size)
#define UNPOISON(block, size) ASAN_UNPOISON_MEMORY_REGION(block, size)
#else
#define POISON(block, size) ((void)(block), (void)(size))
#define UNPOISON(block, size) ((void)(block), (void)(size))
#endif

typedef struct Housekeeper Housekeeper;
typedef struct Slot Slot;

typedef struct Slots {
    Housekeeper *housekeeper;       /* gives pages back to the system; NULL: at once */
    TAILQ_HEAD(SlotList, Slot) all; /* given back last comes first, without pages last */
    unsigned count;
    unsigned discarding; /* tasks that the housekeeper has */
    uint64_t kept;       /* bytes that have pages and belong to no block */
    uint64_t mapped;     /* bytes that have pages */
} Slots;

/* Memory that a forked child does not get; NULL on want of it. */
void *slots_map(size_t size);

void slots_init(Slots *slots, Housekeeper *housekeeper);
/* All blocks must have been given back. Waits for the housekeeper. */
void slots_deinit(Slots *slots);

/* size: a power of two. Contents undefined; NULL on want of memory. */
void *slots_take(Slots *slots, size_t size);
void slots_give(Slots *slots, void *block, size_t size);
/* The block with what it holds, now of new_size, where it was or elsewhere. NULL on want of memory:
 * it is as it was. */
void *slots_grow(Slots *slots, void *block, size_t size, size_t new_size);
