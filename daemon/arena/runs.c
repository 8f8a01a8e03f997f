/* Runs of pages.
 *
 * Normal way through: runs_take looks for a free run, resident ones first (no page needs to be
 * found by the kernel), in the list of its length or a longer one, and cuts off what is too much;
 * runs_give joins the run with its neighbours and puts it into its list. Every list holds lengths
 * from one bin's on, so any run of a higher bin fits; in its own bin a few are tried.
 *
 * What can go wrong: descriptors that contradict each other, found wherever one is followed
 * (ARENA_DAMAGED). */
#include "arena/runs.h"

#define BIN_TRIES 8

/* The lists of one kind of free run. */
typedef struct RunLists {
    uint64_t bins_offset;
    uint64_t heads_offset;
    uint8_t kind;
} RunLists;

static const RunLists resident_lists = {
    .bins_offset = offsetof(HoldfastHeader, resident_bins),
    .heads_offset = offsetof(HoldfastHeader, resident_runs),
    .kind = HOLDFAST_PAGE_RESIDENT,
};
static const RunLists clean_lists = {
    .bins_offset = offsetof(HoldfastHeader, clean_bins),
    .heads_offset = offsetof(HoldfastHeader, clean_runs),
    .kind = HOLDFAST_PAGE_CLEAN,
};

static const RunLists *lists_of(uint8_t kind)
{
    return kind == HOLDFAST_PAGE_RESIDENT ? &resident_lists : &clean_lists;
}

static uint64_t *counter_of(HoldfastCounters *counters, uint8_t kind)
{
    switch (kind) {
    case HOLDFAST_PAGE_RESIDENT:
        return &counters->resident_pages;
    case HOLDFAST_PAGE_CLEAN:
        return &counters->clean_pages;
    case HOLDFAST_PAGE_PUNCHING:
        return &counters->punching_pages;
    default:
        return &counters->used_pages;
    }
}

/* Pages change from one kind to another, in the counters. */
static int count_move(Arena *arena, uint64_t pages, uint8_t from, uint8_t to)
{
    int r = 0;
    HoldfastCounters *counters = undo_counters(arena, &r);
    if (counters == NULL)
        return r;
    *counter_of(counters, from) -= pages;
    *counter_of(counters, to) += pages;
    return 0;
}

/* --- descriptors */

const HoldfastPage *runs_page(const Arena *arena, uint64_t page)
{
    if (_unlikely_(page >= arena_header(arena)->counters.high_water_pages ||
                   page < runs_chunk_first(page)))
        return NULL;
    return memory_at(arena, runs_descriptor(page), sizeof(HoldfastPage));
}

HoldfastPage *runs_page_change(Arena *arena, uint64_t page, int *ret)
{
    if (_unlikely_(runs_page(arena, page) == NULL)) {
        *ret = arena_damaged(arena, "page %lu: not one that can be in a run", (unsigned long)page);
        return NULL;
    }
    return undo_change(arena, runs_descriptor(page), sizeof(HoldfastPage), ret);
}

static int describe(Arena *arena, uint64_t page, HoldfastPage value)
{
    int r = 0;
    HoldfastPage *descriptor = runs_page_change(arena, page, &r);
    if (descriptor != NULL)
        *descriptor = value;
    return r;
}

/* The descriptor of the page, which must be of that kind and, where pages is not 0, of that length.
 */
static const HoldfastPage *expect(const Arena *arena, uint64_t page, uint8_t kind, uint64_t pages,
                                  int *ret)
{
    const HoldfastPage *descriptor = runs_page(arena, page);
    if (_unlikely_(descriptor == NULL || descriptor->kind != kind || descriptor->count == 0 ||
                   (pages != 0 && descriptor->count != pages) ||
                   page % HOLDFAST_CHUNK_PAGES + descriptor->count > HOLDFAST_CHUNK_PAGES ||
                   page + descriptor->count > arena_header(arena)->counters.high_water_pages)) {
        *ret = arena_damaged(arena, "page %lu: not the head of a run of kind %u",
                             (unsigned long)page, kind);
        return NULL;
    }
    return descriptor;
}

/* --- lists of free runs */

unsigned runs_bin(uint64_t pages)
{
    if (pages <= 16)
        return (unsigned)pages - 1;
    unsigned octave = 63 - (unsigned)__builtin_clzll(pages);
    return 16 + (octave - 4) * 4 + ((unsigned)(pages >> (octave - 2)) & 3);
}

static const uint32_t *lists_heads(const Arena *arena, const RunLists *lists)
{
    return (const uint32_t *)(arena->base + lists->heads_offset);
}

static uint64_t lists_bins(const Arena *arena, const RunLists *lists)
{
    return *(const uint64_t *)(arena->base + lists->bins_offset);
}

static int list_set_head(Arena *arena, const RunLists *lists, unsigned bin, uint32_t page)
{
    int r = undo_set_u32(arena, lists->heads_offset + bin * sizeof(uint32_t), page);
    if (r != 0)
        return r;
    uint64_t bins = lists_bins(arena, lists);
    uint64_t bit = UINT64_C(1) << bin;
    uint64_t changed = page != 0 ? bins | bit : bins & ~bit;
    return changed == bins ? 0 : undo_set_u64(arena, lists->bins_offset, changed);
}

static int list_set_next(Arena *arena, const RunLists *lists, uint32_t page, uint32_t next)
{
    int r = 0;
    if (expect(arena, page, lists->kind, 0, &r) == NULL)
        return r;
    HoldfastPage *descriptor = runs_page_change(arena, page, &r);
    if (descriptor != NULL)
        descriptor->next = next;
    return r;
}

static int list_set_prev(Arena *arena, const RunLists *lists, uint32_t page, uint32_t prev)
{
    int r = 0;
    if (expect(arena, page, lists->kind, 0, &r) == NULL)
        return r;
    HoldfastPage *descriptor = runs_page_change(arena, page, &r);
    if (descriptor != NULL)
        descriptor->prev = prev;
    return r;
}

/* Takes a free run out of its list; its descriptors stay as they are. */
static int list_remove(Arena *arena, uint64_t page, uint8_t kind)
{
    int r = 0;
    const RunLists *lists = lists_of(kind);
    const HoldfastPage *run = expect(arena, page, kind, 0, &r);
    if (run == NULL)
        return r;
    unsigned bin = runs_bin(run->count);
    uint32_t next = run->next;
    uint32_t prev = run->prev;
    if (prev == 0 && lists_heads(arena, lists)[bin] != page)
        return arena_damaged(arena, "free run at page %lu: not in its list", (unsigned long)page);
    if (next != 0)
        r = list_set_prev(arena, lists, next, prev);
    if (r == 0)
        r = prev != 0 ? list_set_next(arena, lists, prev, next)
                      : list_set_head(arena, lists, bin, next);
    return r;
}

/* Writes the descriptors of a free run and puts it in front of its list. */
static int list_add(Arena *arena, uint64_t page, uint64_t pages, uint8_t kind)
{
    const RunLists *lists = lists_of(kind);
    unsigned bin = runs_bin(pages);
    uint32_t next = lists_heads(arena, lists)[bin];
    HoldfastPage head = {.kind = kind, .count = (uint16_t)pages, .next = next};
    HoldfastPage last = {.kind = HOLDFAST_PAGE_FREE_LAST, .count = (uint16_t)pages};

    int r = next != 0 ? list_set_prev(arena, lists, next, (uint32_t)page) : 0;
    if (r == 0)
        r = list_set_head(arena, lists, bin, (uint32_t)page);
    if (r == 0)
        r = describe(arena, page, head);
    if (r == 0 && pages > 1)
        r = describe(arena, page + pages - 1, last);
    return r;
}

/* A free run of that kind of at least pages pages, or 0. */
static int list_find(const Arena *arena, const RunLists *lists, uint64_t pages, uint64_t *ret_page)
{
    int r = 0;
    const uint32_t *heads = lists_heads(arena, lists);
    unsigned bin = runs_bin(pages);
    uint64_t page = heads[bin];
    for (unsigned tries = 0; page != 0 && tries < BIN_TRIES; tries++) {
        const HoldfastPage *run = expect(arena, page, lists->kind, 0, &r);
        if (run == NULL)
            return r;
        if (run->count >= pages) {
            *ret_page = page;
            return 0;
        }
        page = run->next;
    }
    uint64_t higher = lists_bins(arena, lists) & ~((UINT64_C(2) << bin) - 1);
    *ret_page = 0;
    if (higher == 0)
        return 0;
    bin = (unsigned)__builtin_ctzll(higher);
    if (bin >= HOLDFAST_RUN_BINS)
        return arena_damaged(arena, "header: bits for lists of free runs that don't exist");
    const HoldfastPage *run = expect(arena, heads[bin], lists->kind, 0, &r);
    if (run == NULL)
        return r;
    if (run->count < pages)
        return arena_damaged(arena, "free run at page %u: in the list of longer ones", heads[bin]);
    *ret_page = heads[bin];
    return 0;
}

/* --- joining */

/* Adds the free run right before page to the run, where there is one of that kind. */
static int join_before(Arena *arena, uint8_t kind, uint64_t *page, uint64_t *pages)
{
    int r = 0;
    const HoldfastPage *before = runs_page(arena, *page - 1);
    if (before == NULL || *page % HOLDFAST_CHUNK_PAGES == 0)
        return 0;
    uint64_t head = *page - 1;
    if (before->kind == HOLDFAST_PAGE_FREE_LAST) {
        if (before->count > *page - runs_chunk_first(*page))
            return arena_damaged(arena, "page %lu: end of a free run that begins nowhere",
                                 (unsigned long)head);
        head = *page - before->count;
    } else if (before->kind != kind || before->count != 1) {
        return 0;
    }
    uint64_t count = before->count;
    const HoldfastPage *run = runs_page(arena, head);
    if (run == NULL || run->kind != kind)
        return run != NULL &&
                       (run->kind == HOLDFAST_PAGE_RESIDENT || run->kind == HOLDFAST_PAGE_CLEAN ||
                        run->kind == HOLDFAST_PAGE_PUNCHING)
                   ? 0
                   : arena_damaged(arena, "page %lu: not the free run its last page tells of",
                                   (unsigned long)head);
    if (expect(arena, head, kind, count, &r) == NULL)
        return r;
    r = list_remove(arena, head, kind);
    if (r == 0 && count > 1)
        r = describe(arena, *page - 1, (HoldfastPage){0});
    *page = head;
    *pages += count;
    return r;
}

/* The same for the one right behind. */
static int join_behind(Arena *arena, uint8_t kind, uint64_t page, uint64_t *pages)
{
    int r = 0;
    uint64_t behind = page + *pages;
    if (behind % HOLDFAST_CHUNK_PAGES == 0)
        return 0;
    const HoldfastPage *run = runs_page(arena, behind);
    if (run == NULL || run->kind != kind)
        return 0;
    if (expect(arena, behind, kind, 0, &r) == NULL)
        return r;
    uint64_t count = run->count;
    r = list_remove(arena, behind, kind);
    if (r == 0)
        r = describe(arena, behind, (HoldfastPage){0});
    *pages += count;
    return r;
}

/* Makes these pages a free run; they are counted as such already. The head's old descriptor may be
 * anything. */
static int free_run(Arena *arena, uint64_t page, uint64_t pages, uint8_t kind)
{
    uint64_t head = page;
    int r = join_behind(arena, kind, page, &pages);
    if (r == 0)
        r = join_before(arena, kind, &head, &pages);
    if (r == 0 && head != page)
        r = describe(arena, page, (HoldfastPage){0});
    return r == 0 ? list_add(arena, head, pages, kind) : r;
}

/* --- taking */

/* Cuts pages off the front of a free run that is in its list, and describes them as kind. */
static int take_from(Arena *arena, uint64_t page, uint64_t pages, uint8_t kind)
{
    const HoldfastPage *run = runs_page(arena, page);
    uint8_t was = run->kind;
    uint64_t count = run->count;
    int r = list_remove(arena, page, was);
    if (r == 0 && count > pages)
        r = list_add(arena, page + pages, count - pages, was);
    else if (r == 0 && count > 1)
        r = describe(arena, page + count - 1, (HoldfastPage){0});
    if (r == 0)
        r = describe(arena, page, (HoldfastPage){.kind = kind, .count = (uint16_t)pages});
    return r == 0 ? count_move(arena, pages, was, kind) : r;
}

/* Describes the map of a chunk that begins at the high-water mark, and moves the mark behind it. */
static int add_chunk(Arena *arena)
{
    int r = 0;
    HoldfastCounters *counters = undo_counters(arena, &r);
    if (counters == NULL)
        return r;
    uint64_t chunk = counters->high_water_pages;
    counters->high_water_pages += HOLDFAST_CHUNK_MAP_PAGES;
    counters->used_pages += HOLDFAST_CHUNK_MAP_PAGES;
    HoldfastPage *map = undo_change(arena, runs_descriptor(chunk), sizeof(*map), &r);
    if (map != NULL)
        *map = (HoldfastPage){.kind = HOLDFAST_PAGE_MAP, .count = HOLDFAST_CHUNK_MAP_PAGES};
    return r;
}

/* Moves the high-water mark up by pages that become a run of that kind. */
static int add_run(Arena *arena, uint64_t pages, uint8_t kind, uint64_t *ret_page)
{
    int r = 0;
    HoldfastCounters *counters = undo_counters(arena, &r);
    if (counters == NULL)
        return r;
    uint64_t page = counters->high_water_pages;
    counters->high_water_pages += pages;
    *counter_of(counters, kind) += pages;
    *ret_page = page;
    if (kind == HOLDFAST_PAGE_CLEAN)
        return free_run(arena, page, pages, kind);
    return describe(arena, page, (HoldfastPage){.kind = kind, .count = (uint16_t)pages});
}

/* A run of pages never used before. What is left of a chunk that is too short becomes a free run.
 */
static int take_new(Arena *arena, uint64_t pages, uint8_t kind, uint64_t *ret_page)
{
    const HoldfastCounters *counters = &arena_header(arena)->counters;
    uint64_t mark = counters->high_water_pages;
    uint64_t in_chunk = mark % HOLDFAST_CHUNK_PAGES;
    uint64_t rest = in_chunk == 0 ? 0 : HOLDFAST_CHUNK_PAGES - in_chunk;
    uint64_t skipped = rest < pages ? rest : 0;
    bool chunk = rest < pages;
    uint64_t end = mark + skipped + (chunk ? HOLDFAST_CHUNK_MAP_PAGES : 0) + pages;
    uint64_t unused = 0;

    if (end > counters->capacity_pages)
        return ARENA_FULL;
    int r = memory_extend(arena, end);
    if (r == 0 && skipped > 0)
        r = add_run(arena, skipped, HOLDFAST_PAGE_CLEAN, &unused);
    if (r == 0 && chunk)
        r = add_chunk(arena);
    return r == 0 ? add_run(arena, pages, kind, ret_page) : r;
}

int runs_take(Arena *arena, uint64_t pages, uint8_t kind, uint64_t *ret_page)
{
    const RunLists *const all[] = {&resident_lists, &clean_lists};
    if (pages == 0 || pages > RUNS_PAGES_MAX)
        return ARENA_FULL;
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        uint64_t page = 0;
        int r = list_find(arena, all[i], pages, &page);
        if (r != 0)
            return r;
        if (page == 0)
            continue;
        *ret_page = page;
        return take_from(arena, page, pages, kind);
    }
    return take_new(arena, pages, kind, ret_page);
}

int runs_give(Arena *arena, uint64_t page, uint64_t pages, uint8_t kind)
{
    int r = count_move(arena, pages, kind, HOLDFAST_PAGE_RESIDENT);
    return r == 0 ? free_run(arena, page, pages, HOLDFAST_PAGE_RESIDENT) : r;
}

int runs_create(Arena *arena)
{
    int r = 0;
    HoldfastPage *header = undo_change(arena, runs_descriptor(0), 2 * sizeof(*header), &r);
    if (header == NULL)
        return r;
    header[0] = (HoldfastPage){.kind = HOLDFAST_PAGE_HEADER, .count = 1};
    header[1] = (HoldfastPage){.kind = HOLDFAST_PAGE_MAP, .count = HOLDFAST_CHUNK_MAP_PAGES};
    return 0;
}

/* --- holes */

int runs_punch_begin(Arena *arena, uint64_t page, uint64_t pages_max, uint64_t *ret_pages)
{
    int r = 0;
    const HoldfastPage *run = expect(arena, page, HOLDFAST_PAGE_RESIDENT, 0, &r);
    if (run == NULL)
        return r;
    uint64_t pages = MIN(run->count, pages_max);
    HoldfastPage last = {.kind = HOLDFAST_PAGE_FREE_LAST, .count = (uint16_t)pages};
    r = take_from(arena, page, pages, HOLDFAST_PAGE_PUNCHING);
    if (r == 0 && pages > 1)
        r = describe(arena, page + pages - 1, last);
    *ret_pages = pages;
    return r;
}

int runs_punch_end(Arena *arena, uint64_t page, bool clean)
{
    int r = 0;
    const HoldfastPage *run = expect(arena, page, HOLDFAST_PAGE_PUNCHING, 0, &r);
    if (run == NULL)
        return r;
    uint64_t pages = run->count;
    uint8_t kind = clean ? HOLDFAST_PAGE_CLEAN : HOLDFAST_PAGE_RESIDENT;
    if (pages > 1)
        r = describe(arena, page + pages - 1, (HoldfastPage){0});
    if (r == 0)
        r = count_move(arena, pages, HOLDFAST_PAGE_PUNCHING, kind);
    return r == 0 ? free_run(arena, page, pages, kind) : r;
}
