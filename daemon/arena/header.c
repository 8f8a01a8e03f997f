/* Reading and checking headers. Counters and roots are checked against the file's size and against
 * each other once, here; from then on they are believed, and all that they lead to is checked where
 * it is followed.
 *
 * What can go wrong: the memory is no arena, or does not fit together (-EBADMSG). */
#include "arena/header.h"

#include "arena/layouts.h"
#include "arena/runs.h"
#include "base/checksum.h"
#include "base/file.h"

#define ENTRY_BYTES_MIN (sizeof(HoldfastEntry) + 2)

static bool header_is_one(const HoldfastHeader *header)
{
    return memcmp(header->magic, HOLDFAST_ARENA_MAGIC, sizeof(header->magic)) == 0;
}

static bool header_name_valid(const HoldfastHeader *header)
{
    size_t bytes = strnlen(header->name, sizeof(header->name));
    return bytes > 0 && bytes <= HOLDFAST_NAME_MAX;
}

int header_read(int fd, HoldfastHeader *ret)
{
    int r = file_read_at(fd, ret, sizeof(*ret), 0);
    if (r == -ENODATA)
        return -EBADMSG;
    if (r != 0)
        return r;
    return header_is_one(ret) ? 0 : -EBADMSG;
}

static bool counters_valid(const HoldfastCounters *counters, uint64_t file_pages)
{
    uint64_t high_water = counters->high_water_pages;
    return counters->capacity_pages >= ARENA_BYTES_MIN / HOLDFAST_PAGE_BYTES &&
           counters->capacity_pages <= HOLDFAST_PAGES_MAX && high_water > HEADER_FIRST_PAGES &&
           high_water <= counters->capacity_pages && high_water <= file_pages &&
           counters->used_pages <= high_water && counters->resident_pages <= high_water &&
           counters->clean_pages <= high_water && counters->punching_pages <= high_water &&
           counters->used_pages + counters->resident_pages + counters->clean_pages +
                   counters->punching_pages ==
               high_water &&
           counters->entries <= high_water * HOLDFAST_PAGE_BYTES / ENTRY_BYTES_MIN &&
           counters->live_bytes <= high_water * HOLDFAST_PAGE_BYTES &&
           counters->block_bytes <= high_water * HOLDFAST_PAGE_BYTES &&
           counters->slab_pages <= high_water && counters->buckets >= HOLDFAST_BUCKETS_MIN &&
           counters->buckets <= HOLDFAST_BUCKETS_MAX;
}

static bool pages_valid(const uint32_t *pages, size_t count, uint64_t high_water)
{
    for (size_t i = 0; i < count; i++)
        if (pages[i] != 0 && (pages[i] >= high_water || pages[i] < runs_chunk_first(pages[i])))
            return false;
    return true;
}

static bool roots_valid(const HoldfastHeader *header)
{
    uint64_t high_water = header->counters.high_water_pages;
    uint64_t segments = DIVIDE_UP(header->counters.buckets, HOLDFAST_SEGMENT_BUCKETS);
    uint64_t directories = DIVIDE_UP(segments, HOLDFAST_DIRECTORY_SEGMENTS);
    for (size_t i = 0; i < directories; i++)
        if (header->directories[i] == 0)
            return false;
    uint64_t bins = (UINT64_C(1) << HOLDFAST_RUN_BINS) - 1;
    return (header->resident_bins & ~bins) == 0 && (header->clean_bins & ~bins) == 0 &&
           pages_valid(header->directories, ARRAY_SIZE(header->directories), high_water) &&
           pages_valid(header->slabs, ARRAY_SIZE(header->slabs), high_water) &&
           pages_valid(header->resident_runs, ARRAY_SIZE(header->resident_runs), high_water) &&
           pages_valid(header->clean_runs, ARRAY_SIZE(header->clean_runs), high_water) &&
           pages_valid(header->punching, ARRAY_SIZE(header->punching), high_water);
}

int header_check(const HoldfastHeader *header, uint64_t file_pages)
{
    if (header->layout_version != HOLDFAST_LAYOUT_VERSION || header->incompatible_flags != 0)
        return -EPROTONOSUPPORT;
    if (header->change_counter % 2 != 0)
        return -EBUSY;
    if (header->state == HOLDFAST_STATE_DROPPED)
        return -ESTALE;
    if ((header->state != HOLDFAST_STATE_LIVE && header->state != HOLDFAST_STATE_MOVED) ||
        !header_name_valid(header) || (header->mode & ~ARENA_MODE_MASK) != 0 ||
        header->hash_seed != checksum(header->identity, sizeof(header->identity)) ||
        !counters_valid(&header->counters, file_pages) || !roots_valid(header))
        return -EBADMSG;
    return 0;
}

int arena_peek(int fd, ArenaPeek *ret)
{
    union {
        HoldfastHeader common; /* of other layouts only what all share */
        uint8_t bytes[HOLDFAST_PAGE_BYTES];
    } page;
    int r = header_read(fd, &page.common);
    if (r != 0)
        return r;
    ArenaPeek peek = {.layout_version = page.common.layout_version, .state = page.common.state};
    memcpy(peek.identity.bytes, page.common.identity, sizeof(page.common.identity));
    const ArenaLayout *layout = arena_layout(peek.layout_version);
    if (layout != NULL) {
        uint64_t change_counter;
        size_t name_bytes =
            strnlen((const char *)page.bytes + layout->header.name, sizeof(page.common.name));
        if (name_bytes == 0 || name_bytes > HOLDFAST_NAME_MAX)
            return -EBADMSG;
        memcpy(peek.name, page.bytes + layout->header.name, name_bytes);
        memcpy(&peek.revision, page.bytes + layout->header.revision, sizeof(peek.revision));
        memcpy(&peek.generation, page.bytes + layout->header.generation, sizeof(peek.generation));
        memcpy(&change_counter, page.bytes + layout->header.change_counter, sizeof(change_counter));
        peek.mid_update = change_counter % 2 != 0;
    }
    *ret = peek;
    return 0;
}
