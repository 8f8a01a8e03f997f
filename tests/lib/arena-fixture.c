/* An arena to test with. Fails the running test where something that is not tested does not work.
 */
#include "arena-fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "arena/heap.h"

#define SETTLE_TURNS 200

void arena_fixture_init(ArenaFixture *fixture, uint64_t max_bytes, bool with_housekeeper)
{
    static const Identity identity = {.bytes = "0123456789abcde"};
    ArenaAttributes attributes = {.max_bytes = max_bytes, .uid = 1, .gid = 2, .mode = 0640};
    *fixture = (ArenaFixture){.value = malloc(HOLDFAST_VALUE_MAX)};
    if (with_housekeeper)
        cr_assert_eq(housekeeper_new(&fixture->housekeeper), 0);
    cr_assert_eq(pool_new(fixture->housekeeper, &fixture->pool), 0);
    fixture->context = (ArenaContext){fixture->pool, fixture->housekeeper};
    int r = arena_new(&fixture->context, "tested", &identity, &attributes, 77, 5, &fixture->arena);
    cr_assert_eq(r, 0, "arena_new: %d", r);
}

void arena_fixture_deinit(ArenaFixture *fixture)
{
    arena_free(fixture->arena);
    if (fixture->housekeeper != NULL)
        housekeeper_drain(fixture->housekeeper);
    pool_free(fixture->pool);
    housekeeper_free(fixture->housekeeper);
    free(fixture->value);
}

static int end(ArenaFixture *fixture, int r)
{
    if (r == 0)
        r = arena_prepare(fixture->arena, fixture->revision);
    if (r == 0)
        arena_commit(fixture->arena);
    else
        arena_abort(fixture->arena);
    return r;
}

int arena_fixture_put(ArenaFixture *fixture, const char *key, size_t size)
{
    Bytes bytes = bytes_of_text(key);
    for (size_t i = 0; i < size; i++)
        fixture->value[i] = key[i % bytes.size];
    fixture->revision++;
    arena_begin(fixture->arena);
    return end(fixture,
               arena_put(fixture->arena, bytes, BYTES(fixture->value, size), fixture->revision));
}

int arena_fixture_delete(ArenaFixture *fixture, const char *key)
{
    fixture->revision++;
    arena_begin(fixture->arena);
    return end(fixture, arena_delete(fixture->arena, bytes_of_text(key)));
}

const char *arena_fixture_key(unsigned number)
{
    static char texts[4][32];
    char *text = texts[number % 4];
    (void)snprintf(text, sizeof(texts[0]), "key-%u", number);
    return text;
}

void arena_fixture_settle(ArenaFixture *fixture)
{
    for (unsigned i = 0; i < SETTLE_TURNS; i++) {
        arena_upkeep(fixture->arena);
        if (fixture->housekeeper != NULL)
            housekeeper_drain(fixture->housekeeper);
    }
}

int arena_fixture_reopen(ArenaFixture *fixture)
{
    int fd = dup(arena_fd(fixture->arena));
    cr_assert_geq(fd, 0);
    fixture->arena = arena_free(fixture->arena);
    if (fixture->housekeeper != NULL)
        housekeeper_drain(fixture->housekeeper); // as if the process were gone, and all its tasks
    int r = arena_open(&fixture->context, fd, &fixture->arena);
    if (r != 0)
        close(fd);
    return r;
}

uint64_t arena_fixture_memory(const ArenaFixture *fixture)
{
    struct stat status;
    cr_assert_eq(fstat(arena_fd(fixture->arena), &status), 0);
    return (uint64_t)status.st_blocks * 512;
}

uint8_t *arena_fixture_map(const ArenaFixture *fixture, size_t *ret_size)
{
    *ret_size = arena_high_water_pages(fixture->arena) * HOLDFAST_PAGE_BYTES;
    void *memory =
        mmap(NULL, *ret_size, PROT_READ | PROT_WRITE, MAP_SHARED, arena_fd(fixture->arena), 0);
    cr_assert_neq(memory, MAP_FAILED);
    return memory;
}

/* Zeroes what is behind the link of each free block of the slab, and blocks never used. */
static void blank_slab(const Arena *arena, uint8_t *copy, uint64_t page)
{
    const HoldfastPage *slab = runs_page(arena, page);
    const SizeClass *class = class_get(slab->class);
    uint8_t *base = copy + page * HOLDFAST_PAGE_BYTES;
    for (uint16_t next = slab->free; next != 0;) {
        uint8_t *block = base + (size_t)(next - 1) * class->bytes;
        memcpy(&next, block + 8, sizeof(next));
        memset(block + 16, 0, class->bytes - 16u);
    }
    size_t used = (size_t)slab->bump * class->bytes;
    memset(base + used, 0, (size_t) class->pages * HOLDFAST_PAGE_BYTES - used);
}

static void blank_page(const Arena *arena, uint8_t *copy, uint64_t page)
{
    const HoldfastPage *run = runs_page(arena, page);
    if (run == NULL)
        return;
    if (run->kind == HOLDFAST_PAGE_SLAB)
        blank_slab(arena, copy, page);
    if (run->kind == HOLDFAST_PAGE_RESIDENT || run->kind == HOLDFAST_PAGE_CLEAN)
        memset(copy + page * HOLDFAST_PAGE_BYTES, 0, run->count * (size_t)HOLDFAST_PAGE_BYTES);
    // Buckets behind the last one are not in use yet.
    if (run->kind == HOLDFAST_PAGE_SEGMENT) {
        uint64_t buckets = arena_header(arena)->counters.buckets;
        uint64_t used = MIN(buckets % HOLDFAST_SEGMENT_BUCKETS, HOLDFAST_SEGMENT_BUCKETS);
        if (buckets < HOLDFAST_SEGMENT_BUCKETS)
            memset(copy + page * HOLDFAST_PAGE_BYTES + used * sizeof(HoldfastBucket), 0,
                   HOLDFAST_SEGMENT_PAGES * (size_t)HOLDFAST_PAGE_BYTES -
                       used * sizeof(HoldfastBucket));
    }
}

uint8_t *arena_fixture_snapshot(const ArenaFixture *fixture, size_t *ret_size)
{
    const Arena *arena = fixture->arena;
    size_t size = arena_high_water_pages(arena) * HOLDFAST_PAGE_BYTES;
    uint8_t *copy = malloc(size);
    cr_assert_neq(copy, NULL);
    memcpy(copy, arena->base, size);
    for (uint64_t page = 0; page < size / HOLDFAST_PAGE_BYTES; page++)
        blank_page(arena, copy, page);
    HoldfastHeader *header = (HoldfastHeader *)copy;
    header->change_counter = 0;
    header->abort_counter = 0;
    *ret_size = size;
    return copy;
}
