/* Reading entries: one by its own revision, several by the arena's change counter; see layout.h for
 * why that is enough. Nothing here makes a system call while the memory stands still between two
 * looks at it, and hf_map_ready finds that the last look at the socket is fresh enough.
 *
 * What can go wrong: it does not stand still for HF_MAP_TRIES tries (a long update, or one after
 * the other): then the daemon is asked. It leads out of the mapping: then the memfd has grown, or
 * what is at rest and still leads out is damaged. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "map.h"

void hf_map_pause(unsigned try)
{
    unsigned turns = try < 32 ? try + 1 : 32;

    for (unsigned i = 0; i < turns; i++) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#else
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
#endif
    }
}

/* Where the value is to go, and what is told of it. */
typedef struct Target {
    char *buffer;
    size_t size;
    size_t length; /* of the value, also where it does not fit */
    uint64_t revision;
} Target;

/* Copies the value that was found: true where it is what the entry held at one moment.
 *
 * The revision was loaded, with acquire, before the copy; the fence keeps the copy before the loads
 * behind it. A writer that changes the bytes first stores revision 0, with a release fence behind:
 * had the copy one of its bytes, then the load behind the fence has the 0, or what came after it. A
 * revision is never given twice to one block, but for those that abort_counter tells of. */
static bool copy_value(const HoldfastMap *map, const HfMapPlace *place, uint64_t aborts,
                       Target *target)
{
    target->length = place->value_bytes;
    target->revision = place->revision;
    if (hf_likely(place->value_bytes <= target->size))
        memcpy(target->buffer, hf_map_value(map, place), place->value_bytes);
    hf_map_fence();
#ifdef HOLDFAST_MAP_MUTANT_NO_CHECK
    (void)aborts;
    return true;
#else
    return hf_map_u64(map, place->entry) == place->revision &&
           hf_map_u64(map, place->slot_at) == place->slot &&
           hf_map_u64(map, offsetof(HoldfastHeader, abort_counter)) == aborts && hf_map_live(map);
#endif
}

/* One try. HF_MAP_FOUND or HF_MAP_ABSENT are facts; HF_MAP_OUTSIDE is one where the memory was at
 * rest; HF_MAP_BUSY: try again. */
static int try_get(const HoldfastMap *map, uint64_t hash, const char *key, size_t key_length,
                   Target *target)
{
    uint64_t changes = HF_MAP_CHANGES(map);
    uint64_t aborts = HF_MAP_ABORTS(map);
    HfMapPlace place;
    int r = hf_map_find(map, hash, key, key_length, &place);

    if (hf_likely(r == HF_MAP_FOUND))
        return copy_value(map, &place, aborts, target) ? HF_MAP_FOUND : HF_MAP_BUSY;
    hf_map_fence();
    return hf_map_still(map, changes) ? r : HF_MAP_BUSY;
}

/* After a try that came to no fact, the first of *tries being number 0. HF_MAP_FOUND: try again;
 * HF_MAP_ASK; -EBADMSG. */
static __attribute__((cold)) int tried(HoldfastMap *map, unsigned *tries, int r)
{
    unsigned try = (*tries)++;

    /* Also where it does not stand still: what it led to may be new. */
    if (try == 0 && hf_map_grow(map))
        return HF_MAP_FOUND;
    if (r == HF_MAP_OUTSIDE && try > 0)
        return -EBADMSG;
    hf_map_pause(try);
    return *tries < HF_MAP_TRIES && hf_map_live(map) ? HF_MAP_FOUND : HF_MAP_ASK;
}

/* HF_MAP_FOUND, HF_MAP_ABSENT, HF_MAP_ASK, -EBADMSG. */
static int get_from_memory(HoldfastMap *map, const char *key, size_t key_length, Target *target)
{
    uint64_t hash = hf_map_hash(map, key, key_length);
    unsigned tries = 0;

    for (;;) {
        int r = try_get(map, hash, key, key_length, target);
        if (hf_likely(r == HF_MAP_FOUND || r == HF_MAP_ABSENT))
            return r;
        r = tried(map, &tries, r);
        if (r != HF_MAP_FOUND)
            return r;
    }
}

static int get_from_daemon(HoldfastMap *map, const char *key, size_t key_length, Target *target)
{
    const char *json;
    int r;

    if (map->connection == NULL)
        return -EAGAIN;
    r = holdfast_get(map->connection, map->name, key, key_length, &json, &target->length,
                     &target->revision);
    if (r != 0)
        return hf_map_remote(map, r);
    if (target->length <= target->size)
        memcpy(target->buffer, json, target->length);
    return HF_MAP_FOUND;
}

int holdfast_map_get(HoldfastMap *map, const char *key, size_t key_length, char *buffer,
                     size_t size, size_t *ret_length, uint64_t *ret_revision)
{
    Target target = {.buffer = buffer, .size = size};
    int r;

    if (hf_unlikely(key_length == 0 || key_length > HOLDFAST_KEY_MAX))
        return -EINVAL;
    r = hf_map_ready(map);
    if (hf_unlikely(r < 0))
        return r;
    r = get_from_memory(map, key, key_length, &target);
    if (hf_unlikely(r == HF_MAP_ASK))
        r = get_from_daemon(map, key, key_length, &target);
    if (r != HF_MAP_FOUND)
        return r == HF_MAP_ABSENT ? -ENOENT : r;
    if (ret_length != NULL)
        *ret_length = target.length;
    if (hf_unlikely(target.length > size))
        return -ENOBUFS;
    if (ret_revision != NULL)
        *ret_revision = target.revision;
    return 0;
}

/* --- several of one state */

typedef struct Many {
    HoldfastMapEntry *entries;
    size_t count;
    char *buffer;
    size_t size;
    size_t used; /* of the buffer, also beyond its end */
    uint64_t revision;
    size_t next; /* key that the daemon's next entry is looked for from */
} Many;

/* A copy of a value that was found; the check comes behind all of them. */
static void add_value(Many *many, HoldfastMapEntry *entry, const char *value, size_t length,
                      uint64_t revision)
{
    if (many->used <= many->size && length <= many->size - many->used) {
        entry->json = many->buffer + many->used;
        memcpy(many->buffer + many->used, value, length);
    }
    entry->json_length = length;
    entry->revision = revision;
    many->used += length;
}

static void forget_values(Many *many)
{
    many->used = 0;
    for (size_t i = 0; i < many->count; i++) {
        many->entries[i].json = NULL;
        many->entries[i].json_length = 0;
        many->entries[i].revision = 0;
    }
}

static int try_many(const HoldfastMap *map, Many *many)
{
    uint64_t changes = HF_MAP_CHANGES(map);
    int r = changes % 2 == 0 ? HF_MAP_FOUND : HF_MAP_BUSY;

    forget_values(many);
    for (size_t i = 0; i < many->count && r == HF_MAP_FOUND; i++) {
        HoldfastMapEntry *entry = &many->entries[i];
        HfMapPlace place;
        uint64_t hash = hf_map_hash(map, entry->key.data, entry->key.size);
        r = hf_map_find(map, hash, entry->key.data, entry->key.size, &place);
        if (r == HF_MAP_FOUND)
            add_value(many, entry, hf_map_value(map, &place), place.value_bytes, place.revision);
        else if (r == HF_MAP_ABSENT)
            r = HF_MAP_FOUND;
    }
    many->revision = HF_MAP_COUNTER(map, revision);
    hf_map_fence();
    return hf_map_still(map, changes) ? r : HF_MAP_BUSY;
}

static int many_from_memory(HoldfastMap *map, Many *many)
{
    unsigned tries = 0;

    for (;;) {
        int r = try_many(map, many);
        if (r == HF_MAP_FOUND)
            return r;
        r = tried(map, &tries, r);
        if (r != HF_MAP_FOUND)
            return r;
    }
}

/* The daemon tells the entries there are, in the order of the keys. */
static int take_item(void *context, const HoldfastItem *item)
{
    Many *many = context;

    for (; many->next < many->count; many->next++) {
        HoldfastMapEntry *entry = &many->entries[many->next];
        if (entry->key.size == item->key_length &&
            memcmp(entry->key.data, item->key, item->key_length) == 0) {
            add_value(many, entry, item->json, item->json_length, item->revision);
            many->next++;
            return 0;
        }
    }
    return -EBADMSG;
}

static int many_from_daemon(HoldfastMap *map, Many *many)
{
    HoldfastText *keys;
    int r;

    if (map->connection == NULL)
        return -EAGAIN;
    keys = calloc(many->count, sizeof(*keys));
    if (keys == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < many->count; i++)
        keys[i] = many->entries[i].key;
    forget_values(many);
    r = holdfast_get_many(map->connection, map->name, keys, many->count, take_item, many,
                          &many->revision);
    free(keys);
    return r == 0 ? HF_MAP_FOUND : hf_map_remote(map, r);
}

int holdfast_map_get_many(HoldfastMap *map, HoldfastMapEntry *entries, size_t count, char *buffer,
                          size_t size, size_t *ret_length, uint64_t *ret_revision)
{
    Many many = {.entries = entries, .count = count, .buffer = buffer, .size = size};
    int r;

    if (count == 0)
        return -EINVAL;
    for (size_t i = 0; i < count; i++)
        if (entries[i].key.size == 0 || entries[i].key.size > HOLDFAST_KEY_MAX)
            return -EINVAL;
    r = hf_map_ready(map);
    if (r == 0)
        r = many_from_memory(map, &many);
    if (r == HF_MAP_ASK)
        r = many_from_daemon(map, &many);
    if (r != HF_MAP_FOUND || many.used > size)
        forget_values(&(Many){.entries = entries, .count = count});
    if (r != HF_MAP_FOUND)
        return r;
    if (ret_length != NULL)
        *ret_length = many.used;
    if (many.used > size)
        return -ENOBUFS;
    if (ret_revision != NULL)
        *ret_revision = many.revision;
    return 0;
}
