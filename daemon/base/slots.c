/* Large blocks of a pool.
 *
 * Normal way through: a slot that is free is taken, the one that was given back last; its block
 * grows within it; when it comes back its pages stay. What stays is bounded: where it gets too
 * much, the housekeeper gives the pages of those to the system that were not used for longest, and
 * of many slots also the address space. Blocks larger than a slot are mappings of their own; to
 * become one, a block leaves its slot with its pages, and the slot is no more.
 *
 * What can go wrong is want of memory, which the caller is told. */
#include "base/slots.h"

#include <sys/mman.h>

#include "base/housekeeper.h"

#define SLOT_BYTES (32 * MIB)
#define SLOTS_KEPT 16
#define KEPT_BYTES_MAX (32 * MIB)

struct Slot {
    HousekeeperTask discard;
    Slots *slots;
    char *memory;
    size_t taken; /* size of its block; 0: free */
    size_t warm;  /* bytes from its beginning that may have pages */
    bool discarding;
    bool ends; /* with its address space */
    TAILQ_ENTRY(Slot) link;
};

void *slots_map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        return NULL;
    /* Nothing depends on either but the length of the pause and the size of a core. */
    (void)madvise(memory, size, MADV_DONTFORK);
    (void)madvise(memory, size, MADV_DONTDUMP);
    return memory;
}

/* --- mappings of their own */

typedef struct UnmapTask {
    HousekeeperTask task;
    void *memory;
    size_t size;
} UnmapTask;

static void unmap_run(HousekeeperTask *task)
{
    UnmapTask *unmap = (UnmapTask *)task;

    munmap(unmap->memory, unmap->size);
    free(unmap);
}

static void *mapping_take(Slots *slots, size_t size)
{
    void *memory = slots_map(size);

    if (memory != NULL)
        slots->mapped += size;
    return memory;
}

static void mapping_give(Slots *slots, void *memory, size_t size)
{
    UnmapTask *unmap = NULL;

    slots->mapped -= size;
    if (slots->housekeeper != NULL)
        unmap = malloc(sizeof(*unmap));
    if (unmap == NULL) {
        munmap(memory, size);
        return;
    }
    *unmap = (UnmapTask){.task = {.run = unmap_run}, .memory = memory, .size = size};
    housekeeper_submit_slow(slots->housekeeper, &unmap->task);
}

static void *mapping_move(Slots *slots, void *memory, size_t size, size_t new_size)
{
    void *moved = mremap(memory, size, new_size, MREMAP_MAYMOVE);

    if (moved == MAP_FAILED)
        return NULL;
    slots->mapped += new_size - size;
    return moved;
}

/* --- slots */

static Slot *slot_of(const Slots *slots, const void *block)
{
    Slot *slot;

    TAILQ_FOREACH(slot, &slots->all, link)
    if (slot->memory == block)
        return slot;
    return NULL;
}

static size_t slot_kept(const Slot *slot)
{
    return slot->warm - MIN(slot->warm, slot->taken);
}

/* Its block is of that size from now on. */
static void slot_set_taken(Slot *slot, size_t taken)
{
    Slots *slots = slot->slots;
    size_t warm = MAX(slot->warm, taken);

    slots->kept -= slot_kept(slot);
    slots->mapped += warm - slot->warm;
    slot->taken = taken;
    slot->warm = warm;
    slots->kept += slot_kept(slot);
}

static void slot_free(Slot *slot)
{
    Slots *slots = slot->slots;

    TAILQ_REMOVE(&slots->all, slot, link);
    slots->count--;
    free(slot);
}

static Slot *slot_new(Slots *slots)
{
    Slot *slot = calloc(1, sizeof(*slot));

    if (slot == NULL)
        return NULL;
    slot->slots = slots;
    slot->memory = slots_map(SLOT_BYTES);
    if (slot->memory == NULL) {
        free(slot);
        return NULL;
    }
    POISON(slot->memory, SLOT_BYTES);
    TAILQ_INSERT_HEAD(&slots->all, slot, link);
    slots->count++;
    return slot;
}

static void discard_run(HousekeeperTask *task)
{
    Slot *slot = (Slot *)task;

    if (slot->ends)
        munmap(slot->memory, SLOT_BYTES);
    else
        (void)madvise(slot->memory, SLOT_BYTES, MADV_DONTNEED);
}

static void discard_done(HousekeeperTask *task)
{
    Slot *slot = (Slot *)task;

    slot->slots->discarding--;
    slot->discarding = false;
    if (slot->ends)
        slot_free(slot);
}

/* Of a free slot. */
static void slot_discard(Slot *slot)
{
    Slots *slots = slot->slots;

    slots->kept -= slot->warm;
    slots->mapped -= slot->warm;
    slot->warm = 0;
    slot->ends = slots->count - slots->discarding > SLOTS_KEPT;
    if (slot->ends)
        UNPOISON(slot->memory, SLOT_BYTES);
    slot->discarding = true;
    slots->discarding++;
    TAILQ_REMOVE(&slots->all, slot, link);
    TAILQ_INSERT_TAIL(&slots->all, slot, link);
    slot->discard = (HousekeeperTask){.run = discard_run, .done = discard_done};
    if (slots->housekeeper != NULL) {
        housekeeper_submit(slots->housekeeper, &slot->discard);
        return;
    }
    discard_run(&slot->discard);
    discard_done(&slot->discard);
}

/* The one that was not used for longest; NULL: none has pages that could go. */
static Slot *slots_oldest(const Slots *slots)
{
    Slot *slot;

    TAILQ_FOREACH_REVERSE(slot, &slots->all, SlotList, link)
    if (slot->taken == 0 && slot->warm > 0)
        return slot;
    return NULL;
}

void *slots_take(Slots *slots, size_t size)
{
    Slot *slot;

    if (size > SLOT_BYTES)
        return mapping_take(slots, size);
    TAILQ_FOREACH(slot, &slots->all, link)
    if (slot->taken == 0 && !slot->discarding)
        break;
    if (slot == NULL)
        slot = slot_new(slots);
    if (slot == NULL)
        return NULL;
    slot_set_taken(slot, size);
    UNPOISON(slot->memory, size);
    return slot->memory;
}

void slots_give(Slots *slots, void *block, size_t size)
{
    Slot *slot;

    if (size > SLOT_BYTES) {
        mapping_give(slots, block, size);
        return;
    }
    slot = slot_of(slots, block);
    assert(slot != NULL && slot->taken == size);
    slot_set_taken(slot, 0);
    POISON(slot->memory, size);
    TAILQ_REMOVE(&slots->all, slot, link);
    TAILQ_INSERT_HEAD(&slots->all, slot, link);
    while (slots->kept > KEPT_BYTES_MAX && (slot = slots_oldest(slots)) != NULL)
        slot_discard(slot);
}

void *slots_grow(Slots *slots, void *block, size_t size, size_t new_size)
{
    Slot *slot;
    void *moved;

    if (size > SLOT_BYTES)
        return mapping_move(slots, block, size, new_size);
    slot = slot_of(slots, block);
    assert(slot != NULL && slot->taken == size);
    if (new_size <= SLOT_BYTES) {
        slot_set_taken(slot, new_size);
        UNPOISON(slot->memory, new_size);
        return block;
    }
    UNPOISON(slot->memory, SLOT_BYTES);
    moved = mremap(block, SLOT_BYTES, new_size, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED) {
        POISON(slot->memory + size, SLOT_BYTES - size);
        return NULL;
    }
    slots->kept -= slot_kept(slot);
    slots->mapped += new_size - slot->warm;
    slot_free(slot);
    return moved;
}

/* --- coming and going */

void slots_init(Slots *slots, Housekeeper *housekeeper)
{
    *slots = (Slots){.housekeeper = housekeeper};
    TAILQ_INIT(&slots->all);
}

void slots_deinit(Slots *slots)
{
    Slot *slot;

    /* A housekeeper that is gone already has run them all. */
    if (slots->discarding > 0)
        housekeeper_drain(slots->housekeeper);
    while ((slot = TAILQ_FIRST(&slots->all)) != NULL) {
        assert(slot->taken == 0);
        UNPOISON(slot->memory, SLOT_BYTES);
        munmap(slot->memory, SLOT_BYTES);
        slot_free(slot);
    }
}
