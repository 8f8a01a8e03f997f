/* The consistency checker: every byte of an arena belongs to exactly one thing.
 *
 * Normal way through, in steps:
 *
 *   pages    run by run, chunk by chunk: descriptors fit together; slabs' free lists are sound;
 *            free blocks are marked
 *   lists    the lists of slabs with room and of free runs hold exactly those that were seen
 *   index    each directory page, segment, overflow bucket and entry is where it may be, and is
 *            marked, once; each key hashes to the bucket it is in, with the slot's tag, and is
 *            there once; no large block, segment or directory is left over
 *   blocks   what is in use in a slab is marked, all of it
 *   counts   the header's counters are what was seen
 *
 * The first fault ends the check: it is told as text. */
#include "arena/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>

#include "arena/entry.h"
#include "arena/heap.h"
#include "arena/index.h"

/* A block begins at a multiple of 8 and has at least 24 bytes: no two begin in the same 16. */
#define MARK_BYTES 16u

typedef struct Check {
    const Arena *arena;
    const HoldfastHeader *header;
    ArenaReport *report;
    uint8_t *marks; /* one bit for each MARK_BYTES: something begins there that is accounted for */
    size_t mark_bytes;
    HoldfastCounters seen;
    uint64_t with_room[HOLDFAST_CLASSES]; /* slabs that belong in a list */
    uint64_t resident_runs[HOLDFAST_RUN_BINS];
    uint64_t clean_runs[HOLDFAST_RUN_BINS];
    uint64_t punching_runs;
    uint64_t large_runs;
    uint64_t segments;
    uint64_t directories;
} Check;

typedef int (*CheckStep)(Check *check);

static int fault(Check *check, const char *format, ...) _printf_(2, 3);

static int fault(Check *check, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(check->report->where, sizeof(check->report->where), format, arguments);
    va_end(arguments);
    return -EBADMSG;
}

/* Marks what begins at offset. False: it was marked already. */
static bool mark(Check *check, uint64_t offset)
{
    uint64_t bit = offset / MARK_BYTES;
    uint8_t mask = (uint8_t)(1u << bit % 8);
    bool fresh = (check->marks[bit / 8] & mask) == 0;
    check->marks[bit / 8] |= mask;
    return fresh;
}

static bool marked(const Check *check, uint64_t offset)
{
    uint64_t bit = offset / MARK_BYTES;
    return (check->marks[bit / 8] >> bit % 8 & 1) != 0;
}

/* --- pages */

static bool descriptor_blank(const HoldfastPage *page)
{
    static const HoldfastPage blank;
    return memcmp(page, &blank, sizeof(blank)) == 0;
}

/* Pages of a run behind its head, but for the last of a free one, are described by the head alone.
 */
static int check_inside(Check *check, uint64_t page, uint64_t pages, bool free_run)
{
    for (uint64_t i = 1; i < pages; i++) {
        const HoldfastPage *inside = runs_page(check->arena, page + i);
        if (inside == NULL)
            return fault(check, "run at page %lu: passes the arena's end", (unsigned long)page);
        if (free_run && i == pages - 1) {
            if (inside->kind != HOLDFAST_PAGE_FREE_LAST || inside->count != pages)
                return fault(check, "free run at page %lu: its last page does not say so",
                             (unsigned long)page);
        } else if (!descriptor_blank(inside)) {
            return fault(check, "page %lu: inside of a run, but described",
                         (unsigned long)(page + i));
        }
    }
    return 0;
}

/* Marks the slab's free blocks. */
static int check_free_blocks(Check *check, uint64_t page, const HoldfastPage *slab,
                             const SizeClass *class)
{
    unsigned count = 0;
    for (unsigned next = slab->free; next != 0; count++) {
        uint16_t link;
        if (next > slab->bump)
            return fault(check, "slab at page %lu: free block %u was never used",
                         (unsigned long)page, next - 1);
        uint64_t offset = page * HOLDFAST_PAGE_BYTES + (uint64_t)(next - 1) * class->bytes;
        const uint64_t *block = memory_at(check->arena, offset, 2 * sizeof(*block));
        if (block == NULL || block[0] != 0)
            return fault(check, "free block at offset %#lx: has a revision", (unsigned long)offset);
        if (!mark(check, offset))
            return fault(check, "free block at offset %#lx: twice in its list",
                         (unsigned long)offset);
        memcpy(&link, block + 1, sizeof(link));
        next = link;
    }
    if (count + slab->count != slab->bump)
        return fault(check, "slab at page %lu: %u blocks in use and %u free, %u were made",
                     (unsigned long)page, slab->count, count, slab->bump);
    return 0;
}

static int check_slab(Check *check, uint64_t page, const HoldfastPage *slab, uint64_t *ret_pages)
{
    const SizeClass *class = class_get(slab->class);
    if (class == NULL || slab->bump > class->blocks || slab->count == 0 ||
        slab->count > slab->bump || runs_page(check->arena, page + class->pages - 1) == NULL ||
        page % HOLDFAST_CHUNK_PAGES + class->pages > HOLDFAST_CHUNK_PAGES)
        return fault(check, "slab at page %lu: class %u, %u of %u blocks", (unsigned long)page,
                     slab->class, slab->count, slab->bump);
    for (unsigned i = 1; i < class->pages; i++) {
        const HoldfastPage *tail = runs_page(check->arena, page + i);
        if (tail->kind != HOLDFAST_PAGE_SLAB_TAIL || tail->count != i)
            return fault(check, "page %lu: not the tail of the slab before it",
                         (unsigned long)(page + i));
    }
    check->with_room[slab->class] += slab->count < class->blocks;
    check->seen.block_bytes += (uint64_t)slab->count * class->bytes;
    check->seen.slab_pages += class->pages;
    *ret_pages = class->pages;
    return check_free_blocks(check, page, slab, class);
}

/* Counts the run by its kind. */
static int check_kind(Check *check, uint64_t page, const HoldfastPage *run)
{
    uint64_t pages = run->count;
    switch (run->kind) {
    case HOLDFAST_PAGE_LARGE:
        check->large_runs++;
        break;
    case HOLDFAST_PAGE_SEGMENT:
        check->segments++;
        break;
    case HOLDFAST_PAGE_DIRECTORY:
        check->directories++;
        break;
    case HOLDFAST_PAGE_RESIDENT:
        check->resident_runs[runs_bin(pages)]++;
        check->seen.resident_pages += pages;
        return 0;
    case HOLDFAST_PAGE_CLEAN:
        check->clean_runs[runs_bin(pages)]++;
        check->seen.clean_pages += pages;
        return 0;
    case HOLDFAST_PAGE_PUNCHING:
        check->punching_runs++;
        check->seen.punching_pages += pages;
        return 0;
    default:
        return fault(check, "page %lu: kind %u where a run begins", (unsigned long)page, run->kind);
    }
    check->seen.used_pages += pages;
    return 0;
}

/* One run; its length in ret_pages. */
static int check_run(Check *check, uint64_t page, uint64_t *ret_pages)
{
    const HoldfastPage *run = runs_page(check->arena, page);
    if (run == NULL)
        return fault(check, "page %lu: has no descriptor", (unsigned long)page);
    if (run->kind == HOLDFAST_PAGE_SLAB) {
        int r = check_slab(check, page, run, ret_pages);
        check->seen.used_pages += r == 0 ? *ret_pages : 0;
        return r;
    }
    if (run->count == 0 || page % HOLDFAST_CHUNK_PAGES + run->count > HOLDFAST_CHUNK_PAGES)
        return fault(check, "page %lu: a run of %u pages", (unsigned long)page, run->count);
    *ret_pages = run->count;
    bool free_run = run->kind == HOLDFAST_PAGE_RESIDENT || run->kind == HOLDFAST_PAGE_CLEAN ||
                    run->kind == HOLDFAST_PAGE_PUNCHING;
    int r = check_kind(check, page, run);
    return r == 0 ? check_inside(check, page, run->count, free_run) : r;
}

static int check_map(Check *check, uint64_t chunk)
{
    uint64_t first = runs_chunk_first(chunk);
    uint64_t map = first - HOLDFAST_CHUNK_MAP_PAGES;
    if (first > check->header->counters.high_water_pages)
        return fault(check, "chunk at page %lu: ends in its map", (unsigned long)chunk);
    const HoldfastPage *pages = (const HoldfastPage *)(check->arena->base + runs_descriptor(chunk));
    bool good = pages[map - chunk].kind == HOLDFAST_PAGE_MAP &&
                pages[map - chunk].count == HOLDFAST_CHUNK_MAP_PAGES;
    if (chunk == 0)
        good = good && pages[0].kind == HOLDFAST_PAGE_HEADER;
    for (uint64_t page = map + 1; page < first; page++)
        good = good && descriptor_blank(&pages[page - chunk]);
    check->seen.used_pages += first - chunk;
    return good ? 0
                : fault(check, "chunk at page %lu: its map is not described as such",
                        (unsigned long)chunk);
}

static int check_pages(Check *check)
{
    uint64_t high_water = check->header->counters.high_water_pages;
    for (uint64_t page = 0; page < high_water;) {
        int r = 0;
        uint64_t pages = 0;
        if (page % HOLDFAST_CHUNK_PAGES == 0) {
            r = check_map(check, page);
            pages = runs_chunk_first(page) - page;
        } else {
            r = check_run(check, page, &pages);
        }
        if (r != 0)
            return r;
        page += pages;
        if (page > high_water)
            return fault(check, "the last run passes the high-water mark");
    }
    return 0;
}

/* --- lists */

/* Follows a list of heads of that kind; class: where they are slabs. */
static int check_list(Check *check, uint64_t head, uint8_t kind, unsigned which, uint64_t count)
{
    uint64_t prev = 0;
    uint64_t length = 0;
    for (uint64_t page = head; page != 0; length++) {
        const HoldfastPage *run = runs_page(check->arena, page);
        if (run == NULL || length == count || run->kind != kind || run->prev != prev)
            return fault(check, "list %u of kind %u: wrong at page %lu", which, kind,
                         (unsigned long)page);
        bool belongs = kind == HOLDFAST_PAGE_SLAB
                           ? run->class == which && run->count < class_get(which)->blocks
                           : runs_bin(run->count) == which;
        if (!belongs)
            return fault(check, "list %u of kind %u: page %lu does not belong there", which, kind,
                         (unsigned long)page);
        prev = page;
        page = run->next;
    }
    return length == count ? 0
                           : fault(check, "list %u of kind %u: %lu of %lu are in it", which, kind,
                                   (unsigned long)length, (unsigned long)count);
}

static int check_lists(Check *check)
{
    int r = 0;
    const HoldfastHeader *header = check->header;
    for (unsigned i = 0; r == 0 && i < HOLDFAST_CLASSES; i++)
        r = check_list(check, header->slabs[i], HOLDFAST_PAGE_SLAB, i, check->with_room[i]);
    for (unsigned i = 0; r == 0 && i < HOLDFAST_RUN_BINS; i++) {
        r = check_list(check, header->resident_runs[i], HOLDFAST_PAGE_RESIDENT, i,
                       check->resident_runs[i]);
        if (r == 0)
            r = check_list(check, header->clean_runs[i], HOLDFAST_PAGE_CLEAN, i,
                           check->clean_runs[i]);
        if (r == 0 && ((header->resident_bins >> i & 1) != (header->resident_runs[i] != 0) ||
                       (header->clean_bins >> i & 1) != (header->clean_runs[i] != 0)))
            r = fault(check, "header: bit of list %u of free runs", i);
    }
    for (unsigned i = 0; r == 0 && i < HOLDFAST_PUNCHING_MAX; i++) {
        const HoldfastPage *run = runs_page(check->arena, header->punching[i]);
        if (header->punching[i] == 0)
            continue;
        if (run == NULL || run->kind != HOLDFAST_PAGE_PUNCHING || check->punching_runs-- == 0)
            r = fault(check, "page %u: not a run that is being punched", header->punching[i]);
    }
    return r == 0 && check->punching_runs != 0 ? fault(check, "a run being punched that is lost")
                                               : r;
}

/* --- index */

static int check_entry(Check *check, uint64_t bucket, uint64_t slot)
{
    HeapBlock block;
    const HoldfastEntry *entry = NULL;
    uint64_t offset = index_slot_entry(slot);
    if (entry_at(check->arena, offset, &entry) != 0)
        return fault(check, "%s", check->arena->fault->text);
    uint64_t hash = index_hash(check->arena, entry_key(entry));
    if (index_bucket_of(hash, check->header->counters.buckets) != bucket ||
        index_slot(hash, offset) != slot)
        return fault(check, "bucket %lu: the key at offset %#lx does not hash there",
                     (unsigned long)bucket, (unsigned long)offset);
    unsigned class = class_of(entry_bytes(entry));
    if (class == CLASS_LARGE) {
        const HoldfastPage *run = runs_page(check->arena, offset / HOLDFAST_PAGE_BYTES);
        uint64_t pages = DIVIDE_UP(entry_bytes(entry), (size_t)HOLDFAST_PAGE_BYTES);
        if (offset % HOLDFAST_PAGE_BYTES != 0 || run == NULL || run->kind != HOLDFAST_PAGE_LARGE ||
            run->count != pages)
            return fault(check, "entry at offset %#lx: not in a run of its size",
                         (unsigned long)offset);
        check->large_runs--;
    } else if (heap_block(check->arena, offset, &block) != 0 || block.class != class) {
        return fault(check, "entry at offset %#lx: not in a block of its size",
                     (unsigned long)offset);
    }
    if (!mark(check, offset))
        return fault(check, "entry at offset %#lx: in two slots, or free", (unsigned long)offset);
    check->seen.entries++;
    check->seen.live_bytes += entry_bytes(entry);
    return 0;
}

/* No key is there twice. */
static int check_keys(Check *check, uint64_t bucket, const IndexChain *chain)
{
    for (unsigned i = 0; i < chain->count; i++)
        for (unsigned j = 0; j < i; j++) {
            const HoldfastEntry *a = NULL;
            const HoldfastEntry *b = NULL;
            if (chain->slots[i] >> HOLDFAST_SLOT_TAG_SHIFT !=
                    chain->slots[j] >> HOLDFAST_SLOT_TAG_SHIFT ||
                entry_at(check->arena, index_slot_entry(chain->slots[i]), &a) != 0 ||
                entry_at(check->arena, index_slot_entry(chain->slots[j]), &b) != 0)
                continue;
            if (bytes_equal(entry_key(a), entry_key(b)))
                return fault(check, "bucket %lu: a key is in it twice", (unsigned long)bucket);
        }
    return 0;
}

/* Slots are filled from the front, and no overflow bucket is empty. */
static int check_chain(Check *check, uint64_t number)
{
    IndexChain chain;
    if (index_chain(check->arena, number, &chain) != 0)
        return fault(check, "%s", check->arena->fault->text);
    unsigned needed = MAX(1u, DIVIDE_UP(chain.count, HOLDFAST_BUCKET_SLOTS));
    if (chain.count > HOLDFAST_CHAIN_MAX || chain.bucket_count != needed)
        return fault(check, "bucket %lu: %u entries in %u buckets", (unsigned long)number,
                     chain.count, chain.bucket_count);
    for (unsigned i = 0; i < chain.count; i++) {
        const HoldfastBucket *bucket =
            (const HoldfastBucket *)(check->arena->base + chain.buckets[i / HOLDFAST_BUCKET_SLOTS]);
        if (bucket->slots[i % HOLDFAST_BUCKET_SLOTS] != chain.slots[i])
            return fault(check, "bucket %lu: a gap before slot %u", (unsigned long)number, i);
    }
    for (unsigned i = 1; i < chain.bucket_count; i++) {
        HeapBlock block;
        if (heap_block(check->arena, chain.buckets[i], &block) != 0 ||
            block.class != CLASS_OVERFLOW || !mark(check, chain.buckets[i]))
            return fault(check, "overflow bucket at offset %#lx: not one, or in two chains",
                         (unsigned long)chain.buckets[i]);
    }
    int r = 0;
    for (unsigned i = 0; r == 0 && i < chain.count; i++)
        r = check_entry(check, number, chain.slots[i]);
    return r == 0 ? check_keys(check, number, &chain) : r;
}

/* A segment or directory page that an index of this size has. */
static int check_root(Check *check, uint64_t page, uint8_t kind, unsigned pages, uint64_t *count)
{
    const HoldfastPage *run = runs_page(check->arena, page);
    if (run == NULL || run->kind != kind || run->count != pages || *count == 0 ||
        !mark(check, page * HOLDFAST_PAGE_BYTES))
        return fault(check, "page %lu: not a run of kind %u, or used twice", (unsigned long)page,
                     kind);
    --*count;
    return 0;
}

static int check_index(Check *check)
{
    int r = 0;
    uint64_t buckets = check->header->counters.buckets;
    for (uint64_t number = 0; r == 0 && number < buckets; number++) {
        uint64_t segment = number / HOLDFAST_SEGMENT_BUCKETS;
        uint64_t offset = 0;
        if (number % HOLDFAST_SEGMENT_BUCKETS == 0) {
            uint32_t page = check->header->directories[segment / HOLDFAST_DIRECTORY_SEGMENTS];
            if (segment % HOLDFAST_DIRECTORY_SEGMENTS == 0)
                r = check_root(check, page, HOLDFAST_PAGE_DIRECTORY, 1, &check->directories);
            if (r == 0 && index_bucket(check->arena, number, &offset) != 0)
                r = fault(check, "%s", check->arena->fault->text);
            if (r == 0)
                r = check_root(check, offset / HOLDFAST_PAGE_BYTES, HOLDFAST_PAGE_SEGMENT,
                               HOLDFAST_SEGMENT_PAGES, &check->segments);
        }
        if (r == 0)
            r = check_chain(check, number);
    }
    if (r == 0 && (check->segments != 0 || check->directories != 0 || check->large_runs != 0))
        r = fault(check, "%lu segments, %lu directory pages, %lu large blocks that nobody knows",
                  (unsigned long)check->segments, (unsigned long)check->directories,
                  (unsigned long)check->large_runs);
    return r;
}

/* --- blocks and counts */

static int check_blocks(Check *check)
{
    uint64_t high_water = check->header->counters.high_water_pages;
    for (uint64_t page = 0; page < high_water; page++) {
        const HoldfastPage *slab = runs_page(check->arena, page);
        if (slab == NULL || slab->kind != HOLDFAST_PAGE_SLAB)
            continue;
        unsigned bytes = class_get(slab->class)->bytes;
        for (unsigned i = 0; i < slab->bump; i++)
            if (!marked(check, page * HOLDFAST_PAGE_BYTES + (uint64_t)i * bytes))
                return fault(check, "slab at page %lu: block %u is in use by nobody",
                             (unsigned long)page, i);
    }
    return 0;
}

static int check_counts(Check *check)
{
    const HoldfastCounters *said = &check->header->counters;
    const HoldfastCounters *seen = &check->seen;
    const struct {
        const char *what;
        uint64_t said;
        uint64_t seen;
    } counts[] = {
        {"entries", said->entries, seen->entries},
        {"live bytes", said->live_bytes, seen->live_bytes},
        {"pages used", said->used_pages, seen->used_pages},
        {"resident pages", said->resident_pages, seen->resident_pages},
        {"clean pages", said->clean_pages, seen->clean_pages},
        {"punching pages", said->punching_pages, seen->punching_pages},
        {"bytes in blocks", said->block_bytes, seen->block_bytes},
        {"pages of slabs", said->slab_pages, seen->slab_pages},
    };
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
        if (counts[i].said != counts[i].seen)
            return fault(check, "%s: the header says %lu, there are %lu", counts[i].what,
                         (unsigned long)counts[i].said, (unsigned long)counts[i].seen);
    return 0;
}

int arena_check(const Arena *arena, ArenaReport *report)
{
    static const CheckStep steps[] = {check_pages, check_lists, check_index, check_blocks,
                                      check_counts};
    *report = (ArenaReport){0};
    Check check = {.arena = arena, .header = arena_header(arena), .report = report};
    if (arena->fault->found)
        return fault(&check, "%s", arena->fault->text);

    check.mark_bytes =
        check.header->counters.high_water_pages * HOLDFAST_PAGE_BYTES / MARK_BYTES / 8;
    check.marks = mmap(NULL, check.mark_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (check.marks == MAP_FAILED) {
        (void)fault(&check, "no memory to check with");
        return -ENOMEM;
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(steps); i++)
        r = steps[i](&check);
    (void)munmap(check.marks, check.mark_bytes);
    report->entries = check.seen.entries;
    report->pages_used = check.seen.used_pages;
    report->pages_free =
        check.seen.resident_pages + check.seen.clean_pages + check.seen.punching_pages;
    report->live_bytes = check.seen.live_bytes;
    return r;
}
