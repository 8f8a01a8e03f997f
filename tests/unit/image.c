/* Unit tests of writing and reading images: what was put is what comes back, and what goes wrong is
 * told. */
#include "checkpoint/image-read.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/pool.h"
#include "checkpoint/image-format.h"
#include "lib/images.h"
#include "lib/temporary.h"

static int new_file(void)
{
    int fd;

    cr_assert(eq(int, file_memfd("image", 0, &fd), 0));
    return fd;
}

/* --- past the page cache */

static unsigned direct_writes;
static unsigned refuse_after; /* so many writes past the page cache, where it is not 0 */

/* The C library's, for the writer too: counts what goes past the page cache, and refuses it as a
 * file system does that wants another alignment. */
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    if (fcntl(fd, F_GETFL) & O_DIRECT) {
        if (refuse_after > 0 && direct_writes >= refuse_after) {
            errno = EINVAL;
            return -1;
        }
        direct_writes++;
    }
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

/* Writes the same image to a real file; how many writes went past the page cache. */
static unsigned write_to_disk(bool cached, unsigned refuse)
{
    _cleanup_(temporary_freep) Temporary *directory = temporary_new();
    TestArena arenas[] = {test_arena_new("first", 700, true, 1),
                          test_arena_new("second", 257, true, 4)};
    ImageSpec spec = test_spec(77, "20240229T235959Z", false);
    int fd = openat(directory->fd, "image", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    cr_assert(ge(int, fd, 0));
    if (fcntl(fd, F_SETFL, O_DIRECT) < 0)
        cr_skip_test("this file system has no way past the page cache");
    cr_assert(eq(int, fcntl(fd, F_SETFL, 0), 0));
    spec.cached = cached;
    direct_writes = 0;
    refuse_after = refuse;
    cr_assert(eq(int, test_image_write(fd, &spec, arenas, ARRAY_SIZE(arenas), 100), 0));
    cr_assert(eq(int, test_image_compare(fd, arenas, ARRAY_SIZE(arenas)), 0));
    cr_assert(eq(int, fcntl(fd, F_GETFL) & O_DIRECT, 0));
    for (size_t i = 0; i < ARRAY_SIZE(arenas); i++)
        test_arena_clear(&arenas[i]);
    close(fd);
    return direct_writes;
}

Test(image, blocks_go_past_the_page_cache_unless_they_are_wanted_there)
{
    cr_assert(ge(uint, write_to_disk(false, 0), 10));
    cr_assert(eq(uint, write_to_disk(true, 0), 0));
}

Test(image, a_file_system_that_refuses_direct_writes_gets_the_others)
{
    cr_assert(eq(uint, write_to_disk(false, 1), 1));
    cr_assert(eq(uint, write_to_disk(false, 5), 5));
}

/* --- writes under way */

static unsigned writes_begun;
static long refused_call;    /* a number of a system call, or 0 */
static unsigned wrong_end;   /* of which write the end is told otherwise; 0: of none */
static int64_t wrong_result; /* an errno, negated, or bytes */
static unsigned ends;

/* The C library's, for the writer too. Like that one it passes on more than its caller gave. */
__attribute__((no_sanitize("address"))) long syscall(long number, ...)
{
    static __typeof__(&syscall) real;
    long a[6];
    long n;
    va_list list;

    va_start(list, number);
    for (size_t i = 0; i < ARRAY_SIZE(a); i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (real == NULL)
        real = (__typeof__(real))dlsym(RTLD_NEXT, "syscall");
    if (number == refused_call) {
        errno = ENOSYS;
        return -1;
    }
    n = real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    writes_begun += number == SYS_io_submit && n == 1;
    if (number == SYS_io_getevents && n == 1 && ++ends == wrong_end)
        ((struct io_event *)a[3])->res = wrong_result;
    return n;
}

/* An image that is large enough, on a real disk; the writer's result. It must be right, and as long
 * as it says, if that is 0. */
static int write_large(void)
{
    _cleanup_(temporary_freep) Temporary *directory = temporary_new();
    TestArena arena = test_arena_new("large", 17001, true, 3);
    ImageSpec spec = test_spec(77, "20240229T235959Z", false);
    int fd = openat(directory->fd, "image", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    uint64_t bytes;
    int r;

    cr_assert(ge(int, fd, 0));
    if (fcntl(fd, F_SETFL, O_DIRECT) < 0)
        cr_skip_test("this file system has no way past the page cache");
    cr_assert(eq(int, fcntl(fd, F_SETFL, 0), 0));
    writes_begun = ends = 0;
    r = test_image_write(fd, &spec, &arena, 1, HOLDFAST_BLOCK_PAGES);
    if (r == 0) {
        cr_assert(eq(int, test_image_compare(fd, &arena, 1), 0));
        cr_assert(eq(int, file_size(fd, &bytes), 0));
        cr_assert(lt(u64, bytes, (17001 + 256) * HOLDFAST_PAGE_BYTES));
    }
    test_arena_clear(&arena);
    close(fd);
    return r;
}

Test(image, blocks_of_a_large_image_are_written_while_others_are_made_ready)
{
    cr_assert(eq(int, write_large(), 0));
    cr_assert(eq(uint, writes_begun, DIVIDE_UP(17001, HOLDFAST_BLOCK_PAGES)));
    cr_assert(eq(uint, ends, writes_begun));
}

Test(image, without_asynchronous_writes_it_is_written_without)
{
    refused_call = SYS_io_setup;
    cr_assert(eq(int, write_large(), 0));
    cr_assert(eq(uint, writes_begun, 0));
    refused_call = SYS_io_submit;
    cr_assert(eq(int, write_large(), 0));
    cr_assert(eq(uint, writes_begun, 0));
}

Test(image, a_write_that_ends_short_or_is_refused_is_done_again)
{
    static const int64_t results[] = {0, 1, 4096, 500000, -EINVAL, -EAGAIN, -EINTR};

    for (size_t i = 0; i < ARRAY_SIZE(results); i++) {
        wrong_end = (unsigned)(1 + i * 11); /* the last one is the image's last block */
        wrong_result = results[i];
        cr_assert(eq(int, write_large(), 0));
        cr_assert(eq(uint, writes_begun, DIVIDE_UP(17001, HOLDFAST_BLOCK_PAGES)));
    }
}

Test(image, a_write_that_ends_in_an_error_is_told_wherever_it_is)
{
    static const unsigned numbers[] = {1, 2, 30, 66, 67};

    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        wrong_end = numbers[i];
        wrong_result = i % 2 == 0 ? -EIO : -ENOSPC;
        cr_assert(eq(int, write_large(), (int)wrong_result));
    }
}

Test(image, a_size_that_may_not_go_ahead_is_no_error)
{
    struct rlimit limit = {.rlim_cur = 17001 * HOLDFAST_PAGE_BYTES + MIB,
                           .rlim_max = RLIM_INFINITY};

    signal(SIGXFSZ, SIG_IGN);
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &limit), 0));
    cr_assert(eq(int, write_large(), 0));
    cr_assert(gt(uint, writes_begun, 0));
    limit.rlim_cur = 40 * MIB;
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &limit), 0));
    cr_assert(eq(int, write_large(), -EFBIG));
}

/* --- round trips */

static void check_round_trip(bool zstd, uint32_t block_pages)
{
    TestArena arenas[] = {
        test_arena_new("first", 700, true, 1),
        test_arena_new("not-held", 300, false, 2),
        test_arena_new("empty", 0, true, 3),
        test_arena_new("second.of_many-arenas", 257, true, 4),
    };
    ImageSpec spec = test_spec(77, "20240229T235959Z", zstd);
    int fd = new_file();

    cr_assert(eq(int, test_image_write(fd, &spec, arenas, ARRAY_SIZE(arenas), block_pages), 0));
    cr_assert(eq(int, test_image_compare(fd, arenas, ARRAY_SIZE(arenas)), 0));
    for (size_t i = 0; i < ARRAY_SIZE(arenas); i++)
        test_arena_clear(&arenas[i]);
    close(fd);
}

Test(image, raw_image_comes_back)
{
    check_round_trip(false, HOLDFAST_BLOCK_PAGES);
}

Test(image, zstd_image_comes_back)
{
    check_round_trip(true, HOLDFAST_BLOCK_PAGES);
}

Test(image, small_blocks_come_back)
{
    check_round_trip(false, 1);
    check_round_trip(true, 3);
}

Test(image, large_arena_comes_back)
{
    /* Large enough for the second thread. */
    TestArena arena = test_arena_new("large", 24000, true, 9);
    ImageSpec spec = test_spec(1, "20240229T235959Z", false);
    int fd = new_file();

    cr_assert(eq(int, test_image_write(fd, &spec, &arena, 1, HOLDFAST_BLOCK_PAGES), 0));
    cr_assert(eq(int, test_image_compare(fd, &arena, 1), 0));
    test_arena_clear(&arena);
    close(fd);
}

Test(image, spec_and_summary_come_back)
{
    TestArena arena = test_arena_new("only", 3, true, 1);
    ImageSpec spec = test_spec(UINT64_C(0xfedcba9876543210), "20240229T235959Z", true);
    ImageSummary summary = test_summary();
    ImageReader *reader;
    uint64_t bytes;
    int fd = new_file();

    cr_assert(eq(int, test_image_write(fd, &spec, &arena, 1, 256), 0));
    cr_assert(eq(int, image_reader_new(fd, &reader), 0));
    cr_assert(eq(str, (char *)image_reader_spec(reader)->id, spec.id));
    cr_assert(eq(str, (char *)image_reader_spec(reader)->label, "a label"));
    cr_assert(eq(u64, image_reader_spec(reader)->revision, spec.revision));
    cr_assert(eq(u64, image_reader_spec(reader)->started_usec, 5));
    cr_assert(image_reader_spec(reader)->zstd);
    cr_assert(eq(int, memcmp(image_reader_summary(reader), &summary, sizeof(summary)), 0));
    cr_assert(eq(uint, image_reader_layout_version(reader), HOLDFAST_LAYOUT_VERSION));
    cr_assert(eq(int, file_size(fd, &bytes), 0));
    cr_assert(eq(u64, image_reader_bytes(reader), bytes));
    image_reader_free(reader);
    test_arena_clear(&arena);
    close(fd);
}

Test(image, no_arenas_is_an_image)
{
    ImageSpec spec = test_spec(0, "20240229T235959Z", false);
    ImageReader *reader;
    int fd = new_file();

    cr_assert(eq(int, test_image_write(fd, &spec, NULL, 0, 256), 0));
    cr_assert(eq(int, image_reader_new(fd, &reader), 0));
    cr_assert(eq(sz, image_reader_arenas(reader), 0));
    cr_assert(eq(int, image_reader_verify(reader, NULL, NULL), 0));
    image_reader_free(reader);
    close(fd);
}

/* --- the writer by hand */

static ImageWriter *writer_of(int fd, const TestArena *arena, bool zstd)
{
    ImageSpec spec = test_spec(1, "20240229T235959Z", zstd);
    ImageWriter *writer;

    cr_assert(eq(int, image_writer_new(fd, &spec, &arena->row, 1, &writer), 0));
    return writer;
}

static int put_page(ImageWriter *writer, const TestArena *arena, uint32_t page)
{
    void *buffer;

    cr_assert(eq(int, image_writer_buffer(writer, &buffer), 0));
    memcpy(buffer, arena->memory + (size_t)page * HOLDFAST_PAGE_BYTES, HOLDFAST_PAGE_BYTES);
    return image_writer_put(writer, 0, &page, 1);
}

static void finish(ImageWriter *writer)
{
    ImageSummary summary = test_summary();
    uint64_t bytes;

    cr_assert(eq(int, image_writer_finish(writer, &summary, &bytes), 0));
    cr_assert(eq(u64, bytes, image_writer_bytes(writer)));
    image_writer_free(writer);
}

static HoldfastImageFooter footer_of(int fd)
{
    HoldfastImageFooter footer;
    uint64_t bytes;

    cr_assert(eq(int, file_size(fd, &bytes), 0));
    cr_assert(eq(int, file_read_at(fd, &footer, sizeof(footer), bytes - sizeof(footer)), 0));
    return footer;
}

Test(image, pages_in_any_order_come_back)
{
    TestArena arena = test_arena_new("only", 6000, true, 5);
    int fd = new_file();
    ImageWriter *writer = writer_of(fd, &arena, false);

    /* One block a page: the index grows past what it was mapped with. */
    for (uint32_t page = 6000; page-- > 0;)
        cr_assert(eq(int, put_page(writer, &arena, page), 0));
    finish(writer);
    cr_assert(eq(int, test_image_compare(fd, &arena, 1), 0));
    test_arena_clear(&arena);
    close(fd);
}

Test(image, zero_pages_are_not_stored)
{
    TestArena arena = test_arena_new("only", 512, true, 5);
    ImageSpec spec = test_spec(1, "20240229T235959Z", false);
    int fd = new_file();

    memset(arena.memory, 0, 512 * HOLDFAST_PAGE_BYTES);
    arena.memory[300 * HOLDFAST_PAGE_BYTES - 1] = 1;
    cr_assert(eq(int, test_image_write(fd, &spec, &arena, 1, 256), 0));
    cr_assert(eq(u64, footer_of(fd).pages, 1));
    cr_assert(eq(u64, footer_of(fd).runs, 1));
    cr_assert(eq(int, test_image_compare(fd, &arena, 1), 0));
    test_arena_clear(&arena);
    close(fd);
}

Test(image, page_put_twice_is_stored_once)
{
    TestArena arena = test_arena_new("only", 100, true, 5);
    ImageSpec spec = test_spec(1, "20240229T235959Z", false);
    int once = new_file();
    int twice = new_file();
    ImageWriter *writer = writer_of(twice, &arena, false);

    cr_assert(eq(int, test_image_write(once, &spec, &arena, 1, 256), 0));
    for (uint32_t page = 0; page < 100; page++)
        cr_assert(eq(int, put_page(writer, &arena, page), 0));
    for (uint32_t page = 0; page < 100; page += 7)
        cr_assert(eq(int, put_page(writer, &arena, page), 0));
    finish(writer);
    cr_assert(eq(u64, footer_of(twice).pages, footer_of(once).pages));
    cr_assert(eq(int, test_image_compare(twice, &arena, 1), 0));
    test_arena_clear(&arena);
    close(once);
    close(twice);
}

Test(image, pages_that_no_arena_has_are_refused)
{
    TestArena arena = test_arena_new("only", 10, true, 5);
    TestArena other = test_arena_new("other", 10, false, 6);
    ImageArena rows[] = {arena.row, other.row};
    ImageSpec spec = test_spec(1, "20240229T235959Z", false);
    ImageWriter *writer;
    int fd = new_file();

    cr_assert(eq(int, image_writer_new(fd, &spec, rows, 2, &writer), 0));
    cr_assert(eq(int, image_writer_put(writer, 0, &(uint32_t){10}, 1), -EINVAL));
    cr_assert(eq(int, image_writer_put(writer, 1, &(uint32_t){1}, 1), -EINVAL));
    cr_assert(eq(int, image_writer_put(writer, 2, &(uint32_t){1}, 1), -EINVAL));
    image_writer_free(writer);
    test_arena_clear(&arena);
    test_arena_clear(&other);
    close(fd);
}

Test(image, what_would_not_be_read_back_is_not_written)
{
    TestArena arena = test_arena_new("only", 1, true, 1);
    const ImageSpec good = test_spec(1, "20240229T235959Z", false);
    ImageSpec spec = good;
    ImageWriter *writer;
    int fd = new_file();

    spec.id[3] = '/';
    cr_assert(eq(int, image_writer_new(fd, &spec, &arena.row, 1, &writer), -EINVAL));
    spec.id[0] = '\0';
    cr_assert(eq(int, image_writer_new(fd, &spec, &arena.row, 1, &writer), -EINVAL));
    spec = good;
    spec.label[1] = '\n';
    cr_assert(eq(int, image_writer_new(fd, &spec, &arena.row, 1, &writer), -EINVAL));
    arena.row.name[0] = '.';
    cr_assert(eq(int, image_writer_new(fd, &good, &arena.row, 1, &writer), -EINVAL));
    arena.row.name[0] = 'o';
    arena.row.attributes.mode = 01666;
    cr_assert(eq(int, image_writer_new(fd, &good, &arena.row, 1, &writer), -EINVAL));
    arena.row.attributes.mode = 0666;
    arena.row.pages = UINT64_C(1) << 32;
    cr_assert(eq(int, image_writer_new(fd, &good, &arena.row, 1, &writer), -EFBIG));
    test_arena_clear(&arena);
    close(fd);
}

Test(image, raw_blocks_lie_at_multiples_of_a_page)
{
    TestArena arena = test_arena_new("only", 2000, true, 5);
    ImageSpec spec = test_spec(1, "20240229T235959Z", true);
    HoldfastImageFooter footer;
    uint64_t raw = 0;
    uint64_t packed = 0;
    int fd = new_file();

    cr_assert(eq(int, test_image_write(fd, &spec, &arena, 1, 3), 0));
    footer = footer_of(fd);
    for (uint64_t i = 0; i < footer.blocks; i++) {
        HoldfastImageBlock block;

        cr_assert(
            eq(int,
               file_read_at(fd, &block, sizeof(block),
                            footer.index_offset + sizeof(HoldfastImageSummary) + i * sizeof(block)),
               0));
        if (block.encoding == HOLDFAST_BLOCK_RAW) {
            cr_assert(eq(u64, block.offset % 4096, 0));
            raw++;
        } else {
            cr_assert(lt(u64, block.stored_bytes, block.pages * 4096));
            packed++;
        }
    }
    /* Noise does not compress, the rest does: the image has both. */
    cr_assert(gt(u64, raw, 0));
    cr_assert(gt(u64, packed, 0));
    cr_assert(eq(int, test_image_compare(fd, &arena, 1), 0));
    test_arena_clear(&arena);
    close(fd);
}

/* --- in a forked child */

#if defined(__SANITIZE_ADDRESS__)
#define COUNTS_ALLOCATIONS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define COUNTS_ALLOCATIONS 0
#endif
#endif
#ifndef COUNTS_ALLOCATIONS
#define COUNTS_ALLOCATIONS 1
#endif

static atomic_uint allocations;

#if COUNTS_ALLOCATIONS
/* In front of the C library's, for libzstd and libxxhash too. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

void *malloc(size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_realloc(memory, size);
}
#endif

/* 0: written without an allocation; 1: with; 2: failed. */
static int write_in_child(ImageWriter *writer, const TestArena *arena)
{
    ImageSummary summary = test_summary();
    unsigned before = atomic_load(&allocations);
    uint64_t bytes;

    for (uint32_t page = 0; page < arena->row.pages; page++)
        if (put_page(writer, arena, page) < 0)
            return 2;
    if (image_writer_finish(writer, &summary, &bytes) < 0)
        return 2;
    return atomic_load(&allocations) == before ? 0 : 1;
}

Test(image, forked_child_writes_without_allocating)
{
    TestArena arena = test_arena_new("only", 3000, true, 5);
    int fd = new_file();
    ImageWriter *writer = writer_of(fd, &arena, true);
    unsigned before = atomic_load(&allocations);
    void *volatile counted = malloc(1);
    int status;
    pid_t pid;

    free(counted);
    if (COUNTS_ALLOCATIONS)
        cr_assert(ne(uint, atomic_load(&allocations), before));
    pid = fork();
    if (pid == 0)
        _exit(write_in_child(writer, &arena));
    cr_assert(eq(int, waitpid(pid, &status, 0), pid));
    cr_assert(eq(int, WIFEXITED(status), true));
    cr_assert(eq(int, WEXITSTATUS(status), 0));
    image_writer_free(writer);
    cr_assert(eq(int, test_image_compare(fd, &arena, 1), 0));
    test_arena_clear(&arena);
    close(fd);
}

/* --- what the system refuses */

Test(image, descriptor_that_cannot_be_written_is_told)
{
    TestArena arena = test_arena_new("only", 3, true, 1);
    ImageSpec spec = test_spec(1, "20240229T235959Z", false);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    cr_assert(eq(int, test_image_write(fd, &spec, &arena, 1, 256), -EBADF));
    close(fd);
    fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    cr_assert(eq(int, test_image_write(fd, &spec, &arena, 1, 256), -ENOSPC));
    close(fd);
    test_arena_clear(&arena);
}

Test(image, fsync_that_fails_is_told)
{
    TestArena arena = test_arena_new("only", 3, true, 1);
    ImageSpec spec = test_spec(1, "20240229T235959Z", false);
    /* Takes what is written, and has no fsync. */
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

    cr_assert(eq(int, test_image_write(fd, &spec, &arena, 1, 256), -EINVAL));
    close(fd);
    test_arena_clear(&arena);
}

Test(image, file_size_limit_is_told)
{
    _cleanup_(temporary_freep) Temporary *temporary = temporary_new();
    _cleanup_(freep) char *path = temporary_path(temporary, "image");
    TestArena arena = test_arena_new("only", 1000, true, 1);
    ImageSpec spec = test_spec(1, "20240229T235959Z", false);
    struct rlimit limit = {.rlim_cur = 100000, .rlim_max = RLIM_INFINITY};
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    signal(SIGXFSZ, SIG_IGN);
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &limit), 0));
    cr_assert(eq(int, test_image_write(fd, &spec, &arena, 1, 256), -EFBIG));
    test_arena_clear(&arena);
    close(fd);
}

Test(image, full_disk_is_told_wherever_it_is_met)
{
    _cleanup_(temporary_freep) Temporary *temporary = temporary_new();
    _cleanup_(freep) char *path = temporary_path(temporary, "image");
    TestArena arena = test_arena_new("only", 120, true, 1);
    ImageSpec spec = test_spec(1, "20240229T235959Z", false);
    bool whole = false;

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        cr_skip_test("mounting a tmpfs needs root");
    for (unsigned kib = 4; !whole; kib += 36) {
        char options[32];
        int fd;
        int r;

        snprintf(options, sizeof(options), "size=%uk", kib);
        cr_assert(eq(int, mount("none", temporary->path, "tmpfs", 0, options), 0));
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        r = test_image_write(fd, &spec, &arena, 1, 16);
        whole = r == 0;
        if (whole)
            cr_assert(eq(int, test_image_compare(fd, &arena, 1), 0));
        else
            cr_assert(eq(int, r, -ENOSPC));
        close(fd);
        cr_assert(eq(int, umount(temporary->path), 0));
        cr_assert(lt(uint, kib, 1000));
    }
    test_arena_clear(&arena);
}

/* --- progress */

typedef struct Watch {
    uint64_t last;
    uint64_t total;
    unsigned calls;
    unsigned end_after;
} Watch;

static bool watch_progress(void *context, uint64_t done, uint64_t total)
{
    Watch *watch = context;

    cr_assert(ge(u64, done, watch->last));
    cr_assert(le(u64, done, total));
    watch->last = done;
    watch->total = total;
    return ++watch->calls < watch->end_after;
}

Test(image, progress_reaches_the_total_and_can_end_it)
{
    TestArena arena = test_arena_new("only", 2000, true, 5);
    ImageSpec spec = test_spec(1, "20240229T235959Z", false);
    Watch watch = {.end_after = 10000};
    ImageReader *reader;
    int fd = new_file();
    int memfd = -1;

    cr_assert(eq(int, test_image_write(fd, &spec, &arena, 1, 256), 0));
    cr_assert(eq(int, image_reader_new(fd, &reader), 0));
    cr_assert(eq(int, image_reader_restore(reader, 0, watch_progress, &watch, &memfd), 0));
    cr_assert(eq(u64, watch.last, watch.total));
    cr_assert(eq(u64, watch.total, footer_of(fd).pages));
    close(memfd);
    watch = (Watch){.end_after = 10000};
    cr_assert(eq(int, image_reader_verify(reader, watch_progress, &watch), 0));
    cr_assert(eq(u64, watch.last, watch.total));
    watch = (Watch){.end_after = 2};
    cr_assert(eq(int, image_reader_verify(reader, watch_progress, &watch), -ECANCELED));
    watch = (Watch){.end_after = 2};
    cr_assert(eq(int, image_reader_restore(reader, 0, watch_progress, &watch, &memfd), -ECANCELED));
    cr_assert(eq(uint, watch.calls, 2));
    image_reader_free(reader);
    test_arena_clear(&arena);
    close(fd);
}

Test(image, restored_memory_is_named_after_the_arena)
{
    TestArena arena = test_arena_new("only", 300, true, 5);
    TestArena unheld = test_arena_new("unheld", 3, false, 6);
    TestArena arenas[] = {arena, unheld};
    ImageSpec spec = test_spec(1, "20240229T235959Z", false);
    ImageReader *reader;
    char link[64], target[64] = "";
    int fd = new_file();
    int memfd;

    cr_assert(eq(int, test_image_write(fd, &spec, arenas, 2, 256), 0));
    cr_assert(eq(int, image_reader_new(fd, &reader), 0));
    cr_assert(eq(int, image_reader_restore(reader, 0, NULL, NULL, &memfd), 0));
    snprintf(link, sizeof(link), "/proc/self/fd/%d", memfd);
    cr_assert(gt(int, (int)readlink(link, target, sizeof(target) - 1), 0));
    cr_assert(eq(str, target, "/memfd:only (deleted)"));
    cr_assert(eq(int, image_reader_restore(reader, 1, NULL, NULL, &memfd), -EINVAL));
    cr_assert(eq(int, image_reader_restore(reader, 2, NULL, NULL, &memfd), -EINVAL));
    image_reader_free(reader);
    test_arena_clear(&arenas[0]);
    test_arena_clear(&arenas[1]);
    close(fd);
}

/* --- an arena */

static void put_entries(Arena *arena, unsigned count)
{
    char key[32], value[600];

    for (unsigned i = 0; i < count; i++) {
        snprintf(key, sizeof(key), "key %u", i);
        memset(value, 'a' + (int)(i % 26), sizeof(value));
        arena_begin(arena);
        cr_assert(eq(
            int, arena_put(arena, bytes_of_text(key), BYTES(value, i % sizeof(value) + 1), i + 1),
            0));
        cr_assert(eq(int, arena_prepare(arena, i + 1), 0));
        arena_commit(arena);
    }
}

static TestArena copy_of(const Arena *arena)
{
    TestArena copy = {.row = {.identity = *arena_identity(arena),
                              .created_usec = arena_created_usec(arena),
                              .entries = arena_entries(arena),
                              .revision = arena_revision(arena),
                              .used_bytes = arena_used_bytes(arena),
                              .pages = arena_high_water_pages(arena),
                              .held = true}};
    size_t bytes = copy.row.pages * HOLDFAST_PAGE_BYTES;

    arena_attributes(arena, &copy.row.attributes);
    snprintf(copy.row.name, sizeof(copy.row.name), "%s", arena_name(arena));
    copy.memory = malloc(bytes);
    cr_assert(eq(int, file_read_at(arena_fd(arena), copy.memory, bytes, 0), 0));
    return copy;
}

static Arena *arena_from(int fd, const ArenaContext *context)
{
    ImageReader *reader;
    Arena *arena;
    int memfd;

    cr_assert(eq(int, image_reader_new(fd, &reader), 0));
    cr_assert(eq(int, image_reader_restore(reader, 0, NULL, NULL, &memfd), 0));
    cr_assert(eq(int, arena_open(context, memfd, &arena), 0));
    image_reader_free(reader);
    return arena;
}

Test(image, arena_lives_on_out_of_its_image)
{
    const ArenaAttributes attributes = {.max_bytes = 64 * MIB, .mode = 0600};
    const Identity identity = {.bytes = "0123456789abcde"};
    ImageSpec spec = test_spec(2000, "20240229T235959Z", false);
    ArenaContext context = {};
    ArenaReport report;
    ArenaEntry entry;
    TestArena copy;
    Arena *arena;
    int fd = new_file();

    cr_assert(eq(int, pool_new(NULL, &context.pool), 0));
    cr_assert(eq(int, arena_new(&context, "live", &identity, &attributes, 1, 1, &arena), 0));
    put_entries(arena, 2000);
    copy = copy_of(arena);
    cr_assert(eq(int, test_image_write(fd, &spec, &copy, 1, 256), 0));
    arena_free(arena);

    arena = arena_from(fd, &context);
    cr_assert(eq(int, arena_check(arena, &report), 0), "%s", report.where);
    cr_assert(eq(u64, arena_entries(arena), 2000));
    cr_assert(eq(int, arena_find(arena, BYTES_OF("key 1234"), &entry), 0));
    cr_assert(eq(u64, entry.revision, 1235));
    cr_assert(eq(sz, entry.value.size, 1234 % 600 + 1));
    /* It takes updates again. */
    put_entries(arena, 4000);
    cr_assert(eq(int, arena_check(arena, &report), 0), "%s", report.where);
    arena_free(arena);
    pool_free(context.pool);
    test_arena_clear(&copy);
    close(fd);
}
