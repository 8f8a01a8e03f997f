/* The protocol of ring, marks, scan and drains: one thread changes pages through the barrier,
 * another runs the child's own loop (sweep.c) over the same memory, and every page that comes out
 * is compared with the state at the cut. Built a second time with one of the CAPTURE_MUTANT_...
 * macros, which leave out one step of the protocol, it must fail. */
#include "checkpoint/capture.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#include "base/file.h"
#include "checkpoint/sweep.h"

#if defined(__SANITIZE_ADDRESS__)
#define EFFORT 5
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EFFORT 5
#endif
#endif
#ifndef EFFORT
#define EFFORT 100 /* per cent: in all a million pages each way and more */
#endif

#define ARENAS 3
#define WORDS (HOLDFAST_PAGE_BYTES / sizeof(uint64_t))
#define SLOT_BYTES (HOLDFAST_PAGE_BYTES + 16)

/* Memory that stands in for an arena: all that the barrier asks of one is where a page lies. */
struct Arena {
    int fd;
    uint64_t pages;
    _Atomic(uint64_t) *words;
    uint32_t *versions; /* of each page, now; 0: never written */
    uint32_t *at_cut;
    uint8_t *seen;
    uint64_t cut_pages;
    CaptureMarks *marks;
    ArenaBarrier barrier;
};

const void *arena_page(const Arena *arena, uint64_t page)
{
    return (const char *)arena->words + page * HOLDFAST_PAGE_BYTES;
}

typedef struct Rig {
    Capture *capture;
    Arena arenas[ARENAS];
    Sweep *sweep;
    char *buffer;
    uint64_t random;
    uint64_t captured;
    uint64_t scanned;
    uint64_t wrong;
    uint64_t rounds;
    sem_t start;
    sem_t room; /* the child made some, or has finished */
    /* The child lets some updates go by now and then, or a busy machine would run one thread at a
     * time and hardly anything would be captured. */
    sem_t paced;
    _Atomic(int) pace;  /* updates that the child waits for */
    _Atomic(bool) idle; /* no more updates come in this round */
    unsigned turns;
    _Atomic(bool) finished;
    bool over;
    int result;
} Rig;

static uint64_t rig_random(Rig *rig)
{
    rig->random ^= rig->random << 13;
    rig->random ^= rig->random >> 7;
    rig->random ^= rig->random << 17;
    return rig->random;
}

static uint64_t page_word(uint64_t page, uint32_t version)
{
    return version == 0 ? 0 : page << 32 | version;
}

/* --- the child */

static int rig_give_buffer(void *context, void **ret)
{
    Rig *rig = context;

    *ret = rig->buffer;
    return 0;
}

static int rig_put(void *context, uint32_t index, const uint32_t *pages, uint32_t count)
{
    Rig *rig = context;
    Arena *arena = &rig->arenas[index];

    for (uint32_t i = 0; i < count; i++) {
        const uint64_t *words = (uint64_t *)(rig->buffer + (size_t)i * HOLDFAST_PAGE_BYTES);
        uint64_t expected = page_word(pages[i], arena->at_cut[pages[i]]);
        uint64_t difference = 0;

        for (size_t w = 0; w < WORDS; w++)
            difference |= words[w] ^ expected;
        if (difference != 0)
            rig->wrong++;
        arena->seen[pages[i]]++;
    }
    return 0;
}

static void rig_pace(Rig *rig)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 1000 * 1000;
    if (until.tv_nsec >= 1000 * 1000 * 1000) {
        until.tv_sec++;
        until.tv_nsec -= 1000 * 1000 * 1000;
    }
    atomic_store(&rig->pace, 8);
    while (sem_timedwait(&rig->paced, &until) < 0 && errno == EINTR)
        ;
}

static void rig_turn(void *context, bool room)
{
    Rig *rig = context;

    if (room)
        sem_post(&rig->room);
    if (rig->turns++ % 2 == 0 && !atomic_load(&rig->idle))
        rig_pace(rig);
}

static void rig_scanned(void *context)
{
    (void)context;
}

static void *rig_child(void *context)
{
    Rig *rig = context;

    for (;;) {
        while (sem_wait(&rig->start) < 0)
            ;
        if (rig->over)
            return NULL;
        rig->result = sweep_run(rig->sweep);
        atomic_store_explicit(&rig->finished, true, memory_order_release);
        sem_post(&rig->room);
    }
}

/* --- the parent */

/* Writes without haste and in no special way, as an update would: a copy made meanwhile is torn. */
static void rig_change(Arena *arena, uint64_t page)
{
    uint64_t word = page_word(page, ++arena->versions[page]);
    _Atomic(uint64_t) *words = arena->words + page * WORDS;

    for (size_t w = 0; w < WORDS; w++)
        atomic_store_explicit(&words[w], word, memory_order_relaxed);
}

/* Not longer than until the child makes room or has finished. */
static void rig_sleep(Rig *rig)
{
    if (atomic_exchange(&rig->pace, 0) > 0)
        sem_post(&rig->paced);
    while (sem_wait(&rig->room) < 0)
        ;
}

/* One update: a few pages that lie together, whole or not at all. False: there was no room. */
static bool rig_update(Rig *rig)
{
    uint64_t random = rig_random(rig);
    Arena *arena = &rig->arenas[random % ARENAS];
    uint64_t first = (random >> 8) % arena->pages;
    uint64_t count = MIN(arena->pages - first, 1 + (random >> 40) % 3);
    unsigned tries = 0;
    int r;

    while ((r = arena->barrier.change(arena->barrier.context, first, count)) == -EAGAIN) {
        if (atomic_load_explicit(&rig->finished, memory_order_acquire))
            return false;
        /* At first without sleeping, which is the closer race. */
        if (tries++ < 5)
            sched_yield();
        else
            rig_sleep(rig);
    }
    cr_assert_eq(r, 0);
    for (uint64_t page = first; page < first + count; page++)
        rig_change(arena, page);
    if (atomic_load_explicit(&rig->pace, memory_order_relaxed) > 0 &&
        atomic_fetch_sub(&rig->pace, 1) == 1)
        sem_post(&rig->paced);
    return true;
}

static void rig_cut(Rig *rig)
{
    CaptureCut cuts[ARENAS];
    SweepArena sweeps[ARENAS];
    SweepOptions options = {
        .capture = rig->capture,
        .arenas = sweeps,
        .count = ARENAS,
        .sink = {rig, rig_give_buffer, rig_put, rig_turn, rig_scanned},
    };

    for (size_t i = 0; i < ARENAS; i++) {
        Arena *arena = &rig->arenas[i];

        /* The last pages are beyond the cut's high-water mark now and then. */
        arena->cut_pages = arena->pages - rig_random(rig) % 3;
        memcpy(arena->at_cut, arena->versions, arena->pages * sizeof(uint32_t));
        memset(arena->seen, 0, arena->pages);
        cuts[i] = (CaptureCut){.marks = arena->marks, .pages = arena->cut_pages};
        sweeps[i] = (SweepArena){.fd = arena->fd, .pages = arena->cut_pages};
    }
    cr_assert_eq(sweep_new(&options, &rig->sweep), 0);
    cr_assert_eq(capture_arm(rig->capture, cuts, ARENAS), 0);
}

/* Each page below the high-water mark came once, or not at all and was zero. */
static void rig_check(Rig *rig)
{
    for (size_t i = 0; i < ARENAS; i++) {
        const Arena *arena = &rig->arenas[i];

        for (uint64_t page = 0; page < arena->pages; page++) {
            bool in = page < arena->cut_pages;

            if (arena->seen[page] > 1 || (arena->seen[page] != 0 && !in))
                rig->wrong++;
            if (in && arena->seen[page] == 0 && arena->at_cut[page] != 0)
                rig->wrong++;
        }
    }
}

static void rig_round(Rig *rig)
{
    uint64_t budget;

    rig_cut(rig);
    atomic_store(&rig->finished, false);
    sem_post(&rig->start);
    /* At times few updates, at times all that one can make, so that either way sees much. */
    budget = rig_random(rig) % (2 * ARENAS * rig->arenas[0].pages);
    while (!atomic_load_explicit(&rig->finished, memory_order_acquire)) {
        atomic_store_explicit(&rig->idle, budget == 0, memory_order_relaxed);
        if (budget == 0)
            rig_sleep(rig);
        else if (rig_update(rig))
            budget--;
    }
    cr_assert_eq(rig->result, 0);
    rig->captured += sweep_pages_captured(rig->sweep);
    rig->scanned += sweep_pages_done(rig->sweep) - sweep_pages_captured(rig->sweep);
    rig->sweep = sweep_free(rig->sweep);
    capture_disarm(rig->capture);
    capture_release(rig->capture);
    rig_check(rig);
    rig->rounds++;
}

static void rig_arena_init(Rig *rig, Arena *arena, uint64_t pages)
{
    size_t bytes = pages * HOLDFAST_PAGE_BYTES;

    arena->pages = pages;
    cr_assert_eq(file_memfd("test", bytes, &arena->fd), 0);
    arena->words = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, arena->fd, 0);
    cr_assert_neq((void *)arena->words, MAP_FAILED);
    arena->versions = calloc(pages, sizeof(uint32_t));
    arena->at_cut = calloc(pages, sizeof(uint32_t));
    arena->seen = calloc(pages, 1);
    cr_assert_eq(capture_marks_new(rig->capture, pages, &arena->marks), 0);
    capture_marks_attach(arena->marks, arena);
    arena->barrier = capture_barrier(arena->marks);
}

static void rig_arena_deinit(Arena *arena)
{
    arena->marks = capture_marks_free(arena->marks);
    munmap((void *)arena->words, arena->pages * HOLDFAST_PAGE_BYTES);
    close(arena->fd);
    free(arena->versions);
    free(arena->at_cut);
    free(arena->seen);
}

/* Checkpoints over a ring of so many pages until enough went each way, or one was wrong. */
static void run_checkpoints(uint64_t ring_pages, uint64_t arena_pages, uint64_t each_way)
{
    Rig rig = {.random = 88172645463325252 + ring_pages};
    pthread_t child;

    cr_assert_eq(capture_new(ring_pages * SLOT_BYTES, &rig.capture), 0);
    for (size_t i = 0; i < ARENAS; i++)
        rig_arena_init(&rig, &rig.arenas[i], arena_pages + 7 * i);
    rig.buffer = malloc((size_t)256 * HOLDFAST_PAGE_BYTES);
    sem_init(&rig.start, 0, 0);
    sem_init(&rig.room, 0, 0);
    sem_init(&rig.paced, 0, 0);
    cr_assert_eq(pthread_create(&child, NULL, rig_child, &rig), 0);
    each_way = each_way * EFFORT / 100;
    while (rig.wrong == 0 && (rig.captured < each_way || rig.scanned < each_way))
        rig_round(&rig);
    rig.over = true;
    sem_post(&rig.start);
    pthread_join(child, NULL);
    for (size_t i = 0; i < ARENAS; i++)
        rig_arena_deinit(&rig.arenas[i]);
    rig.capture = capture_free(rig.capture);
    free(rig.buffer);
    if (getenv("CAPTURE_VERBOSE") != NULL)
        fprintf(stderr, "ring of %u: %u rounds, %u captured, %u scanned\n", (unsigned)ring_pages,
                (unsigned)rig.rounds, (unsigned)rig.captured, (unsigned)rig.scanned);
    cr_assert_eq(rig.wrong, 0, "%u pages are not as they were at the cut, in round %u",
                 (unsigned)rig.wrong, (unsigned)rig.rounds);
}

Test(capture, image_is_the_cut_with_a_ring_of_one_page)
{
    run_checkpoints(1, 12, 50000);
}

Test(capture, image_is_the_cut_with_a_ring_of_four_pages)
{
    run_checkpoints(4, 40, 150000);
}

Test(capture, image_is_the_cut_with_a_ring_of_fifteen_pages)
{
    run_checkpoints(15, 100, 400000);
}

Test(capture, image_is_the_cut_with_a_ring_that_holds_all)
{
    run_checkpoints(2048, 300, 400000);
}

/* --- one step at a time */

typedef struct Steps {
    Capture *capture;
    Rig rig; /* for its arenas */
} Steps;

static void steps_init(Steps *steps, uint64_t ring_pages)
{
    *steps = (Steps){0};
    cr_assert_eq(capture_new(ring_pages * SLOT_BYTES, &steps->rig.capture), 0);
    steps->capture = steps->rig.capture;
    for (size_t i = 0; i < ARENAS; i++)
        rig_arena_init(&steps->rig, &steps->rig.arenas[i], 16);
}

/* Arms all arenas, of which the first cut_pages pages are to be saved. */
static void steps_arm(Steps *steps, uint64_t cut_pages)
{
    CaptureCut cuts[ARENAS];

    for (size_t i = 0; i < ARENAS; i++)
        cuts[i] = (CaptureCut){.marks = steps->rig.arenas[i].marks, .pages = cut_pages};
    cr_assert_eq(capture_arm(steps->capture, cuts, ARENAS), 0);
}

static int steps_change(Steps *steps, size_t index, uint64_t first, uint64_t count)
{
    const ArenaBarrier *barrier = &steps->rig.arenas[index].barrier;

    return barrier->change(barrier->context, first, count);
}

static void steps_deinit(Steps *steps)
{
    capture_release(steps->capture);
    for (size_t i = 0; i < ARENAS; i++)
        rig_arena_deinit(&steps->rig.arenas[i]);
    capture_free(steps->capture);
}

Test(capture, a_page_is_captured_once_and_only_where_the_image_needs_it)
{
    CapturedPage page;
    Steps steps;

    steps_init(&steps, 8);
    cr_assert_eq(steps_change(&steps, 0, 0, 16), 0);
    cr_assert_eq(capture_pages_captured(steps.capture), 0, "not armed");
    steps_arm(&steps, 10);
    capture_child_scanned(steps.capture, 1, 5);
    cr_assert_eq(steps_change(&steps, 1, 4, 2), 0);
    cr_assert_eq(capture_pages_captured(steps.capture), 1, "page 4 is saved already");
    cr_assert_eq(steps_change(&steps, 1, 4, 2), 0);
    cr_assert_eq(steps_change(&steps, 1, 10, 3), 0);
    cr_assert_eq(capture_pages_captured(steps.capture), 1);
    cr_assert(capture_child_next(steps.capture, &page));
    cr_assert_eq(page.arena, 1);
    cr_assert_eq(page.page, 5);
    capture_child_release(steps.capture);
    cr_assert_not(capture_child_next(steps.capture, &page));
    steps_deinit(&steps);
}

Test(capture, a_full_ring_refuses_and_the_child_tells_when_there_is_room)
{
    CapturedPage page;
    Steps steps;

    steps_init(&steps, 8);
    steps_arm(&steps, 16);
    cr_assert(capture_has_room(steps.capture));
    cr_assert_eq(steps_change(&steps, 0, 0, 9), -EAGAIN);
    cr_assert_not(capture_has_room(steps.capture));
    cr_assert(capture_wanted(steps.capture));
    cr_assert(capture_child_crowded(steps.capture));
    cr_assert_not(capture_child_wanted(steps.capture), "nothing is free");
    for (unsigned i = 0; i < 2; i++) {
        cr_assert(capture_child_next(steps.capture, &page));
        cr_assert_not(capture_child_wanted(steps.capture), "less than a quarter is free");
        capture_child_release(steps.capture);
    }
    cr_assert_eq(capture_slots_freed(steps.capture), 2);
    cr_assert(capture_child_wanted(steps.capture));
    cr_assert_not(capture_child_wanted(steps.capture), "told once");
    cr_assert_eq(steps_change(&steps, 0, 0, 9), 0, "what was captured stays captured");
    cr_assert_eq(capture_pages_captured(steps.capture), 9);
    for (unsigned i = 0; i < 7; i++) {
        cr_assert_eq(capture_child_crowded(steps.capture), i < 5, "more than a quarter waits");
        cr_assert(capture_child_next(steps.capture, &page));
        capture_child_release(steps.capture);
    }
    steps_deinit(&steps);
}

Test(capture, nothing_is_captured_once_it_is_disarmed)
{
    CaptureCut cut;
    Steps steps;

    steps_init(&steps, 1);
    cut = (CaptureCut){.marks = steps.rig.arenas[0].marks, .pages = 16};
    steps_arm(&steps, 16);
    cr_assert_eq(steps_change(&steps, 0, 0, 2), -EAGAIN);
    capture_disarm(steps.capture);
    cr_assert(capture_has_room(steps.capture));
    cr_assert_eq(steps_change(&steps, 0, 0, 2), 0);
    cr_assert_eq(capture_arm(steps.capture, &cut, 1), -EBUSY, "the child may read the ring");
    capture_release(steps.capture);
    cr_assert_eq(capture_arm(steps.capture, &cut, 1), 0);
    cr_assert_eq(steps_change(&steps, 0, 0, 1), 0);
    cr_assert_eq(capture_pages_captured(steps.capture), 1, "a new epoch captures again");
    steps_deinit(&steps);
}

Test(capture, marks_may_grow_and_go_while_armed)
{
    Steps steps;

    steps_init(&steps, 64);
    steps_arm(&steps, 16);
    cr_assert_eq(steps_change(&steps, 2, 0, 4), 0);
    cr_assert_eq(capture_marks_resize(steps.rig.arenas[2].marks, 4 * MIB), 0);
    cr_assert_eq(steps_change(&steps, 2, 0, 16), 0);
    cr_assert_eq(steps_change(&steps, 2, 4 * MIB - 1, 1), 0);
    cr_assert_eq(capture_pages_captured(steps.capture), 16);
    steps.rig.arenas[1].marks = capture_marks_free(steps.rig.arenas[1].marks);
    cr_assert_eq(steps_change(&steps, 0, 0, 1), 0);
    capture_disarm(steps.capture);
    cr_assert_eq(steps_change(&steps, 0, 0, 16), 0);
    cr_assert_eq(capture_pages_captured(steps.capture), 17);
    steps_deinit(&steps);
}
