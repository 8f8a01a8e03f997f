/* Arenas whose memory is not what was written: told by name, never a crash. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <sys/mman.h>

#include "arena/entry.h"
#include "arena/heap.h"
#include "arena/index.h"
#include "lib/arena-fixture.h"

#define ENTRIES 2000

/* --- a header that does not fit together */

typedef void (*HeaderDamage)(HoldfastHeader *header);

#define HEADER_DAMAGE(name, change)                                                                \
    static void name(HoldfastHeader *header)                                                       \
    {                                                                                              \
        change;                                                                                    \
    }

HEADER_DAMAGE(damage_magic, header->magic[0] = 'X')
HEADER_DAMAGE(damage_version, header->layout_version = HOLDFAST_LAYOUT_VERSION + 1)
HEADER_DAMAGE(damage_flags, header->incompatible_flags = 4)
HEADER_DAMAGE(damage_compatible, header->compatible_flags = 4)
HEADER_DAMAGE(damage_counter, header->change_counter++)
HEADER_DAMAGE(damage_state, header->state = 17)
HEADER_DAMAGE(damage_name, memset(header->name, 'a', sizeof(header->name)))
HEADER_DAMAGE(damage_no_name, header->name[0] = 0)
HEADER_DAMAGE(damage_seed, header->hash_seed++)
HEADER_DAMAGE(damage_mode, header->mode = 01777)
HEADER_DAMAGE(damage_high_water, header->counters.high_water_pages += 100000)
HEADER_DAMAGE(damage_capacity, header->counters.capacity_pages = UINT64_C(1) << 60)
HEADER_DAMAGE(damage_small_capacity, header->counters.capacity_pages = 20)
HEADER_DAMAGE(damage_entries, header->counters.entries = UINT64_MAX / 2)
HEADER_DAMAGE(damage_buckets, header->counters.buckets = UINT64_C(1) << 40)
HEADER_DAMAGE(damage_no_buckets, header->counters.buckets = 0)
HEADER_DAMAGE(damage_used, header->counters.used_pages++)
HEADER_DAMAGE(damage_directory, header->directories[0] = 0)
HEADER_DAMAGE(damage_directory_map, header->directories[0] = 3)
HEADER_DAMAGE(damage_slabs, header->slabs[3] = UINT32_MAX)
HEADER_DAMAGE(damage_bins, header->resident_bins |= UINT64_C(1) << 63)
HEADER_DAMAGE(damage_runs, header->clean_runs[2] = 1)
HEADER_DAMAGE(damage_punching, header->punching[5] = 17)

Test(arena_damage, a_header_that_does_not_fit_together_is_not_opened)
{
    static const struct {
        const char *what;
        HeaderDamage change;
        int outcome;
    } all[] = {
        {"magic", damage_magic, -EBADMSG},
        {"version", damage_version, -EPROTONOSUPPORT},
        {"incompatible flags", damage_flags, -EPROTONOSUPPORT},
        {"compatible flags", damage_compatible, 0},
        {"mid-update", damage_counter, -EBUSY},
        {"state", damage_state, -EBADMSG},
        {"name without end", damage_name, -EBADMSG},
        {"no name", damage_no_name, -EBADMSG},
        {"seed", damage_seed, -EBADMSG},
        {"mode", damage_mode, -EBADMSG},
        {"high-water mark", damage_high_water, -EBADMSG},
        {"capacity", damage_capacity, -EBADMSG},
        {"small capacity", damage_small_capacity, -EBADMSG},
        {"entries", damage_entries, -EBADMSG},
        {"buckets", damage_buckets, -EBADMSG},
        {"no buckets", damage_no_buckets, -EBADMSG},
        {"used pages", damage_used, -EBADMSG},
        {"no directory", damage_directory, -EBADMSG},
        {"directory in a map", damage_directory_map, -EBADMSG},
        {"slab list", damage_slabs, -EBADMSG},
        {"bins", damage_bins, -EBADMSG},
        {"run list", damage_runs, -EBADMSG},
        {"run being punched", damage_punching, -EBADMSG},
    };
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        ArenaFixture fixture;
        size_t size = 0;
        arena_fixture_init(&fixture, 16 * MIB, false);
        cr_assert_eq(arena_fixture_put(&fixture, "a", 10), 0);
        uint8_t *memory = arena_fixture_map(&fixture, &size);
        all[i].change((HoldfastHeader *)memory);
        int r = arena_fixture_reopen(&fixture);
        cr_assert_eq(r, all[i].outcome, "%s: %d", all[i].what, r);
        munmap(memory, size);
        arena_fixture_deinit(&fixture);
    }
}

Test(arena_damage, what_is_no_arena_is_not_opened)
{
    ArenaFixture fixture;
    ArenaPeek peek;
    Arena *arena = NULL;
    char text[] = "this is no arena";
    arena_fixture_init(&fixture, 16 * MIB, false);
    int fd = memfd_create("none", MFD_CLOEXEC);
    cr_assert_eq(arena_peek(fd, &peek), -EBADMSG);
    cr_assert_eq(arena_open(&fixture.context, fd, &arena), -EBADMSG);
    cr_assert_eq(write(fd, text, sizeof(text)), sizeof(text));
    cr_assert_eq(ftruncate(fd, 1 << 20), 0);
    cr_assert_eq(arena_peek(fd, &peek), -EBADMSG);
    cr_assert_eq(arena_open(&fixture.context, fd, &arena), -EBADMSG);
    close(fd);
    arena_fixture_deinit(&fixture);
}

/* --- damage behind the header */

typedef struct Memory {
    const ArenaFixture *fixture;
    uint8_t *bytes;
    uint64_t slot;  /* offset of the slot of key-5 */
    uint64_t entry; /* of its entry */
    uint64_t bucket;
} Memory;

typedef void (*MemoryDamage)(Memory *memory);

static uint64_t *slot_of(Memory *memory)
{
    return (uint64_t *)(memory->bytes + memory->slot);
}

static HoldfastEntry *entry_of(Memory *memory)
{
    return (HoldfastEntry *)(memory->bytes + memory->entry);
}

static HoldfastPage *page_of(Memory *memory, uint64_t page)
{
    return (HoldfastPage *)(memory->bytes + runs_descriptor(page));
}

static void damage_slot_far(Memory *memory)
{
    *slot_of(memory) |= UINT64_C(0xffffffff00);
}

static void damage_slot_near(Memory *memory)
{
    *slot_of(memory) += 1;
}

static void damage_slot_header(Memory *memory)
{
    *slot_of(memory) &= ~UINT64_C(0) << HOLDFAST_SLOT_TAG_SHIFT;
    *slot_of(memory) |= 8;
}

static void damage_tag(Memory *memory)
{
    *slot_of(memory) ^= UINT64_C(1) << 60;
}

static void damage_loop(Memory *memory)
{
    HoldfastBucket *bucket = (HoldfastBucket *)(memory->bytes + memory->bucket);
    bucket->next = memory->bucket;
}

static void damage_link(Memory *memory)
{
    HoldfastBucket *bucket = (HoldfastBucket *)(memory->bytes + memory->bucket);
    bucket->next = UINT64_MAX - 63;
}

static void damage_key_bytes(Memory *memory)
{
    entry_of(memory)->key_bytes = 60000;
}

static void damage_value_bytes(Memory *memory)
{
    entry_of(memory)->value_bytes = UINT32_MAX;
}

static void damage_value_bytes_a_little(Memory *memory)
{
    entry_of(memory)->value_bytes += 100;
}

static void damage_revision(Memory *memory)
{
    entry_of(memory)->revision = 0;
}

static void damage_key(Memory *memory)
{
    entry_of(memory)[1].revision ^= 1;
}

static void damage_kind(Memory *memory)
{
    page_of(memory, memory->entry / HOLDFAST_PAGE_BYTES)->kind = HOLDFAST_PAGE_LARGE;
}

static void damage_class(Memory *memory)
{
    page_of(memory, memory->entry / HOLDFAST_PAGE_BYTES)->class ^= 1;
}

static void damage_used_blocks(Memory *memory)
{
    page_of(memory, memory->entry / HOLDFAST_PAGE_BYTES)->count--;
}

static void damage_free_list(Memory *memory)
{
    page_of(memory, memory->entry / HOLDFAST_PAGE_BYTES)->free = 60000;
}

static void damage_segment(Memory *memory)
{
    uint64_t page = arena_header(memory->fixture->arena)->directories[0];
    *(uint32_t *)(memory->bytes + page * HOLDFAST_PAGE_BYTES) = UINT32_MAX;
}

static void damage_map(Memory *memory)
{
    page_of(memory, 1)->kind = HOLDFAST_PAGE_NONE;
}

static void damage_count(Memory *memory)
{
    ((HoldfastHeader *)memory->bytes)->counters.entries++;
}

static void damage_live_bytes(Memory *memory)
{
    ((HoldfastHeader *)memory->bytes)->counters.live_bytes--;
}

/* Runs everything over the arena; must come back from each. Returns whether any of it told of
 * damage. */
static bool use(ArenaFixture *fixture)
{
    bool damaged = false;
    ArenaEntry found;
    for (unsigned i = 0; i < ENTRIES; i++) {
        damaged |= arena_find(fixture->arena, bytes_of_text(arena_fixture_key(i)), &found) ==
                   ARENA_DAMAGED;
        if (i % 3 == 0)
            damaged |=
                arena_fixture_put(fixture, arena_fixture_key(i), 10 + i % 3000) == ARENA_DAMAGED;
        if (i % 5 == 0)
            damaged |= arena_fixture_delete(fixture, arena_fixture_key(i)) == ARENA_DAMAGED;
    }
    for (unsigned i = 0; i < 20; i++)
        arena_upkeep(fixture->arena);
    return damaged;
}

static bool ignore(void *context, const ArenaEntry *entry)
{
    // Reads what it was given, so that an address sanitizer or a fault tells.
    unsigned *sum = context;
    for (size_t i = 0; i < entry->value.size; i++)
        *sum += (unsigned char)entry->value.data[i];
    return true;
}

Test(arena_damage, is_found_by_the_checker_and_never_followed)
{
    static const struct {
        const char *what;
        MemoryDamage change;
        bool find_tells; /* finding the key does */
    } all[] = {
        {"slot far out", damage_slot_far, true},
        {"slot beside", damage_slot_near, false},
        {"slot into the header", damage_slot_header, true},
        {"tag", damage_tag, false},
        {"chain in a circle", damage_loop, false},
        {"chain to nowhere", damage_link, false},
        {"length of key", damage_key_bytes, true},
        {"length of value", damage_value_bytes, true},
        {"length of value, a little", damage_value_bytes_a_little, false},
        {"revision", damage_revision, true},
        {"key", damage_key, false},
        {"kind of page", damage_kind, false},
        {"class of slab", damage_class, false},
        {"blocks in use", damage_used_blocks, false},
        {"free list", damage_free_list, false},
        {"segment", damage_segment, true},
        {"map", damage_map, false},
        {"entries", damage_count, false},
        {"live bytes", damage_live_bytes, false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        ArenaFixture fixture;
        ArenaReport report;
        ArenaEntry found;
        IndexPlace place;
        size_t size = 0;
        arena_fixture_init(&fixture, 64 * MIB, false);
        for (unsigned key = 0; key < ENTRIES; key++)
            cr_assert_eq(arena_fixture_put(&fixture, arena_fixture_key(key), 100 + key % 50), 0);
        Memory memory = {.fixture = &fixture, .bytes = arena_fixture_map(&fixture, &size)};
        Bytes key = BYTES_OF("key-5");
        uint64_t hash = index_hash(fixture.arena, key);
        cr_assert_eq(index_find(fixture.arena, hash, key, &place), 0);
        memory.slot = place.slot;
        memory.entry = place.entry;
        uint64_t buckets = arena_header(fixture.arena)->counters.buckets;
        cr_assert_eq(index_bucket(fixture.arena, index_bucket_of(hash, buckets), &memory.bucket),
                     0);
        all[i].change(&memory);

        cr_assert_eq(arena_check(fixture.arena, &report), -EBADMSG, "%s", all[i].what);
        cr_assert_neq(report.where[0], 0, "%s", all[i].what);
        cr_assert_eq(arena_fixture_reopen(&fixture), 0, "%s", all[i].what);
        int r = arena_find(fixture.arena, key, &found);
        if (all[i].find_tells) {
            cr_assert_eq(r, ARENA_DAMAGED, "%s: %d", all[i].what, r);
            cr_assert_neq(arena_damage(fixture.arena), NULL);
            cr_assert_eq(arena_fixture_put(&fixture, "another", 1), ARENA_DAMAGED);
        }
        (void)use(&fixture);
        munmap(memory.bytes, size);
        arena_fixture_deinit(&fixture);
    }
}

Test(arena_damage, random_damage_never_crashes, .timeout = 120)
{
    uint64_t x = 88172645463325252u;
    unsigned told = 0;
    for (unsigned trial = 0; trial < 120; trial++) {
        ArenaFixture fixture;
        ArenaReport report;
        unsigned sum = 0;
        uint64_t position = 0;
        size_t size = 0;
        arena_fixture_init(&fixture, 16 * MIB, false);
        for (unsigned key = 0; key < ENTRIES; key++)
            cr_assert_eq(arena_fixture_put(&fixture, arena_fixture_key(key), 1 + key * 7 % 400), 0);
        uint8_t *memory = arena_fixture_map(&fixture, &size);
        uint64_t pages = size / HOLDFAST_PAGE_BYTES;
        for (unsigned i = 0; i < 1 + trial; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            // Descriptors and index get more of it than their share.
            uint64_t page = i % 2 == 0 ? 1 : 17 + x % (pages - 17);
            uint64_t at = i % 2 == 0 ? x % (pages * sizeof(HoldfastPage)) : x >> 32 & 4095;
            memory[page * HOLDFAST_PAGE_BYTES + at] = (uint8_t)(x >> 48);
        }
        int r = arena_check(fixture.arena, &report);
        cr_assert(r == 0 || report.where[0] != 0);
        if (arena_fixture_reopen(&fixture) == 0) {
            while (arena_walk(fixture.arena, &position, 1000, ignore, &sum) == 0)
                ;
            told += arena_damage(fixture.arena) != NULL;
            cr_assert_eq(arena_fixture_reopen(&fixture), 0);
            told += use(&fixture);
        }
        munmap(memory, size);
        arena_fixture_deinit(&fixture);
    }
    cr_assert_gt(told, 20);
}
