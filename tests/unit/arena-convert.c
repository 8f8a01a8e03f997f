/* Unit tests of arena/convert and arena/layouts: this program's own layout is read through its
 * description, so whatever the description says wrong is found; memory that makes no sense gives an
 * error. What another layout is like is tested with the daemons (tests/integration/layout.py). */
#include <criterion/criterion.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arena/layouts.h"
#include "lib/arena-fixture.h"

#define ENTRIES 3000u

static size_t size_of(unsigned number)
{
    return number % 100 == 0 ? 20000 + number : 1 + number % 300;
}

static void fill(ArenaFixture *fixture)
{
    arena_fixture_init(fixture, 64 * MIB, false);
    for (unsigned i = 0; i < ENTRIES; i++)
        cr_assert_eq(arena_fixture_put(fixture, arena_fixture_key(i), size_of(i)), 0);
    for (unsigned i = 0; i < ENTRIES; i += 5)
        cr_assert_eq(arena_fixture_delete(fixture, arena_fixture_key(i)), 0);
}

static HoldfastHeader *map_header(const ArenaFixture *fixture, size_t *ret_size)
{
    return (HoldfastHeader *)arena_fixture_map(fixture, ret_size);
}

Test(arena_convert, every_entry_comes_with_its_revision_and_the_header_with_all_that_people_see)
{
    ArenaFixture fixture;
    Arena *copy;
    ArenaReport report;
    ArenaAttributes one, other;

    fill(&fixture);
    cr_assert_eq(arena_convert(&fixture.context, arena_fd(fixture.arena), &copy), 0);
    cr_assert_eq(arena_check(copy, &report), 0, "%s", report.where);
    cr_assert_str_eq(arena_name(copy), arena_name(fixture.arena));
    cr_assert(identity_equal(arena_identity(copy), arena_identity(fixture.arena)));
    arena_attributes(copy, &one);
    arena_attributes(fixture.arena, &other);
    cr_assert_eq(one.max_bytes, other.max_bytes);
    cr_assert_eq(one.uid, other.uid);
    cr_assert_eq(one.gid, other.gid);
    cr_assert_eq(one.mode, other.mode);
    cr_assert_eq(arena_created_usec(copy), arena_created_usec(fixture.arena));
    cr_assert_eq(arena_created_revision(copy), arena_created_revision(fixture.arena));
    cr_assert_eq(arena_revision(copy), arena_revision(fixture.arena));
    cr_assert_eq(arena_entries(copy), arena_entries(fixture.arena));
    for (unsigned i = 0; i < ENTRIES; i++) {
        const char *text = arena_fixture_key(i);
        Bytes key = BYTES(text, strlen(text));
        ArenaEntry found, expected;
        int r = arena_find(copy, key, &found);

        cr_assert_eq(r, arena_find(fixture.arena, key, &expected), "%s: %d", text, r);
        if (r != 0)
            continue;
        cr_assert_eq(found.revision, expected.revision);
        cr_assert_eq(found.value.size, expected.value.size);
        cr_assert_eq(memcmp(found.value.data, expected.value.data, found.value.size), 0);
    }
    arena_free(copy);
    arena_fixture_deinit(&fixture);
}

Test(arena_convert, an_empty_arena_stays_one)
{
    ArenaFixture fixture;
    Arena *copy;

    arena_fixture_init(&fixture, MIB, false);
    cr_assert_eq(arena_convert(&fixture.context, arena_fd(fixture.arena), &copy), 0);
    cr_assert_eq(arena_entries(copy), 0);
    cr_assert_eq(arena_revision(copy), arena_revision(fixture.arena));
    arena_free(copy);
    arena_fixture_deinit(&fixture);
}

/* What is done to the header, and what comes of it. */
typedef struct HeaderCase {
    const char *what;
    void (*change)(HoldfastHeader *header);
    int outcome;
} HeaderCase;

#define CHANGE(name, statement)                                                                    \
    static void name(HoldfastHeader *header)                                                       \
    {                                                                                              \
        statement;                                                                                 \
    }
CHANGE(mid_update, header->change_counter++)
CHANGE(dropped, header->state = HOLDFAST_STATE_DROPPED)
CHANGE(other_state, header->state = 9)
CHANGE(other_version, header->layout_version = 77)
CHANGE(other_flags, header->incompatible_flags = 1)
CHANGE(other_magic, header->magic[0] = 'x')
CHANGE(long_name, memset(header->name, 'x', sizeof(header->name)))
CHANGE(odd_mode, header->mode = 07777)
CHANGE(more_entries, header->counters.entries++)
CHANGE(fewer_buckets, header->counters.buckets = 64)
CHANGE(no_buckets, header->counters.buckets = 0)
CHANGE(all_buckets, header->counters.buckets = UINT64_MAX)
CHANGE(high_water, header->counters.high_water_pages = UINT64_MAX / 4096)
CHANGE(low_water, header->counters.high_water_pages = 20)
CHANGE(capacity, header->counters.capacity_pages = UINT64_MAX / 4096)
CHANGE(directory, header->directories[0] = UINT32_MAX)
CHANGE(no_directory, header->directories[0] = 0)
CHANGE(to_header, header->directories[0] = 1)

Test(arena_convert, a_header_that_makes_no_sense_is_refused)
{
    static const HeaderCase cases[] = {
        {"in the middle of an update", mid_update, -EBUSY},
        {"dropped", dropped, -ESTALE},
        {"state", other_state, -EBADMSG},
        {"version", other_version, -EPROTONOSUPPORT},
        {"flags", other_flags, -EPROTONOSUPPORT},
        {"magic", other_magic, -EBADMSG},
        {"name", long_name, -EBADMSG},
        {"mode", odd_mode, -EBADMSG},
        {"entries", more_entries, -EBADMSG},
        {"fewer buckets", fewer_buckets, -EBADMSG},
        {"no buckets", no_buckets, -EBADMSG},
        {"all buckets", all_buckets, -EBADMSG},
        {"high water", high_water, -EBADMSG},
        {"low water", low_water, -EBADMSG},
        {"capacity", capacity, -EBADMSG},
        {"directory", directory, -EBADMSG},
        {"no directory", no_directory, -EBADMSG},
        {"a directory that is none", to_header, -EBADMSG},
    };
    ArenaFixture fixture;
    size_t size;

    fill(&fixture);
    HoldfastHeader *header = map_header(&fixture, &size);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        HoldfastHeader before = *header;
        Arena *copy;
        cases[i].change(header);
        int r = arena_convert(&fixture.context, arena_fd(fixture.arena), &copy);
        cr_assert_eq(r, cases[i].outcome, "%s: %d", cases[i].what, r);
        *header = before;
    }
    munmap(header, size);
    arena_fixture_deinit(&fixture);
}

/* Words of it changed at random: an error, or an arena that is whole. */
Test(arena_convert, whatever_the_memory_is_nothing_is_touched_outside)
{
    ArenaFixture fixture;
    size_t size;
    unsigned refused = 0, state = 1;

    fill(&fixture);
    uint8_t *memory = arena_fixture_map(&fixture, &size);
    uint8_t *before = malloc(size);
    memcpy(before, memory, size);
    for (unsigned round = 0; round < 150; round++) {
        ArenaReport report;
        Arena *copy;
        for (unsigned i = 0; i < 40; i++) {
            state = state * 1103515245 + 12345;
            size_t place = (size_t)state * 8191 % (size / 8) * 8;
            uint64_t word = (uint64_t)state << (round % 33);
            memcpy(memory + MAX(place, sizeof(HoldfastHeader)), &word, sizeof(word));
        }
        int r = arena_convert(&fixture.context, arena_fd(fixture.arena), &copy);
        cr_assert(r == 0 || r == -EBADMSG, "%d", r);
        refused += r < 0;
        if (r == 0) {
            cr_assert_eq(arena_check(copy, &report), 0, "%s", report.where);
            arena_free(copy);
        }
        memcpy(memory, before, size);
    }
    cr_assert_gt(refused, 20);
    free(before);
    munmap(memory, size);
    arena_fixture_deinit(&fixture);
}

Test(arena_convert, only_layouts_in_the_table_are_known)
{
    cr_assert(arena_layout_known(1));
    cr_assert(arena_layout_known(HOLDFAST_LAYOUT_TEST));
    cr_assert(arena_layout_known(arena_layout_own()));
    cr_assert_not(arena_layout_known(0));
    cr_assert_not(arena_layout_known(77));
}
