/* What an arena costs: memory for each entry, memory while everything is replaced again and again,
 * and the time of a single put while the arena grows.
 *
 *     arena-memory [memory] [churn] [growth]       all three by default
 *
 * Memory is what the memfd really has (st_blocks): data, index, page descriptors, what was
 * populated ahead. */
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "arena/arena.h"
#include "base/histogram.h"
#include "base/housekeeper.h"
#include "base/pool.h"

#define TURN 64 /* updates between two looks at the housekeeper, as in a turn of the loop */
#define VALUE_MAX (64 * KIB)

typedef struct Bench {
    Pool *pool;
    Housekeeper *housekeeper;
    Arena *arena;
    uint64_t revision;
    char *value;
} Bench;

static uint64_t clock_nsec(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void fail(const char *what, int r)
{
    fprintf(stderr, "arena-memory: %s: %d\n", what, r);
    exit(EXIT_FAILURE);
}

static void bench_open(Bench *bench)
{
    static const Identity identity = {.bytes = "0123456789abcde"};
    ArenaAttributes attributes = {.max_bytes = 16 * GIB, .mode = 0660};
    int r = housekeeper_new(&bench->housekeeper);
    if (r == 0)
        r = pool_new(bench->housekeeper, &bench->pool);
    ArenaContext context = {.pool = bench->pool, .housekeeper = bench->housekeeper};
    if (r == 0)
        r = arena_new(&context, "bench", &identity, &attributes, 1, 1, &bench->arena);
    bench->value = malloc(VALUE_MAX);
    if (r != 0 || bench->value == NULL)
        fail("setup", r);
    memset(bench->value, 'v', VALUE_MAX);
}

static void bench_close(Bench *bench)
{
    ArenaReport report;
    int r = arena_check(bench->arena, &report);
    if (r != 0)
        fail(report.where, r);
    arena_free(bench->arena);
    housekeeper_drain(bench->housekeeper);
    pool_free(bench->pool);
    housekeeper_free(bench->housekeeper);
    free(bench->value);
}

static uint64_t memory_bytes(const Bench *bench)
{
    struct stat status;
    if (fstat(arena_fd(bench->arena), &status) < 0)
        fail("fstat", -errno);
    return (uint64_t)status.st_blocks * 512;
}

static void turn(Bench *bench)
{
    arena_upkeep(bench->arena);
    housekeeper_reap(bench->housekeeper);
}

static void put(Bench *bench, Bytes key, size_t size)
{
    bench->revision++;
    arena_begin(bench->arena);
    int r = arena_put(bench->arena, key, BYTES(bench->value, size), bench->revision);
    if (r == 0)
        r = arena_prepare(bench->arena, bench->revision);
    if (r != 0)
        fail("put", r);
    arena_commit(bench->arena);
    if (bench->revision % TURN == 0)
        turn(bench);
}

static Bytes key_of(uint64_t number, int digits, char text[32])
{
    (void)snprintf(text, 32, "%0*lu", digits, (unsigned long)number);
    return BYTES(text, (size_t)digits);
}

static void settle(Bench *bench)
{
    for (unsigned i = 0; i < 200; i++) {
        arena_upkeep(bench->arena);
        housekeeper_drain(bench->housekeeper);
    }
}

/* --- memory for each entry */

static void memory(uint64_t entries, int key_bytes, size_t value_bytes)
{
    Bench bench = {0};
    char text[32];
    ArenaEntry found;
    bench_open(&bench);
    uint64_t start = clock_nsec(CLOCK_MONOTONIC);
    for (uint64_t i = 0; i < entries; i++)
        put(&bench, key_of(i, key_bytes, text), value_bytes);
    uint64_t middle = clock_nsec(CLOCK_MONOTONIC);
    for (uint64_t i = 0; i < entries; i++)
        if (arena_find(bench.arena, key_of(i * 2654435761u % entries, key_bytes, text), &found) !=
            0)
            fail("find", 0);
    uint64_t end = clock_nsec(CLOCK_MONOTONIC);
    settle(&bench);
    printf("%8lu entries of %2d + %4zu bytes: %7.1f bytes each; %5.0f put/ms, %5.0f find/ms\n",
           (unsigned long)entries, key_bytes, value_bytes,
           (double)memory_bytes(&bench) / (double)entries,
           (double)entries * 1e6 / (double)(middle - start),
           (double)entries * 1e6 / (double)(end - middle));
    bench_close(&bench);
}

static void memory_all(void)
{
    memory(6000000, 9, 100);
    memory(1000000, 16, 10);
    memory(1000000, 16, 100);
    memory(1000000, 16, 1000);
}

/* --- everything replaced, ten times */

typedef struct Churn {
    const char *what;
    bool random_order;
    bool one_size; /* all values of a round alike, else each of another size */
} Churn;

static size_t churn_size(const Churn *churn, unsigned round, uint64_t i)
{
    static const size_t sizes[] = {100, 150, 90, 400, 210, 130, 700, 310, 60, 1000, 120};
    if (churn->one_size)
        return sizes[round % ARRAY_SIZE(sizes)];
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15u ^ (round + 1) * 0xc2b2ae3d27d4eb4fu;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9u;
    return 10 + (x >> 40) % 1000;
}

/* Puts the numbers into another random order. */
static void shuffle(uint32_t *numbers, uint64_t count, uint64_t *random)
{
    uint64_t x = *random;
    for (uint64_t i = count - 1; i > 0; i--) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        uint64_t other = x % (i + 1);
        uint32_t number = numbers[i];
        numbers[i] = numbers[other];
        numbers[other] = number;
    }
    *random = x;
}

static void churn(const Churn *churn)
{
    Bench bench = {0};
    char text[32];
    const uint64_t entries = 400000;
    uint64_t random = 88172645463325252u;
    uint32_t *order = calloc(entries, sizeof(*order));
    uint32_t *sizes = calloc(entries, sizeof(*sizes)); /* with key and header */
    uint64_t live = 0;
    double worst = 0;
    double last = 0;
    if (order == NULL || sizes == NULL)
        fail("no memory", -ENOMEM);
    for (uint32_t i = 0; i < entries; i++)
        order[i] = i;
    bench_open(&bench);
    for (unsigned round = 0; round <= 10; round++) {
        if (churn->random_order)
            shuffle(order, entries, &random);
        for (uint64_t i = 0; i < entries; i++) {
            uint64_t number = order[i];
            size_t size = churn_size(churn, round, i);
            put(&bench, key_of(number, 16, text), size);
            live += 32 + size - sizes[number];
            sizes[number] = (uint32_t)(32 + size);
            if (round > 0 && i % (entries / 100) == 0)
                worst = MAX(worst, (double)memory_bytes(&bench) / (double)live);
        }
        settle(&bench);
        last = MAX(last, (double)memory_bytes(&bench) / (double)live);
    }
    printf("%-42s memory to live bytes: %.2f at most at any time, %.2f between rounds\n",
           churn->what, worst, last);
    free(order);
    free(sizes);
    bench_close(&bench);
}

static void churn_all(void)
{
    static const Churn all[] = {
        {"replaced in order, each of another size:", false, false},
        {"replaced at random, each of another size:", true, false},
        {"replaced in order, a size for each round:", false, true},
        {"replaced at random, a size for each round:", true, true},
    };
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        churn(&all[i]);
}

/* --- growing: other processes' turns are in the time by the clock, so the thread's own time is
 * told as well */

static void print_times(const char *what, const Histogram *times)
{
    printf("    %-26s p50 %.1f, p99 %.1f, p99.99 %.1f, max %.1f\n", what,
           (double)histogram_percentile(times, 0.5) / 1e3,
           (double)histogram_percentile(times, 0.99) / 1e3,
           (double)histogram_percentile(times, 0.9999) / 1e3, (double)times->max / 1e3);
}

static void growth(void)
{
    Bench bench = {0};
    char text[32];
    Histogram *times = calloc(1, sizeof(*times));
    Histogram *own = calloc(1, sizeof(*own));
    const uint64_t entries = 10000000;
    if (times == NULL || own == NULL)
        fail("no memory", -ENOMEM);
    bench_open(&bench);
    for (uint64_t i = 0; i < entries; i++) {
        Bytes key = key_of(i, 12, text);
        uint64_t start = clock_nsec(CLOCK_MONOTONIC);
        uint64_t own_start = clock_nsec(CLOCK_THREAD_CPUTIME_ID);
        put(&bench, key, 20);
        histogram_add(own, clock_nsec(CLOCK_THREAD_CPUTIME_ID) - own_start);
        histogram_add(times, clock_nsec(CLOCK_MONOTONIC) - start);
    }
    printf("growth to %lu entries, microseconds for one put:\n", (unsigned long)entries);
    print_times("by the clock", times);
    print_times("of the thread's own time", own);
    free(own);
    free(times);
    bench_close(&bench);
}

static bool wanted(int argc, char **argv, const char *part)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], part) == 0)
            return true;
    return argc <= 1;
}

int main(int argc, char **argv)
{
    if (wanted(argc, argv, "memory"))
        memory_all();
    if (wanted(argc, argv, "churn"))
        churn_all();
    if (wanted(argc, argv, "growth"))
        growth();
    return EXIT_SUCCESS;
}
