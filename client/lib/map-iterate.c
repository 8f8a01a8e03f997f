/* All entries of one state: the buckets in the order of their numbers, each entry copied, the
 * change counter looked at, and only then handed out. So what the caller sees belongs to the state
 * at the beginning, and where the arena has changed it sees no more, and is told.
 *
 * What can go wrong: the arena changes meanwhile (HOLDFAST_MAP_CHANGED); it is damaged: leads out
 * of the mapping, or to more entries than it says to have, without an end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "map.h"

typedef struct Walk {
    HoldfastMap *map;
    HoldfastItemFunction function;
    void *context;
    uint64_t changes; /* the change counter at the beginning */
    uint64_t left;    /* entries that may still come */
} Walk;

/* Begins where the arena is at rest, waiting a moment for that. */
static bool walk_begin(Walk *walk, uint64_t *ret_revision)
{
    const HoldfastMap *map = walk->map;

    for (unsigned try = 0; try < HF_MAP_TRIES; try++) {
        walk->changes = HF_MAP_CHANGES(map);
        walk->left = HF_MAP_COUNTER(map, entries);
        *ret_revision = HF_MAP_COUNTER(map, revision);
        hf_map_fence();
        if (hf_map_still(map, walk->changes))
            return true;
        hf_map_pause(try);
    }
    return false;
}

/* What led out of the mapping, or was not finished: damage, if the arena is as it was. */
static int walk_lost(const Walk *walk)
{
    hf_map_fence();
    return hf_map_still(walk->map, walk->changes) ? -EBADMSG : HOLDFAST_MAP_CHANGED;
}

static int make_room(HoldfastMap *map, size_t size)
{
    size_t want = map->buffer_size > 0 ? map->buffer_size : 4096;
    char *buffer;

    if (size <= map->buffer_size)
        return 0;
    while (want < size)
        want *= 2;
    buffer = realloc(map->buffer, want);
    if (buffer == NULL)
        return -ENOMEM;
    map->buffer = buffer;
    map->buffer_size = want;
    return 0;
}

static int visit(Walk *walk, const HfMapPlace *place)
{
    HoldfastMap *map = walk->map;
    size_t key_bytes = place->key_bytes, value_bytes = place->value_bytes;
    int r = make_room(map, key_bytes + value_bytes + 2);

    if (r < 0)
        return r;
    char *key = map->buffer, *value = map->buffer + key_bytes + 1;
    memcpy(key, hf_map_key(map, place), key_bytes);
    memcpy(value, hf_map_value(map, place), value_bytes);
    key[key_bytes] = value[value_bytes] = '\0';
    hf_map_fence();
    if (!hf_map_still(map, walk->changes))
        return HOLDFAST_MAP_CHANGED;
    if (walk->left-- == 0)
        return -EBADMSG;
    HoldfastItem item = {
        .key = key,
        .key_length = key_bytes,
        .json = value,
        .json_length = value_bytes,
        .revision = place->revision,
    };
    return walk->function(walk->context, &item);
}

static int walk_bucket(Walk *walk, uint64_t offset)
{
    const HoldfastMap *map = walk->map;

    for (unsigned i = 0; i < HOLDFAST_BUCKET_SLOTS; i++) {
        HfMapPlace place;
        uint64_t slot_at = offset + i * sizeof(uint64_t);
        uint64_t slot = hf_map_u64(map, slot_at);
        if (slot == 0)
            continue;
        int r = hf_map_entry(map, slot_at, slot, &place);
        r = r == HF_MAP_FOUND ? visit(walk, &place) : walk_lost(walk);
        if (r != 0)
            return r;
    }
    return 0;
}

static int walk_chain(Walk *walk, uint64_t number)
{
    const HoldfastMap *map = walk->map;
    uint64_t offset;

    if (!hf_map_bucket(map, number, &offset))
        return walk_lost(walk);
    for (unsigned links = 0; links < HF_MAP_CHAIN_BUCKETS; links++) {
        int r = walk_bucket(walk, offset);
        if (r != 0)
            return r;
        if (!hf_map_next_bucket(map, &offset))
            break;
        if (offset == 0)
            return 0;
    }
    return walk_lost(walk);
}

int holdfast_map_iterate(HoldfastMap *map, HoldfastItemFunction function, void *context,
                         uint64_t *ret_revision)
{
    Walk walk = {.map = map, .function = function, .context = context};
    uint64_t revision;
    int r = hf_map_ready(map);

    if (r < 0)
        return r;
    (void)hf_map_grow(map); /* all of it will be read: once, at the beginning */
    if (!walk_begin(&walk, &revision))
        return HOLDFAST_MAP_CHANGED;
    uint64_t buckets = HF_MAP_COUNTER(map, buckets);
    if (!hf_map_holds(map, 0, buckets * sizeof(HoldfastBucket)))
        return walk_lost(&walk);
    for (uint64_t number = 0; number < buckets && r == 0; number++)
        r = walk_chain(&walk, number);
    if (r == 0)
        hf_map_fence();
    if (r == 0 && !hf_map_still(map, walk.changes))
        r = HOLDFAST_MAP_CHANGED;
    if (r == 0 && walk.left > 0)
        r = -EBADMSG;
    if (r == 0 && ret_revision != NULL)
        *ret_revision = revision;
    return r;
}
