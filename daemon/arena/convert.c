/* Reading an arena of another layout version, entry by entry, into a new one of ours.
 *
 * Normal way through: the memory is mapped read-only and read through the description of its layout
 * (layouts.h), bucket by bucket along the index; entries go into the new arena in updates of some
 * hundred buckets, each with the revision it had. Its allocator's structures are of no interest.
 *
 * What can go wrong: the memory makes no sense. Nothing read from it is believed: every offset is
 * checked against its size, every chain is bounded, and in the end as many entries must have come
 * as its header says. What is larger in the new layout may not fit: then maxBytes is raised, rather
 * than an entry lost. */
#include <stdio.h>
#include <sys/mman.h>

#include "arena/arena.h"
#include "arena/layouts.h"
#include "base/file.h"
#include "base/log.h"

#define BATCH_BUCKETS 256u
#define BATCH_BYTES (16 * MIB)
#define ROOM_BYTES_MIN (16 * MIB)
#define NAME_BYTES 72u

/* The memory that is read. */
typedef struct Source {
    const ArenaLayout *layout;
    const uint8_t *base;
    size_t mapped;
    uint64_t bytes; /* below the high-water mark */
    uint64_t buckets;
    uint64_t entries; /* that came so far, and their bytes */
    uint64_t entry_bytes;
    uint64_t revision;
} Source;

/* Where the new arena stands. */
typedef struct Target {
    Arena *arena;
    uint64_t batch_bytes;
} Target;

/* The bytes there, or NULL where they are not wholly in the memory. */
static const void *source_at(const Source *source, uint64_t offset, uint64_t length)
{
    if (offset > source->bytes || length > source->bytes - offset)
        return NULL;
    return source->base + offset;
}

static uint64_t header_u64(const Source *source, uint32_t offset)
{
    uint64_t value;

    memcpy(&value, source->base + offset, sizeof(value));
    return value;
}

static uint32_t header_u32(const Source *source, uint32_t offset)
{
    uint32_t value;

    memcpy(&value, source->base + offset, sizeof(value));
    return value;
}

/* --- the header */

/* The part that all layouts share, and whether the rest can be read at all. */
static int source_identify(Source *source)
{
    const HoldfastHeader *common = (const HoldfastHeader *)source->base;

    if (memcmp(common->magic, HOLDFAST_ARENA_MAGIC, sizeof(common->magic)) != 0)
        return -EBADMSG;
    source->layout = arena_layout(common->layout_version);
    if (source->layout == NULL ||
        (common->incompatible_flags & ~(uint64_t)source->layout->incompatible_flags) != 0)
        return -EPROTONOSUPPORT;
    if (header_u64(source, source->layout->header.change_counter) % 2 != 0)
        return -EBUSY;
    if (common->state == HOLDFAST_STATE_DROPPED)
        return -ESTALE;
    return common->state == HOLDFAST_STATE_LIVE || common->state == HOLDFAST_STATE_MOVED ? 0
                                                                                         : -EBADMSG;
}

static int source_check(Source *source)
{
    const ArenaLayout *layout = source->layout;
    uint64_t high_water = header_u64(source, layout->header.high_water_pages);
    uint64_t buckets_max = (uint64_t)layout->index.directories * layout->index.directory_segments *
                           layout->index.segment_buckets;

    if (high_water < 2 || high_water > source->mapped / HOLDFAST_PAGE_BYTES)
        return -EBADMSG;
    source->bytes = high_water * HOLDFAST_PAGE_BYTES;
    source->buckets = header_u64(source, layout->header.buckets);
    source->revision = header_u64(source, layout->header.revision);
    /* Buckets lie in the memory, which bounds the loop over them. */
    if (source->buckets == 0 || source->buckets > buckets_max ||
        source->buckets > source->bytes / ((layout->index.slots + 1) * sizeof(uint64_t)))
        return -EBADMSG;
    return 0;
}

static int source_open(Source *source, int fd)
{
    uint64_t bytes = 0;
    int r = file_size(fd, &bytes);

    if (r < 0)
        return r;
    if (bytes < HOLDFAST_PAGE_BYTES || bytes > HOLDFAST_PAGES_MAX * HOLDFAST_PAGE_BYTES)
        return -EBADMSG;
    void *base = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    source->base = base;
    source->mapped = bytes;
    r = source_identify(source);
    return r == 0 ? source_check(source) : r;
}

static void source_close(Source *source)
{
    if (source->base != NULL)
        munmap((void *)(uintptr_t)source->base, source->mapped);
}

/* An empty arena with all that the header says. */
static int make_target(const ArenaContext *context, const Source *source, Target *target)
{
    const ArenaLayout *layout = source->layout;
    const HoldfastHeader *common = (const HoldfastHeader *)source->base;
    uint64_t capacity = header_u64(source, layout->header.capacity_pages);
    char name[NAME_BYTES];
    Identity identity;

    memcpy(name, source->base + layout->header.name, sizeof(name));
    memcpy(&identity, common->identity, sizeof(identity));
    size_t name_bytes = strnlen(name, sizeof(name));
    if (name_bytes == 0 || name_bytes > HOLDFAST_NAME_MAX || capacity > HOLDFAST_PAGES_MAX)
        return -EBADMSG;
    ArenaAttributes attributes = {
        .max_bytes = capacity * HOLDFAST_PAGE_BYTES,
        .uid = header_u32(source, layout->header.uid),
        .gid = header_u32(source, layout->header.gid),
        .mode = header_u32(source, layout->header.mode),
    };
    int r = arena_new(context, name, &identity, &attributes,
                      header_u64(source, layout->header.created_usec),
                      header_u64(source, layout->header.created_revision), &target->arena);
    return r == -EINVAL ? -EBADMSG : r;
}

/* --- the entries */

static int convert_entry(Source *source, Target *target, uint64_t slot)
{
    const ArenaLayout *layout = source->layout;
    uint64_t offset =
        (slot & ((UINT64_C(1) << layout->index.slot_bits) - 1)) * layout->index.slot_unit;
    const uint8_t *entry = source_at(source, offset, layout->entry.bytes);
    uint64_t revision;
    uint32_t value_bytes;
    uint16_t key_bytes;

    if (entry == NULL)
        return -EBADMSG;
    memcpy(&revision, entry + layout->entry.revision, sizeof(revision));
    memcpy(&value_bytes, entry + layout->entry.value_bytes, sizeof(value_bytes));
    memcpy(&key_bytes, entry + layout->entry.key_bytes, sizeof(key_bytes));
    if (revision == 0 || key_bytes == 0 || key_bytes > HOLDFAST_KEY_MAX || value_bytes == 0 ||
        value_bytes > HOLDFAST_VALUE_MAX ||
        source_at(source, offset + layout->entry.bytes, (uint64_t)key_bytes + value_bytes) == NULL)
        return -EBADMSG;
    const uint8_t *key = entry + layout->entry.bytes;
    source->entries++;
    source->entry_bytes += (uint64_t)layout->entry.bytes + key_bytes + value_bytes;
    /* Entries that overlap could make very much out of little. */
    if (source->entry_bytes > source->bytes)
        return -EBADMSG;
    target->batch_bytes += (uint64_t)key_bytes + value_bytes;
    return arena_put(target->arena, BYTES(key, key_bytes), BYTES(key + key_bytes, value_bytes),
                     revision);
}

/* The offset of the bucket of that number. */
static int find_bucket(const Source *source, uint64_t number, uint64_t *ret)
{
    const ArenaLayout *layout = source->layout;
    uint64_t segment = number / layout->index.segment_buckets;
    uint64_t bucket_bytes = (layout->index.slots + 1) * sizeof(uint64_t);
    uint64_t directory = segment / layout->index.directory_segments;
    uint32_t page =
        header_u32(source, layout->header.directories + (uint32_t)(directory * sizeof(uint32_t)));
    const uint8_t *row =
        source_at(source,
                  (uint64_t)page * HOLDFAST_PAGE_BYTES +
                      segment % layout->index.directory_segments * sizeof(uint32_t),
                  sizeof(uint32_t));

    if (page == 0 || row == NULL)
        return -EBADMSG;
    memcpy(&page, row, sizeof(page));
    if (page == 0)
        return -EBADMSG;
    *ret = (uint64_t)page * HOLDFAST_PAGE_BYTES +
           number % layout->index.segment_buckets * bucket_bytes;
    return 0;
}

/* 0, ARENA_FULL and the like from the new arena, or -EBADMSG. */
static int convert_bucket(Source *source, Target *target, uint64_t number)
{
    uint32_t slots = source->layout->index.slots;
    uint64_t offset = 0;
    int r = find_bucket(source, number, &offset);

    for (uint32_t i = 0; r == 0 && offset != 0; i++) {
        const uint8_t *bucket = source_at(source, offset, (slots + 1) * sizeof(uint64_t));
        if (bucket == NULL || i >= source->layout->index.chain_buckets)
            return -EBADMSG;
        for (uint32_t j = 0; r == 0 && j < slots; j++) {
            uint64_t slot;
            memcpy(&slot, bucket + j * sizeof(slot), sizeof(slot));
            if (slot != 0)
                r = convert_entry(source, target, slot);
        }
        memcpy(&offset, bucket + slots * sizeof(offset), sizeof(offset));
    }
    return r;
}

/* --- updates of the new arena */

static int raise_limit(const Source *source, Arena *arena)
{
    ArenaAttributes attributes;

    arena_attributes(arena, &attributes);
    /* The new layout may take more, but not much more than there was. */
    if (attributes.max_bytes / 4 > source->bytes + ROOM_BYTES_MIN)
        return -EBADMSG;
    attributes.max_bytes += MAX(attributes.max_bytes / 8, ROOM_BYTES_MIN);
    log_notice("arena %s: maxBytes raised to %llu, so that all of it fits the new layout",
               arena_name(arena), (unsigned long long)attributes.max_bytes);
    arena_begin(arena);
    int r = arena_change(arena, &attributes);
    if (r == 0)
        r = arena_prepare(arena, source->revision);
    if (r == 0)
        arena_commit(arena);
    else
        arena_abort(arena);
    return r;
}

/* Some buckets from *number on, in one update. */
static int convert_batch(Source *source, Target *target, uint64_t *number)
{
    uint64_t next = *number, entries = source->entries, entry_bytes = source->entry_bytes;
    int r = 0;

    target->batch_bytes = 0;
    arena_begin(target->arena);
    while (r == 0 && next < source->buckets && next < *number + BATCH_BUCKETS &&
           target->batch_bytes < BATCH_BYTES)
        r = convert_bucket(source, target, next++);
    if (r == 0)
        r = arena_prepare(target->arena, source->revision);
    if (r == 0) {
        arena_commit(target->arena);
        *number = next;
        return 0;
    }
    arena_abort(target->arena);
    source->entries = entries;
    source->entry_bytes = entry_bytes;
    return r == ARENA_FULL ? raise_limit(source, target->arena) : r;
}

static int convert_all(Source *source, Target *target)
{
    uint64_t number = 0;
    int r = 0;

    while (r == 0 && number < source->buckets)
        r = convert_batch(source, target, &number);
    /* Also where a key was there twice. */
    if (r == 0 && (source->entries != header_u64(source, source->layout->header.entries) ||
                   arena_entries(target->arena) != source->entries))
        r = -EBADMSG;
    return r > 0 ? -EBADMSG : r;
}

int arena_convert(const ArenaContext *context, int fd, Arena **ret)
{
    Source source = {.layout = NULL};
    Target target = {.arena = NULL};
    int r = source_open(&source, fd);

    if (r == 0)
        r = make_target(context, &source, &target);
    if (r == 0)
        r = convert_all(&source, &target);
    source_close(&source);
    if (r < 0) {
        arena_free(target.arena);
        return r;
    }
    *ret = target.arena;
    return 0;
}

int arena_open_any(const ArenaContext *context, int fd, Arena **ret)
{
    int r = arena_open(context, fd, ret);

    if (r != -EPROTONOSUPPORT)
        return r;
    r = arena_convert(context, fd, ret);
    if (r == 0)
        close(fd);
    return r;
}
