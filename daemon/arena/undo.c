/* The undo log: whatever changes in an arena changes here.
 *
 * Normal way through: undo_begin; many undo_change; undo_commit. The first change saves the
 * counters and makes the header's change counter odd. The log holds, for each change, the old bytes
 * (padded to 8) and a record of where they belong, so that it can be read from its end. undo_abort
 * does so.
 *
 * What can go wrong: the barrier has no room (ARENA_BUSY), no private memory for the log (-ENOMEM),
 * an offset outside of the memfd (ARENA_DAMAGED). Then nothing was written by that call, and the
 * caller is to abort.
 *
 * In a build with HOLDFAST_GUARD the mapping is read-only, and a page is writable only from here to
 * the update's end. */
#include "arena/internal.h"

#ifdef HOLDFAST_GUARD
#include <sys/mman.h>
#endif

#include "base/pool.h"

#define UNDO_KEEP_BYTES (256 * KIB)
#define GUARD_RANGES_MAX 8192u

typedef struct UndoRecord {
    uint64_t offset;
    uint64_t length;
} UndoRecord;

/* --- vectors */

static void *vector_append(Arena *arena, UndoVector *vector, size_t size)
{
    if (_unlikely_(vector->size - vector->used < size)) {
        size_t want = MAX(vector->used + size, 2 * vector->size);
        void *grown = vector->data == NULL
                          ? pool_take(arena->context.pool, want, &vector->size)
                          : pool_grow(arena->context.pool, vector->data, vector->size, vector->used,
                                      want, &vector->size);
        if (grown == NULL)
            return NULL;
        vector->data = grown;
    }
    void *room = vector->data + vector->used;
    vector->used += size;
    return room;
}

static void vector_release(Arena *arena, UndoVector *vector)
{
    pool_give(arena->context.pool, vector->data, vector->size);
    *vector = (UndoVector){0};
}

static void vector_clear(Arena *arena, UndoVector *vector)
{
    vector->used = 0;
    if (vector->size > UNDO_KEEP_BYTES)
        vector_release(arena, vector);
}

void undo_deinit(Arena *arena)
{
    vector_release(arena, &arena->undo.log);
    vector_release(arena, &arena->undo.freed);
    vector_release(arena, &arena->undo.pending);
}

/* --- the guard */

#ifdef HOLDFAST_GUARD
static void guard_protect(Arena *arena, const struct GuardRange *range, int protection)
{
    if (mprotect(arena->base + range->first * HOLDFAST_PAGE_BYTES,
                 range->pages * HOLDFAST_PAGE_BYTES, protection) < 0)
        abort(); // a debugging build that can't guard is of no use
}

static void guard_close(Arena *arena, size_t count)
{
    for (size_t i = 0; i < count; i++)
        guard_protect(arena, &arena->opened[i], PROT_READ);
    arena->opened_count -= count;
    memmove(arena->opened, arena->opened + count, arena->opened_count * sizeof(*arena->opened));
}

/* The kernel bounds the number of mappings (vm.max_map_count): what was opened long ago is closed
 * early, and asked for again where it is needed again. */
static void guard_open(Arena *arena, uint64_t first, uint64_t pages)
{
    if (arena->opened == NULL)
        arena->opened = calloc(GUARD_RANGES_MAX, sizeof(*arena->opened));
    if (arena->opened == NULL)
        abort();
    if (arena->opened_count == GUARD_RANGES_MAX) {
        guard_close(arena, GUARD_RANGES_MAX / 2);
        for (size_t i = 0; i < arena->opened_count; i++) // what stays may overlap with what went
            guard_protect(arena, &arena->opened[i], PROT_READ | PROT_WRITE);
        arena->undo.update++;
    }
    struct GuardRange range = {.first = first, .pages = pages};
    guard_protect(arena, &range, PROT_READ | PROT_WRITE);
    arena->opened[arena->opened_count++] = range;
}

static void guard_close_all(Arena *arena)
{
    guard_close(arena, arena->opened_count);
}
#else
static void guard_open(Arena *arena, uint64_t first, uint64_t pages)
{
    (void)arena;
    (void)first;
    (void)pages;
}

static void guard_close_all(Arena *arena)
{
    (void)arena;
}
#endif

/* --- changing */

void undo_begin(Arena *arena)
{
    assert(!arena->undo.open);
    arena->undo.open = true;
    arena->undo.started = false;
    arena->undo.update++;
}

/* Has the barrier agree to a change of these pages. */
static int undo_ask(Arena *arena, uint64_t first, uint64_t pages)
{
    Undo *undo = &arena->undo;
    unsigned way = (unsigned)(first % UNDO_ASKED);
    if (pages == 1 && undo->asked[way].page == first && undo->asked[way].update == undo->update)
        return 0;
    if (arena->barrier.change != NULL) {
        int r = arena->barrier.change(arena->barrier.context, first, pages);
        if (_unlikely_(r != 0))
            return r == -EAGAIN ? ARENA_BUSY : r;
    }
    guard_open(arena, first, pages);
    if (pages == 1) {
        undo->asked[way].page = first;
        undo->asked[way].update = undo->update;
    }
    return 0;
}

/* Asks the barrier for the bytes' pages. */
static int undo_ask_bytes(Arena *arena, uint64_t offset, size_t length)
{
    uint64_t first = offset / HOLDFAST_PAGE_BYTES;
    uint64_t last = (offset + length - 1) / HOLDFAST_PAGE_BYTES;
    return undo_ask(arena, first, last - first + 1);
}

static int undo_save(Arena *arena, uint64_t offset, size_t length)
{
    size_t padded = ALIGN_UP(length, 8);
    uint8_t *room = vector_append(arena, &arena->undo.log, padded + sizeof(UndoRecord));
    if (_unlikely_(room == NULL))
        return -ENOMEM;
    UndoRecord record = {.offset = offset, .length = length};
    memcpy(room, arena->base + offset, length);
    memcpy(room + padded, &record, sizeof(record));
    return 0;
}

static HoldfastHeader *undo_header(Arena *arena)
{
    return (HoldfastHeader *)arena->base;
}

/* Before the first change of an update. */
static int undo_start(Arena *arena)
{
    assert(arena->undo.open);
    int r = undo_ask(arena, 0, 1);
    if (r != 0)
        return r;
    r = undo_save(arena, offsetof(HoldfastHeader, counters), sizeof(HoldfastCounters));
    if (r != 0)
        return r;
    HoldfastHeader *header = undo_header(arena);
    __atomic_store_n(&header->change_counter, header->change_counter + 1, __ATOMIC_RELAXED);
    // Readers must see the odd counter before any change that follows.
    __atomic_thread_fence(__ATOMIC_RELEASE);
    arena->undo.started = true;
    return 0;
}

/* Common to all changes: the update is started, the bytes exist, their pages may change. */
static int undo_prepare_bytes(Arena *arena, uint64_t offset, size_t length)
{
    if (_unlikely_(!arena->undo.started)) {
        int r = undo_start(arena);
        if (r != 0)
            return r;
    }
    uint64_t end = arena->file_pages * HOLDFAST_PAGE_BYTES;
    if (_unlikely_(length == 0 || offset > end || length > end - offset))
        return arena_damaged(arena, "change of %zu bytes at offset %#lx: outside of the arena",
                             length, (unsigned long)offset);
    return undo_ask_bytes(arena, offset, length);
}

void *undo_change(Arena *arena, uint64_t offset, size_t length, int *ret)
{
    int r = undo_prepare_bytes(arena, offset, length);
    if (_likely_(r == 0))
        r = undo_save(arena, offset, length);
    if (_unlikely_(r != 0)) {
        *ret = r;
        return NULL;
    }
    return arena->base + offset;
}

void *undo_fresh(Arena *arena, uint64_t offset, size_t length, int *ret)
{
    int r = undo_prepare_bytes(arena, offset, length);
    if (_unlikely_(r != 0)) {
        *ret = r;
        return NULL;
    }
    return arena->base + offset;
}

HoldfastCounters *undo_counters(Arena *arena, int *ret)
{
    // undo_start saved them; the page is asked for again only where a guard closed it early.
    int r = undo_prepare_bytes(arena, offsetof(HoldfastHeader, counters), sizeof(HoldfastCounters));
    if (_unlikely_(r != 0)) {
        *ret = r;
        return NULL;
    }
    return &undo_header(arena)->counters;
}

/* Not put back by an abort: the counter only ever grows. */
static void count_abort(HoldfastHeader *header)
{
    __atomic_store_n(&header->abort_counter, header->abort_counter + 1, __ATOMIC_RELAXED);
    // Readers must see the counter move before they see anything that follows.
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

int undo_moves(Arena *arena)
{
    int r = undo_prepare_bytes(arena, offsetof(HoldfastHeader, abort_counter), sizeof(uint64_t));
    if (_likely_(r == 0))
        count_abort(undo_header(arena));
    return r;
}

int undo_publish(Arena *arena, uint64_t offset, uint64_t revision)
{
    UndoPending *pending = vector_append(arena, &arena->undo.pending, sizeof(*pending));
    if (pending == NULL)
        return -ENOMEM;
    *pending = (UndoPending){.offset = offset, .revision = revision};
    arena->undo.revision = revision;
    return 0;
}

int undo_free(Arena *arena, const UndoFreed *freed)
{
    UndoFreed *room = vector_append(arena, &arena->undo.freed, sizeof(*room));
    if (room == NULL)
        return -ENOMEM;
    *room = *freed;
    return 0;
}

int undo_set_u32(Arena *arena, uint64_t offset, uint32_t value)
{
    int r = 0;
    uint32_t *number = undo_change(arena, offset, sizeof(*number), &r);
    if (number != NULL)
        *number = value;
    return r;
}

int undo_set_u64(Arena *arena, uint64_t offset, uint64_t value)
{
    int r = 0;
    uint64_t *number = undo_change(arena, offset, sizeof(*number), &r);
    if (number != NULL)
        // Slots are set with this: a reader that sees the slot must see the entry.
        __atomic_store_n(number, value, __ATOMIC_RELEASE);
    return r;
}

/* --- the end of an update */

static void undo_close(Arena *arena)
{
    Undo *undo = &arena->undo;
    guard_close_all(arena);
    vector_clear(arena, &undo->log);
    vector_clear(arena, &undo->freed);
    vector_clear(arena, &undo->pending);
    undo->open = false;
    undo->started = false;
}

/* Makes a page writable again that a guard closed early; the barrier agreed to it in this update.
 */
static void undo_reopen(Arena *arena, uint64_t offset, size_t length)
{
#ifdef HOLDFAST_GUARD
    uint64_t first = offset / HOLDFAST_PAGE_BYTES;
    uint64_t last = (offset + length - 1) / HOLDFAST_PAGE_BYTES;
    guard_open(arena, first, last - first + 1);
#else
    (void)arena;
    (void)offset;
    (void)length;
#endif
}

static void undo_rest(Arena *arena)
{
    HoldfastHeader *header = undo_header(arena);
    undo_reopen(arena, 0, sizeof(*header));
    __atomic_store_n(&header->change_counter, header->change_counter + 1, __ATOMIC_RELEASE);
}

void undo_commit(Arena *arena)
{
    Undo *undo = &arena->undo;
    assert(undo->open);
    for (size_t at = 0; at < undo->pending.used; at += sizeof(UndoPending)) {
        const UndoPending *pending = (const UndoPending *)(undo->pending.data + at);
        HoldfastEntry *entry = (HoldfastEntry *)(arena->base + pending->offset);
        // Written again, deleted or replaced later in this update: it is published already or a
        // free block.
        if ((entry->flags & HOLDFAST_ENTRY_PENDING) == 0)
            continue;
        undo_reopen(arena, pending->offset, sizeof(*entry));
        entry->flags &= (uint8_t)~HOLDFAST_ENTRY_PENDING;
        __atomic_store_n(&entry->revision, pending->revision, __ATOMIC_RELEASE);
    }
    if (undo->started)
        undo_rest(arena);
    undo_close(arena);
}

/* Entries' revisions were saved before the bytes behind them, so they come back after them: a
 * reader that sees the old revision sees the old bytes. */
static void undo_restore(Arena *arena, const UndoRecord *record, const uint8_t *bytes)
{
    undo_reopen(arena, record->offset, record->length);
    uint8_t *to = arena->base + record->offset;
    if (record->length == sizeof(uint64_t) && record->offset % sizeof(uint64_t) == 0) {
        uint64_t number;
        memcpy(&number, bytes, sizeof(number));
        __atomic_store_n((uint64_t *)to, number, __ATOMIC_RELEASE);
    } else {
        memcpy(to, bytes, record->length);
    }
}

void undo_abort(Arena *arena)
{
    Undo *undo = &arena->undo;
    assert(undo->open);
    if (undo->started) {
        HoldfastHeader *header = undo_header(arena);
        undo_reopen(arena, 0, sizeof(*header));
        count_abort(header);
        for (size_t end = undo->log.used; end > 0;) {
            UndoRecord record;
            memcpy(&record, undo->log.data + end - sizeof(record), sizeof(record));
            end -= sizeof(record) + ALIGN_UP(record.length, 8);
            undo_restore(arena, &record, undo->log.data + end);
        }
        undo_rest(arena);
    }
    undo_close(arena);
}
