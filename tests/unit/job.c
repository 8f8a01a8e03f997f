/* Checkpoints with real arenas, a real child and real files: what is in the image, and what is left
 * when something goes wrong. The layer above is played by the test: it updates, parks, and keeps a
 * copy of all memory at the cut. */
#include "checkpoint/job.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/housekeeper.h"
#include "base/pool.h"
#include "checkpoint/capture.h"
#include "lib/temporary.h"

#define ARENAS 2
#define KEYS 3000
#define DEADLINE_USEC (60 * USEC_PER_SEC)

typedef struct Listener {
    JobWaiter waiter;
    unsigned cuts;
    unsigned progress;
    unsigned ends;
    JobEvent last;
    char id[HOLDFAST_IMAGE_ID_MAX + 1];
    char reason[CHECKPOINT_REASON_MAX];
    ImageSummary summary;
    pid_t pid;
} Listener;

typedef struct Rig {
    Temporary *directory;
    struct event_base *base;
    Housekeeper *housekeeper;
    Pool *pool;
    Capture *capture;
    Catalog *catalog;
    Job *job;
    JobOptions options;
    JobArena arenas[ARENAS];
    size_t arena_count;
    uint64_t revision;
    uint64_t random;
    bool not_ready;
    bool not_durable;
    bool parked;
    unsigned parkings;
    unsigned resumes;
    unsigned ended;
    /* as it was at the last cut */
    void *at_cut[ARENAS];
    uint64_t at_cut_pages[ARENAS];
    uint64_t at_cut_revision;
} Rig;

/* --- the layer above */

static size_t host_arenas(void *context, const JobArena **ret)
{
    Rig *rig = context;

    *ret = rig->arenas;
    return rig->arena_count;
}

static uint64_t host_revision(void *context)
{
    return ((Rig *)context)->revision;
}

static bool host_ready(void *context)
{
    return !((Rig *)context)->not_ready;
}

static void host_cut(void *context)
{
    Rig *rig = context;

    for (size_t i = 0; i < rig->arena_count; i++) {
        const Arena *arena = rig->arenas[i].arena;
        uint64_t pages = arena_high_water_pages(arena);

        free(rig->at_cut[i]);
        rig->at_cut[i] = malloc(pages * HOLDFAST_PAGE_BYTES);
        memcpy(rig->at_cut[i], arena_page(arena, 0), pages * HOLDFAST_PAGE_BYTES);
        rig->at_cut_pages[i] = pages;
    }
    rig->at_cut_revision = rig->revision;
}

static bool host_durable(void *context, uint64_t revision)
{
    (void)revision;
    return !((Rig *)context)->not_durable;
}

static void host_resume(void *context)
{
    Rig *rig = context;

    rig->parked = false;
    rig->resumes++;
}

static void host_ended(void *context, const Checkpoint *checkpoint)
{
    Rig *rig = context;

    for (size_t i = 0; i < catalog_count(rig->catalog); i++)
        rig->ended += catalog_at(rig->catalog, i) == checkpoint;
}

static void listener_notify(JobWaiter *waiter, JobEvent event, const Checkpoint *checkpoint)
{
    Listener *listener = (Listener *)waiter;

    listener->last = event;
    listener->cuts += event == JOB_CUT;
    listener->progress += event == JOB_PROGRESS;
    listener->ends += event != JOB_CUT && event != JOB_PROGRESS;
    listener->pid = checkpoint->pid;
    listener->summary = checkpoint->summary;
    strcpy(listener->id, checkpoint->spec.id);
    strcpy(listener->reason, checkpoint->reason);
}

/* --- the rig */

static uint64_t rig_random(Rig *rig)
{
    rig->random ^= rig->random << 13;
    rig->random ^= rig->random >> 7;
    rig->random ^= rig->random << 17;
    return rig->random;
}

static void rig_add_arena(Rig *rig)
{
    ArenaContext context = {.pool = rig->pool, .housekeeper = rig->housekeeper};
    ArenaAttributes attributes = {.max_bytes = 256 * MIB, .mode = 0660};
    Identity identity = {.bytes = {(uint8_t)(rig->arena_count + 1)}};
    JobArena *slot = &rig->arenas[rig->arena_count];
    ArenaBarrier barrier;
    char name[8];

    (void)snprintf(name, sizeof(name), "a%zu", rig->arena_count);
    cr_assert_eq(arena_new(&context, name, &identity, &attributes, 1, 1, &slot->arena), 0);
    cr_assert_eq(capture_marks_new(rig->capture, arena_capacity_pages(slot->arena), &slot->marks),
                 0);
    capture_marks_attach(slot->marks, slot->arena);
    barrier = capture_barrier(slot->marks);
    arena_set_barrier(slot->arena, &barrier);
    rig->arena_count++;
}

static void rig_init(Rig *rig, uint64_t ring_bytes)
{
    JobHost host = {
        .context = rig,
        .arenas = host_arenas,
        .revision = host_revision,
        .ready = host_ready,
        .cut = host_cut,
        .durable = host_durable,
        .resume = host_resume,
        .ended = host_ended,
    };

    *rig = (Rig){.random = 88172645463325252, .revision = 1};
    rig->options = (JobOptions){.stall_usec = 30 * USEC_PER_SEC, .keep = 4};
    rig->directory = temporary_new();
    rig->base = event_base_new();
    cr_assert_eq(housekeeper_new(&rig->housekeeper), 0);
    cr_assert_eq(pool_new(rig->housekeeper, &rig->pool), 0);
    cr_assert_eq(capture_new(ring_bytes, &rig->capture), 0);
    capture_set_housekeeper(rig->capture, rig->housekeeper);
    cr_assert_eq(
        catalog_new(rig->directory->fd, rig->directory->path, rig->housekeeper, &rig->catalog), 0);
    cr_assert_eq(job_new(rig->base, rig->capture, rig->catalog, rig->housekeeper,
                         rig->directory->fd, &host, &rig->options, &rig->job),
                 0);
    while (rig->arena_count < ARENAS)
        rig_add_arena(rig);
}

static void rig_drop_arena(Rig *rig, size_t index)
{
    arena_drop(rig->arenas[index].arena); /* its last change: the barrier must still be there */
    capture_marks_free(rig->arenas[index].marks);
    rig->arenas[index] = rig->arenas[--rig->arena_count];
}

static void rig_deinit(Rig *rig)
{
    rig->job = job_free(rig->job);
    while (rig->arena_count > 0)
        rig_drop_arena(rig, 0);
    catalog_free(rig->catalog);
    housekeeper_drain(rig->housekeeper);
    capture_free(rig->capture);
    pool_free(rig->pool);
    housekeeper_free(rig->housekeeper);
    event_base_free(rig->base);
    temporary_free(rig->directory);
    for (size_t i = 0; i < ARENAS; i++)
        free(rig->at_cut[i]);
}

/* One put or delete; false: it was parked. */
static bool rig_update(Rig *rig)
{
    static char value[4000];
    uint64_t random = rig_random(rig);
    Arena *arena = rig->arenas[random % rig->arena_count].arena;
    char key[24];
    int r;

    if (rig->parked)
        return false;
    memset(value, (int)('a' + random % 26), sizeof(value));
    (void)snprintf(key, sizeof(key), "key-%u", (unsigned)(random >> 8) % KEYS);
    arena_begin(arena);
    if (random >> 40 & 1)
        r = arena_put(arena, bytes_of_text(key), BYTES(value, 1 + (random >> 48) % sizeof(value)),
                      rig->revision + 1);
    else
        r = arena_delete(arena, bytes_of_text(key));
    if (r == 0 || r == ARENA_NO_ENTRY)
        r = arena_prepare(arena, rig->revision + 1);
    if (r == ARENA_BUSY) {
        arena_abort(arena);
        cr_assert(capture_wanted(rig->capture));
        rig->parked = true;
        rig->parkings++;
        job_update_parked(rig->job);
        return false;
    }
    cr_assert_eq(r, 0, "update: %d", r);
    arena_commit(arena);
    rig->revision++;
    return true;
}

static void rig_fill(Rig *rig, unsigned updates)
{
    for (unsigned i = 0; i < updates; i++)
        cr_assert(rig_update(rig));
}

/* One turn of the loop. */
static void rig_turn(Rig *rig, unsigned updates)
{
    struct timespec pause = {.tv_nsec = 200 * 1000};

    event_base_loop(rig->base, EVLOOP_NONBLOCK);
    housekeeper_reap(rig->housekeeper);
    for (unsigned i = 0; i < updates && rig_update(rig); i++)
        ;
    job_turn(rig->job);
    if (updates == 0 || rig->parked)
        nanosleep(&pause, NULL);
}

static void rig_request(Rig *rig, Listener *listener)
{
    *listener = (Listener){.waiter.notify = listener_notify};
    cr_assert_eq(job_request(rig->job, NULL, 0, "", &listener->waiter), 0);
}

/* Turns until the checkpoint has ended. */
static void rig_wait(Rig *rig, const Listener *listener, unsigned updates)
{
    uint64_t deadline = clock_monotonic() + DEADLINE_USEC;

    while (listener->ends == 0) {
        cr_assert_lt(clock_monotonic(), deadline, "the checkpoint does not end");
        rig_turn(rig, updates);
    }
    cr_assert_eq(listener->ends, 1);
}

static void rig_wait_cut(Rig *rig, const Listener *listener, unsigned updates)
{
    uint64_t deadline = clock_monotonic() + DEADLINE_USEC;

    while (listener->cuts == 0) {
        cr_assert_lt(clock_monotonic(), deadline, "no cut");
        rig_turn(rig, updates);
    }
}

static void rig_expect_complete(Rig *rig)
{
    Listener listener;

    rig_request(rig, &listener);
    rig_wait(rig, &listener, 0);
    cr_assert_eq(listener.last, JOB_COMPLETE, "%s", listener.reason);
}

/* Files in the directory whose names end so. */
static unsigned rig_files(const Rig *rig, const char *end)
{
    DIR *directory = opendir(rig->directory->path);
    struct dirent *entry;
    unsigned count = 0;

    cr_assert_neq(directory, NULL);
    while ((entry = readdir(directory)) != NULL) {
        size_t length = strlen(entry->d_name);

        if (length >= strlen(end) && strcmp(entry->d_name + length - strlen(end), end) == 0)
            count++;
    }
    closedir(directory);
    return count;
}

/* Soon: what is retired is unlinked by the housekeeper. */
static void rig_expect_files(Rig *rig, const char *end, unsigned count)
{
    uint64_t deadline = clock_monotonic() + DEADLINE_USEC;

    while (rig_files(rig, end) != count && clock_monotonic() < deadline)
        rig_turn(rig, 0);
    cr_assert_eq(rig_files(rig, end), count);
}

/* Nothing is left of a failure, updates go through, and the next checkpoint succeeds. */
static void rig_expect_recovered(Rig *rig)
{
    cr_assert_eq(rig_files(rig, ".tmp"), 0);
    cr_assert(!capture_armed(rig->capture));
    cr_assert(!rig->parked);
    rig_fill(rig, 100);
    rig_expect_complete(rig);
}

/* The image holds the memory as it was at the cut, byte for byte. */
static void rig_compare_image(const Rig *rig, const Listener *listener)
{
    char name[HOLDFAST_IMAGE_ID_MAX + 8];
    const char *where = "", *why = "";
    ImageReader *reader;
    int fd;

    (void)snprintf(name, sizeof(name), "%s.image", listener->id);
    fd = openat(rig->directory->fd, name, O_RDONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    cr_assert_eq(image_open(fd, &reader, &where, &why), 0, "%s: %s", where, why);
    cr_assert_eq(image_reader_spec(reader)->revision, rig->at_cut_revision);
    cr_assert_eq(image_reader_verify(reader, NULL, NULL), 0);
    for (size_t i = 0; i < image_reader_arenas(reader); i++) {
        size_t bytes = rig->at_cut_pages[i] * HOLDFAST_PAGE_BYTES;
        void *map;
        int memfd;

        cr_assert_eq(image_reader_arena(reader, i)->pages, rig->at_cut_pages[i]);
        if (!image_reader_arena(reader, i)->held)
            continue;
        cr_assert_eq(image_reader_restore(reader, i, NULL, NULL, &memfd), 0);
        map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, memfd, 0);
        cr_assert_neq(map, MAP_FAILED);
        for (uint64_t page = 0; page < rig->at_cut_pages[i]; page++)
            cr_assert_eq(memcmp((char *)map + page * HOLDFAST_PAGE_BYTES,
                                (char *)rig->at_cut[i] + page * HOLDFAST_PAGE_BYTES,
                                HOLDFAST_PAGE_BYTES),
                         0, "page %u of arena %zu is not as at the cut", (unsigned)page, i);
        munmap(map, bytes);
        close(memfd);
    }
    image_reader_free(reader);
    close(fd);
}

static void check_exact_cuts(uint64_t ring_bytes, bool zstd, uint64_t bytes_per_sec,
                             unsigned rounds)
{
    uint64_t captured = 0;
    Rig rig;

    rig_init(&rig, ring_bytes);
    rig.options.zstd = zstd;
    rig.options.write_bytes_per_sec = bytes_per_sec;
    job_set_options(rig.job, &rig.options);
    rig_fill(&rig, 4 * KEYS);
    for (unsigned i = 0; i < rounds; i++) {
        Listener listener;

        rig_request(&rig, &listener);
        rig_wait(&rig, &listener, 40);
        cr_assert_eq(listener.last, JOB_COMPLETE, "%s", listener.reason);
        cr_assert_gt(listener.summary.pause_usec, 0);
        rig_compare_image(&rig, &listener);
        captured += listener.summary.pages_captured;
    }
    cr_assert_gt(captured, 0, "no update came between");
    cr_assert_eq(rig.parkings > 0, rig.resumes > 0);
    cr_assert_eq(rig.ended, rounds);
    rig_expect_files(&rig, ".image", MIN(rounds, rig.options.keep));
    rig_deinit(&rig);
}

/* --- the cut */

Test(job, image_is_the_state_of_the_cut_while_updates_go_on)
{
    check_exact_cuts(MIB, false, 0, 20);
}

Test(job, image_is_the_state_of_the_cut_with_a_ring_of_15_pages)
{
    check_exact_cuts(64 * KIB, false, 0, 20);
}

Test(job, image_is_the_state_of_the_cut_with_zstd)
{
    check_exact_cuts(MIB, true, 0, 4);
}

Test(job, image_is_the_state_of_the_cut_when_the_scan_is_slow)
{
    check_exact_cuts(MIB, false, 16 * MIB, 3);
}

Test(job, updates_park_and_resume_when_the_ring_is_full)
{
    Listener listener;
    Rig rig;

    rig_init(&rig, 64 * KIB);
    rig.options.write_bytes_per_sec = 4 * MIB;
    job_set_options(rig.job, &rig.options);
    rig_fill(&rig, 2 * KEYS);
    rig_request(&rig, &listener);
    rig_wait(&rig, &listener, 1000);
    cr_assert_eq(listener.last, JOB_COMPLETE, "%s", listener.reason);
    cr_assert_gt(rig.parkings, 0);
    cr_assert_eq(rig.resumes, rig.parkings);
    cr_assert_gt(listener.summary.held_usec, 0);
    cr_assert_gt(listener.progress, 0);
    rig_compare_image(&rig, &listener);
    rig_deinit(&rig);
}

/* --- who asks */

Test(job, equal_requests_that_wait_share_one_run)
{
    Listener a, b, c;
    Identity one;
    Rig rig;

    rig_init(&rig, MIB);
    one = *arena_identity(rig.arenas[0].arena);
    rig_fill(&rig, 100);
    rig_request(&rig, &a);
    rig_request(&rig, &b);
    c = (Listener){.waiter.notify = listener_notify};
    cr_assert_eq(job_request(rig.job, &one, 1, "", &c.waiter), 0);
    rig_wait(&rig, &a, 0);
    cr_assert_eq(b.ends, 1);
    cr_assert_eq(c.ends, 0);
    cr_assert_str_eq(a.id, b.id);
    rig_wait(&rig, &c, 0);
    cr_assert_str_neq(a.id, c.id);
    rig_compare_image(&rig, &c);
    cr_assert_not(catalog_find(rig.catalog, c.id)->arenas[1].held);
    cr_assert_eq(rig.ended, 2);
    rig_deinit(&rig);
}

Test(job, the_seventeenth_request_that_waits_is_refused)
{
    Rig rig;

    rig_init(&rig, MIB);
    for (unsigned i = 0; i < JOB_QUEUE_MAX; i++) {
        char label[8];

        (void)snprintf(label, sizeof(label), "%u", i);
        cr_assert_eq(job_request(rig.job, NULL, 0, label, NULL), 0);
    }
    cr_assert_eq(job_request(rig.job, NULL, 0, "x", NULL), JOB_QUEUE_FULL);
    cr_assert_eq(job_request(rig.job, NULL, 0, "3", NULL), 0);
    rig_deinit(&rig);
}

Test(job, who_forgets_hears_nothing_and_the_checkpoint_goes_on)
{
    Listener a, b;
    Rig rig;

    rig_init(&rig, MIB);
    rig_request(&rig, &a);
    rig_request(&rig, &b);
    rig_wait_cut(&rig, &a, 0);
    job_forget(rig.job, &a.waiter);
    rig_wait(&rig, &b, 0);
    cr_assert_eq(a.ends, 0);
    rig_deinit(&rig);
}

Test(job, an_image_is_published_when_the_journal_up_to_the_cut_is_durable)
{
    Listener listener;
    Rig rig;

    rig_init(&rig, MIB);
    rig.not_ready = rig.not_durable = true;
    rig_request(&rig, &listener);
    for (unsigned i = 0; i < 20; i++)
        rig_turn(&rig, 0);
    cr_assert_eq(listener.cuts, 0);
    rig.not_ready = false;
    rig_wait_cut(&rig, &listener, 0);
    for (unsigned i = 0; i < 500; i++)
        rig_turn(&rig, 0);
    cr_assert_eq(listener.ends, 0);
    cr_assert_eq(rig_files(&rig, ".image"), 0);
    rig.not_durable = false;
    rig_wait(&rig, &listener, 0);
    cr_assert_eq(listener.last, JOB_COMPLETE);
    cr_assert_eq(rig_files(&rig, ".image"), 1);
    rig_deinit(&rig);
}

Test(job, arenas_that_are_gone_before_the_cut_are_left_out)
{
    Identity both[ARENAS];
    Listener listener = {.waiter.notify = listener_notify};
    Listener late = {.waiter.notify = listener_notify};
    Rig rig;

    rig_init(&rig, MIB);
    for (size_t i = 0; i < ARENAS; i++)
        both[i] = *arena_identity(rig.arenas[i].arena);
    cr_assert_eq(job_request(rig.job, both, ARENAS, "", &listener.waiter), 0);
    cr_assert_eq(job_request(rig.job, &both[0], 1, "", &late.waiter), 0);
    rig_drop_arena(&rig, 0);
    rig_wait(&rig, &listener, 0);
    cr_assert_eq(listener.last, JOB_COMPLETE);
    cr_assert_eq(catalog_find(rig.catalog, listener.id)->arena_count, 1);
    rig_wait(&rig, &late, 0);
    cr_assert_eq(late.last, JOB_FAILED);
    cr_assert_str_eq(late.reason, "none of the arenas exists any more");
    cr_assert_str_eq(late.id, "");
    rig_expect_recovered(&rig);
    rig_deinit(&rig);
}

Test(job, an_arena_dropped_after_the_cut_is_in_the_image)
{
    Listener listener;
    Rig rig;

    rig_init(&rig, MIB);
    rig.options.write_bytes_per_sec = 8 * MIB;
    job_set_options(rig.job, &rig.options);
    rig_fill(&rig, KEYS);
    rig_request(&rig, &listener);
    rig_wait_cut(&rig, &listener, 10);
    rig_drop_arena(&rig, 1);
    rig_wait(&rig, &listener, 10);
    cr_assert_eq(listener.last, JOB_COMPLETE, "%s", listener.reason);
    cr_assert_eq(catalog_find(rig.catalog, listener.id)->arena_count, 2);
    rig_expect_recovered(&rig);
    rig_deinit(&rig);
}

/* --- what goes wrong */

/* A rig whose child takes a while, in the middle of its work. */
static void rig_init_slow(Rig *rig, Listener *listener)
{
    rig_init(rig, 64 * KIB);
    rig_fill(rig, KEYS);
    rig_expect_complete(rig);
    rig->options.write_bytes_per_sec = 64 * KIB;
    job_set_options(rig->job, &rig->options);
    rig_request(rig, listener);
    rig_wait_cut(rig, listener, 0);
    rig->options.write_bytes_per_sec = 0;
    job_set_options(rig->job, &rig->options);
}

Test(job, a_killed_child_fails_its_checkpoint_alone)
{
    Listener listener;
    Rig rig;

    rig_init_slow(&rig, &listener);
    kill(listener.pid, SIGKILL);
    rig_wait(&rig, &listener, 20);
    cr_assert_eq(listener.last, JOB_FAILED);
    cr_assert_str_eq(listener.reason, "child killed by signal 9 (Killed)");
    cr_assert_eq(rig_files(&rig, ".image"), 1);
    rig_expect_recovered(&rig);
    rig_deinit(&rig);
}

Test(job, updates_go_on_when_the_child_stalls)
{
    Listener listener;
    Rig rig;

    rig_init_slow(&rig, &listener);
    rig.options.stall_usec = 300 * USEC_PER_MSEC;
    job_set_options(rig.job, &rig.options);
    kill(listener.pid, SIGSTOP);
    rig_wait(&rig, &listener, 50);
    cr_assert_eq(listener.last, JOB_FAILED);
    cr_assert_eq(strncmp(listener.reason, "stalled: ", 9), 0, "%s", listener.reason);
    cr_assert_gt(rig.parkings, 0);
    cr_assert_geq(listener.summary.held_usec, rig.options.stall_usec);
    rig_expect_recovered(&rig);
    rig_deinit(&rig);
}

Test(job, a_checkpoint_can_be_cancelled)
{
    Listener listener;
    pid_t pid;
    Rig rig;

    rig_init_slow(&rig, &listener);
    pid = listener.pid;
    cr_assert_eq(job_cancel(rig.job, "nonsense"), JOB_NO_SUCH);
    cr_assert_eq(job_cancel(rig.job, listener.id), 0);
    rig_wait(&rig, &listener, 20);
    cr_assert_eq(listener.last, JOB_CANCELLED);
    cr_assert_lt(kill(pid, 0), 0);
    cr_assert_eq(errno, ESRCH);
    rig_expect_recovered(&rig);
    rig_deinit(&rig);
}

Test(job, signals_meant_for_the_daemon_do_not_end_the_child)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};
    Listener listener;
    Rig rig;

    rig_init(&rig, MIB);
    rig_fill(&rig, KEYS);
    rig.options.write_bytes_per_sec = 16 * MIB;
    job_set_options(rig.job, &rig.options);
    rig_request(&rig, &listener);
    rig_wait_cut(&rig, &listener, 0);
    while (listener.progress == 0 && listener.ends == 0)
        rig_turn(&rig, 0); /* it has set itself up */
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        kill(listener.pid, signals[i]);
    rig_wait(&rig, &listener, 0);
    cr_assert_eq(listener.last, JOB_COMPLETE, "%s", listener.reason);
    rig_deinit(&rig);
}

Test(job, a_file_that_cannot_grow_fails_with_the_step)
{
    struct rlimit limit, small = {.rlim_cur = 100 * 1024, .rlim_max = RLIM_INFINITY};
    Listener listener;
    Rig rig;

    rig_init(&rig, MIB);
    rig_fill(&rig, KEYS);
    getrlimit(RLIMIT_FSIZE, &limit);
    small.rlim_max = limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    rig_request(&rig, &listener);
    rig_wait_cut(&rig, &listener, 0);
    setrlimit(RLIMIT_FSIZE, &limit);
    rig_wait(&rig, &listener, 20);
    cr_assert_eq(listener.last, JOB_FAILED);
    cr_assert_str_eq(listener.reason, "write: File too large");
    rig_expect_recovered(&rig);
    rig_deinit(&rig);
}

Test(job, a_missing_directory_fails_before_the_cut)
{
    Listener listener;
    Rig rig;

    rig_init(&rig, MIB);
    cr_assert_eq(rmdir(rig.directory->path), 0);
    rig_request(&rig, &listener);
    rig_wait(&rig, &listener, 0);
    cr_assert_eq(listener.last, JOB_FAILED);
    cr_assert_str_eq(listener.reason, "open: No such file or directory");
    cr_assert_str_eq(listener.id, "");
    cr_assert_eq(mkdir(rig.directory->path, 0700), 0);
    rig_fill(&rig, 10);
    rig_deinit(&rig);
}

Test(job, a_failing_fork_is_reported_and_the_next_succeeds)
{
    struct rlimit limit, none;
    Listener listener;
    Rig rig;

    rig_init(&rig, MIB);
    rig_fill(&rig, 100);
    /* The limit does not hold for root. */
    cr_assert_eq(fchown(rig.directory->fd, 65534, 65534), 0);
    if (geteuid() == 0)
        cr_assert_eq(setresuid(65534, 65534, 65534), 0);
    prctl(PR_SET_DUMPABLE, 1); /* or the leak checker cannot look */
    getrlimit(RLIMIT_NPROC, &limit);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NPROC, &none), 0);
    rig_request(&rig, &listener);
    rig_wait(&rig, &listener, 20);
    setrlimit(RLIMIT_NPROC, &limit);
    cr_assert_eq(listener.last, JOB_FAILED);
    cr_assert_str_eq(listener.reason, "fork: Resource temporarily unavailable");
    rig_expect_recovered(&rig);
    rig_deinit(&rig);
}

Test(job, a_name_that_is_taken_is_not_replaced)
{
    Listener listener;
    Rig rig;
    char *text;
    char name[HOLDFAST_IMAGE_ID_MAX + 8];

    rig_init(&rig, MIB);
    rig.not_durable = true;
    rig_request(&rig, &listener);
    rig_wait_cut(&rig, &listener, 0);
    (void)snprintf(name, sizeof(name), "%s.image", listener.id);
    temporary_write(rig.directory, name, "mine");
    rig.not_durable = false;
    rig_wait(&rig, &listener, 0);
    cr_assert_eq(listener.last, JOB_FAILED);
    cr_assert_str_eq(listener.reason, "rename: File exists");
    text = temporary_read(rig.directory, name, NULL);
    cr_assert_str_eq(text, "mine");
    free(text);
    rig_expect_recovered(&rig);
    rig_deinit(&rig);
}

Test(job, stopping_in_the_middle_leaves_no_child_and_no_file)
{
    Listener listener;
    pid_t pid;
    Rig rig;

    rig_init_slow(&rig, &listener);
    pid = listener.pid;
    rig.job = job_free(rig.job);
    cr_assert_eq(listener.ends, 0);
    cr_assert_lt(kill(pid, 0), 0);
    cr_assert_eq(rig_files(&rig, ".tmp"), 0);
    rig_deinit(&rig);
}
