/* The library's reader of an arena's memory against the daemon's writer, in one process: what is
 * read at rest, in the middle of an update, when it has grown, gone, or is not to be trusted. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <holdfast.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../client/lib/map.h"
#include "arena/arena.h"
#include "base/file.h"
#include "lib/arena-fixture.h"

#define ENTRIES 5000

static HoldfastMap *map_of(const ArenaFixture *fixture)
{
    HoldfastMap *map = NULL;
    int fd = fcntl(arena_fd(fixture->arena), F_DUPFD_CLOEXEC, 3);
    int r = hf_map_new(fd, &map);

    cr_assert_eq(r, 0, "hf_map_new: %d", r);
    return map;
}

static size_t size_of(unsigned number)
{
    return number % 97 == 5 ? 20000 + number : 1 + number % 700;
}

static void fill(ArenaFixture *fixture, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        cr_assert_eq(arena_fixture_put(fixture, arena_fixture_key(i), size_of(i)), 0);
}

/* As arena_fixture_put makes them. */
static void expect_value(const char *key, const char *value, size_t length, size_t expected)
{
    cr_assert_eq(length, expected, "%s: %zu bytes, not %zu", key, length, expected);
    for (size_t i = 0; i < length; i++)
        cr_assert_eq(value[i], key[i % strlen(key)], "%s: byte %zu", key, i);
}

static int get(HoldfastMap *map, const char *key, size_t *ret_length)
{
    static char buffer[1 << 20];
    uint64_t revision = 0;
    int r = holdfast_map_get(map, key, strlen(key), buffer, sizeof(buffer), ret_length, &revision);

    if (r == 0) {
        expect_value(key, buffer, *ret_length, *ret_length);
        cr_assert_gt(revision, 0);
    }
    return r;
}

static void expect_all(HoldfastMap *map, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        size_t length = 0;
        int r = get(map, arena_fixture_key(i), &length);
        cr_assert_eq(r, 0, "key-%u: %d", i, r);
        cr_assert_eq(length, size_of(i));
    }
}

Test(map, what_was_put_is_got_and_what_was_not_is_absent)
{
    ArenaFixture fixture;
    size_t length;

    arena_fixture_init(&fixture, 64 * MIB, false);
    fill(&fixture, 0, ENTRIES);
    HoldfastMap *map = map_of(&fixture);
    expect_all(map, 0, ENTRIES);
    for (unsigned i = ENTRIES; i < 2 * ENTRIES; i++)
        cr_assert_eq(get(map, arena_fixture_key(i), &length), -ENOENT);
    for (unsigned i = 0; i < ENTRIES; i += 2)
        cr_assert_eq(arena_fixture_delete(&fixture, arena_fixture_key(i)), 0);
    for (unsigned i = 0; i < ENTRIES; i++)
        cr_assert_eq(get(map, arena_fixture_key(i), &length), i % 2 == 0 ? -ENOENT : 0);
    holdfast_map_close(map);
    arena_fixture_deinit(&fixture);
}

Test(map, a_value_that_does_not_fit_is_told_with_its_length)
{
    ArenaFixture fixture;
    char buffer[8] = "........";
    size_t length = 0;
    uint64_t revision = 77;

    arena_fixture_init(&fixture, 4 * MIB, false);
    cr_assert_eq(arena_fixture_put(&fixture, "abc", 8), 0);
    HoldfastMap *map = map_of(&fixture);
    cr_assert_eq(holdfast_map_get(map, "abc", 3, buffer, 7, &length, &revision), -ENOBUFS);
    cr_assert_eq(length, 8);
    cr_assert_eq(revision, 77);
    cr_assert_eq(holdfast_map_get(map, "abc", 3, NULL, 0, &length, NULL), -ENOBUFS);
    cr_assert_eq(holdfast_map_get(map, "abc", 3, buffer, 8, &length, &revision), 0);
    cr_assert_eq(memcmp(buffer, "abcabcab", 8), 0);
    cr_assert_eq(revision, 1);
    cr_assert_eq(holdfast_map_get(map, "", 0, buffer, 8, &length, NULL), -EINVAL);
    cr_assert_eq(holdfast_map_get(map, "abc", HOLDFAST_KEY_MAX + 1, buffer, 8, NULL, NULL),
                 -EINVAL);
    holdfast_map_close(map);
    arena_fixture_deinit(&fixture);
}

Test(map, several_are_of_one_state)
{
    ArenaFixture fixture;
    HoldfastMapEntry entries[] = {{.key = {"a", 1}}, {.key = {"none", 4}}, {.key = {"b", 1}}};
    char buffer[100];
    size_t length = 0;
    uint64_t revision = 0;

    arena_fixture_init(&fixture, 4 * MIB, false);
    cr_assert_eq(arena_fixture_put(&fixture, "a", 5), 0);
    cr_assert_eq(arena_fixture_put(&fixture, "b", 20), 0);
    cr_assert_eq(arena_fixture_put(&fixture, "c", 1), 0);
    HoldfastMap *map = map_of(&fixture);
    cr_assert_eq(holdfast_map_get_many(map, entries, 3, buffer, 24, &length, &revision), -ENOBUFS);
    cr_assert_eq(length, 25);
    cr_assert_null(entries[0].json);
    cr_assert_eq(holdfast_map_get_many(map, entries, 3, buffer, sizeof(buffer), &length, &revision),
                 0);
    cr_assert_eq(revision, 3);
    cr_assert_eq(length, 25);
    expect_value("a", entries[0].json, entries[0].json_length, 5);
    expect_value("b", entries[2].json, entries[2].json_length, 20);
    cr_assert_null(entries[1].json);
    cr_assert_eq(entries[0].revision, 1);
    cr_assert_eq(entries[1].revision, 0);
    cr_assert_eq(entries[2].revision, 2);
    cr_assert_eq(holdfast_map_get_many(map, entries, 0, buffer, 1, NULL, NULL), -EINVAL);
    holdfast_map_close(map);
    arena_fixture_deinit(&fixture);
}

/* --- iterating */

typedef struct Seen {
    ArenaFixture *fixture;
    unsigned count;
    unsigned change_at; /* changes the arena then */
    uint8_t keys[2 * ENTRIES];
} Seen;

static int see(void *context, const HoldfastItem *item)
{
    Seen *seen = context;
    unsigned number = 0;

    cr_assert_eq(sscanf(item->key, "key-%u", &number), 1);
    cr_assert_eq(strlen(item->key), item->key_length);
    cr_assert_eq(item->json[item->json_length], '\0');
    expect_value(item->key, item->json, item->json_length, size_of(number));
    cr_assert_eq(seen->keys[number]++, 0, "key-%u again", number);
    if (++seen->count == seen->change_at)
        cr_assert_eq(arena_fixture_put(seen->fixture, "other", 3), 0);
    return seen->count == 1000 && seen->change_at == 0 ? 17 : 0;
}

Test(map, an_iteration_hands_out_every_entry_of_one_state_once)
{
    ArenaFixture fixture;
    Seen seen = {.fixture = &fixture, .change_at = UINT32_MAX};
    uint64_t revision = 0;

    arena_fixture_init(&fixture, 64 * MIB, false);
    HoldfastMap *map = map_of(&fixture);
    cr_assert_eq(holdfast_map_iterate(map, see, &seen, &revision), 0);
    cr_assert_eq(seen.count, 0);
    fill(&fixture, 0, ENTRIES);
    cr_assert_eq(holdfast_map_iterate(map, see, &seen, &revision), 0);
    cr_assert_eq(seen.count, ENTRIES);
    cr_assert_eq(revision, ENTRIES);
    seen = (Seen){.fixture = &fixture};
    cr_assert_eq(holdfast_map_iterate(map, see, &seen, NULL), 17, "it ends where it is told to");
    cr_assert_eq(seen.count, 1000);
    holdfast_map_close(map);
    arena_fixture_deinit(&fixture);
}

Test(map, an_iteration_says_that_the_arena_changed_and_shows_nothing_of_it)
{
    ArenaFixture fixture;
    Seen seen = {.fixture = &fixture, .change_at = 100};
    uint64_t revision = 77;

    arena_fixture_init(&fixture, 64 * MIB, false);
    fill(&fixture, 0, ENTRIES);
    HoldfastMap *map = map_of(&fixture);
    cr_assert_eq(holdfast_map_iterate(map, see, &seen, &revision), HOLDFAST_MAP_CHANGED);
    cr_assert_eq(seen.count, 100);
    cr_assert_eq(revision, 77);
    holdfast_map_close(map);
    arena_fixture_deinit(&fixture);
}

/* --- in the middle of an update */

Test(map, an_update_is_seen_when_it_is_final_and_not_before)
{
    ArenaFixture fixture;
    HoldfastMapEntry entries[] = {{.key = {"at-rest", 7}}};
    Seen seen = {.fixture = &fixture, .change_at = UINT32_MAX};
    char buffer[100];
    size_t length = 0;

    arena_fixture_init(&fixture, 4 * MIB, false);
    cr_assert_eq(arena_fixture_put(&fixture, "changed", 10), 0);
    cr_assert_eq(arena_fixture_put(&fixture, "replaced", 10), 0);
    cr_assert_eq(arena_fixture_put(&fixture, "at-rest", 10), 0);
    HoldfastMap *map = map_of(&fixture);

    arena_begin(fixture.arena);
    cr_assert_eq(arena_put(fixture.arena, BYTES_OF("changed"), BYTES_OF("changedchan"), 9), 0);
    cr_assert_eq(arena_put(fixture.arena, BYTES_OF("replaced"), BYTES(fixture.value, 5000), 9), 0);
    cr_assert_eq(arena_put(fixture.arena, BYTES_OF("new"), BYTES_OF("newnew"), 9), 0);
    cr_assert_eq(get(map, "at-rest", &length), 0, "others can be read");
    cr_assert_eq(get(map, "changed", &length), -EAGAIN, "the daemon would be asked");
    cr_assert_eq(get(map, "replaced", &length), -EAGAIN);
    cr_assert_eq(get(map, "new", &length), -EAGAIN);
    cr_assert_eq(get(map, "none", &length), -EAGAIN);
    cr_assert_eq(holdfast_map_get_many(map, entries, 1, buffer, sizeof(buffer), NULL, NULL),
                 -EAGAIN);
    cr_assert_eq(holdfast_map_iterate(map, see, &seen, NULL), HOLDFAST_MAP_CHANGED);
    cr_assert_eq(seen.count, 0);
    cr_assert_eq(arena_prepare(fixture.arena, 9), 0);
    cr_assert_eq(get(map, "changed", &length), -EAGAIN);
    arena_commit(fixture.arena);

    cr_assert_eq(get(map, "changed", &length), 0);
    cr_assert_eq(length, 11);
    cr_assert_eq(get(map, "new", &length), 0);
    cr_assert_eq(get(map, "none", &length), -ENOENT);
    holdfast_map_close(map);
    arena_fixture_deinit(&fixture);
}

Test(map, an_update_that_is_rolled_back_was_never_seen)
{
    ArenaFixture fixture;
    size_t length = 0;

    arena_fixture_init(&fixture, 4 * MIB, false);
    cr_assert_eq(arena_fixture_put(&fixture, "k", 10), 0);
    HoldfastMap *map = map_of(&fixture);
    arena_begin(fixture.arena);
    cr_assert_eq(arena_put(fixture.arena, BYTES_OF("k"), BYTES_OF("x"), 9), 0);
    cr_assert_eq(arena_put(fixture.arena, BYTES_OF("new"), BYTES_OF("x"), 9), 0);
    arena_abort(fixture.arena);
    cr_assert_eq(get(map, "k", &length), 0);
    cr_assert_eq(length, 10);
    cr_assert_eq(get(map, "new", &length), -ENOENT);
    holdfast_map_close(map);
    arena_fixture_deinit(&fixture);
}

/* --- growth, the end, and what is no arena */

Test(map, growth_is_followed)
{
    ArenaFixture fixture;

    arena_fixture_init(&fixture, 64 * MIB, false);
    HoldfastMap *map = map_of(&fixture);
    uint64_t before = map->readable;
    fill(&fixture, 0, ENTRIES);
    expect_all(map, 0, ENTRIES);
    cr_assert_gt(map->readable, before);
    /* Beyond what it might become when it was mapped. */
    ArenaAttributes attributes;
    arena_attributes(fixture.arena, &attributes);
    attributes.max_bytes = 256 * MIB;
    arena_begin(fixture.arena);
    cr_assert_eq(arena_change(fixture.arena, &attributes), 0);
    cr_assert_eq(arena_prepare(fixture.arena, ++fixture.revision), 0);
    arena_commit(fixture.arena);
    for (unsigned i = 0; i < 12; i++)
        cr_assert_eq(arena_fixture_put(&fixture, arena_fixture_key(100000 + i), 7 * MIB), 0);
    cr_assert_eq(arena_fixture_put(&fixture, "last", 5), 0);
    expect_all(map, 0, ENTRIES);
    size_t length = 0;
    cr_assert_eq(get(map, "last", &length), 0);
    cr_assert_eq(holdfast_map_get(map, "key-100011", 10, NULL, 0, &length, NULL), -ENOBUFS);
    cr_assert_eq(length, 7 * MIB);
    holdfast_map_close(map);
    arena_fixture_deinit(&fixture);
}

Test(map, a_dropped_arena_is_not_read)
{
    ArenaFixture fixture;
    size_t length;

    arena_fixture_init(&fixture, 4 * MIB, false);
    cr_assert_eq(arena_fixture_put(&fixture, "k", 10), 0);
    HoldfastMap *map = map_of(&fixture);
    cr_assert_eq(get(map, "k", &length), 0);
    arena_drop(fixture.arena);
    fixture.arena = NULL;
    cr_assert_eq(get(map, "k", &length), -ESTALE);
    holdfast_map_close(map);
    arena_fixture_deinit(&fixture);
}

Test(map, what_is_no_sealed_arena_is_refused)
{
    ArenaFixture fixture;
    HoldfastMap *map = NULL;
    HoldfastHeader header;
    int fd = -1;

    arena_fixture_init(&fixture, 4 * MIB, false);
    cr_assert_eq(file_read_at(arena_fd(fixture.arena), &header, sizeof(header), 0), 0);
    cr_assert_eq(file_memfd("unsealed", 4096, &fd), 0);
    cr_assert_eq(file_write_at(fd, &header, sizeof(header), 0), 0);
    cr_assert_eq(hf_map_new(fd, &map), -EPROTO, "not sealed");
    cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    cr_assert_eq(hf_map_new(fd, &map), -EPROTO, "seals can be added");
    cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL), 0);
    header.magic[3]++;
    cr_assert_eq(file_write_at(fd, &header, sizeof(header), 0), 0);
    cr_assert_eq(hf_map_new(fd, &map), -EPROTO, "no magic");
    header.magic[3]--;
    header.layout_version++;
    cr_assert_eq(file_write_at(fd, &header, sizeof(header), 0), 0);
    cr_assert_eq(hf_map_new(fd, &map), -EPROTONOSUPPORT, "another layout");
    header.layout_version--;
    cr_assert_eq(file_write_at(fd, &header, sizeof(header), 0), 0);
    cr_assert_eq(hf_map_new(fd, &map), 0);
    /* A header and nothing behind it: what it leads to is not there. */
    cr_assert_eq(holdfast_map_get(map, "k", 1, NULL, 0, NULL, NULL), -EBADMSG);
    holdfast_map_close(map);
    cr_assert_eq(file_memfd("short", 4095, &fd), 0);
    cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL), 0);
    cr_assert_eq(hf_map_new(fd, &map), -EPROTO, "shorter than a header");
    close(fd);
    fd = open("/", O_RDONLY | O_CLOEXEC);
    cr_assert_eq(hf_map_new(fd, &map), -EPROTO, "no memfd");
    close(fd);
    arena_fixture_deinit(&fixture);
}

/* --- waiting */

Test(map, a_wait_ends_at_once_where_the_revision_is_another_and_in_time_where_it_is_not)
{
    ArenaFixture fixture;
    uint64_t revision = 0;

    arena_fixture_init(&fixture, 4 * MIB, false);
    cr_assert_eq(arena_fixture_put(&fixture, "k", 10), 0);
    HoldfastMap *map = map_of(&fixture);
    cr_assert_eq(holdfast_map_wait(map, 0, 0, &revision), 0);
    cr_assert_eq(revision, 1);
    cr_assert_eq(holdfast_map_wait(map, UINT64_MAX, 0, &revision), 0);
    cr_assert_eq(holdfast_map_wait(map, 1, 0, &revision), -ETIMEDOUT);
    cr_assert_eq(holdfast_map_wait(map, 1, 250000, &revision), -ETIMEDOUT);
    holdfast_map_close(map);
    arena_fixture_deinit(&fixture);
}
