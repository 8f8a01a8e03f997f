/* The names of open objects, to find duplicates.
 *
 * The normal way: an object opens (its base is the count), its names are added one by one, inner
 * objects come and go above, it closes and its names are popped. The seventeenth name of an object
 * brings all its names into the table. Keys are the hash mixed with the base, which is unique among
 * open objects: an inner object has a base above the outer one's, whose name for it is on the
 * stack. What can go wrong: want of memory. Both blocks are bounded by the text's size (a name
 * takes three bytes of it at least). */
#include "protocol/names.h"

void names_init(Names *names, Pool *pool)
{
    *names = (Names){.pool = pool, .capacity = NAMES_SMALL};
    names->keys = names->small;
}

void names_clear(Names *names)
{
    if (names->keys_block > 0)
        pool_give(names->pool, names->keys, names->keys_block);
    if (names->table != NULL)
        pool_give(names->pool, names->table, names->table_block);
    names_init(names, names->pool);
}

static uint64_t key_of(uint32_t base, uint64_t hash)
{
    uint64_t key = hash ^ (uint64_t)base * UINT64_C(0x9E3779B97F4A7C15);
    return key != 0 ? key : 1;
}

static int keys_push(Names *names, uint64_t key)
{
    if (_unlikely_(names->count == names->capacity)) {
        size_t used = names->count * sizeof(uint64_t), block;
        uint64_t *keys;

        if (names->keys_block > 0) {
            keys = pool_grow(names->pool, names->keys, names->keys_block, used, used * 2, &block);
            if (keys == NULL)
                return -ENOMEM;
        } else {
            keys = pool_take(names->pool, used * 2, &block);
            if (keys == NULL)
                return -ENOMEM;
            memcpy(keys, names->keys, used);
        }
        names->keys = keys;
        names->keys_block = block;
        names->capacity = (uint32_t)(block / sizeof(uint64_t));
    }
    names->keys[names->count++] = key;
    return 0;
}

/* --- the table */

#define TABLE_BYTES_MIN POOL_BLOCK_MIN

static_assert(4 * (NAMES_LINEAR_MAX + 1) * sizeof(uint64_t) <= TABLE_BYTES_MIN,
              "an object more fits into a table, and into one that has grown once");

/* The slot that holds the key, or the free one where it goes. */
static size_t table_slot(const Names *names, uint64_t key)
{
    size_t slot = (size_t)(key >> 20) & names->mask;
    while (names->table[slot] != 0 && names->table[slot] != key)
        slot = (slot + 1) & names->mask;
    return slot;
}

/* Room for more keys, at most half full. */
static int table_reserve(Names *names, size_t more)
{
    Names old = *names;
    size_t block;
    uint64_t *table;

    if (names->table != NULL && (names->used + more) * 2 <= names->mask + 1)
        return 0;
    /* Twofold, and no more: a text of many short names takes a multiple of its size in here. */
    table = pool_take(names->pool, names->table != NULL ? 2 * old.table_block : TABLE_BYTES_MIN,
                      &block);
    if (table == NULL)
        return -ENOMEM;
    memset(table, 0, block);
    names->table = table;
    names->table_block = block;
    names->mask = block / sizeof(uint64_t) - 1;
    if (old.table == NULL)
        return 0;
    for (size_t i = 0; i <= old.mask; i++)
        if (old.table[i] != 0)
            table[table_slot(names, old.table[i])] = old.table[i];
    pool_give(names->pool, old.table, old.table_block);
    return 0;
}

/* Takes a key out and moves up those behind it that would not be found any more (Knuth 6.4,
 * algorithm R). */
static void table_remove(Names *names, uint64_t key)
{
    size_t hole = table_slot(names, key), slot = hole;

    for (;;) {
        names->table[hole] = 0;
        for (;;) {
            slot = (slot + 1) & names->mask;
            if (names->table[slot] == 0)
                return;
            size_t home = (size_t)(names->table[slot] >> 20) & names->mask;
            if (((slot - home) & names->mask) >= ((slot - hole) & names->mask))
                break;
        }
        names->table[hole] = names->table[slot];
        hole = slot;
    }
}

static int table_add(Names *names, uint64_t key)
{
    size_t slot = table_slot(names, key);
    if (names->table[slot] != 0)
        return NAMES_DUPLICATE;
    names->table[slot] = key;
    names->used++;
    return NAMES_NEW;
}

int names_add(Names *names, uint32_t base, uint64_t hash)
{
    uint64_t key = key_of(base, hash);
    uint32_t count = names->count - base;
    int r;

    if (_likely_(count < NAMES_LINEAR_MAX)) {
        for (uint32_t i = base; i < names->count; i++)
            if (names->keys[i] == key)
                return NAMES_DUPLICATE;
        return keys_push(names, key);
    }
    r = table_reserve(names, count == NAMES_LINEAR_MAX ? NAMES_LINEAR_MAX + 1 : 1);
    if (r < 0)
        return r;
    if (count == NAMES_LINEAR_MAX) {
        for (uint32_t i = base; i < names->count; i++)
            if (table_add(names, names->keys[i]) != NAMES_NEW)
                return NAMES_DUPLICATE; /* another object's key is the same: as unlikely as a hash
                                         */
    }
    r = table_add(names, key);
    return r == NAMES_NEW ? keys_push(names, key) : r;
}

void names_pop(Names *names, uint32_t base)
{
    uint32_t count = names->count - base;

    if (count > NAMES_LINEAR_MAX) {
        /* Clearing costs the table's size: only where that much was put in. */
        if (count == names->used && names->used * 8 > names->mask) {
            memset(names->table, 0, names->table_block);
        } else {
            for (uint32_t i = base; i < names->count; i++)
                table_remove(names, names->keys[i]);
        }
        names->used -= count;
    }
    names->count = base;
}
