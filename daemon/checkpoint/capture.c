/* The before-image ring and the marks. The normal way: capture_arm at the cut; from then on the
 * barrier puts a page into the ring before it changes for the first time, the child takes it out
 * and frees the slot. What can go wrong: the ring is full (-EAGAIN, the update is undone and
 * parked), an arena is dropped meanwhile (its marks go here, the child keeps its own mapping), the
 * child is killed (capture_disarm, and capture_release once it is reaped).
 *
 * Why no page gets in torn or gets lost. All of a page's way, with the names that the steps have in
 * the code, and in tests/crash/models/capture.pml, which SPIN checks:
 *
 *   parent (barrier, then the update)         child (sweep.c, through capture_child_*)
 *
 *   P1  copy page and name into the slot      C1  copy the page (pread)
 *   P2  store-release head                    C2  acquire fence
 *   P3  store-release mark = epoch            C3  load-acquire mark: set -> throw the copy away
 *   P4  release fence                         C4  store-release scan position, after C3 of all
 *   P5  change the page                           pages of the piece
 *                                             C5  after the last C4: scan_done, then take all
 *                                                 that is in the ring
 *
 * - Not torn: if C1 read any byte that P5 wrote, the fences P4 and C2 synchronize (the byte is
 * written after P4 and read before C2), so P3 happens before C3, and C3 sees the mark. A
 * store-release at P3 alone would not do: it orders what comes before it, P5 could still move ahead
 * of it.
 * - Not lost: a mark seen by C3 was stored after P2, so by the acquire of C3 the child sees the
 * head at C5 at the latest, and with the head (load-acquire) the slot. A relaxed mark after the
 * head could show the mark first.
 * - Not captured for nothing, and never late: the barrier skips a page below the scan position,
 * which it loads with acquire: by C4 the child's copy of that page was complete before the change.
 * A page that is captured although the child has a good copy comes twice and is the same page both
 * times: nothing changed between the cut and P1.
 * - A slot is written again only after the child is done with it: it store-releases tail, the
 * parent loads it with acquire.
 * - A slot left over from an earlier child names an earlier epoch and is ignored.
 *
 * The fence P4 is issued for each captured page, not once a barrier: an update that got only half
 * of its pages captured tries again later, and then finds them marked and passes. */
#include "checkpoint/capture.h"

#include <stdatomic.h>
#include <sys/mman.h>

#include "base/file.h"
#include "base/housekeeper.h"
#include "base/schedule.h"

/* Slots populated ahead at a time: 40 us once instead of 12 us each. */
#define POPULATE_SLOTS 16
/* Unmapped in one go: some ten microseconds where all of it was touched. */
#define LEAVE_BYTES (512 * KIB)

/* At the ring's beginning. Each side's word has a cache line of its own. */
typedef struct CaptureControl {
    _Alignas(64) _Atomic(uint64_t) head; /* slots filled since arm; the parent's */
    _Alignas(64) _Atomic(uint64_t) tail; /* slots freed since arm; the child's */
    _Alignas(64) _Atomic(uint32_t) scan_done;
    _Atomic(uint32_t) wanted; /* the parent waits for free slots */
} CaptureControl;

typedef struct CaptureSlot {
    uint32_t arena;
    uint32_t page;
    uint32_t epoch;
    uint32_t reserved;
} CaptureSlot;

typedef struct CaptureMark {
    _Atomic(uint32_t) captured; /* epoch in which the page was captured */
    _Atomic(uint32_t) changed;  /* epoch in which it was last changed */
} CaptureMark;

static_assert(sizeof(CaptureControl) <= HOLDFAST_PAGE_BYTES, "the control fits its page");
static_assert(sizeof(CaptureSlot) == 16, "slot headers are packed");
static_assert(sizeof(CaptureMark) == 8, "two processes agree on the marks");
static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2,
              "shared words need no lock");

struct CaptureMarks {
    Capture *capture;
    CaptureMarks *next;
    CaptureMarks **link; /* what points here */
    const Arena *arena;
    CaptureMark *marks;
    uint64_t pages; /* room */
    int fd;
    uint32_t epoch; /* of the last cut that concerned this arena */
    /* while armed */
    bool armed;
    uint32_t index;     /* in the cut */
    uint64_t cut_pages; /* high-water mark at the cut */
#ifdef CAPTURE_MUTANT_MARK_AFTER_CHANGE
    CaptureMark *late;
#endif
};

/* One arena of the cut; at the fork the child gets a copy that stays as it was. */
typedef struct CaptureArmed {
    CaptureMarks *owner; /* NULL: freed since; the parent's business */
    const CaptureMark *marks;
    uint64_t pages;
} CaptureArmed;

struct Capture {
    int fd;
    size_t map_bytes;
    CaptureControl *control;
    _Atomic(uint64_t) *positions; /* of the scan, one an arena of the cut */
    CaptureSlot *slots;
    char *data;
    uint64_t slot_count;
    Housekeeper *housekeeper;
    CaptureMarks *all;

    /* the parent's */
    uint32_t epoch;
    bool armed;
    bool in_use; /* from arm to release: the child may read the ring */
    uint64_t head;
    uint64_t tail_seen;
    uint64_t populated; /* slots */

    /* the child's */
    uint64_t tail;
    uint64_t head_seen;

    CaptureArmed *cut;
    size_t cut_count;
    size_t cut_room;
};

/* --- the ring */

static void capture_lay_out(Capture *capture, char *map)
{
    uint64_t offset = HOLDFAST_PAGE_BYTES;

    capture->control = (CaptureControl *)map;
    capture->positions = (_Atomic(uint64_t) *)(map + offset);
    offset += CAPTURE_ARENAS_MAX * sizeof(capture->positions[0]);
    capture->slots = (CaptureSlot *)(map + offset);
    offset += ALIGN_UP(capture->slot_count * sizeof(CaptureSlot), (uint64_t)HOLDFAST_PAGE_BYTES);
    capture->data = map + offset;
}

int capture_new(uint64_t ring_bytes, Capture **ret)
{
    _cleanup_(freep) Capture *capture = calloc(1, sizeof(*capture));
    _cleanup_(closep) int fd = -1;
    void *map;
    int r;

    if (capture == NULL)
        return -ENOMEM;
    if (ring_bytes > SIZE_MAX / 2)
        return -EINVAL;
    capture->slot_count = ring_bytes / (HOLDFAST_PAGE_BYTES + sizeof(CaptureSlot));
    if (capture->slot_count == 0)
        return -EINVAL;
    capture->map_bytes = HOLDFAST_PAGE_BYTES + CAPTURE_ARENAS_MAX * sizeof(uint64_t) +
                         ALIGN_UP(capture->slot_count * sizeof(CaptureSlot), HOLDFAST_PAGE_BYTES) +
                         capture->slot_count * HOLDFAST_PAGE_BYTES;
    r = file_memfd("holdfast-capture", capture->map_bytes, &fd);
    if (r < 0)
        return r;
    map = mmap(NULL, capture->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    (void)madvise(map, capture->map_bytes, MADV_DONTDUMP);
    capture_lay_out(capture, map);
    capture->fd = TAKE_FD(fd);
    capture->epoch = 1; /* 0 in a mark: never */
    *ret = TAKE_PTR(capture);
    return 0;
}

Capture *capture_free(Capture *capture)
{
    if (capture == NULL)
        return NULL;
    assert(capture->all == NULL);
    munmap(capture->control, capture->map_bytes);
    close(capture->fd);
    free(capture->cut);
    free(capture);
    return NULL;
}

void capture_set_housekeeper(Capture *capture, Housekeeper *housekeeper)
{
    capture->housekeeper = housekeeper;
}

/* --- the marks of an arena */

int capture_marks_new(Capture *capture, uint64_t capacity_pages, CaptureMarks **ret)
{
    _cleanup_(freep) CaptureMarks *marks = calloc(1, sizeof(*marks));
    _cleanup_(closep) int fd = -1;
    uint64_t pages = MAX(capacity_pages, UINT64_C(1));
    void *map;
    int r;

    if (marks == NULL)
        return -ENOMEM;
    if (pages > SIZE_MAX / 2 / sizeof(CaptureMark))
        return -EINVAL;
    r = file_memfd("holdfast-marks", pages * sizeof(CaptureMark), &fd);
    if (r < 0)
        return r;
    map = mmap(NULL, pages * sizeof(CaptureMark), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    (void)madvise(map, pages * sizeof(CaptureMark), MADV_DONTDUMP);
    marks->capture = capture;
    marks->marks = map;
    marks->pages = pages;
    marks->fd = TAKE_FD(fd);
    marks->epoch = capture->epoch;
    marks->next = capture->all;
    marks->link = &capture->all;
    if (marks->next != NULL)
        marks->next->link = &marks->next;
    capture->all = marks;
    *ret = TAKE_PTR(marks);
    return 0;
}

/* What is left of marks that were freed. */
typedef struct MarksRest {
    HousekeeperTask task;
    void *map;
    size_t bytes;
    int fd;
} MarksRest;

static void marks_rest_free(HousekeeperTask *task)
{
    MarksRest *rest = CONTAINER_OF(task, MarksRest, task);

    munmap(rest->map, rest->bytes);
    close(rest->fd);
    free(rest);
}

CaptureMarks *capture_marks_free(CaptureMarks *marks)
{
    Capture *capture;
    MarksRest *rest;

    if (marks == NULL)
        return NULL;
    capture = marks->capture;
    if (marks->armed)
        capture->cut[marks->index].owner = NULL;
    *marks->link = marks->next;
    if (marks->next != NULL)
        marks->next->link = marks->link;
    rest = capture->housekeeper != NULL ? calloc(1, sizeof(*rest)) : NULL;
    if (rest != NULL) {
        rest->task.run = marks_rest_free;
        rest->map = marks->marks;
        rest->bytes = marks->pages * sizeof(CaptureMark);
        rest->fd = marks->fd;
        housekeeper_submit(capture->housekeeper, &rest->task);
    } else {
        munmap(marks->marks, marks->pages * sizeof(CaptureMark));
        close(marks->fd);
    }
    free(marks);
    return NULL;
}

int capture_marks_resize(CaptureMarks *marks, uint64_t capacity_pages)
{
    void *map;

    if (capacity_pages <= marks->pages)
        return 0;
    if (capacity_pages > SIZE_MAX / 2 / sizeof(CaptureMark))
        return -EINVAL;
    if (ftruncate(marks->fd, (off_t)(capacity_pages * sizeof(CaptureMark))) < 0)
        return -errno;
    map = mremap(marks->marks, marks->pages * sizeof(CaptureMark),
                 capacity_pages * sizeof(CaptureMark), MREMAP_MAYMOVE);
    if (map == MAP_FAILED)
        return -errno;
    marks->marks = map;
    marks->pages = capacity_pages;
    return 0;
}

void capture_marks_attach(CaptureMarks *marks, const Arena *arena)
{
    marks->arena = arena;
}

/* --- the barrier */

static void populate_slots(Capture *capture, uint64_t slot)
{
    uint64_t count = MIN(capture->slot_count - slot, (uint64_t)POPULATE_SLOTS);

    /* Only a help: where it fails the copy faults the page in. */
    (void)madvise(capture->data + slot * HOLDFAST_PAGE_BYTES, count * HOLDFAST_PAGE_BYTES,
                  MADV_POPULATE_WRITE);
    capture->populated = slot + count;
}

static bool ring_is_full(Capture *capture)
{
    if (capture->head - capture->tail_seen < capture->slot_count)
        return false;
    capture->tail_seen = atomic_load_explicit(&capture->control->tail, memory_order_acquire);
    return capture->head - capture->tail_seen >= capture->slot_count;
}

/* Steps P1 to P4. */
static int capture_page(CaptureMarks *marks, CaptureMark *mark, uint64_t page)
{
    Capture *capture = marks->capture;
    uint64_t slot = capture->head % capture->slot_count;

    if (ring_is_full(capture)) {
        atomic_store_explicit(&capture->control->wanted, 1, memory_order_release);
        return -EAGAIN;
    }
    if (_unlikely_(slot >= capture->populated))
        populate_slots(capture, slot);
    capture->slots[slot] = (CaptureSlot){
        .arena = marks->index,
        .page = (uint32_t)page,
        .epoch = marks->epoch,
    };
    memcpy(capture->data + slot * HOLDFAST_PAGE_BYTES, arena_page(marks->arena, page),
           HOLDFAST_PAGE_BYTES); /* P1 */
    capture->head++;
    atomic_store_explicit(&capture->control->head, capture->head, memory_order_release); /* P2 */
#ifdef CAPTURE_MUTANT_MARK_AFTER_CHANGE
    marks->late = mark;
#else
    atomic_store_explicit(&mark->captured, marks->epoch, memory_order_release); /* P3 */
#endif
    atomic_thread_fence(memory_order_release); /* P4 */
    return 0;
}

static bool must_capture(const CaptureMarks *marks, uint64_t page)
{
    return page < marks->cut_pages &&
           page >=
               atomic_load_explicit(&marks->capture->positions[marks->index], memory_order_acquire);
}

static int marks_change(void *context, uint64_t first_page, uint64_t pages)
{
    CaptureMarks *marks = context;

    assert(first_page <= marks->pages && pages <= marks->pages - first_page);
#ifdef CAPTURE_MUTANT_MARK_AFTER_CHANGE
    if (marks->late != NULL)
        atomic_store_explicit(&marks->late->captured, marks->epoch, memory_order_release);
    marks->late = NULL;
#endif
    for (uint64_t page = first_page; page < first_page + pages; page++) {
        CaptureMark *mark = &marks->marks[page];

        /* Changed in this epoch already: what had to be captured is. The one test of the usual
         * case. */
        if (_likely_(atomic_load_explicit(&mark->changed, memory_order_relaxed) == marks->epoch))
            continue;
        if (marks->armed && must_capture(marks, page)) {
            int r = capture_page(marks, mark, page);

            if (r < 0)
                return r;
        }
        atomic_store_explicit(&mark->changed, marks->epoch, memory_order_relaxed);
    }
    return 0;
}

ArenaBarrier capture_barrier(CaptureMarks *marks)
{
    return (ArenaBarrier){.change = marks_change, .context = marks};
}

/* --- parent, around a checkpoint */

static int capture_cut_room(Capture *capture, size_t count)
{
    CaptureArmed *cut;

    if (count <= capture->cut_room)
        return 0;
    cut = reallocarray(capture->cut, count, sizeof(*cut));
    if (cut == NULL)
        return -ENOMEM;
    capture->cut = cut;
    capture->cut_room = count;
    return 0;
}

int capture_arm(Capture *capture, const CaptureCut *cuts, size_t count)
{
    int r;

    if (capture->in_use)
        return -EBUSY;
    if (count > CAPTURE_ARENAS_MAX)
        return -E2BIG;
    for (size_t i = 0; i < count; i++) {
        assert(cuts[i].pages <= cuts[i].marks->pages);
        if (cuts[i].pages > UINT32_MAX)
            return -E2BIG;
    }
    r = capture_cut_room(capture, count);
    if (r < 0)
        return r;
    capture->epoch++;
    /* From the first slot on again, so that a checkpoint that needs few slots touches few. */
    capture->head = capture->tail_seen = capture->tail = capture->head_seen = 0;
    atomic_store_explicit(&capture->control->head, 0, memory_order_relaxed);
    atomic_store_explicit(&capture->control->tail, 0, memory_order_relaxed);
    atomic_store_explicit(&capture->control->scan_done, 0, memory_order_relaxed);
    atomic_store_explicit(&capture->control->wanted, 0, memory_order_relaxed);
    for (size_t i = 0; i < count; i++) {
        CaptureMarks *marks = cuts[i].marks;

        capture->cut[i] =
            (CaptureArmed){.owner = marks, .marks = marks->marks, .pages = cuts[i].pages};
        atomic_store_explicit(&capture->positions[i], 0, memory_order_relaxed);
        marks->epoch = capture->epoch;
        marks->index = (uint32_t)i;
        marks->cut_pages = cuts[i].pages;
        marks->armed = true;
    }
    capture->cut_count = count;
    capture->armed = capture->in_use = true;
    return 0;
}

void capture_disarm(Capture *capture)
{
    if (!capture->armed)
        return;
    for (size_t i = 0; i < capture->cut_count; i++)
        if (capture->cut[i].owner != NULL)
            capture->cut[i].owner->armed = false;
    capture->armed = false;
}

void capture_release(Capture *capture)
{
    capture_disarm(capture);
    capture->in_use = false;
}

bool capture_armed(const Capture *capture)
{
    return capture->armed;
}

bool capture_wanted(const Capture *capture)
{
    return atomic_load_explicit(&capture->control->wanted, memory_order_relaxed) != 0;
}

uint64_t capture_slots_freed(const Capture *capture)
{
    return atomic_load_explicit(&capture->control->tail, memory_order_acquire);
}

bool capture_has_room(const Capture *capture)
{
    return !capture->armed || capture->head - capture_slots_freed(capture) < capture->slot_count ||
           atomic_load_explicit(&capture->control->scan_done, memory_order_acquire) != 0;
}

uint64_t capture_pages_captured(const Capture *capture)
{
    return capture->head;
}

/* --- child */

bool capture_child_next(Capture *capture, CapturedPage *ret)
{
    for (;;) {
        uint64_t index = capture->tail % capture->slot_count;
        const CaptureSlot *slot = &capture->slots[index];

        if (capture->tail == capture->head_seen)
            capture->head_seen =
                atomic_load_explicit(&capture->control->head, memory_order_acquire);
        if (capture->tail == capture->head_seen)
            return false;
        /* The frozen table decides, whatever the shared memory says. */
        if (slot->epoch == capture->epoch && slot->arena < capture->cut_count &&
            slot->page < capture->cut[slot->arena].pages) {
            *ret = (CapturedPage){
                .arena = slot->arena,
                .page = slot->page,
                .data = capture->data + index * HOLDFAST_PAGE_BYTES,
            };
            return true;
        }
        capture_child_release(capture);
    }
}

void capture_child_release(Capture *capture)
{
    capture->tail++;
    atomic_store_explicit(&capture->control->tail, capture->tail, memory_order_release);
}

void capture_child_check(Capture *capture, uint32_t arena, uint64_t first, uint32_t count,
                         uint64_t *captured)
{
    const CaptureMark *marks = capture->cut[arena].marks;

    memset(captured, 0, DIVIDE_UP(count, 64u) * sizeof(*captured));
#ifdef CAPTURE_MUTANT_NO_CHECK_AFTER_COPY
    (void)marks, (void)first;
#else
    /* C2 */
    atomic_thread_fence(memory_order_acquire);
    for (uint32_t i = 0; i < count; i++)
        if (atomic_load_explicit(&marks[first + i].captured, memory_order_acquire) ==
            capture->epoch) /* C3 */
            captured[i / 64] |= UINT64_C(1) << (i % 64);
#endif
}

void capture_child_scanned(Capture *capture, uint32_t arena, uint64_t page)
{
    atomic_store_explicit(&capture->positions[arena], page, memory_order_release); /* C4 */
}

void capture_child_scan_done(Capture *capture)
{
    atomic_store_explicit(&capture->control->scan_done, 1, memory_order_release);
}

bool capture_child_wanted(Capture *capture)
{
    uint64_t filled =
        atomic_load_explicit(&capture->control->head, memory_order_relaxed) - capture->tail;

    if (capture->slot_count - filled < DIVIDE_UP(capture->slot_count, 4))
        return false;
    return atomic_exchange_explicit(&capture->control->wanted, 0, memory_order_acq_rel) != 0;
}

bool capture_child_crowded(const Capture *capture)
{
    return atomic_load_explicit(&capture->control->head, memory_order_relaxed) - capture->tail >
           capture->slot_count / 4;
}

void capture_child_leave(Capture *capture)
{
    char *map = (char *)capture->control;
    YieldBackoff backoff = {0};

    for (size_t done = 0; done < capture->map_bytes; done += LEAVE_BYTES) {
        munmap(map + done, MIN(capture->map_bytes - done, LEAVE_BYTES));
        schedule_yield(&backoff);
    }
}
