/* Slabs and large blocks.
 *
 * Normal way through: the first slab of the class that has room gives its newest free block, else
 * the next one never used; without such a slab a new one is made of a run of pages. A slab that is
 * full leaves the list, a slab that has room again comes back to its front, a slab that is empty
 * becomes free pages.
 *
 * What can go wrong: the arena is full; a descriptor or a free block's link that makes no sense
 * (ARENA_DAMAGED). */
#include "arena/heap.h"

#define LINK_OFFSET 8u /* of the next free block's number in a free block */
#define FREE_HEAD_BYTES 16u

static uint64_t slabs_offset(unsigned class)
{
    return offsetof(HoldfastHeader, slabs) + class * sizeof(uint32_t);
}

static uint32_t slabs_first(const Arena *arena, unsigned class)
{
    return arena_header(arena)->slabs[class];
}

/* The slab's head, checked; NULL: *ret says so. */
static const HoldfastPage *slab_get(const Arena *arena, uint64_t page, unsigned class, int *ret)
{
    const SizeClass *size = class_get(class);
    const HoldfastPage *slab = runs_page(arena, page);
    if (_unlikely_(slab == NULL || size == NULL || slab->kind != HOLDFAST_PAGE_SLAB ||
                   slab->class != class || slab->bump > size->blocks || slab->count > slab->bump ||
                   slab->free > slab->bump ||
                   page + size->pages > arena_header(arena)->counters.high_water_pages ||
                   page % HOLDFAST_CHUNK_PAGES + size->pages > HOLDFAST_CHUNK_PAGES)) {
        *ret = arena_damaged(arena, "page %lu: not a slab of class %u", (unsigned long)page, class);
        return NULL;
    }
    return slab;
}

static HoldfastPage *slab_change(Arena *arena, uint64_t page, unsigned class, int *ret)
{
    if (slab_get(arena, page, class, ret) == NULL)
        return NULL;
    return runs_page_change(arena, page, ret);
}

/* --- lists of slabs with room */

static int slabs_add(Arena *arena, uint64_t page, unsigned class)
{
    int r = 0;
    uint32_t first = slabs_first(arena, class);
    if (first != 0) {
        HoldfastPage *neighbour = slab_change(arena, first, class, &r);
        if (neighbour == NULL)
            return r;
        neighbour->prev = (uint32_t)page;
    }
    HoldfastPage *slab = runs_page_change(arena, page, &r);
    if (slab == NULL)
        return r;
    slab->next = first;
    slab->prev = 0;
    return undo_set_u32(arena, slabs_offset(class), (uint32_t)page);
}

static int slabs_remove(Arena *arena, uint64_t page, unsigned class)
{
    int r = 0;
    HoldfastPage *slab = slab_change(arena, page, class, &r);
    if (slab == NULL)
        return r;
    uint32_t next = slab->next;
    uint32_t prev = slab->prev;
    slab->next = 0;
    slab->prev = 0;
    if (next != 0) {
        HoldfastPage *neighbour = slab_change(arena, next, class, &r);
        if (neighbour == NULL)
            return r;
        neighbour->prev = prev;
    }
    if (prev != 0) {
        HoldfastPage *neighbour = slab_change(arena, prev, class, &r);
        if (neighbour == NULL)
            return r;
        neighbour->next = next;
        return 0;
    }
    if (slabs_first(arena, class) != page)
        return arena_damaged(arena, "slab at page %lu: not in its list", (unsigned long)page);
    return undo_set_u32(arena, slabs_offset(class), next);
}

int heap_slab_hide(Arena *arena, uint64_t page, unsigned class)
{
    return slabs_remove(arena, page, class);
}

int heap_slab_show(Arena *arena, uint64_t page, unsigned class)
{
    return slabs_add(arena, page, class);
}

/* --- slabs */

static int count_blocks(Arena *arena, int64_t bytes, int64_t pages)
{
    int r = 0;
    HoldfastCounters *counters = undo_counters(arena, &r);
    if (counters == NULL)
        return r;
    counters->block_bytes += (uint64_t)bytes;
    counters->slab_pages += (uint64_t)pages;
    return 0;
}

static int slab_new(Arena *arena, unsigned class, uint64_t *ret_page)
{
    uint64_t page = 0;
    unsigned pages = class_get(class)->pages;
    int r = runs_take(arena, pages, HOLDFAST_PAGE_SLAB, &page);
    if (r != 0)
        return r;
    HoldfastPage *descriptor = runs_page_change(arena, page, &r);
    if (descriptor == NULL)
        return r;
    *descriptor = (HoldfastPage){.kind = HOLDFAST_PAGE_SLAB, .class = (uint8_t) class};
    for (unsigned i = 1; i < pages; i++) {
        descriptor = runs_page_change(arena, page + i, &r);
        if (descriptor == NULL)
            return r;
        *descriptor = (HoldfastPage){.kind = HOLDFAST_PAGE_SLAB_TAIL, .count = (uint16_t)i};
    }
    *ret_page = page;
    r = count_blocks(arena, 0, pages);
    return r == 0 ? slabs_add(arena, page, class) : r;
}

static int slab_delete(Arena *arena, uint64_t page, unsigned class)
{
    unsigned pages = class_get(class)->pages;
    int r = slabs_remove(arena, page, class);
    for (unsigned i = 1; r == 0 && i < pages; i++) {
        HoldfastPage *descriptor = runs_page_change(arena, page + i, &r);
        if (descriptor != NULL)
            *descriptor = (HoldfastPage){0};
    }
    if (r == 0)
        r = count_blocks(arena, 0, -(int64_t)pages);
    return r == 0 ? runs_give(arena, page, pages, HOLDFAST_PAGE_SLAB) : r;
}

/* Zeroes what a reader would take for an entry's revision, and saves it first so that an abort puts
 * it back last. */
static void *block_clear(Arena *arena, uint64_t offset, int *ret)
{
    *ret = undo_set_u64(arena, offset, 0);
    if (*ret != 0)
        return NULL;
    // Readers must see that the entry is gone before they see any of the changes that follow.
    __atomic_thread_fence(__ATOMIC_RELEASE);
    uint64_t *rest = undo_change(arena, offset + LINK_OFFSET, FREE_HEAD_BYTES - LINK_OFFSET, ret);
    if (rest != NULL)
        *rest = 0;
    return rest;
}

static int slab_take(Arena *arena, uint64_t page, unsigned class, uint64_t *ret_offset)
{
    int r = 0;
    const SizeClass *size = class_get(class);
    HoldfastPage *slab = slab_change(arena, page, class, &r);
    if (slab == NULL)
        return r;
    unsigned number;
    uint64_t base = page * HOLDFAST_PAGE_BYTES;
    if (slab->free != 0) {
        uint16_t next;
        number = slab->free - 1u;
        memcpy(&next, arena->base + base + (uint64_t)number * size->bytes + LINK_OFFSET,
               sizeof(next));
        if (next > slab->bump)
            return arena_damaged(arena, "slab at page %lu: free block %u leads to %u",
                                 (unsigned long)page, number, next);
        slab->free = next;
    } else if (slab->bump < size->blocks) {
        number = slab->bump++;
    } else {
        return arena_damaged(arena, "slab at page %lu: in the list, but full", (unsigned long)page);
    }
    slab->count++;
    bool full = slab->count == size->blocks;
    *ret_offset = base + (uint64_t)number * size->bytes;
    if (block_clear(arena, *ret_offset, &r) == NULL)
        return r;
    if (full)
        r = slabs_remove(arena, page, class);
    return r == 0 ? count_blocks(arena, size->bytes, 0) : r;
}

int heap_take_class(Arena *arena, unsigned class, uint64_t *ret_offset)
{
    uint64_t page = slabs_first(arena, class);
    int r = page == 0 ? slab_new(arena, class, &page) : 0;
    return r == 0 ? slab_take(arena, page, class, ret_offset) : r;
}

int heap_take(Arena *arena, size_t size, uint64_t *ret_offset)
{
    uint64_t page = 0;
    unsigned class = class_of(size);
    if (class != CLASS_LARGE)
        return heap_take_class(arena, class, ret_offset);
    uint64_t pages = DIVIDE_UP(size, (size_t)HOLDFAST_PAGE_BYTES);
    int r = runs_take(arena, pages, HOLDFAST_PAGE_LARGE, &page);
    if (r != 0)
        return r;
    *ret_offset = page * HOLDFAST_PAGE_BYTES;
    (void)block_clear(arena, *ret_offset, &r);
    return r;
}

/* --- freeing */

int heap_block(const Arena *arena, uint64_t offset, HeapBlock *ret)
{
    int r = 0;
    uint64_t page = offset / HOLDFAST_PAGE_BYTES;
    const HoldfastPage *descriptor = runs_page(arena, page);
    if (descriptor != NULL && descriptor->kind == HOLDFAST_PAGE_SLAB_TAIL &&
        descriptor->count < page % HOLDFAST_CHUNK_PAGES) {
        page -= descriptor->count;
        descriptor = runs_page(arena, page);
    }
    if (descriptor == NULL || descriptor->kind != HOLDFAST_PAGE_SLAB)
        return arena_damaged(arena, "offset %#lx: not in a slab", (unsigned long)offset);
    unsigned class = descriptor->class;
    if (slab_get(arena, page, class, &r) == NULL)
        return r;
    uint64_t distance = offset - page * HOLDFAST_PAGE_BYTES;
    unsigned bytes = class_get(class)->bytes;
    if (distance % bytes != 0 || distance / bytes >= descriptor->bump)
        return arena_damaged(arena, "offset %#lx: no block of its slab", (unsigned long)offset);
    *ret = (HeapBlock){.head = page, .class = class, .number = (unsigned)(distance / bytes)};
    return 0;
}

static int give_block(Arena *arena, uint64_t offset, unsigned class)
{
    HeapBlock block;
    int r = heap_block(arena, offset, &block);
    if (r != 0)
        return r;
    HoldfastPage *slab = slab_change(arena, block.head, block.class, &r);
    if (slab == NULL)
        return r;
    const SizeClass *size = class_get(class);
    if (block.class != class || slab->count == 0)
        return arena_damaged(arena, "offset %#lx: not a block in use of class %u",
                             (unsigned long)offset, class);
    uint16_t next = slab->free;
    bool was_full = slab->count == size->blocks;
    bool empty = slab->count == 1;
    slab->free = (uint16_t)(block.number + 1);
    slab->count--;
    void *link = block_clear(arena, offset, &r);
    if (link == NULL)
        return r;
    memcpy(link, &next, sizeof(next));
    r = count_blocks(arena, -(int64_t)size->bytes, 0);
    if (r == 0 && was_full)
        r = slabs_add(arena, block.head, class);
    return r == 0 && empty ? slab_delete(arena, block.head, class) : r;
}

static int give_run(Arena *arena, const UndoFreed *freed)
{
    int r = 0;
    uint64_t page = freed->offset / HOLDFAST_PAGE_BYTES;
    const HoldfastPage *run = runs_page(arena, page);
    if (run == NULL || run->kind != freed->kind || run->count != freed->pages)
        return arena_damaged(arena, "page %lu: not a run of kind %u of %u pages",
                             (unsigned long)page, freed->kind, freed->pages);
    if (block_clear(arena, freed->offset, &r) == NULL)
        return r;
    return runs_give(arena, page, freed->pages, (uint8_t)freed->kind);
}

int heap_free_class(Arena *arena, uint64_t offset, unsigned class)
{
    UndoFreed freed = {.offset = offset, .class = class};
    return undo_free(arena, &freed);
}

int heap_free_run(Arena *arena, uint64_t page, uint64_t pages, uint8_t kind)
{
    UndoFreed freed = {.offset = page * HOLDFAST_PAGE_BYTES,
                       .class = CLASS_LARGE,
                       .kind = kind,
                       .pages = (uint16_t)pages};
    return undo_free(arena, &freed);
}

int heap_free(Arena *arena, uint64_t offset, size_t size)
{
    unsigned class = class_of(size);
    if (class != CLASS_LARGE)
        return heap_free_class(arena, offset, class);
    if (offset % HOLDFAST_PAGE_BYTES != 0)
        return arena_damaged(arena, "offset %#lx: no large block", (unsigned long)offset);
    uint64_t pages = DIVIDE_UP(size, (size_t)HOLDFAST_PAGE_BYTES);
    return heap_free_run(arena, offset / HOLDFAST_PAGE_BYTES, pages, HOLDFAST_PAGE_LARGE);
}

int heap_flush(Arena *arena)
{
    int r = 0;
    for (size_t at = 0; r == 0 && at < arena->undo.freed.used; at += sizeof(UndoFreed)) {
        UndoFreed freed = *(const UndoFreed *)(arena->undo.freed.data + at);
        r = freed.class == CLASS_LARGE ? give_run(arena, &freed)
                                       : give_block(arena, freed.offset, freed.class);
    }
    return r;
}
