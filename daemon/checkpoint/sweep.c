/* The child's loop. The normal way: drain the ring; read a run of up to 256 pages, in pieces, with
 * pread (no page faults, six times faster than reading the mapping); of each piece look which pages
 * were captured meanwhile, leave those to the ring, and tell how far the scan is; hand the rest of
 * the run to the sink; at the end say that the scan is through and drain once more. The orders that
 * make this right are derived in capture.c. What can go wrong: reading, and what the sink says.
 *
 * Where there are no more processors than clients and daemon keep busy, they wait for the child to
 * leave one. So it lets others go first between pieces, and what is left out of a piece moves no
 * more than the rest of it; unless the ring fills: then they would wait for that. (What compresses
 * a block does so in one go.)
 *
 * Pages from the ring are gathered, so that a trickle of them does not make a block each, and are
 * handed on in the order of arenas and pages when 256 are there or at the end; their slots are free
 * at once. A page can come both ways; a bitmap of what was saved lets it through once. */
#include "checkpoint/sweep.h"

#include <holdfast/image.h>
#include <sys/mman.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/schedule.h"

#define BLOCK_PAGES HOLDFAST_BLOCK_PAGES
/* Read or copied in one go: about 10 us. */
#define PIECE_PAGES 16u
#define WAIT_USEC USEC_PER_MSEC
/* With a limit, a run takes about this part of a second. */
#define RUNS_PER_SEC 50

static_assert(PIECE_PAGES <= 64, "a piece's bits are one word");

typedef struct SweepState {
    int fd;
    uint64_t pages;
    uint64_t *saved; /* a bit for each page */
} SweepState;

struct Sweep {
    Capture *capture;
    SweepSink sink;
    SweepState *arenas;
    size_t count;
    char *buffer; /* the sink's */
    void *map;
    size_t map_bytes;

    /* Pages taken out of the ring and not handed on yet. */
    char *gathered;
    uint64_t gathered_keys[BLOCK_PAGES]; /* arena << 32 | page */
    uint32_t gathered_count;

    YieldBackoff backoff;
    uint64_t bytes_per_sec;
    uint64_t next_run_usec;
    uint32_t run_pages;

    uint64_t pages_total;
    uint64_t pages_done;
    uint64_t pages_captured;
    const char *step;
};

/* --- life */

static uint32_t run_pages(uint64_t bytes_per_sec)
{
    uint64_t pages = bytes_per_sec / RUNS_PER_SEC / HOLDFAST_PAGE_BYTES;

    if (bytes_per_sec == 0 || pages > BLOCK_PAGES)
        return BLOCK_PAGES;
    return (uint32_t)MAX(pages, UINT64_C(1));
}

static size_t bitmap_bytes(uint64_t pages)
{
    return DIVIDE_UP(pages, UINT64_C(64)) * sizeof(uint64_t);
}

int sweep_new(const SweepOptions *options, Sweep **ret)
{
    _cleanup_(freep) Sweep *sweep = calloc(1, sizeof(*sweep));
    _cleanup_(freep) SweepState *arenas = calloc(MAX(options->count, 1u), sizeof(*arenas));
    size_t gathered_bytes = (size_t)BLOCK_PAGES * HOLDFAST_PAGE_BYTES;
    char *map;

    if (sweep == NULL || arenas == NULL)
        return -ENOMEM;
    sweep->map_bytes = gathered_bytes;
    for (size_t i = 0; i < options->count; i++)
        sweep->map_bytes += bitmap_bytes(options->arenas[i].pages);
    map = mmap(NULL, sweep->map_bytes, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return -errno;
    sweep->map = map;
    sweep->gathered = map;
    map += gathered_bytes;
    for (size_t i = 0; i < options->count; i++) {
        arenas[i] = (SweepState){
            .fd = options->arenas[i].fd,
            .pages = options->arenas[i].pages,
            .saved = (uint64_t *)map,
        };
        map += bitmap_bytes(arenas[i].pages);
        sweep->pages_total += arenas[i].pages;
    }
    sweep->capture = options->capture;
    sweep->sink = options->sink;
    sweep->arenas = TAKE_PTR(arenas);
    sweep->count = options->count;
    sweep->bytes_per_sec = options->bytes_per_sec;
    sweep->run_pages = run_pages(options->bytes_per_sec);
    sweep->step = "none";
    *ret = TAKE_PTR(sweep);
    return 0;
}

Sweep *sweep_free(Sweep *sweep)
{
    if (sweep == NULL)
        return NULL;
    munmap(sweep->map, sweep->map_bytes);
    free(sweep->arenas);
    free(sweep);
    return NULL;
}

const char *sweep_step(const Sweep *sweep)
{
    return sweep->step;
}

uint64_t sweep_pages_total(const Sweep *sweep)
{
    return sweep->pages_total;
}

uint64_t sweep_pages_done(const Sweep *sweep)
{
    return sweep->pages_done;
}

uint64_t sweep_pages_captured(const Sweep *sweep)
{
    return sweep->pages_captured;
}

static void sweep_step_aside(Sweep *sweep)
{
    if (!capture_child_crowded(sweep->capture))
        schedule_yield(&sweep->backoff);
}

/* --- the ring */

/* True where the page was not saved before. */
static bool sweep_save(Sweep *sweep, uint32_t arena, uint64_t page)
{
    uint64_t *word = &sweep->arenas[arena].saved[page / 64];
    uint64_t bit = UINT64_C(1) << (page % 64);

    if (*word & bit)
        return false;
    *word |= bit;
    sweep->pages_done++;
    return true;
}

/* Before the buffer is filled; may wait for the disk. */
static int sweep_take_buffer(Sweep *sweep)
{
    void *buffer;
    int r = sweep->sink.buffer(sweep->sink.context, &buffer);

    if (r < 0) {
        sweep->step = "write";
        return r;
    }
    sweep->buffer = buffer;
    return 0;
}

static int sweep_put(Sweep *sweep, uint32_t arena, const uint32_t *pages, uint32_t count)
{
    int r;

    if (count == 0)
        return 0;
    r = sweep->sink.put(sweep->sink.context, arena, pages, count);
    if (r < 0)
        sweep->step = "write";
    sweep_step_aside(sweep);
    return r;
}

/* Positions of the gathered pages in the order of their keys. 256 at most: insertion is quick
 * enough, and what comes is often in order already. */
static void sweep_sort(const Sweep *sweep, uint16_t *order)
{
    const uint64_t *keys = sweep->gathered_keys;

    for (uint32_t i = 0; i < sweep->gathered_count; i++) {
        uint32_t j = i;

        for (; j > 0 && keys[order[j - 1]] > keys[i]; j--)
            order[j] = order[j - 1];
        order[j] = (uint16_t)i;
    }
}

/* Hands on what was gathered, arena by arena. */
static int sweep_flush(Sweep *sweep)
{
    uint16_t order[BLOCK_PAGES];
    uint32_t pages[BLOCK_PAGES];
    uint32_t i = 0;

    sweep_sort(sweep, order);
    while (i < sweep->gathered_count) {
        uint32_t arena = (uint32_t)(sweep->gathered_keys[order[i]] >> 32);
        uint32_t count = 0;
        int r = sweep_take_buffer(sweep);

        if (r < 0)
            return r;
        for (; i < sweep->gathered_count; i++) {
            uint64_t key = sweep->gathered_keys[order[i]];

            if (key >> 32 != arena)
                break;
            memcpy(sweep->buffer + (size_t)count * HOLDFAST_PAGE_BYTES,
                   sweep->gathered + (size_t)order[i] * HOLDFAST_PAGE_BYTES, HOLDFAST_PAGE_BYTES);
            pages[count++] = (uint32_t)key;
            if (count % PIECE_PAGES == 0)
                sweep_step_aside(sweep);
        }
        r = sweep_put(sweep, arena, pages, count);
        if (r < 0)
            return r;
    }
    sweep->gathered_count = 0;
    return 0;
}

static void sweep_turn(Sweep *sweep)
{
    sweep->sink.turn(sweep->sink.context, capture_child_wanted(sweep->capture));
}

/* Takes everything out of the ring. That ends: each page is captured once at most. */
static int sweep_drain(Sweep *sweep)
{
    CapturedPage page;

    while (capture_child_next(sweep->capture, &page)) {
        if (sweep_save(sweep, page.arena, page.page)) {
            memcpy(sweep->gathered + (size_t)sweep->gathered_count * HOLDFAST_PAGE_BYTES, page.data,
                   HOLDFAST_PAGE_BYTES);
            sweep->gathered_keys[sweep->gathered_count++] = (uint64_t)page.arena << 32 | page.page;
            sweep->pages_captured++;
        }
        capture_child_release(sweep->capture);
        if (sweep->gathered_count == BLOCK_PAGES) {
            int r;

            sweep_turn(sweep);
            r = sweep_flush(sweep);
            if (r < 0)
                return r;
        }
    }
    sweep_turn(sweep);
    return 0;
}

/* --- the scan */

/* The next page that is not in a hole. A hole was a hole at the cut: none is punched meanwhile. Its
 * pages are zero. */
static uint64_t sweep_skip_hole(Sweep *sweep, uint32_t index, uint64_t first)
{
    const SweepState *arena = &sweep->arenas[index];
    off_t offset = lseek(arena->fd, (off_t)(first * HOLDFAST_PAGE_BYTES), SEEK_DATA);
    uint64_t data;

    if (offset < 0 && errno != ENXIO)
        return first;
    data = offset < 0 ? arena->pages : (uint64_t)offset / HOLDFAST_PAGE_BYTES;
    data = MIN(data, arena->pages);
    for (uint64_t page = first; page < data; page++)
        sweep_save(sweep, index, page);
    if (data > first)
        capture_child_scanned(sweep->capture, index, data);
    return data;
}

/* Reads a piece behind the pages of the run that are kept so far, and keeps of it what the ring
 * does not have. */
static int sweep_read_piece(Sweep *sweep, uint32_t index, uint64_t first, uint32_t count,
                            uint32_t *pages, uint32_t *kept)
{
    const SweepState *arena = &sweep->arenas[index];
    char *piece = sweep->buffer + (size_t)*kept * HOLDFAST_PAGE_BYTES;
    uint64_t captured;
    uint32_t held = 0;
    int r = file_read_at(arena->fd, piece, (size_t)count * HOLDFAST_PAGE_BYTES,
                         first * HOLDFAST_PAGE_BYTES); /* C1 */

    if (r < 0) {
        sweep->step = "read";
        return r;
    }
    capture_child_check(sweep->capture, index, first, count, &captured); /* C2, C3 */
    capture_child_scanned(sweep->capture, index, first + count);         /* C4 */
    for (uint32_t i = 0; i < count; i++) {
        if (captured >> i & 1 || !sweep_save(sweep, index, first + i))
            continue;
        if (held != i)
            memcpy(piece + (size_t)held * HOLDFAST_PAGE_BYTES,
                   piece + (size_t)i * HOLDFAST_PAGE_BYTES, HOLDFAST_PAGE_BYTES);
        pages[*kept + held++] = (uint32_t)(first + i);
    }
    *kept += held;
    return 0;
}

static void sweep_charge(Sweep *sweep, uint32_t pages)
{
    uint64_t bytes = (uint64_t)pages * HOLDFAST_PAGE_BYTES;

    if (sweep->bytes_per_sec > 0)
        sweep->next_run_usec = MAX(sweep->next_run_usec, clock_monotonic()) +
                               bytes * USEC_PER_SEC / sweep->bytes_per_sec;
}

/* Waits until the limit lets the scan go on; the ring is served meanwhile. */
static int sweep_wait(Sweep *sweep)
{
    while (sweep->bytes_per_sec > 0) {
        uint64_t now = clock_monotonic();
        struct timespec pause;
        int r;

        if (now >= sweep->next_run_usec)
            break;
        pause =
            (struct timespec){.tv_nsec = (long)(MIN(sweep->next_run_usec - now, WAIT_USEC) * 1000)};
        nanosleep(&pause, NULL);
        r = sweep_drain(sweep);
        if (r < 0)
            return r;
    }
    return 0;
}

/* One run from *first on, which is moved behind it. The ring is drained between runs only: what is
 * taken out of it may want the buffer that the run fills. */
static int sweep_run_pages(Sweep *sweep, uint32_t index, uint64_t *first)
{
    uint32_t pages[BLOCK_PAGES];
    uint32_t kept = 0;
    uint64_t end;
    int r;

    *first = sweep_skip_hole(sweep, index, *first);
    end = MIN(sweep->arenas[index].pages, *first + sweep->run_pages);
    if (*first == end)
        return 0;
    r = sweep_take_buffer(sweep);
    if (r < 0)
        return r;
    while (*first < end) {
        uint32_t count = (uint32_t)MIN(end - *first, (uint64_t)PIECE_PAGES);

        r = sweep_read_piece(sweep, index, *first, count, pages, &kept);
        if (r < 0)
            return r;
        *first += count;
        sweep_step_aside(sweep);
    }
    sweep_charge(sweep, kept);
    return sweep_put(sweep, index, pages, kept);
}

static int sweep_arena(Sweep *sweep, uint32_t index)
{
    uint64_t first = 0;

    while (first < sweep->arenas[index].pages) {
        int r = sweep_drain(sweep);

        if (r == 0)
            r = sweep_wait(sweep);
        if (r == 0)
            r = sweep_run_pages(sweep, index, &first);
        if (r < 0)
            return r;
    }
    return 0;
}

int sweep_run(Sweep *sweep)
{
    for (uint32_t i = 0; i < sweep->count; i++) {
        int r = sweep_arena(sweep, i);

        if (r < 0)
            return r;
    }
    capture_child_scan_done(sweep->capture); /* C5 */
    sweep->sink.scanned(sweep->sink.context);
#ifndef CAPTURE_MUTANT_NO_LAST_DRAIN
    int r = sweep_drain(sweep);

    if (r < 0)
        return r;
#endif
    return sweep_flush(sweep);
}
