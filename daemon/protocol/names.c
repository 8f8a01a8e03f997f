/* The names of open objects, to find duplicates.
 *
 * The normal way: an object opens (its base is the count), its names are added one by one, inner
 * objects come and go above, it closes and its names are popped. The seventeenth name of an object
 * brings all its names into a set; those after it are only there. No two open objects have the same
 * base: an inner object has one above the outer one's, whose name for it is on the stack. No call
 * takes long, however many names there are. What can go wrong: want of memory. It is bounded by the
 * text's size. */
#include "protocol/names.h"

#include "protocol/hash-set.h"

#define TABLE_SLOTS 256

struct NamesTable {
    NamesTable *below; /* of an object around */
    size_t block;
    uint32_t base;
    HashSet set;
    uint64_t slots[TABLE_SLOTS];
};

static_assert(sizeof(NamesTable) <= POOL_BLOCK_MIN, "one block");

void names_init(Names *names, Pool *pool)
{
    *names = (Names){.pool = pool, .capacity = NAMES_SMALL};
    names->keys = names->small;
}

static void table_pop(Names *names)
{
    NamesTable *table = names->table;

    names->table = table->below;
    names->table_bytes -= table->block + table->set.bytes;
    hash_set_deinit(&table->set);
    pool_give(names->pool, table, table->block);
}

void names_clear(Names *names)
{
    while (names->table != NULL)
        table_pop(names);
    if (names->keys_block > 0)
        pool_give(names->pool, names->keys, names->keys_block);
    names_init(names, names->pool);
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

static int table_add(Names *names, uint64_t key)
{
    HashSet *set = &names->table->set;
    size_t before = set->bytes;
    int r = hash_set_add(set, key);

    names->table_bytes += set->bytes - before;
    return r == HASH_SET_DUPLICATE ? NAMES_DUPLICATE : r;
}

/* For the object with that base, whose names are those on the stack. */
static int table_push(Names *names, uint32_t base)
{
    size_t block;
    NamesTable *table = pool_take(names->pool, sizeof(*table), &block);
    int r = 0;

    if (table == NULL)
        return -ENOMEM;
    table->below = names->table;
    table->block = block;
    table->base = base;
    hash_set_init(&table->set, names->pool, table->slots, TABLE_SLOTS);
    names->table = table;
    names->table_bytes += block;
    for (uint32_t i = base; i < names->count && r == 0; i++)
        r = table_add(names, names->keys[i]);
    return r;
}

static bool has_table(const Names *names, uint32_t base)
{
    return names->table != NULL && names->table->base == base;
}

int names_add(Names *names, uint32_t base, uint64_t hash)
{
    if (_likely_(names->count - base < NAMES_LINEAR_MAX)) {
        for (uint32_t i = base; i < names->count; i++)
            if (names->keys[i] == hash)
                return NAMES_DUPLICATE;
        return keys_push(names, hash);
    }
    if (!has_table(names, base)) {
        int r = table_push(names, base);
        if (r != NAMES_NEW)
            return r;
    }
    return table_add(names, hash);
}

void names_pop(Names *names, uint32_t base)
{
    if (has_table(names, base))
        table_pop(names);
    names->count = base;
}

size_t names_memory(const Names *names)
{
    return names->keys_block + names->table_bytes;
}
