/* How fast images are written and read, against dd(1) of the same bytes on the same disk.
 *
 *   bench-image [MIB [DIRECTORY]]      1024 and the current directory if left out
 *
 * Rounds of dd and image alternate, for a shared disk has good and bad minutes; the medians are
 * told, and the best. The image is written as a checkpoint does, by a forked child out of a memfd;
 * what is measured is fork to exit. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "checkpoint/image-format.h"
#include "checkpoint/image-read.h"

#define ROUNDS 5

typedef struct Bench {
    uint64_t bytes;
    char path[512];
    int source; /* memfd with the arena's pages */
    ImageArena arena;
} Bench;

/* Microseconds of each round. */
typedef struct Series {
    const char *name;
    uint64_t usec[ROUNDS];
    unsigned count;
} Series;

static void check(int r, const char *what)
{
    if (r >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, strerror(-r));
    exit(1);
}

static int compare(const void *a, const void *b)
{
    return (*(const uint64_t *)a > *(const uint64_t *)b) -
           (*(const uint64_t *)a < *(const uint64_t *)b);
}

static double median_usec(Series *series)
{
    qsort(series->usec, series->count, sizeof(series->usec[0]), compare);
    return (double)series->usec[series->count / 2];
}

static double show(Series *series, uint64_t bytes)
{
    double rate = (double)bytes / median_usec(series);

    printf("%-28s %7.0f MB/s   best %7.0f\n", series->name, rate,
           (double)bytes / (double)series->usec[0]);
    fflush(stdout);
    return rate;
}

/* Half noise, half counting: zstd gets some of it. */
static void fill_source(Bench *bench)
{
    uint64_t *block = malloc(IMAGE_BLOCK_BYTES);
    uint64_t noise = 1;

    check(block == NULL ? -ENOMEM : file_memfd("source", bench->bytes, &bench->source), "source");
    for (uint64_t offset = 0; offset < bench->bytes; offset += IMAGE_BLOCK_BYTES) {
        for (size_t i = 0; i < IMAGE_BLOCK_BYTES / 8; i++) {
            noise = noise * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            block[i] = i % 2 == 0 ? noise : i;
        }
        check(file_write_at(bench->source, block, IMAGE_BLOCK_BYTES, offset), "source");
    }
    free(block);
}

static void run_dd(const Bench *bench, Series *series)
{
    char from[64], to[600];
    char *arguments[] = {"dd", from, to, "bs=1M", "conv=fsync", "status=none", NULL};
    char *environment[] = {"PATH=/usr/bin:/bin", NULL};
    uint64_t begin;
    int status = -1;
    pid_t pid;

    snprintf(from, sizeof(from), "if=/proc/%d/fd/%d", (int)getpid(), bench->source);
    snprintf(to, sizeof(to), "of=%s", bench->path);
    unlink(bench->path);
    begin = clock_monotonic();
    check(-posix_spawnp(&pid, "dd", NULL, NULL, arguments, environment), "dd");
    waitpid(pid, &status, 0);
    series->usec[series->count++] = clock_monotonic() - begin;
    check(status == 0 ? 0 : -EIO, "dd");
}

static int write_image(const Bench *bench, ImageWriter *writer)
{
    const ImageSummary summary = {};
    uint32_t pages[HOLDFAST_BLOCK_PAGES];
    uint64_t bytes;
    void *buffer;
    int r = 0;

    for (uint64_t first = 0; first < bench->arena.pages && r == 0; first += HOLDFAST_BLOCK_PAGES) {
        for (uint32_t i = 0; i < HOLDFAST_BLOCK_PAGES; i++)
            pages[i] = (uint32_t)first + i;
        r = image_writer_buffer(writer, &buffer);
        if (r == 0)
            r = file_read_at(bench->source, buffer, IMAGE_BLOCK_BYTES, first * HOLDFAST_PAGE_BYTES);
        if (r == 0)
            r = image_writer_put(writer, 0, pages, HOLDFAST_BLOCK_PAGES);
    }
    return r < 0 ? r : image_writer_finish(writer, &summary, &bytes);
}

static void run_write(const Bench *bench, bool zstd, Series *series)
{
    const ImageSpec spec = {.id = "00000000000000000001-20240101T000000Z", .zstd = zstd};
    ImageWriter *writer;
    uint64_t begin;
    int status = -1;
    pid_t pid;
    int fd;

    unlink(bench->path);
    fd = open(bench->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    check(fd < 0 ? -errno : 0, bench->path);
    begin = clock_monotonic();
    check(image_writer_new(fd, &spec, &bench->arena, 1, &writer), "writer");
    pid = fork();
    check(pid < 0 ? -errno : 0, "fork");
    if (pid == 0)
        _exit(write_image(bench, writer) < 0);
    waitpid(pid, &status, 0);
    series->usec[series->count++] = clock_monotonic() - begin;
    check(status == 0 ? 0 : -EIO, "write");
    image_writer_free(writer);
    close(fd);
}

static void run_read(const Bench *bench, bool restore, Series *series)
{
    int fd = open(bench->path, O_RDONLY | O_CLOEXEC);
    ImageReader *reader;
    uint64_t begin;
    int memfd = -1;

    check(fd < 0 ? -errno : 0, bench->path);
    begin = clock_monotonic();
    check(image_reader_new(fd, &reader), "open");
    check(restore ? image_reader_restore(reader, 0, NULL, NULL, &memfd)
                  : image_reader_verify(reader, NULL, NULL),
          "read");
    series->usec[series->count++] = clock_monotonic() - begin;
    closep(&memfd);
    image_reader_free(reader);
    close(fd);
}

/* The least that a restore has to do. */
static void run_fill(const Bench *bench, Series *series)
{
    char *block = calloc(1, IMAGE_BLOCK_BYTES);
    uint64_t begin = clock_monotonic();
    int memfd = -1;

    check(block == NULL ? -ENOMEM : file_memfd("filled", bench->bytes, &memfd), "memfd");
    for (uint64_t offset = 0; offset < bench->bytes; offset += IMAGE_BLOCK_BYTES)
        check(file_write_at(memfd, block, IMAGE_BLOCK_BYTES, offset), "fill");
    series->usec[series->count++] = clock_monotonic() - begin;
    close(memfd);
    free(block);
}

static void measure(const Bench *bench, bool zstd)
{
    Series dd = {.name = "dd conv=fsync"};
    Series written = {.name = zstd ? "image written, zstd" : "image written, raw"};
    Series filled = {.name = "memfd filled"};
    Series restored = {.name = "restored from page cache"};
    Series verified = {.name = "verified from page cache"};
    double dd_rate;

    for (unsigned round = 0; round < ROUNDS; round++) {
        run_dd(bench, &dd);
        run_write(bench, zstd, &written);
        run_fill(bench, &filled);
        run_read(bench, true, &restored);
        run_read(bench, false, &verified);
    }
    dd_rate = show(&dd, bench->bytes);
    printf("  written at %.0f%% of dd\n", 100 * show(&written, bench->bytes) / dd_rate);
    show(&filled, bench->bytes);
    show(&restored, bench->bytes);
    show(&verified, bench->bytes);
}

int main(int argc, char *argv[])
{
    Bench bench = {.bytes = (argc > 1 ? strtoull(argv[1], NULL, 10) : 1024) * MIB};

    snprintf(bench.path, sizeof(bench.path), "%s/bench-%d.image", argc > 2 ? argv[2] : ".",
             (int)getpid());
    bench.arena = (ImageArena){
        .name = "bench",
        .attributes = {.max_bytes = bench.bytes, .mode = 0600},
        .pages = bench.bytes / HOLDFAST_PAGE_BYTES,
        .held = true,
    };
    fill_source(&bench);
    printf("%llu MiB, rates of the arena's bytes\n", (unsigned long long)(bench.bytes / MIB));
    measure(&bench, false);
    measure(&bench, true);
    unlink(bench.path);
    return 0;
}
