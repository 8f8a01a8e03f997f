/* A long random run over an arena against a plain model: a table of what each key should hold.
 *
 * Updates of one to a few operations are committed, or (one in eight) given up half way. Values are
 * made from a seed, so the model keeps a seed and a length for each key. The arena's checker runs
 * at intervals and at the end, where every key is compared as well. HOLDFAST_MODEL_OPS sets the
 * number of operations. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <time.h>

#include "arena/arena.h"
#include "base/housekeeper.h"
#include "base/pool.h"

/* The guard opens and closes each page by a system call. */
#ifdef HOLDFAST_GUARD
#define OPERATIONS 200000
#else
#define OPERATIONS 1000000
#endif

#define KEYS 20000
#define BATCH_MAX 8
#define VALUE_BYTES_MAX (64 * KIB)

typedef struct ModelEntry {
    uint64_t revision; /* 0: not there */
    uint32_t seed;
    uint32_t size;
} ModelEntry;

typedef struct Saved {
    uint32_t key;
    ModelEntry entry;
} Saved;

typedef struct Model {
    Pool *pool;
    Housekeeper *housekeeper;
    Arena *arena;
    ModelEntry *entries;
    uint64_t count;
    uint64_t random;
    uint64_t revision;
    char *value;
    uint64_t keys; /* how many of the keys are in use now: the table grows and shrinks */
} Model;

static uint64_t next_random(Model *model)
{
    uint64_t x = model->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return model->random = x;
}

static Bytes key_of(uint32_t key, char text[64])
{
    int size = snprintf(text, 64, "%.*s%u", (int)(key % 23), "key-key-key-key-key-key-", key);
    return BYTES(text, (size_t)size);
}

static void fill(char *value, uint32_t seed, uint32_t size)
{
    uint32_t x = seed | 1;
    for (uint32_t i = 0; i < size; i += 4) {
        x = x * 1664525u + 1013904223u;
        memcpy(value + i, &x, MIN(4u, size - i));
    }
}

/* Mostly small, now and then up to 64 KiB. */
static uint32_t random_size(Model *model)
{
    uint64_t kind = next_random(model) % 100;
    uint64_t most = kind < 70 ? 200 : kind < 90 ? 2000 : kind < 98 ? 20000 : VALUE_BYTES_MAX;
    return 1 + (uint32_t)(next_random(model) % most);
}

static void operation(Model *model, Saved *saved)
{
    char text[64];
    uint32_t key = (uint32_t)(next_random(model) % model->keys);
    ModelEntry *entry = &model->entries[key];
    *saved = (Saved){.key = key, .entry = *entry};
    if (next_random(model) % 100 < 35) {
        int r = arena_delete(model->arena, key_of(key, text));
        cr_assert_eq(r, entry->revision != 0 ? 0 : ARENA_NO_ENTRY, "delete: %d", r);
        *entry = (ModelEntry){0};
        return;
    }
    *entry = (ModelEntry){
        .revision = model->revision,
        .seed = (uint32_t)next_random(model),
        .size = random_size(model),
    };
    fill(model->value, entry->seed, entry->size);
    int r = arena_put(model->arena, key_of(key, text), BYTES(model->value, entry->size),
                      model->revision);
    cr_assert_eq(r, 0, "put: %d %s", r, arena_damage(model->arena));
}

static void compare(Model *model, uint32_t key)
{
    char text[64];
    ArenaEntry found;
    const ModelEntry *entry = &model->entries[key];
    int r = arena_find(model->arena, key_of(key, text), &found);
    if (entry->revision == 0) {
        cr_assert_eq(r, ARENA_NO_ENTRY);
        return;
    }
    cr_assert_eq(r, 0, "find: %d", r);
    cr_assert_eq(found.revision, entry->revision);
    cr_assert_eq(found.value.size, entry->size);
    fill(model->value, entry->seed, entry->size);
    cr_assert_eq(memcmp(found.value.data, model->value, entry->size), 0);
}

static void update(Model *model)
{
    Saved saved[BATCH_MAX];
    unsigned count = 1 + (unsigned)(next_random(model) % BATCH_MAX);
    bool giving_up = next_random(model) % 8 == 0;
    model->revision++;
    arena_begin(model->arena);
    for (unsigned i = 0; i < count; i++) {
        operation(model, &saved[i]);
        compare(model, saved[i].key);
    }
    if (giving_up) {
        if (next_random(model) % 2 == 0)
            cr_assert_eq(arena_prepare(model->arena, model->revision), 0);
        arena_abort(model->arena);
        while (count-- > 0)
            model->entries[saved[count].key] = saved[count].entry;
        compare(model, saved[0].key);
        return;
    }
    cr_assert_eq(arena_prepare(model->arena, model->revision), 0);
    arena_commit(model->arena);
    cr_assert_eq(arena_revision(model->arena), model->revision);
}

static uint64_t model_count(const Model *model)
{
    uint64_t count = 0;
    for (uint32_t key = 0; key < KEYS; key++)
        count += model->entries[key].revision != 0;
    return count;
}

static void check(Model *model)
{
    ArenaReport report;
    int r = arena_check(model->arena, &report);
    cr_assert_eq(r, 0, "%s", report.where);
    cr_assert_eq(report.entries, model_count(model));
}

/* Deletes what lies beyond the keys in use, in one update, and uses a share of them from now on. */
static void change_keys(Model *model)
{
    char text[64];
    uint64_t keys = KEYS / (1 + next_random(model) % 16);
    model->revision++;
    arena_begin(model->arena);
    for (uint32_t key = (uint32_t)keys; key < KEYS; key++) {
        if (model->entries[key].revision != 0)
            cr_assert_eq(arena_delete(model->arena, key_of(key, text)), 0);
        model->entries[key] = (ModelEntry){0};
    }
    cr_assert_eq(arena_prepare(model->arena, model->revision), 0);
    arena_commit(model->arena);
    model->keys = keys;
}

/* As a process does that adopts the arena: the one before is gone, and nothing that it had under way
 * still gives pages back. */
static void reopen(Model *model)
{
    ArenaContext context = {.pool = model->pool, .housekeeper = model->housekeeper};
    int fd = dup(arena_fd(model->arena));
    cr_assert_geq(fd, 0);
    arena_free(model->arena);
    if (model->housekeeper != NULL)
        housekeeper_drain(model->housekeeper);
    int r = arena_open(&context, fd, &model->arena);
    cr_assert_eq(r, 0, "open: %d", r);
}

static void run(bool with_housekeeper)
{
    static const Identity identity = {.bytes = "0123456789abcde"};
    ArenaAttributes attributes = {.max_bytes = 1 * GIB, .mode = 0660};
    Model model = {.random = 88172645463325252u, .keys = KEYS};
    const char *wanted = getenv("HOLDFAST_MODEL_OPS");
    uint64_t operations = wanted != NULL ? strtoull(wanted, NULL, 10) : OPERATIONS;

    model.entries = calloc(KEYS, sizeof(*model.entries));
    model.value = malloc(VALUE_BYTES_MAX);
    if (with_housekeeper)
        cr_assert_eq(housekeeper_new(&model.housekeeper), 0);
    cr_assert_eq(pool_new(model.housekeeper, &model.pool), 0);
    ArenaContext context = {.pool = model.pool, .housekeeper = model.housekeeper};
    int r = arena_new(&context, "model", &identity, &attributes, 1, 1, &model.arena);
    cr_assert_eq(r, 0, "new: %d", r);
    uint64_t updates = operations * 2 / (BATCH_MAX + 1);
    uint64_t interval = MAX(updates / 20, 1u);
    for (uint64_t i = 1; i <= updates; i++) {
        update(&model);
        if (i % 16 == 0) {
            arena_upkeep(model.arena);
            if (with_housekeeper)
                housekeeper_reap(model.housekeeper);
        }
        if (i % interval == 0) {
            check(&model);
            change_keys(&model);
        }
        if (i % (5 * interval) == 0)
            reopen(&model);
    }
    check(&model);
    for (uint32_t key = 0; key < KEYS; key++)
        compare(&model, key);
    arena_free(model.arena);
    pool_free(model.pool);
    housekeeper_free(model.housekeeper);
    free(model.entries);
    free(model.value);
}

Test(arena_model, is_what_a_plain_table_is, .timeout = 500)
{
    run(true);
}
