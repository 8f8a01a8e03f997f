/* Upkeep: populating ahead, giving pages back, going away.
 *
 * Normal way through: the loop calls arena_upkeep once a turn. Where more free pages have memory
 * than there is use for, an update of its own (which leaves the revision alone) takes the longest
 * runs out of the free lists, a task punches them, and when the task was reaped another update puts
 * them back as holes. Ahead of the high-water mark pages are populated by a task, so that updates
 * do not fault.
 *
 * What can go wrong: the barrier has no room, then it is tried at the next turn; a kernel that
 * can't populate or punch, then it is not tried again. Neither is anybody's failure.
 *
 * Tasks work on copies of what they need; done callbacks find the arena gone when it is
 * (Upkeep.arena is NULL). */
#include "arena/upkeep.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "arena/runs.h"
#include "base/file.h"
#include "base/housekeeper.h"

/* Linux 5.14; older C libraries do not know it. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define AHEAD_PAGES_MAX (MIB / HOLDFAST_PAGE_BYTES)
#define AHEAD_PAGES_MIN (64 * KIB / HOLDFAST_PAGE_BYTES)
#define AHEAD_PAGES_INLINE (64 * KIB / HOLDFAST_PAGE_BYTES)
#define TOUCH_BYTES (4 * MIB)
#define PUNCH_PAGES_MAX (8 * MIB / HOLDFAST_PAGE_BYTES)
#define PUNCH_SLACK_PAGES_MIN (MIB / HOLDFAST_PAGE_BYTES)
#define UNMAP_BYTES (64 * MIB)

typedef struct PopulateTask {
    HousekeeperTask task;
    Upkeep *upkeep;
    uint8_t *base;
    uint64_t begin; /* bytes */
    uint64_t end;
    bool existing; /* only what has memory already; begin moves on */
    bool busy;
    bool broken;
} PopulateTask;

typedef struct PunchRun {
    uint64_t page;
    uint64_t pages;
} PunchRun;

typedef struct PunchTask {
    HousekeeperTask task;
    Upkeep *upkeep;
    PunchRun runs[HOLDFAST_PUNCHING_MAX];
    unsigned count; /* 0: none is under way */
    int result;
    bool busy; /* the housekeeper has it */
    bool broken;
} PunchTask;

/* Unmaps, and closes where it is the end. */
typedef struct UnmapTask {
    HousekeeperTask task;
    Upkeep *upkeep;
    uint8_t *base;
    uint64_t bytes;
    uint64_t punch_bytes; /* given back first */
    int fd;               /* -1: stays open */
} UnmapTask;

struct Upkeep {
    Arena *arena; /* NULL once it is gone */
    Housekeeper *housekeeper;
    unsigned tasks; /* submitted, not done */
    int fd;
    uint64_t born_pages; /* high-water mark at first: nothing is populated before it moves */
    uint64_t populated_pages;
    PopulateTask ahead;
    PopulateTask touch;
    PunchTask punch;
};

/* --- tasks in general */

static void upkeep_submit(Upkeep *upkeep, HousekeeperTask *task)
{
    upkeep->tasks++;
    if (upkeep->housekeeper != NULL) {
        housekeeper_submit(upkeep->housekeeper, task);
        return;
    }
    task->run(task);
    task->done(task);
}

static void upkeep_done(Upkeep *upkeep)
{
    upkeep->tasks--;
    if (upkeep->tasks == 0 && upkeep->arena == NULL)
        free(upkeep);
}

/* --- populating */

/* Those of the pages that have memory: a fault on a hole would allocate a page. SEEK_HOLE would
 * tell them apart, too, but it looks as far as the next hole, which may be at the end of gigabytes,
 * and has the file's lock meanwhile: updates that make an arena grow, and sweeps, would wait. */
static int populate_existing(uint8_t *begin, uint64_t bytes)
{
    unsigned char resident[TOUCH_BYTES / HOLDFAST_PAGE_BYTES];
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t first, end;

    if (mincore(begin, bytes, resident) < 0)
        return -errno;
    for (first = 0; first < bytes; first = end) {
        bool exists = resident[first / page_bytes] & 1;
        for (end = first + page_bytes; end < bytes; end += page_bytes)
            if ((resident[end / page_bytes] & 1) != exists)
                break;
        if (exists && madvise(begin + first, MIN(end, bytes) - first, MADV_POPULATE_WRITE) < 0)
            return -errno;
    }
    return 0;
}

static void populate_run(HousekeeperTask *task)
{
    PopulateTask *populate = (PopulateTask *)task;
    uint64_t begin = populate->begin;
    uint64_t end = populate->end;
    if (!populate->existing) {
        populate->broken = madvise(populate->base + begin, end - begin, MADV_POPULATE_WRITE) < 0;
        populate->begin = end;
        return;
    }
    off_t data = lseek(populate->upkeep->fd, (off_t)begin, SEEK_DATA);
    if (data < 0 || (uint64_t)data >= end) {
        populate->begin = end;
        return;
    }
    begin = (uint64_t)data;
    end = MIN(end, begin + TOUCH_BYTES);
    populate->broken = populate_existing(populate->base + begin, end - begin) < 0;
    populate->begin = end;
}

static void populate_submit(PopulateTask *populate)
{
    populate->busy = true;
    upkeep_submit(populate->upkeep, &populate->task);
}

static void populate_done(HousekeeperTask *task)
{
    PopulateTask *populate = (PopulateTask *)task;
    Upkeep *upkeep = populate->upkeep;
    populate->busy = false;
    if (upkeep->arena != NULL && populate->existing && !populate->broken &&
        populate->begin < populate->end) {
        populate->base = upkeep->arena->base;
        populate_submit(populate);
    }
    upkeep_done(upkeep);
}

void upkeep_populate(Arena *arena)
{
    Upkeep *upkeep = arena->upkeep;
    PopulateTask *ahead = &upkeep->ahead;
    uint64_t mark = arena_header(arena)->counters.high_water_pages;
    uint64_t capacity = arena_header(arena)->counters.capacity_pages;
    uint64_t most = upkeep->housekeeper == NULL ? AHEAD_PAGES_INLINE : AHEAD_PAGES_MAX;
    uint64_t want = MIN(most, MAX(mark / 64, AHEAD_PAGES_MIN));
    if (_likely_(upkeep->populated_pages >= mark + want || ahead->busy || ahead->broken ||
                 mark == upkeep->born_pages))
        return;
    uint64_t begin = MAX(upkeep->populated_pages, mark);
    uint64_t end = MIN(mark + 2 * want, capacity);
    if (begin >= end || memory_extend(arena, end) != 0)
        return;
    ahead->base = arena->base;
    ahead->begin = begin * HOLDFAST_PAGE_BYTES;
    ahead->end = end * HOLDFAST_PAGE_BYTES;
    upkeep->populated_pages = end;
    populate_submit(ahead);
}

void upkeep_touch(Arena *arena)
{
    Upkeep *upkeep = arena->upkeep;
    PopulateTask *touch = &upkeep->touch;
    if (upkeep->housekeeper == NULL || touch->busy || touch->broken)
        return;
    touch->base = arena->base;
    touch->begin = 0;
    touch->end = arena_header(arena)->counters.high_water_pages * HOLDFAST_PAGE_BYTES;
    populate_submit(touch);
}

/* --- giving pages back */

static void punch_run(HousekeeperTask *task)
{
    PunchTask *punch = (PunchTask *)task;
    punch->result = 0;
    for (unsigned i = 0; i < punch->count; i++)
        if (fallocate(punch->upkeep->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      (off_t)(punch->runs[i].page * HOLDFAST_PAGE_BYTES),
                      (off_t)(punch->runs[i].pages * HOLDFAST_PAGE_BYTES)) < 0)
            punch->result = -errno;
}

static uint64_t punching_offset(unsigned i)
{
    return offsetof(HoldfastHeader, punching) + i * sizeof(uint32_t);
}

/* Ends an update of the upkeep's own. */
static bool upkeep_end(Arena *arena, int r)
{
    if (r == 0)
        undo_commit(arena);
    else
        undo_abort(arena);
    return r == 0;
}

/* The runs are holes now. Stays to be done where the barrier has no room. */
static void punch_finish(Arena *arena, PunchTask *punch)
{
    int r = 0;
    undo_begin(arena);
    for (unsigned i = 0; r == 0 && i < punch->count; i++) {
        r = runs_punch_end(arena, punch->runs[i].page, punch->result == 0);
        if (r == 0)
            r = undo_set_u32(arena, punching_offset(i), 0);
    }
    if (!upkeep_end(arena, r))
        return;
    punch->count = 0;
    punch->broken = punch->result != 0;
}

static void punch_done(HousekeeperTask *task)
{
    PunchTask *punch = (PunchTask *)task;
    Upkeep *upkeep = punch->upkeep;
    punch->busy = false;
    if (upkeep->arena != NULL && !upkeep->arena->undo.open && !upkeep->arena->fault->found)
        punch_finish(upkeep->arena, punch);
    upkeep_done(upkeep);
}

/* Takes the longest resident runs out of the free lists, until pages pages are under way. */
static int punch_select(Arena *arena, PunchTask *punch, uint64_t pages)
{
    while (pages > 0 && punch->count < HOLDFAST_PUNCHING_MAX) {
        const HoldfastHeader *header = arena_header(arena);
        if (header->resident_bins == 0)
            break;
        unsigned bin = 63 - (unsigned)__builtin_clzll(header->resident_bins);
        if (bin >= HOLDFAST_RUN_BINS)
            return arena_damaged(arena, "header: bits for lists of free runs that don't exist");
        PunchRun run = {.page = header->resident_runs[bin]};
        int r = runs_punch_begin(arena, run.page, pages, &run.pages);
        if (r == 0)
            r = undo_set_u32(arena, punching_offset(punch->count), (uint32_t)run.page);
        if (r != 0)
            return r;
        punch->runs[punch->count++] = run;
        pages -= run.pages;
    }
    return 0;
}

static void punch_start(Arena *arena, PunchTask *punch)
{
    const HoldfastCounters *counters = &arena_header(arena)->counters;
    /* Some stays, so that steady churn does not give back what it takes again at once. */
    uint64_t slack = MAX(PUNCH_SLACK_PAGES_MIN, counters->used_pages / 32);
    if (counters->resident_pages <= slack + slack / 8)
        return;
    undo_begin(arena);
    int r = punch_select(arena, punch, MIN(counters->resident_pages - slack, PUNCH_PAGES_MAX));
    if (!upkeep_end(arena, r) || punch->count == 0) {
        punch->count = 0;
        return;
    }
    punch->busy = true;
    upkeep_submit(arena->upkeep, &punch->task);
}

void arena_upkeep(Arena *arena)
{
    PunchTask *punch = &arena->upkeep->punch;
    if (arena->undo.open || arena->fault->found)
        return;
    upkeep_populate(arena);
    compact_idle(arena);
    if (punch->busy || punch->broken)
        return;
    if (punch->count > 0)
        punch_finish(arena, punch);
    else if (!arena->held)
        punch_start(arena, punch);
}

void arena_hold_pages(Arena *arena, bool held)
{
    arena->held = held;
}

bool arena_pages_held(const Arena *arena)
{
    return arena->held;
}

int upkeep_recover(Arena *arena)
{
    int r = 0;
    const HoldfastHeader *header = arena_header(arena);
    for (unsigned i = 0; r == 0 && i < HOLDFAST_PUNCHING_MAX; i++) {
        if (header->punching[i] == 0)
            continue;
        r = runs_punch_end(arena, header->punching[i], false);
        if (r == 0)
            r = undo_set_u32(arena, punching_offset(i), 0);
    }
    return r;
}

/* --- going away */

static void unmap_run(HousekeeperTask *task)
{
    UnmapTask *unmap = (UnmapTask *)task;
    for (uint64_t at = 0; at < unmap->punch_bytes; at += UNMAP_BYTES)
        (void)fallocate(unmap->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
                        (off_t)MIN(UNMAP_BYTES, unmap->punch_bytes - at));
    // In parts: other threads need the address space's lock now and then.
    for (uint64_t at = 0; at < unmap->bytes; at += UNMAP_BYTES)
        (void)munmap(unmap->base + at, MIN(UNMAP_BYTES, unmap->bytes - at));
    if (unmap->fd >= 0)
        close(unmap->fd);
}

static void unmap_done(HousekeeperTask *task)
{
    UnmapTask *unmap = (UnmapTask *)task;
    Upkeep *upkeep = unmap->upkeep;
    free(unmap);
    upkeep_done(upkeep);
}

static void unmap_submit(Upkeep *upkeep, const UnmapTask *what)
{
    UnmapTask *unmap = malloc(sizeof(*unmap));
    UnmapTask now = *what;
    if (unmap == NULL) { // dear, but not wrong, unless a task still uses it
        if (upkeep->housekeeper != NULL)
            housekeeper_drain(upkeep->housekeeper);
        unmap_run(&now.task);
        return;
    }
    *unmap = now;
    unmap->task = (HousekeeperTask){.run = unmap_run, .done = unmap_done};
    unmap->upkeep = upkeep;
    upkeep_submit(upkeep, &unmap->task);
}

void upkeep_unmap(Arena *arena)
{
    UnmapTask unmap = {
        .base = arena->base,
        .bytes = arena->mapped_pages * HOLDFAST_PAGE_BYTES,
        .fd = -1,
    };
    unmap_submit(arena->upkeep, &unmap);
}

int upkeep_new(Arena *arena)
{
    Upkeep *upkeep = calloc(1, sizeof(*upkeep));
    if (upkeep == NULL)
        return -ENOMEM;
    upkeep->arena = arena;
    upkeep->housekeeper = arena->context.housekeeper;
    upkeep->fd = arena->fd;
    upkeep->born_pages = arena_header(arena)->counters.high_water_pages;
    upkeep->ahead.task = (HousekeeperTask){.run = populate_run, .done = populate_done};
    upkeep->ahead.upkeep = upkeep;
    upkeep->touch.task = upkeep->ahead.task;
    upkeep->touch.upkeep = upkeep;
    upkeep->touch.existing = true;
    upkeep->punch.task = (HousekeeperTask){.run = punch_run, .done = punch_done};
    upkeep->punch.upkeep = upkeep;
#ifdef HOLDFAST_GUARD
    upkeep->ahead.broken = upkeep->touch.broken = true; // needs a mapping that can be written
#endif
    arena->upkeep = upkeep;
    return 0;
}

void upkeep_free(Arena *arena, bool dropped)
{
    Upkeep *upkeep = arena->upkeep;
    UnmapTask unmap = {
        .base = arena->base,
        .bytes = arena->mapped_pages * HOLDFAST_PAGE_BYTES,
        .punch_bytes = dropped ? arena->file_pages * HOLDFAST_PAGE_BYTES : 0,
        .fd = arena->fd,
    };
    upkeep->tasks++; // it is freed here or when the last task is done
    upkeep->arena = NULL;
    unmap_submit(upkeep, &unmap);
    upkeep_done(upkeep);
}

void upkeep_discard(const ArenaContext *context, int fd)
{
    Upkeep *upkeep = calloc(1, sizeof(*upkeep));
    uint64_t bytes = 0;
    if (upkeep == NULL || file_size(fd, &bytes) < 0) { // then with the last descriptor
        free(upkeep);
        close(fd);
        return;
    }
    upkeep->housekeeper = context->housekeeper;
    upkeep->tasks = 1; // it is freed here or when the task is done
    UnmapTask unmap = {.punch_bytes = bytes, .fd = fd};
    unmap_submit(upkeep, &unmap);
    upkeep_done(upkeep);
}
