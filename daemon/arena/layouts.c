/* The table of layouts. Numbers, not offsetof: a layout that was released stays as it was, whatever
 * becomes of the structs in layout.h. A unit test holds the description of this program's own
 * layout against an arena. */
#include "arena/layouts.h"

#include "arena/arena.h"

static const ArenaLayout layouts[] = {
    {
        .version = 1,
        .header =
            {
                .created_usec = 56,
                .created_revision = 160,
                .generation = 64,
                .uid = 72,
                .gid = 76,
                .mode = 80,
                .name = 88,
                .change_counter = 256,
                .revision = 320,
                .entries = 328,
                .buckets = 344,
                .capacity_pages = 352,
                .high_water_pages = 360,
                .directories = 512,
            },
        .entry = {.bytes = 16, .revision = 0, .value_bytes = 8, .key_bytes = 12},
        .index =
            {
                .directories = 256,
                .directory_segments = 1024,
                .segment_buckets = 1024,
                .slots = 7,
                .chain_buckets = 19,
                .slot_bits = 40,
                .slot_unit = 8,
            },
    },
#ifdef HOLDFAST_READ_TEST_LAYOUT
    {
        .version = HOLDFAST_LAYOUT_TEST,
        .header =
            {
                .created_usec = 128,
                .created_revision = 120,
                .generation = 136,
                .uid = 152,
                .gid = 156,
                .mode = 160,
                .name = 48,
                .change_counter = 392,
                .revision = 264,
                .entries = 256,
                .buckets = 280,
                .capacity_pages = 288,
                .high_water_pages = 296,
                .directories = 512,
            },
        .entry = {.bytes = 24, .revision = 0, .value_bytes = 16, .key_bytes = 20},
        .index =
            {
                .directories = 256,
                .directory_segments = 1024,
                .segment_buckets = 1024,
                .slots = 7,
                .chain_buckets = 19,
                .slot_bits = 40,
                .slot_unit = 8,
            },
    },
#endif
};

const ArenaLayout *arena_layout(uint32_t version)
{
    for (size_t i = 0; i < ARRAY_SIZE(layouts); i++)
        if (layouts[i].version == version)
            return &layouts[i];
    return NULL;
}

bool arena_layout_known(uint32_t version)
{
    return arena_layout(version) != NULL;
}

uint32_t arena_layout_own(void)
{
    return HOLDFAST_LAYOUT_VERSION;
}
