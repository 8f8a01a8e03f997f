/* Arenas: what arena.h promises, claim by claim. */
#include "arena/arena.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "arena/heap.h"
#include "arena/index.h"
#include "lib/arena-fixture.h"

static void check(const ArenaFixture *fixture)
{
    ArenaReport report;
    int r = arena_check(fixture->arena, &report);
    cr_assert_eq(r, 0, "%s", report.where);
    cr_assert_eq(report.entries, arena_entries(fixture->arena));
    cr_assert_eq(report.pages_used * HOLDFAST_PAGE_BYTES, arena_used_bytes(fixture->arena));
}

static void expect(const ArenaFixture *fixture, const char *key, size_t size)
{
    ArenaEntry found;
    int r = arena_find(fixture->arena, bytes_of_text(key), &found);
    cr_assert_eq(r, size == 0 ? ARENA_NO_ENTRY : 0, "find %s: %d", key, r);
    if (size == 0)
        return;
    cr_assert(bytes_equal(found.key, bytes_of_text(key)));
    cr_assert_eq(found.value.size, size);
    for (size_t i = 0; i < size; i++)
        cr_assert_eq(found.value.data[i], key[i % strlen(key)]);
}

static void fill(ArenaFixture *fixture, unsigned from, unsigned to, size_t size)
{
    for (unsigned i = from; i < to; i++)
        cr_assert_eq(arena_fixture_put(fixture, arena_fixture_key(i), size), 0);
}

/* --- entries */

Test(arena, what_was_put_is_found_until_it_is_deleted)
{
    ArenaFixture fixture;
    ArenaEntry found;
    const size_t sizes[] = {1, 90, 80, 2000, 30000, 29000, HOLDFAST_VALUE_MAX, 5};
    arena_fixture_init(&fixture, 64 * MIB, false);
    expect(&fixture, "a", 0);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        cr_assert_eq(arena_fixture_put(&fixture, "a", sizes[i]), 0);
        expect(&fixture, "a", sizes[i]);
        cr_assert_eq(arena_find(fixture.arena, BYTES_OF("a"), &found), 0);
        cr_assert_eq(found.revision, fixture.revision);
        cr_assert_eq(arena_revision(fixture.arena), fixture.revision);
        check(&fixture);
    }
    cr_assert_eq(arena_entries(fixture.arena), 1);
    cr_assert_eq(arena_fixture_delete(&fixture, "a"), 0);
    cr_assert_eq(arena_fixture_delete(&fixture, "a"), ARENA_NO_ENTRY);
    expect(&fixture, "a", 0);
    cr_assert_eq(arena_entries(fixture.arena), 0);
    check(&fixture);
    arena_fixture_deinit(&fixture);
}

Test(arena, keys_and_values_outside_the_limits_are_refused)
{
    ArenaFixture fixture;
    char key[HOLDFAST_KEY_MAX + 1];
    memset(key, 'k', sizeof(key));
    arena_fixture_init(&fixture, 64 * MIB, false);
    Bytes value = BYTES(fixture.value, 1);
    const struct {
        Bytes key;
        Bytes value;
    } bad[] = {
        {BYTES(key, 0), value},
        {BYTES(key, HOLDFAST_KEY_MAX + 1), value},
        {BYTES(key, 1), BYTES(fixture.value, 0)},
        {BYTES(key, 1), BYTES(fixture.value, (size_t)HOLDFAST_VALUE_MAX + 1)},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        arena_begin(fixture.arena);
        cr_assert_eq(arena_put(fixture.arena, bad[i].key, bad[i].value, 1), -EINVAL);
        arena_abort(fixture.arena);
    }
    arena_begin(fixture.arena);
    cr_assert_eq(arena_put(fixture.arena, BYTES(key, HOLDFAST_KEY_MAX),
                           BYTES(fixture.value, HOLDFAST_VALUE_MAX), 1),
                 0);
    cr_assert_eq(arena_prepare(fixture.arena, 1), 0);
    arena_commit(fixture.arena);
    check(&fixture);
    arena_fixture_deinit(&fixture);
}

Test(arena, an_update_sees_what_it_did_itself)
{
    ArenaFixture fixture;
    ArenaEntry found;
    arena_fixture_init(&fixture, 64 * MIB, false);
    arena_begin(fixture.arena);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(
            arena_put(fixture.arena, BYTES_OF("a"), BYTES(fixture.value, 10 + i * 2000), 9), 0);
    cr_assert_eq(arena_find(fixture.arena, BYTES_OF("a"), &found), 0);
    cr_assert_eq(found.value.size, 4010);
    cr_assert_eq(found.revision, 9);
    cr_assert_eq(arena_put(fixture.arena, BYTES_OF("b"), BYTES(fixture.value, 1), 9), 0);
    cr_assert_eq(arena_delete(fixture.arena, BYTES_OF("a")), 0);
    cr_assert_eq(arena_find(fixture.arena, BYTES_OF("a"), &found), ARENA_NO_ENTRY);
    cr_assert_eq(arena_prepare(fixture.arena, 9), 0);
    arena_commit(fixture.arena);
    cr_assert_eq(arena_entries(fixture.arena), 1);
    check(&fixture);
    arena_fixture_deinit(&fixture);
}

Test(arena, the_table_grows_and_shrinks_with_its_entries)
{
    ArenaFixture fixture;
    arena_fixture_init(&fixture, 256 * MIB, false);
    fill(&fixture, 0, 50000, 20);
    check(&fixture);
    uint64_t buckets = arena_header(fixture.arena)->counters.buckets;
    cr_assert_gt(buckets * HOLDFAST_BUCKET_SLOTS * 3 / 4 + 16, 50000);
    for (unsigned i = 0; i < 50000; i++) {
        expect(&fixture, arena_fixture_key(i), 20);
        cr_assert_eq(arena_fixture_delete(&fixture, arena_fixture_key(i)), 0);
    }
    check(&fixture);
    cr_assert_lt(arena_header(fixture.arena)->counters.buckets, 4 * HOLDFAST_BUCKETS_MIN);
    cr_assert_lt(arena_used_bytes(fixture.arena), 256 * KIB);
    arena_fixture_deinit(&fixture);
}

Test(arena, more_keys_in_one_place_than_may_be_are_refused)
{
    ArenaFixture fixture;
    unsigned count = 0;
    int r = 0;
    arena_fixture_init(&fixture, 16 * MIB, false);
    // As many entries as one chain takes do not make the table grow: all share one of 64 buckets.
    for (unsigned i = 0; r == 0; i++) {
        const char *key = arena_fixture_key(i);
        if (index_hash(fixture.arena, bytes_of_text(key)) % HOLDFAST_BUCKETS_MIN != 7)
            continue;
        r = arena_fixture_put(&fixture, key, 10);
        count += r == 0;
    }
    cr_assert_eq(r, ARENA_COLLISIONS);
    cr_assert_eq(count, HOLDFAST_CHAIN_MAX);
    check(&fixture);
    arena_fixture_deinit(&fixture);
}

/* --- whole or not at all */

static void expect_unchanged(const ArenaFixture *fixture, const uint8_t *before, size_t size)
{
    size_t now_size = 0;
    uint8_t *now = arena_fixture_snapshot(fixture, &now_size);
    cr_assert_eq(now_size, size);
    for (size_t i = 0; i < size; i++)
        cr_assert_eq(now[i], before[i], "byte %zu of page %zu", i % HOLDFAST_PAGE_BYTES,
                     i / HOLDFAST_PAGE_BYTES);
    free(now);
}

/* Touches everything: fresh entries, entries in place, larger, smaller, in runs, chains split and
 * joined. */
static int large_update(ArenaFixture *fixture, uint64_t revision)
{
    int r = 0;
    ArenaAttributes attributes = {.max_bytes = 80 * MIB, .uid = 9, .gid = 9, .mode = 0600};
    for (unsigned i = 0; r == 0 && i < 500; i++) {
        size_t size = i % 5 == 0 ? 20000 + i : i % 5 == 1 ? 3000 : 101 + i % 7;
        r = arena_put(fixture->arena, bytes_of_text(arena_fixture_key(i * 3)),
                      BYTES(fixture->value, size), revision);
    }
    for (unsigned i = 0; r == 0 && i < 900; i++) {
        r = arena_delete(fixture->arena, bytes_of_text(arena_fixture_key(i)));
        r = r == ARENA_NO_ENTRY ? 0 : r;
    }
    if (r == 0)
        r = arena_change(fixture->arena, &attributes);
    return r == 0 ? arena_prepare(fixture->arena, revision) : r;
}

Test(arena, abort_puts_every_byte_back)
{
    ArenaFixture fixture;
    size_t size = 0;
    arena_fixture_init(&fixture, 64 * MIB, false);
    fill(&fixture, 0, 1000, 100);
    fill(&fixture, 300, 310, 50000);
    uint8_t *before = arena_fixture_snapshot(&fixture, &size);
    arena_begin(fixture.arena);
    cr_assert_eq(large_update(&fixture, 5000), 0);
    arena_abort(fixture.arena);
    expect_unchanged(&fixture, before, size);
    check(&fixture);
    for (unsigned i = 0; i < 300; i++)
        expect(&fixture, arena_fixture_key(i), 100);
    free(before);
    arena_fixture_deinit(&fixture);
}

Test(arena, an_update_that_does_not_fit_changes_nothing)
{
    ArenaFixture fixture;
    unsigned count = 0;
    size_t size = 0;
    int r = 0;
    arena_fixture_init(&fixture, ARENA_BYTES_MIN, false);
    while ((r = arena_fixture_put(&fixture, arena_fixture_key(count), 1000)) == 0)
        count++;
    cr_assert_eq(r, ARENA_FULL);
    cr_assert_gt(count, 200);
    uint8_t *before = arena_fixture_snapshot(&fixture, &size);
    cr_assert_eq(arena_fixture_put(&fixture, "another", 1000), ARENA_FULL);
    cr_assert_eq(arena_fixture_put(&fixture, arena_fixture_key(0), 300000), ARENA_FULL);
    expect_unchanged(&fixture, before, size);
    check(&fixture);
    for (unsigned i = 0; i < count; i++)
        cr_assert_eq(arena_fixture_delete(&fixture, arena_fixture_key(i)), 0);
    cr_assert_eq(arena_fixture_put(&fixture, "another", 200000), 0);
    check(&fixture);
    free(before);
    arena_fixture_deinit(&fixture);
}

/* A barrier with room for some pages; what it took it keeps, like the ring. */
typedef struct Barrier {
    uint8_t asked[32768];
    unsigned room;
} Barrier;

static int barrier_change(void *context, uint64_t first_page, uint64_t pages)
{
    Barrier *barrier = context;
    for (uint64_t page = first_page; page < first_page + pages; page++) {
        if (barrier->asked[page])
            continue;
        if (barrier->room == 0)
            return -EAGAIN;
        barrier->room--;
        barrier->asked[page] = 1;
    }
    return 0;
}

Test(arena, a_barrier_without_room_leaves_nothing_changed_and_every_try_gets_further)
{
    ArenaFixture fixture;
    static Barrier barrier;
    size_t size = 0;
    unsigned tries = 0;
    arena_fixture_init(&fixture, 64 * MIB, false);
    fill(&fixture, 0, 1000, 100);
    arena_set_barrier(fixture.arena,
                      &(ArenaBarrier){.change = barrier_change, .context = &barrier});
    uint8_t *before = arena_fixture_snapshot(&fixture, &size);
    int r = 0;
    do {
        arena_begin(fixture.arena);
        r = large_update(&fixture, 5000);
        if (r == 0)
            break;
        cr_assert_eq(r, ARENA_BUSY);
        arena_abort(fixture.arena);
        expect_unchanged(&fixture, before, size);
        barrier.room = 1; // one page more for the next try
    } while (++tries < 5000);
    cr_assert_eq(r, 0);
    cr_assert_gt(tries, 100);
    arena_commit(fixture.arena);
    arena_set_barrier(fixture.arena, NULL);
    check(&fixture);
    free(before);
    arena_fixture_deinit(&fixture);
}

Test(arena, no_page_changes_before_the_barrier_was_asked)
{
    ArenaFixture fixture;
    static Barrier barrier;
    size_t size = 0;
    arena_fixture_init(&fixture, 64 * MIB, false);
    fill(&fixture, 0, 1000, 100);
    uint8_t *memory = arena_fixture_map(&fixture, &size);
    uint8_t *before = malloc(size);
    memcpy(before, memory, size);
    barrier.room = UINT32_MAX;
    arena_set_barrier(fixture.arena,
                      &(ArenaBarrier){.change = barrier_change, .context = &barrier});
    arena_begin(fixture.arena);
    cr_assert_eq(large_update(&fixture, 5000), 0);
    arena_commit(fixture.arena);
    unsigned changed = 0;
    for (size_t page = 0; page < size / HOLDFAST_PAGE_BYTES; page++) {
        bool same = memcmp(memory + page * HOLDFAST_PAGE_BYTES, before + page * HOLDFAST_PAGE_BYTES,
                           HOLDFAST_PAGE_BYTES) == 0;
        cr_assert(same || barrier.asked[page], "page %zu", page);
        changed += !same;
    }
    cr_assert_gt(changed, 20);
    munmap(memory, size);
    free(before);
    arena_fixture_deinit(&fixture);
}

/* --- readers in other processes */

Test(arena, a_reader_sees_that_an_update_is_going_on)
{
    ArenaFixture fixture;
    ArenaEntry found;
    size_t size = 0;
    arena_fixture_init(&fixture, 16 * MIB, false);
    cr_assert_eq(arena_fixture_put(&fixture, "a", 100), 0);
    cr_assert_eq(arena_find(fixture.arena, BYTES_OF("a"), &found), 0);
    uint8_t *memory = arena_fixture_map(&fixture, &size);
    const HoldfastHeader *header = (const HoldfastHeader *)memory;
    const HoldfastEntry *entry =
        (const HoldfastEntry *)(memory + (found.key.data - (const char *)fixture.arena->base)) - 1;
    uint64_t revision = entry->revision;
    uint64_t rest = header->change_counter;
    cr_assert_eq(revision, found.revision);
    cr_assert_eq(rest % 2, 0);

    arena_begin(fixture.arena);
    cr_assert_eq(header->change_counter, rest); // nothing has changed yet
    cr_assert_eq(arena_put(fixture.arena, BYTES_OF("a"), BYTES(fixture.value, 101), 50), 0);
    cr_assert_eq(header->change_counter, rest + 1);
    cr_assert_eq(entry->revision, 0);
    arena_abort(fixture.arena);
    cr_assert_eq(header->change_counter, rest + 2);
    cr_assert_eq(header->abort_counter, 1);
    cr_assert_eq(entry->revision, revision);

    arena_begin(fixture.arena);
    cr_assert_eq(arena_put(fixture.arena, BYTES_OF("a"), BYTES(fixture.value, 101), 51), 0);
    cr_assert_eq(arena_prepare(fixture.arena, 51), 0);
    cr_assert_eq(entry->revision, 0);
    arena_commit(fixture.arena);
    cr_assert_eq(header->change_counter, rest + 4);
    cr_assert_eq(entry->revision, 51);
    cr_assert_eq(arena_fixture_delete(&fixture, "a"), 0);
    cr_assert_eq(entry->revision, 0);
    munmap(memory, size);
    arena_fixture_deinit(&fixture);
}

/* --- walking */

#define WALKED 4000

typedef struct Seen {
    unsigned times[WALKED];
    unsigned page;
    unsigned left; /* until the page is full */
} Seen;

static bool see(void *context, const ArenaEntry *entry)
{
    Seen *seen = context;
    char text[32] = {0};
    if (seen->left == 0)
        return false;
    seen->left--;
    memcpy(text, entry->key.data, MIN(entry->key.size, sizeof(text) - 1));
    unsigned number = (unsigned)strtoul(text + 4, NULL, 10);
    if (number < WALKED)
        seen->times[number]++;
    return true;
}

static void walk_while(ArenaFixture *fixture, bool growing)
{
    static Seen seen;
    uint64_t position = 0;
    unsigned other = WALKED;
    unsigned pages = 0;
    int r = 0;
    memset(&seen, 0, sizeof(seen));
    while (r == 0) {
        seen.left = 7;
        r = arena_walk(fixture->arena, &position, 100, see, &seen);
        cr_assert_geq(r, 0);
        cr_assert_lt(++pages, 20000);
        for (unsigned i = 0; i < 100 && other < 60000; i++, other++) {
            const char *key = arena_fixture_key(other);
            cr_assert_eq(growing ? arena_fixture_put(fixture, key, 10)
                                 : arena_fixture_delete(fixture, key),
                         0);
        }
    }
    for (unsigned i = 0; i < WALKED; i++)
        cr_assert_geq(seen.times[i], 1, "key %u", i);
}

Test(arena, a_walk_misses_nothing_while_the_table_grows_and_shrinks)
{
    ArenaFixture fixture;
    arena_fixture_init(&fixture, 256 * MIB, false);
    fill(&fixture, 0, WALKED, 10);
    walk_while(&fixture, true);
    cr_assert_eq(arena_entries(fixture.arena), 60000);
    walk_while(&fixture, false);
    check(&fixture);
    arena_fixture_deinit(&fixture);
}

static bool count_visits(void *context, const ArenaEntry *entry)
{
    (void)entry;
    ++*(unsigned *)context;
    return true;
}

Test(arena, a_walk_at_rest_visits_each_entry_once_and_keeps_to_its_bound)
{
    ArenaFixture fixture;
    unsigned count = 0;
    unsigned calls = 0;
    uint64_t position = 0;
    arena_fixture_init(&fixture, 64 * MIB, false);
    fill(&fixture, 0, WALKED, 10);
    int r = 0;
    do {
        unsigned before = count;
        r = arena_walk(fixture.arena, &position, 50, count_visits, &count);
        cr_assert_leq(count - before, 50 + HOLDFAST_CHAIN_MAX);
        calls++;
    } while (r == 0);
    cr_assert_eq(r, 1);
    cr_assert_eq(count, WALKED);
    cr_assert_geq(calls, WALKED / (50 + HOLDFAST_CHAIN_MAX));
    arena_fixture_deinit(&fixture);
}

/* --- attributes, taking over */

Test(arena, the_limit_can_be_raised_and_lowered)
{
    ArenaFixture fixture;
    ArenaAttributes attributes;
    arena_fixture_init(&fixture, ARENA_BYTES_MIN, true);
    cr_assert_eq(arena_fixture_put(&fixture, "a", 4 * MIB), ARENA_FULL);
    arena_attributes(fixture.arena, &attributes);
    cr_assert_eq(attributes.max_bytes, ARENA_BYTES_MIN);
    attributes = (ArenaAttributes){.max_bytes = 64 * MIB + 17, .uid = 3, .gid = 4, .mode = 0600};
    arena_begin(fixture.arena);
    cr_assert_eq(arena_change(fixture.arena, &attributes), 0);
    cr_assert_eq(arena_prepare(fixture.arena, 3), 0);
    arena_commit(fixture.arena);
    arena_attributes(fixture.arena, &attributes);
    cr_assert_eq(attributes.max_bytes, 64 * MIB);
    cr_assert_eq(attributes.uid, 3);
    cr_assert_eq(attributes.gid, 4);
    cr_assert_eq(attributes.mode, 0600);
    cr_assert_eq(arena_fixture_put(&fixture, "a", 4 * MIB), 0);
    expect(&fixture, "a", 4 * MIB);

    attributes.max_bytes = 1 * MIB;
    arena_begin(fixture.arena);
    cr_assert_eq(arena_change(fixture.arena, &attributes), ARENA_FULL);
    arena_abort(fixture.arena);
    arena_attributes(fixture.arena, &attributes);
    cr_assert_eq(attributes.max_bytes, 64 * MIB);
    check(&fixture);
    arena_fixture_deinit(&fixture);
}

Test(arena, memory_can_be_taken_over)
{
    ArenaFixture fixture;
    ArenaPeek peek;
    arena_fixture_init(&fixture, 64 * MIB, true);
    fill(&fixture, 0, 5000, 150);
    cr_assert_eq(arena_peek(arena_fd(fixture.arena), &peek), 0);
    cr_assert_str_eq(peek.name, "tested");
    cr_assert_eq(peek.generation, 1);
    cr_assert_eq(peek.revision, 5000);
    cr_assert_eq(peek.state, HOLDFAST_STATE_LIVE);
    cr_assert_not(peek.mid_update);
    cr_assert_eq(arena_fixture_reopen(&fixture), 0);
    cr_assert_eq(arena_peek(arena_fd(fixture.arena), &peek), 0);
    cr_assert_eq(peek.generation, 2);
    cr_assert_str_eq(arena_name(fixture.arena), "tested");
    cr_assert_eq(arena_created_usec(fixture.arena), 77);
    cr_assert_eq(arena_created_revision(fixture.arena), 5);
    cr_assert_eq(arena_revision(fixture.arena), 5000);
    cr_assert(identity_equal(arena_identity(fixture.arena), &peek.identity));
    for (unsigned i = 0; i < 5000; i++)
        expect(&fixture, arena_fixture_key(i), 150);
    fill(&fixture, 0, 100, 9000);
    check(&fixture);
    arena_fixture_deinit(&fixture);
}

#ifndef HOLDFAST_GUARD
/* Of this process' mappings of shared memory: bytes whose pages it has in its page tables. */
static uint64_t populated_bytes(void)
{
    char line[256];
    unsigned long kib = 0;
    FILE *file = fopen("/proc/self/status", "re");
    cr_assert_not_null(file);
    while (fgets(line, sizeof(line), file) != NULL)
        if (sscanf(line, "RssShmem: %lu kB", &kib) == 1)
            break;
    fclose(file);
    return kib * KIB;
}

Test(arena, memory_taken_over_is_populated_where_there_is_some)
{
    ArenaFixture fixture;
    arena_fixture_init(&fixture, 256 * MIB, true);
    fill(&fixture, 0, 10000, 1500);
    fill(&fixture, 10000, 10100, 500000);
    fill(&fixture, 10100, 20000, 1500);
    for (unsigned i = 10000; i < 10100; i++)
        cr_assert_eq(arena_fixture_delete(&fixture, arena_fixture_key(i)), 0);
    arena_fixture_settle(&fixture); // now there is a large hole
    uint64_t memory = arena_fixture_memory(&fixture);
    cr_assert_lt(memory,
                 arena_header(fixture.arena)->counters.high_water_pages * HOLDFAST_PAGE_BYTES / 2);
    cr_assert_eq(arena_fixture_reopen(&fixture), 0);
    for (int i = 0; i < 200; i++) // each step is submitted when the one before is reaped
        housekeeper_drain(fixture.housekeeper);
    cr_assert_geq(populated_bytes(), memory - 4 * MIB); // some was made ready ahead
    cr_assert_eq(arena_fixture_memory(&fixture), memory);
    arena_fixture_deinit(&fixture);
}
#endif

Test(arena, the_drop_is_an_update_that_can_be_taken_back)
{
    ArenaFixture fixture;
    ArenaPeek peek;
    arena_fixture_init(&fixture, 64 * MIB, false);
    fill(&fixture, 0, 100, 1000);
    arena_begin(fixture.arena);
    cr_assert_eq(arena_set_dropped(fixture.arena), 0);
    cr_assert_eq(arena_peek(arena_fd(fixture.arena), &peek), 0);
    cr_assert(peek.mid_update);
    arena_abort(fixture.arena);
    cr_assert_eq(arena_peek(arena_fd(fixture.arena), &peek), 0);
    cr_assert_not(peek.mid_update);
    cr_assert_eq(peek.state, HOLDFAST_STATE_LIVE);
    arena_begin(fixture.arena);
    cr_assert_eq(arena_set_dropped(fixture.arena), 0);
    arena_commit(fixture.arena);
    cr_assert_eq(arena_peek(arena_fd(fixture.arena), &peek), 0);
    cr_assert_not(peek.mid_update);
    cr_assert_eq(peek.state, HOLDFAST_STATE_DROPPED);
    arena_fixture_deinit(&fixture);
}

Test(arena, what_is_discarded_is_not_opened_again_and_gives_its_memory_back)
{
    ArenaFixture fixture;
    Arena *arena = NULL;
    struct stat status;
    arena_fixture_init(&fixture, 64 * MIB, true);
    fill(&fixture, 0, 5000, 1000);
    int fd = dup(arena_fd(fixture.arena));
    arena_discard(&fixture.context, dup(fd));
    int r = arena_open(&fixture.context, fd, &arena);
    cr_assert(r == -ESTALE || r == -EBADMSG, "%d", r);
    housekeeper_drain(fixture.housekeeper);
    cr_assert_eq(fstat(fd, &status), 0);
    cr_assert_eq(status.st_blocks, 0);
    close(fd);
    arena_fixture_deinit(&fixture);
}

Test(arena, a_dropped_arena_says_so_and_gives_its_memory_back)
{
    ArenaFixture fixture;
    ArenaPeek peek;
    Arena *arena = NULL;
    struct stat status;
    arena_fixture_init(&fixture, 64 * MIB, true);
    fill(&fixture, 0, 5000, 1000);
    int fd = dup(arena_fd(fixture.arena));
    int other = dup(fd);
    arena_hold_pages(fixture.arena, true); // so that the header stays to be seen
    arena_drop(TAKE_PTR(fixture.arena));
    housekeeper_drain(fixture.housekeeper);
    cr_assert_eq(arena_peek(fd, &peek), 0);
    cr_assert_eq(peek.state, HOLDFAST_STATE_DROPPED);
    cr_assert_eq(arena_open(&fixture.context, fd, &arena), -ESTALE);
    close(fd);
    close(other);

    ArenaFixture second;
    arena_fixture_init(&second, 64 * MIB, true);
    fill(&second, 0, 5000, 1000);
    fd = dup(arena_fd(second.arena));
    arena_drop(TAKE_PTR(second.arena));
    housekeeper_drain(second.housekeeper);
    cr_assert_eq(fstat(fd, &status), 0);
    cr_assert_eq(status.st_blocks, 0);
    close(fd);
    arena_fixture_deinit(&second);
    arena_fixture_deinit(&fixture);
}

/* --- memory */

static void memory_comes_back(bool with_housekeeper)
{
    ArenaFixture fixture;
    arena_fixture_init(&fixture, 256 * MIB, with_housekeeper);
    fill(&fixture, 0, 20000, 1500);
    fill(&fixture, 20000, 20020, 500000);
    uint64_t most = arena_fixture_memory(&fixture);
    cr_assert_gt(most, 40 * MIB);
    for (unsigned i = 0; i < 20020; i++)
        cr_assert_eq(arena_fixture_delete(&fixture, arena_fixture_key(i)), 0);
    arena_hold_pages(fixture.arena, true);
    arena_fixture_settle(&fixture);
    cr_assert_geq(arena_fixture_memory(&fixture), most); // held: no hole
    arena_hold_pages(fixture.arena, false);
    arena_fixture_settle(&fixture);
    cr_assert_lt(arena_fixture_memory(&fixture), 3 * MIB);
    check(&fixture);
    cr_assert_eq(arena_revision(fixture.arena), fixture.revision);
    fill(&fixture, 0, 20000, 1500);
    check(&fixture);
    arena_fixture_deinit(&fixture);
}

Test(arena, free_pages_go_back_to_the_system)
{
    memory_comes_back(true);
}

Test(arena, free_pages_go_back_without_a_housekeeper_too)
{
    memory_comes_back(false);
}

Test(arena, a_run_caught_while_it_was_punched_is_free_after_taking_over)
{
    ArenaFixture fixture;
    arena_fixture_init(&fixture, 256 * MIB, true);
    fill(&fixture, 0, 10, 1000000);
    for (unsigned i = 0; i < 10; i++)
        cr_assert_eq(arena_fixture_delete(&fixture, arena_fixture_key(i)), 0);
    arena_upkeep(fixture.arena); // marked; what the housekeeper did is not noted
    cr_assert_gt(arena_header(fixture.arena)->counters.punching_pages, 0);
    cr_assert_eq(arena_fixture_reopen(&fixture), 0);
    cr_assert_eq(arena_header(fixture.arena)->counters.punching_pages, 0);
    check(&fixture);
    arena_fixture_settle(&fixture);
    check(&fixture);
    arena_fixture_deinit(&fixture);
}

Test(arena, sparse_slabs_are_cleared)
{
    ArenaFixture fixture;
    arena_fixture_init(&fixture, 256 * MIB, true);
    fill(&fixture, 0, 40000, 400);
    uint64_t most = arena_used_bytes(fixture.arena);
    for (unsigned i = 0; i < 40000; i++)
        if (i % 8 != 0)
            cr_assert_eq(arena_fixture_delete(&fixture, arena_fixture_key(i)), 0);
    arena_fixture_settle(&fixture);
    cr_assert_lt(arena_used_bytes(fixture.arena), most / 5);
    check(&fixture);
    for (unsigned i = 0; i < 40000; i += 8)
        expect(&fixture, arena_fixture_key(i), 400);
    arena_fixture_deinit(&fixture);
}

Test(arena, a_fresh_arena_is_small)
{
    ArenaFixture fixture;
    arena_fixture_init(&fixture, 16 * GIB, true);
    cr_assert_eq(arena_fixture_put(&fixture, "a", 10), 0);
    arena_fixture_settle(&fixture);
    cr_assert_leq(arena_fixture_memory(&fixture), 256 * KIB);
    arena_fixture_deinit(&fixture);
}

Test(arena, a_slab_wastes_a_sixteenth_at_most_and_each_size_has_the_least_class)
{
    for (size_t size = 1; size <= CLASS_BYTES_MAX; size++) {
        const SizeClass *class = class_get(class_of(size));
        cr_assert_neq(class, NULL);
        cr_assert_geq(class->bytes, size);
        for (unsigned i = 0; i <= CLASS_KIB; i++)
            cr_assert(i == CLASS_OVERFLOW || class_get(i)->bytes < size ||
                      class_get(i)->bytes >= class->bytes);
    }
    cr_assert_eq(class_of(CLASS_BYTES_MAX + 1), CLASS_LARGE);
    for (unsigned i = 0; i <= CLASS_KIB; i++) {
        const SizeClass *class = class_get(i);
        unsigned bytes = class->pages * HOLDFAST_PAGE_BYTES;
        cr_assert_eq(class->blocks, bytes / class->bytes);
        cr_assert_leq((bytes - class->blocks * class->bytes) * 16, bytes);
    }
    cr_assert_eq(class_get(CLASS_KIB + 1), NULL);
}

#ifdef HOLDFAST_GUARD
Test(arena, memory_that_the_barrier_was_not_asked_for_cannot_be_written, .signal = SIGSEGV)
{
    ArenaFixture fixture;
    arena_fixture_init(&fixture, 16 * MIB, false);
    fill(&fixture, 0, 10, 10);
    arena_begin(fixture.arena);
    ((HoldfastHeader *)fixture.arena->base)->compatible_flags = 1;
}
#endif
