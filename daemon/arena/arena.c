/* The life of an arena: making one, taking one over, what it is, the frame of an update.
 *
 * Normal way through: arena_new makes a memfd, describes the first pages and the index's first
 * buckets by an update like any other; or arena_open takes over a memfd and believes nothing in its
 * header that does not fit together.
 *
 * What can go wrong: see arena.h. After ARENA_DAMAGED the arena takes no more, and everything is as
 * its last commit left it. */
#include "arena/arena.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "arena/header.h"
#include "arena/heap.h"
#include "arena/index.h"
#include "arena/upkeep.h"
#include "base/checksum.h"
#include "base/file.h"

int arena_damaged(const Arena *arena, const char *format, ...)
{
    ArenaFault *fault = arena->fault;
    if (!fault->found) {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(fault->text, sizeof(fault->text), format, arguments);
        va_end(arguments);
        fault->found = true;
    }
    return ARENA_DAMAGED;
}

/* --- making and freeing */

bool arena_name_valid(Bytes name)
{
    if (name.size == 0 || name.size > HOLDFAST_NAME_MAX || !is_alphanumeric(name.data[0]))
        return false;
    for (size_t i = 1; i < name.size; i++)
        if (!is_alphanumeric(name.data[i]) && name.data[i] != '_' && name.data[i] != '.' &&
            name.data[i] != '-')
            return false;
    return true;
}

static bool attributes_valid(const ArenaAttributes *attributes)
{
    uint64_t pages = attributes->max_bytes / HOLDFAST_PAGE_BYTES;
    return attributes->max_bytes >= ARENA_BYTES_MIN && pages <= HOLDFAST_PAGES_MAX &&
           (attributes->mode & ~ARENA_MODE_MASK) == 0;
}

/* An outcome where an errno is due. */
static int outcome_errno(int r)
{
    switch (r) {
    case ARENA_FULL:
        return -ENOSPC;
    case ARENA_DAMAGED:
        return -EBADMSG;
    default:
        return r;
    }
}

static Arena *arena_release(Arena *arena)
{
    if (arena == NULL)
        return NULL;
    if (arena->base != NULL)
        (void)munmap(arena->base, arena->mapped_pages * HOLDFAST_PAGE_BYTES);
    undo_deinit(arena);
#ifdef HOLDFAST_GUARD
    free(arena->opened);
#endif
    free(arena->fault);
    free(arena->upkeep);
    free(arena);
    return NULL;
}

static void arena_releasep(Arena **arena)
{
    arena_release(*arena);
}

/* The object around a memfd, which stays the caller's. */
static int arena_attach(const ArenaContext *context, int fd, uint64_t capacity_pages, Arena **ret)
{
    _cleanup_(arena_releasep) Arena *arena = calloc(1, sizeof(*arena));
    uint64_t bytes = 0;
    if (arena == NULL)
        return -ENOMEM;
    arena->context = *context;
    arena->fd = fd;
    arena->fault = calloc(1, sizeof(*arena->fault));
    if (arena->fault == NULL)
        return -ENOMEM;
    int r = file_size(fd, &bytes);
    if (r == 0)
        r = memory_map(arena, capacity_pages);
    if (r != 0)
        return r;
    arena->file_pages = bytes / HOLDFAST_PAGE_BYTES;
    *ret = TAKE_PTR(arena);
    return 0;
}

/* The first header, and behind it what every arena has. */
static int arena_format(Arena *arena, const char *name, const Identity *identity,
                        const ArenaAttributes *attributes, uint64_t created_usec,
                        uint64_t created_revision)
{
    int r = 0;
    undo_begin(arena);
    HoldfastHeader *header = undo_fresh(arena, 0, sizeof(*header), &r);
    if (header == NULL)
        return r;
    memcpy(header->magic, HOLDFAST_ARENA_MAGIC, sizeof(header->magic));
    header->layout_version = HOLDFAST_LAYOUT_VERSION;
    header->state = HOLDFAST_STATE_LIVE;
    memcpy(header->identity, identity->bytes, sizeof(header->identity));
    header->hash_seed = checksum(identity->bytes, sizeof(identity->bytes));
    header->created_usec = created_usec;
    header->created_revision = created_revision;
    header->generation = 1;
    header->uid = attributes->uid;
    header->gid = attributes->gid;
    header->mode = attributes->mode;
    memcpy(header->name, name, strlen(name));
    header->counters.capacity_pages = attributes->max_bytes / HOLDFAST_PAGE_BYTES;
    header->counters.high_water_pages = HEADER_FIRST_PAGES;
    header->counters.used_pages = HEADER_FIRST_PAGES;
    r = runs_create(arena);
    if (r == 0)
        r = index_create(arena);
    if (r == 0)
        undo_commit(arena);
    return outcome_errno(r);
}

int arena_new(const ArenaContext *context, const char *name, const Identity *identity,
              const ArenaAttributes *attributes, uint64_t created_usec, uint64_t created_revision,
              Arena **ret)
{
    _cleanup_(arena_releasep) Arena *arena = NULL;
    _cleanup_(closep) int fd = -1;
    char memfd_name[sizeof("holdfast-") + HOLDFAST_NAME_MAX];
    size_t name_bytes = strlen(name);

    if (!attributes_valid(attributes) || name_bytes == 0 || name_bytes > HOLDFAST_NAME_MAX)
        return -EINVAL;
    (void)snprintf(memfd_name, sizeof(memfd_name), "holdfast-%s", name);
    int r = file_memfd(memfd_name, MIN(attributes->max_bytes, MIB), &fd);
    if (r != 0)
        return r;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return -errno;
    r = arena_attach(context, fd, attributes->max_bytes / HOLDFAST_PAGE_BYTES, &arena);
    if (r == 0)
        r = arena_format(arena, name, identity, attributes, created_usec, created_revision);
    if (r == 0)
        r = upkeep_new(arena);
    if (r != 0)
        return r;
    (void)TAKE_FD(fd);
    *ret = TAKE_PTR(arena);
    return 0;
}

static void arena_end(Arena *arena, bool dropped)
{
    if (arena->undo.open)
        undo_abort(arena);
    upkeep_free(arena, dropped);
    arena->upkeep = NULL;
    arena->base = NULL;
    arena_release(arena);
}

Arena *arena_free(Arena *arena)
{
    if (arena != NULL)
        arena_end(arena, false);
    return NULL;
}

int arena_set_dropped(Arena *arena)
{
    return undo_set_u32(arena, offsetof(HoldfastHeader, state), HOLDFAST_STATE_DROPPED);
}

void arena_drop(Arena *arena)
{
    if (arena->undo.open)
        undo_abort(arena);
    if (arena_header(arena)->state != HOLDFAST_STATE_DROPPED) {
        undo_begin(arena);
        if (arena_set_dropped(arena) == 0)
            undo_commit(arena);
        else
            undo_abort(arena);
    }
    // A checkpoint still reads the pages; they go with the last descriptor.
    arena_end(arena, !arena->held);
}

void arena_discard(const ArenaContext *context, int fd)
{
    const uint32_t state = HOLDFAST_STATE_DROPPED;
    // In one store, past all that this process may have mapped of it. Should it fail, the pages go.
    (void)file_write_at(fd, &state, sizeof(state), offsetof(HoldfastHeader, state));
    upkeep_discard(context, fd);
}

void arena_set_barrier(Arena *arena, const ArenaBarrier *barrier)
{
    arena->barrier = barrier != NULL ? *barrier : (ArenaBarrier){0};
}

/* --- taking over */

/* Takes the arena into service: one more generation, live, runs caught in the middle of being
 * punched free again. */
static int arena_revive(Arena *arena)
{
    undo_begin(arena);
    uint64_t generation = arena_header(arena)->generation + 1;
    int r = undo_set_u64(arena, offsetof(HoldfastHeader, generation), generation);
    if (r == 0)
        r = undo_set_u32(arena, offsetof(HoldfastHeader, state), HOLDFAST_STATE_LIVE);
    if (r == 0)
        r = upkeep_recover(arena);
    if (r == 0)
        undo_commit(arena);
    else
        undo_abort(arena);
    return outcome_errno(r);
}

int arena_open(const ArenaContext *context, int fd, Arena **ret)
{
    _cleanup_(arena_releasep) Arena *arena = NULL;
    HoldfastHeader header;
    uint64_t bytes = 0;
    int r = file_size(fd, &bytes);
    if (r == 0)
        r = header_read(fd, &header);
    if (r == 0)
        r = header_check(&header, bytes / HOLDFAST_PAGE_BYTES);
    if (r != 0)
        return r;
    // Ours are sealed already, so this fails; one that was filled from an image is sealed here.
    (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL);
    uint64_t pages = MAX(header.counters.capacity_pages, bytes / HOLDFAST_PAGE_BYTES);
    r = arena_attach(context, fd, pages, &arena);
    // Whatever was looked at above may have changed since, where the memfd was not ours alone.
    if (r == 0)
        r = header_check(arena_header(arena), arena->file_pages);
    if (r == 0 && arena_header(arena)->counters.capacity_pages > arena->mapped_pages)
        r = -EBADMSG;
    if (r == 0)
        r = arena_revive(arena);
    if (r == 0)
        r = upkeep_new(arena);
    if (r != 0)
        return r;
    upkeep_touch(arena);
    *ret = TAKE_PTR(arena);
    return 0;
}

/* --- what it is */

const char *arena_name(const Arena *arena)
{
    return arena_header(arena)->name;
}

const Identity *arena_identity(const Arena *arena)
{
    return (const Identity *)arena_header(arena)->identity;
}

void arena_attributes(const Arena *arena, ArenaAttributes *ret)
{
    const HoldfastHeader *header = arena_header(arena);
    *ret = (ArenaAttributes){
        .max_bytes = header->counters.capacity_pages * HOLDFAST_PAGE_BYTES,
        .uid = header->uid,
        .gid = header->gid,
        .mode = header->mode,
    };
}

uint64_t arena_created_usec(const Arena *arena)
{
    return arena_header(arena)->created_usec;
}

uint64_t arena_created_revision(const Arena *arena)
{
    return arena_header(arena)->created_revision;
}

uint64_t arena_revision(const Arena *arena)
{
    return arena_header(arena)->counters.revision;
}

uint64_t arena_entries(const Arena *arena)
{
    return arena_header(arena)->counters.entries;
}

uint64_t arena_used_bytes(const Arena *arena)
{
    return arena_header(arena)->counters.used_pages * HOLDFAST_PAGE_BYTES;
}

uint64_t arena_high_water_pages(const Arena *arena)
{
    return arena_header(arena)->counters.high_water_pages;
}

uint64_t arena_capacity_pages(const Arena *arena)
{
    return arena_header(arena)->counters.capacity_pages;
}

int arena_fd(const Arena *arena)
{
    return arena->fd;
}

const void *arena_page(const Arena *arena, uint64_t page)
{
    return arena->base + page * HOLDFAST_PAGE_BYTES;
}

const char *arena_damage(const Arena *arena)
{
    return arena->fault->found ? arena->fault->text : NULL;
}

/* --- the frame of an update */

void arena_begin(Arena *arena)
{
    undo_begin(arena);
}

int arena_change(Arena *arena, const ArenaAttributes *attributes)
{
    int r = 0;
    uint64_t pages = attributes->max_bytes / HOLDFAST_PAGE_BYTES;
    if (arena->fault->found)
        return ARENA_DAMAGED;
    if (!attributes_valid(attributes))
        return -EINVAL;
    if (pages < arena_header(arena)->counters.high_water_pages)
        return ARENA_FULL;
    if (pages > arena->mapped_pages)
        r = memory_map(arena, pages);
    if (r != 0)
        return r;
    uint32_t *rights = undo_change(arena, offsetof(HoldfastHeader, uid), 3 * sizeof(*rights), &r);
    if (rights == NULL)
        return r;
    rights[0] = attributes->uid;
    rights[1] = attributes->gid;
    rights[2] = attributes->mode;
    HoldfastCounters *counters = undo_counters(arena, &r);
    if (counters != NULL)
        counters->capacity_pages = pages;
    return r;
}

int arena_prepare(Arena *arena, uint64_t revision)
{
    if (arena->fault->found)
        return ARENA_DAMAGED;
    int r = heap_flush(arena);
    if (r != 0)
        return r;
    HoldfastCounters *counters = undo_counters(arena, &r);
    if (counters != NULL)
        counters->revision = revision;
    return r;
}

void arena_commit(Arena *arena)
{
    size_t freed = undo_freed_count(&arena->undo);
    undo_commit(arena);
    if (arena_header(arena)->state == HOLDFAST_STATE_DROPPED)
        return;
    compact_after(arena, freed);
    upkeep_populate(arena);
}

void arena_abort(Arena *arena)
{
    undo_abort(arena);
}
