/* The path of an update. Conditions first, on the state as it is; then each operation into the
 * arena and into the record, both still provisional; then the arena's last step that can fail; then
 * the record is in the batch and the update is final.
 *
 * What can go wrong: an operation that fails, a full arena, a limit, no room in the ring or in the
 * batch. All of them end in one place, which takes both back. */

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "store/private.h"

/* Largest text of a 64-bit integer. */
#define INTEGER_TEXT_MAX 24

int store_may_update(Store *store, StoreArena *arena)
{
    if (arena && arena->damage[0] != '\0')
        return STORE_DAMAGED;
    if (store->reason[0] != '\0')
        return STORE_READ_ONLY;
    return arena && arena->parked ? STORE_PARKED : 0;
}

/* What the arena answered, as the store's caller sees it. */
int store_arena_outcome(Store *store, StoreArena *arena, int code, StoreOutcome *outcome)
{
    ArenaAttributes attributes;

    switch (code) {
    case ARENA_NO_ENTRY:
        return STORE_NO_SUCH_KEY;
    case ARENA_FULL:
        arena_attributes(arena->arena, &attributes);
        outcome->maximum = attributes.max_bytes;
        return STORE_ARENA_FULL;
    case ARENA_COLLISIONS:
        return store_exceeded(outcome, "collisions", HOLDFAST_CHAIN_MAX);
    case ARENA_BUSY:
        store->ring_full = true;
        arena->parked = true;
        return STORE_PARKED;
    case ARENA_DAMAGED:
        store_note_damage(store, arena);
        return STORE_DAMAGED;
    default:
        return code;
    }
}

/* What the journal answered. */
int store_record_outcome(Store *store, StoreArena *arena, int code, StoreOutcome *outcome)
{
    if (code == -E2BIG)
        return store_exceeded(outcome, "message", RECORD_BYTES_MAX);
    if (code == -ENOSPC) {
        store->batch_full = true;
        if (arena)
            arena->parked = true;
        return STORE_PARKED;
    }
    return code;
}

/* All conditions are compared with the state before the update. */
static int check_conditions(Store *store, StoreArena *arena, const StoreOperation *operations,
                            size_t count, StoreOutcome *outcome)
{
    for (size_t i = 0; i < count; i++) {
        ArenaEntry entry = {0};
        int r;

        if (!operations[i].conditional)
            continue;
        outcome->operation = i;
        r = arena_find(arena->arena, operations[i].key, &entry);
        if (r != 0 && r != ARENA_NO_ENTRY)
            return store_arena_outcome(store, arena, r, outcome);
        outcome->revision = r == 0 ? entry.revision : 0;
        if (outcome->revision != operations[i].if_revision)
            return STORE_REVISION_MISMATCH;
    }
    return 0;
}

/* An update being made. */
typedef struct Update {
    Store *store;
    StoreArena *arena;
    RecordWriter *record;
    uint64_t revision;
    StoreOutcome *outcome;
} Update;

static int apply_put(Update *update, Bytes key, Bytes value)
{
    int r = arena_put(update->arena->arena, key, value, update->revision);

    if (r != 0)
        return store_arena_outcome(update->store, update->arena, r, update->outcome);
    return store_record_outcome(update->store, update->arena,
                                record_put(update->record, key, value), update->outcome);
}

static int run_put(Update *update, const StoreOperation *operation)
{
    return apply_put(update, operation->key, operation->value);
}

static int run_delete(Update *update, const StoreOperation *operation)
{
    int r = arena_delete(update->arena->arena, operation->key);

    if (r != 0)
        return store_arena_outcome(update->store, update->arena, r, update->outcome);
    return store_record_outcome(update->store, update->arena,
                                record_delete(update->record, operation->key), update->outcome);
}

/* The entry's value as it is within this update; data NULL: there is none. */
static int current_value(Update *update, Bytes key, Bytes *ret)
{
    ArenaEntry entry;
    int r = arena_find(update->arena->arena, key, &entry);

    *ret = r == 0 ? entry.value : (Bytes){0};
    return r == ARENA_NO_ENTRY
               ? 0
               : store_arena_outcome(update->store, update->arena, r, update->outcome);
}

/* The result buffer holds what the operation made. */
static int put_result(Update *update, Bytes key)
{
    Buffer *result = &update->store->result;

    update->outcome->value = BYTES(buffer_begin(result), buffer_size(result));
    return apply_put(update, key, update->outcome->value);
}

static int run_merge(Update *update, const StoreOperation *operation)
{
    Buffer *result = &update->store->result;
    Bytes target;
    int r = current_value(update, operation->key, &target);

    if (r != 0)
        return r;
    buffer_truncate(result, 0);
    result->failed = false;
    r = update->store->options.merge(result, target, operation->value, HOLDFAST_VALUE_MAX,
                                     STORE_DEPTH_MAX);
    if (r == -E2BIG) /* never the depth: a merge nests no deeper than its two texts */
        return store_exceeded(update->outcome, "value", HOLDFAST_VALUE_MAX);
    return r < 0 ? r : put_result(update, operation->key);
}

/* The integer that a JSON text is; texts with a fraction or an exponent are none. */
static bool integer_of(Bytes text, int64_t *ret)
{
    char copy[INTEGER_TEXT_MAX];
    char *end;

    if (text.size == 0 || text.size >= sizeof(copy) ||
        !(text.data[0] == '-' || (text.data[0] >= '0' && text.data[0] <= '9')))
        return false;
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    errno = 0;
    *ret = strtoll(copy, &end, 10);
    return errno == 0 && *end == '\0';
}

static int run_increment(Update *update, const StoreOperation *operation)
{
    Buffer *result = &update->store->result;
    int64_t number = 0;
    Bytes target;
    int r = current_value(update, operation->key, &target);

    if (r != 0)
        return r;
    if (target.data && !integer_of(target, &number))
        return STORE_WRONG_TYPE;
    if (__builtin_add_overflow(number, operation->by, &number))
        return STORE_WRONG_TYPE;
    buffer_truncate(result, 0);
    result->failed = false;
    buffer_append_format(result, "%" PRId64, number);
    return result->failed ? -ENOMEM : put_result(update, operation->key);
}

static int (*const run_operation[])(Update *update, const StoreOperation *operation) = {
    [STORE_PUT] = run_put,
    [STORE_DELETE] = run_delete,
    [STORE_MERGE] = run_merge,
    [STORE_INCREMENT] = run_increment,
};

static int run_operations(Update *update, const StoreOperation *operations, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int r;

        update->outcome->operation = i;
        r = run_operation[operations[i].kind](update, &operations[i]);
        if (r != 0)
            return r;
    }
    return 0;
}

/* The arena's last step, and the limit over all arenas. */
static int prepare(Update *update, uint64_t used_before)
{
    Store *store = update->store;
    Arena *arena = update->arena->arena;
    uint64_t used;
    int r = arena_prepare(arena, update->revision);

    if (r != 0)
        return store_arena_outcome(store, update->arena, r, update->outcome);
    used = arena_used_bytes(arena);
    if (used > used_before &&
        store->used_bytes - used_before + used > store->options.memory_bytes_max)
        return store_exceeded(update->outcome, "memory", store->options.memory_bytes_max);
    return 0;
}

int store_update(Store *store, StoreArena *arena, const StoreOperation *operations, size_t count,
                 StoreOutcome *outcome)
{
    Update update = {
        .store = store, .arena = arena, .revision = store->revision + 1, .outcome = outcome};
    uint64_t used_before;
    int r = store_may_update(store, arena);

    if (r == 0)
        r = check_conditions(store, arena, operations, count, outcome);
    if (r != 0)
        return r;
    update.record = journal_writer(store->journal);
    r = store_record_outcome(
        store, arena,
        record_begin(update.record, update.revision, store->now_usec, arena_identity(arena->arena)),
        outcome);
    if (r != 0) {
        record_discard(update.record);
        return r;
    }
    used_before = arena_used_bytes(arena->arena);
    arena_begin(arena->arena);
    r = run_operations(&update, operations, count);
    if (r == 0)
        r = prepare(&update, used_before);
    if (r == 0)
        r = store_record_outcome(store, arena, record_end(update.record, NULL), outcome);
    if (r != 0) {
        arena_abort(arena->arena);
        record_discard(update.record);
        return r;
    }
    journal_append_end(store->journal);
    arena_commit(arena->arena);
    store->used_bytes += arena_used_bytes(arena->arena) - used_before;
    store->revision = outcome->revision = update.revision;
    store->updates++;
    return 0;
}
