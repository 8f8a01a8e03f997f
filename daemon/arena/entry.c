/* Putting, finding, deleting entries.
 *
 * Normal way through a put: find the key's slot; a new entry may first have the index grow by a
 * bucket; write the entry into a fresh block, or over the old one where it fits; set the slot; have
 * the old block freed at the update's end. Revisions are published at the commit, so readers in
 * other processes see an entry that is being written as such.
 *
 * What can go wrong is listed at arena.h's outcomes; after any failure arena_abort puts all back.
 */
#include "arena/entry.h"

#include "arena/heap.h"
#include "arena/index.h"

int entry_at(const Arena *arena, uint64_t offset, const HoldfastEntry **ret)
{
    const HoldfastEntry *entry = memory_at(arena, offset, sizeof(*entry));
    if (_unlikely_(entry == NULL || offset % 8 != 0 || entry->key_bytes == 0 ||
                   entry->key_bytes > HOLDFAST_KEY_MAX || entry->value_bytes == 0 ||
                   entry->value_bytes > HOLDFAST_VALUE_MAX ||
                   memory_at(arena, offset, entry_bytes(entry)) == NULL))
        return arena_damaged(arena, "offset %#lx: no entry", (unsigned long)offset);
    if (_unlikely_(entry->revision == 0 && (entry->flags & HOLDFAST_ENTRY_PENDING) == 0))
        return arena_damaged(arena, "offset %#lx: a free block in use", (unsigned long)offset);
    *ret = entry;
    return 0;
}

int arena_find(const Arena *arena, Bytes key, ArenaEntry *ret)
{
    IndexPlace place;
    const HoldfastEntry *entry = NULL;
    if (arena->fault->found)
        return ARENA_DAMAGED;
    int r = index_find(arena, index_hash(arena, key), key, &place);
    if (r == 0)
        r = entry_at(arena, place.entry, &entry);
    if (r != 0)
        return r;
    *ret = (ArenaEntry){
        .key = entry_key(entry),
        .value = entry_value(entry),
        .revision = entry->revision != 0 ? entry->revision : arena->undo.revision,
    };
    return 0;
}

static int count_entries(Arena *arena, int64_t entries, int64_t bytes)
{
    int r = 0;
    HoldfastCounters *counters = undo_counters(arena, &r);
    if (counters == NULL)
        return r;
    counters->entries += (uint64_t)entries;
    counters->live_bytes += (uint64_t)bytes;
    return 0;
}

/* Fills a fresh block, whose first 16 bytes are saved and zero. */
static int entry_write(Arena *arena, uint64_t offset, Bytes key, Bytes value)
{
    int r = 0;
    size_t bytes = sizeof(HoldfastEntry) + key.size + value.size;
    HoldfastEntry *entry = undo_fresh(arena, offset, bytes, &r);
    if (entry == NULL)
        return r;
    entry->value_bytes = (uint32_t)value.size;
    entry->key_bytes = (uint16_t)key.size;
    entry->flags = HOLDFAST_ENTRY_PENDING;
    memcpy(entry + 1, key.data, key.size);
    memcpy((char *)(entry + 1) + key.size, value.data, value.size);
    return 0;
}

/* Makes an entry in a fresh block. */
static int entry_new(Arena *arena, Bytes key, Bytes value, uint64_t revision, uint64_t *ret_offset)
{
    size_t bytes = sizeof(HoldfastEntry) + key.size + value.size;
    int r = heap_take(arena, bytes, ret_offset);
    if (r == 0)
        r = entry_write(arena, *ret_offset, key, value);
    return r == 0 ? undo_publish(arena, *ret_offset, revision) : r;
}

/* Writes another value over the entry's, in the same block. The revision is saved and zeroed before
 * anything else, so it comes back after everything else. */
static int entry_overwrite(Arena *arena, uint64_t offset, Bytes value, uint64_t revision)
{
    const HoldfastEntry *old = (const HoldfastEntry *)(arena->base + offset);
    size_t value_at = sizeof(*old) + old->key_bytes;
    int r = undo_set_u64(arena, offset, 0);
    if (r != 0)
        return r;
    // Readers must see the revision go before they see any of the new bytes.
    __atomic_thread_fence(__ATOMIC_RELEASE);
    HoldfastEntry *entry = undo_change(arena, offset, sizeof(*entry), &r);
    if (entry == NULL)
        return r;
    entry->value_bytes = (uint32_t)value.size;
    entry->flags |= HOLDFAST_ENTRY_PENDING;
    void *bytes = undo_change(arena, offset + value_at, value.size, &r);
    if (bytes == NULL)
        return r;
    memcpy(bytes, value.data, value.size);
    return undo_publish(arena, offset, revision);
}

static int entry_replace(Arena *arena, uint64_t hash, const IndexPlace *place, Bytes key,
                         Bytes value, uint64_t revision)
{
    const HoldfastEntry *old = NULL;
    uint64_t offset = 0;
    int r = entry_at(arena, place->entry, &old);
    if (r != 0)
        return r;
    size_t old_bytes = entry_bytes(old);
    size_t bytes = sizeof(*old) + key.size + value.size;
    unsigned class = class_of(bytes);
    if (class == class_of(old_bytes) && class != CLASS_LARGE &&
        class_get(class)->bytes <= ENTRY_IN_PLACE_MAX) {
        HeapBlock block;
        r = heap_block(arena, place->entry, &block);
        if (r == 0 && block.class != class)
            r = arena_damaged(arena, "offset %#lx: an entry in a block of another size",
                              (unsigned long)place->entry);
        if (r == 0)
            r = entry_overwrite(arena, place->entry, value, revision);
    } else {
        r = entry_new(arena, key, value, revision, &offset);
        if (r == 0)
            r = index_replace(arena, hash, place, offset);
        if (r == 0)
            r = heap_free(arena, place->entry, old_bytes);
    }
    return r == 0 ? count_entries(arena, 0, (int64_t)bytes - (int64_t)old_bytes) : r;
}

static int entry_insert(Arena *arena, uint64_t hash, IndexPlace *place, Bytes key, Bytes value,
                        uint64_t revision)
{
    uint64_t offset = 0;
    size_t bytes = sizeof(HoldfastEntry) + key.size + value.size;
    uint64_t buckets = arena_header(arena)->counters.buckets;
    int r = index_grow(arena);
    if (r == 0 && arena_header(arena)->counters.buckets != buckets) {
        r = index_find(arena, hash, key, place); // the key's bucket may be the one that was split
        r = r == ARENA_NO_ENTRY ? 0 : r;
    }
    if (r == 0)
        r = entry_new(arena, key, value, revision, &offset);
    if (r == 0)
        r = index_insert(arena, hash, place, offset);
    return r == 0 ? count_entries(arena, 1, (int64_t)bytes) : r;
}

int arena_put(Arena *arena, Bytes key, Bytes value, uint64_t revision)
{
    IndexPlace place;
    if (arena->fault->found)
        return ARENA_DAMAGED;
    if (key.size == 0 || key.size > HOLDFAST_KEY_MAX || value.size == 0 ||
        value.size > HOLDFAST_VALUE_MAX || revision == 0)
        return -EINVAL;
    uint64_t hash = index_hash(arena, key);
    int r = index_find(arena, hash, key, &place);
    if (r == ARENA_NO_ENTRY)
        return entry_insert(arena, hash, &place, key, value, revision);
    return r == 0 ? entry_replace(arena, hash, &place, key, value, revision) : r;
}

int arena_delete(Arena *arena, Bytes key)
{
    IndexPlace place;
    const HoldfastEntry *entry = NULL;
    if (arena->fault->found)
        return ARENA_DAMAGED;
    uint64_t hash = index_hash(arena, key);
    int r = index_find(arena, hash, key, &place);
    if (r == 0)
        r = entry_at(arena, place.entry, &entry);
    if (r != 0)
        return r;
    size_t bytes = entry_bytes(entry);
    r = index_remove(arena, hash, &place);
    if (r == 0)
        r = heap_free(arena, place.entry, bytes);
    if (r == 0)
        r = count_entries(arena, -1, -(int64_t)bytes);
    return r == 0 ? index_shrink(arena) : r;
}
