/* Compaction.
 *
 * Blocks of one size class can't be used for another, so replacing values by values of other sizes
 * leaves slabs behind that are nearly empty. Where more than a part of all slabs' bytes is unused,
 * each block that an update frees earns credit for moving a few others; a cursor goes round the
 * arena, and a slab that is emptier than the average is cleared: each of its entries is copied into
 * another slab of the class, and its slot set to the copy. That is an update of its own that leaves
 * all revisions as they are.
 *
 * What can go wrong: the barrier has no room or the arena is full. Then nothing has moved, and it
 * is tried again later. Not while a checkpoint saves the arena: pages could not be given back
 * anyway, and the ring has better things to hold. */
#include "arena/compact.h"

#include "arena/entry.h"
#include "arena/heap.h"
#include "arena/index.h"

#define WASTE_PART 10 /* of all slabs' bytes may be unused */
#define WASTE_BYTES_MIN MIB
#define CREDIT_PER_BLOCK 12
#define CREDIT_MAX 1024
#define CREDIT_IDLE 256
#define MOVES_MAX 256 /* a slab's blocks at most, so that credit for one slab can be saved up */
#define SCAN_PAGES 128

/* A slab to be cleared: the blocks in use. */
typedef struct Victim {
    uint64_t page;
    unsigned class;
    unsigned count;
    uint64_t blocks[MOVES_MAX]; /* offsets */
} Victim;

static bool compact_worth(const Arena *arena)
{
    const HoldfastCounters *counters = &arena_header(arena)->counters;
    uint64_t bytes = counters->slab_pages * HOLDFAST_PAGE_BYTES;
    return bytes > counters->block_bytes + WASTE_BYTES_MIN &&
           (bytes - counters->block_bytes) > bytes / WASTE_PART;
}

/* Emptier than the average, and not the only one of its class that has room. */
static bool slab_sparse(const Arena *arena, uint64_t page, const HoldfastPage *slab)
{
    const HoldfastHeader *header = arena_header(arena);
    const SizeClass *class = class_get(slab->class);
    if (class == NULL || slab->class == CLASS_OVERFLOW || slab->count >= class->blocks)
        return false;
    uint64_t used = (uint64_t)slab->count * class->bytes;
    if (used * header->counters.slab_pages > header->counters.block_bytes * class->pages)
        return false;
    return header->slabs[slab->class] != page || slab->next != 0;
}

/* Looks for a sparse slab from the cursor on. False: none in the next pages. */
static bool find_victim(Arena *arena, uint64_t *ret_page)
{
    Compact *compact = &arena->compact;
    for (unsigned i = 0; i < SCAN_PAGES; i++) {
        if (compact->cursor >= arena_header(arena)->counters.high_water_pages)
            compact->cursor = 0;
        uint64_t page = compact->cursor;
        const HoldfastPage *run = runs_page(arena, page);
        uint64_t pages = 1;
        if (run == NULL)
            pages = runs_chunk_first(page) - page; // a map
        else if (run->kind == HOLDFAST_PAGE_LARGE || run->kind == HOLDFAST_PAGE_RESIDENT ||
                 run->kind == HOLDFAST_PAGE_CLEAN)
            pages = MAX(run->count, 1u);
        compact->cursor += pages;
        if (run != NULL && run->kind == HOLDFAST_PAGE_SLAB && slab_sparse(arena, page, run)) {
            *ret_page = page;
            return true;
        }
    }
    return false;
}

/* Lists the blocks in use: those made so far without those in the free list. */
static int victim_blocks(Arena *arena, Victim *victim)
{
    bool unused[MOVES_MAX] = {0};
    HeapBlock check;
    const HoldfastPage *slab = runs_page(arena, victim->page);
    const SizeClass *class = class_get(slab->class);
    uint64_t base = victim->page * HOLDFAST_PAGE_BYTES;
    victim->class = slab->class;
    // heap_block checks the slab's descriptor.
    int r = heap_block(arena, base, &check);
    if (r != 0)
        return r;
    uint16_t next = slab->free;
    for (unsigned steps = 0; next != 0; steps++) {
        if (next > slab->bump || steps >= slab->bump)
            return arena_damaged(arena, "slab at page %lu: its free list leads nowhere",
                                 (unsigned long)victim->page);
        unused[next - 1] = true;
        memcpy(&next, arena->base + base + (next - 1u) * class->bytes + sizeof(uint64_t),
               sizeof(next));
    }
    for (unsigned i = 0; i < slab->bump; i++)
        if (!unused[i])
            victim->blocks[victim->count++] = base + (uint64_t)i * class->bytes;
    return 0;
}

/* Copies the entry to another block and has its slot lead there. The target may have been freed a
 * moment ago by this very update, so its bytes are saved like any others. */
static int move_entry(Arena *arena, uint64_t offset, unsigned class)
{
    IndexPlace place;
    const HoldfastEntry *entry = NULL;
    uint64_t target = 0;
    int r = entry_at(arena, offset, &entry);
    if (r != 0)
        return r;
    uint64_t hash = index_hash(arena, entry_key(entry));
    r = index_find(arena, hash, entry_key(entry), &place);
    if (r == ARENA_NO_ENTRY || (r == 0 && place.entry != offset) ||
        class_of(entry_bytes(entry)) != class)
        return arena_damaged(arena, "offset %#lx: an entry that its key does not lead to",
                             (unsigned long)offset);
    if (r == 0)
        r = heap_take_class(arena, class, &target);
    if (r != 0)
        return r;
    size_t bytes = entry_bytes(entry);
    void *copy = undo_change(arena, target, bytes, &r);
    if (copy == NULL)
        return r;
    memcpy(copy, entry, bytes);
    r = index_replace(arena, hash, &place, target);
    return r == 0 ? heap_free_class(arena, offset, class) : r;
}

/* Clears one slab. */
static int clear_slab(Arena *arena, const Victim *victim)
{
    // Out of the list, so that nothing moves into it; when its blocks are freed, it goes anyway.
    int r = heap_slab_hide(arena, victim->page, victim->class);
    if (r == 0)
        r = undo_moves(arena);
    for (unsigned i = 0; r == 0 && i < victim->count; i++)
        r = move_entry(arena, victim->blocks[i], victim->class);
    if (r == 0)
        r = heap_slab_show(arena, victim->page, victim->class);
    return r == 0 ? heap_flush(arena) : r;
}

/* Clears slabs as far as credit goes. */
static void compact_run(Arena *arena)
{
    Compact *compact = &arena->compact;
    Victim victim;
    while (compact->credit > 0 && compact_worth(arena)) {
        victim.count = 0;
        if (!find_victim(arena, &victim.page))
            return;
        if (victim_blocks(arena, &victim) != 0)
            return;
        if (victim.count > compact->credit) { // saved up until it is enough
            compact->cursor = victim.page;
            return;
        }
        compact->credit -= victim.count;
        undo_begin(arena);
        int r = clear_slab(arena, &victim);
        if (r != 0) {
            undo_abort(arena);
            return;
        }
        undo_commit(arena);
    }
}

void compact_after(Arena *arena, size_t freed)
{
    Compact *compact = &arena->compact;
    if (_likely_(freed == 0 || arena->held || arena->fault->found || !compact_worth(arena)))
        return;
    compact->credit = MIN(compact->credit + freed * CREDIT_PER_BLOCK, CREDIT_MAX);
    compact_run(arena);
}

void compact_idle(Arena *arena)
{
    Compact *compact = &arena->compact;
    if (arena->held || arena->fault->found || !compact_worth(arena))
        return;
    compact->credit = MAX(compact->credit, CREDIT_IDLE);
    compact_run(arena);
}
