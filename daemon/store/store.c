/* The table of arenas and what is told about the whole. Creating, changing and dropping an arena
 * are records in the journal like any update (update.c has the entries' part).
 *
 * A dropped arena that a running checkpoint saves stays in memory, out of the table, until the
 * checkpoint is over. */

#include <stdio.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/private.h"

int store_new(const StoreOptions *options, Store **ret)
{
    Store *store = calloc(1, sizeof(*store));

    if (!store)
        return -ENOMEM;
    store->options = *options;
    buffer_init(&store->result, options->pool);
    *ret = store;
    return 0;
}

static void store_arena_free(StoreArena *arena)
{
    arena_free(arena->arena);
    capture_marks_free(arena->marks);
    free(arena);
}

Store *store_free(Store *store)
{
    if (!store)
        return NULL;
    for (size_t i = 0; i < store->count; i++)
        store_arena_free(store->arenas[i]);
    for (size_t i = 0; i < store->dropped_count; i++)
        store_arena_free(store->dropped[i]);
    buffer_clear(&store->result);
    free(store->arenas);
    free(store->job_arenas);
    free(store->dropped);
    free(store);
    return NULL;
}

void store_set_journal(Store *store, Journal *journal)
{
    store->journal = journal;
}

void store_set_limits(Store *store, uint64_t arenas_max, uint64_t memory_bytes_max)
{
    store->options.arenas_max = arenas_max;
    store->options.memory_bytes_max = memory_bytes_max;
}

/* --- the table */

size_t store_arenas(const Store *store, const JobArena **ret)
{
    *ret = store->job_arenas;
    return store->count;
}

size_t store_count(const Store *store)
{
    return store->count;
}

StoreArena *store_at(const Store *store, size_t index)
{
    return store->arenas[index];
}

static int compare_names(Bytes name, const char *text)
{
    size_t size = strlen(text);
    int order = memcmp(name.data, text, MIN(name.size, size));

    return order != 0 ? order : (name.size > size) - (name.size < size);
}

/* Where the arena of that name is, or belongs. */
static size_t find_place(const Store *store, Bytes name, bool *ret_found)
{
    size_t low = 0, high = store->count;

    *ret_found = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = compare_names(name, arena_name(store->arenas[middle]->arena));

        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

StoreArena *store_find(const Store *store, Bytes name)
{
    bool found;
    size_t place = find_place(store, name, &found);

    return found ? store->arenas[place] : NULL;
}

StoreArena *store_find_identity(const Store *store, const Identity *identity)
{
    for (size_t i = 0; i < store->count; i++)
        if (identity_equal(arena_identity(store->arenas[i]->arena), identity))
            return store->arenas[i];
    return NULL;
}

/* Room for one more arena in the table and among the dropped ones, so that neither can fail later.
 */
static int reserve(Store *store)
{
    size_t capacity = MAX(2 * store->capacity, (size_t)16);
    StoreArena **arenas, **dropped;
    JobArena *job_arenas;

    if (store->count + store->dropped_count < store->capacity)
        return 0;
    arenas = reallocarray(store->arenas, capacity, sizeof(*arenas));
    store->arenas = arenas ? arenas : store->arenas;
    dropped = reallocarray(store->dropped, capacity, sizeof(*dropped));
    store->dropped = dropped ? dropped : store->dropped;
    job_arenas = reallocarray(store->job_arenas, capacity, sizeof(*job_arenas));
    store->job_arenas = job_arenas ? job_arenas : store->job_arenas;
    if (!arenas || !dropped || !job_arenas)
        return -ENOMEM;
    store->capacity = capacity;
    return 0;
}

static void update_job_arenas(Store *store)
{
    for (size_t i = 0; i < store->count; i++)
        store->job_arenas[i] =
            (JobArena){.arena = store->arenas[i]->arena, .marks = store->arenas[i]->marks};
}

/* Makes the table's object for an arena; owns the arena on success. reserve came before. */
static int link_arena(Store *store, Arena *arena, StoreArena **ret)
{
    _cleanup_(freep) StoreArena *slot = calloc(1, sizeof(*slot));
    ArenaBarrier barrier;
    size_t place;
    bool found;
    int r;

    if (!slot)
        return -ENOMEM;
    r = capture_marks_new(store->options.capture, arena_capacity_pages(arena), &slot->marks);
    if (r < 0)
        return r;
    capture_marks_attach(slot->marks, arena);
    barrier = capture_barrier(slot->marks);
    arena_set_barrier(arena, &barrier);
    slot->arena = arena;
    place = find_place(store, bytes_of_text(arena_name(arena)), &found);
    memmove(&store->arenas[place + 1], &store->arenas[place],
            (store->count - place) * sizeof(*store->arenas));
    store->arenas[place] = *ret = TAKE_PTR(slot);
    store->count++;
    store->used_bytes += arena_used_bytes(arena);
    update_job_arenas(store);
    return 0;
}

/* Takes the arena out of the table; its object stays. */
static void unlink_arena(Store *store, StoreArena *arena)
{
    size_t place = 0;

    while (store->arenas[place] != arena)
        place++;
    store->count--;
    memmove(&store->arenas[place], &store->arenas[place + 1],
            (store->count - place) * sizeof(*store->arenas));
    store->used_bytes -= arena_used_bytes(arena->arena);
    update_job_arenas(store);
}

int store_insert(Store *store, Arena *arena)
{
    StoreArena *slot;
    bool found;
    int r = reserve(store);

    if (r < 0)
        return r;
    find_place(store, bytes_of_text(arena_name(arena)), &found);
    return found ? -EEXIST : link_arena(store, arena, &slot);
}

void store_remove(Store *store, StoreArena *arena)
{
    unlink_arena(store, arena);
    store_arena_free(arena);
}

/* --- create, change, drop */

static int record_creation(Store *store, const char *name, const Identity *identity,
                           const ArenaAttributes *attributes)
{
    RecordWriter *record = journal_writer(store->journal);
    int r = record_begin(record, store->revision + 1, store->now_usec, identity);

    return r < 0 ? r : record_create_arena(record, name, attributes, store->now_usec);
}

/* The arena itself, in the table; an empty one has pages, too, that count. */
static int make_arena(Store *store, const char *name, const Identity *identity,
                      const ArenaAttributes *attributes, StoreArena **ret, StoreOutcome *outcome)
{
    ArenaContext context = {.pool = store->options.pool, .housekeeper = store->options.housekeeper};
    Arena *arena;
    int r = arena_new(&context, name, identity, attributes, store->now_usec, store->revision + 1,
                      &arena);

    if (r < 0)
        return r;
    if (store->used_bytes + arena_used_bytes(arena) > store->options.memory_bytes_max)
        r = store_exceeded(outcome, "memory", store->options.memory_bytes_max);
    else
        r = link_arena(store, arena, ret);
    if (r != 0)
        arena_free(arena);
    return r;
}

int store_create(Store *store, Bytes name, const ArenaAttributes *attributes, StoreArena **ret,
                 StoreOutcome *outcome)
{
    char text[HOLDFAST_NAME_MAX + 1] = "";
    StoreArena *arena = NULL;
    Identity identity;
    int r = store_may_update(store, NULL);

    if (r != 0)
        return r;
    if (store_find(store, name))
        return STORE_EXISTS;
    if (store->count >= store->options.arenas_max)
        return store_exceeded(outcome, "arenas", store->options.arenas_max);
    memcpy(text, name.data, name.size);
    if (getrandom(&identity, sizeof(identity), 0) != sizeof(identity))
        return -EIO;
    r = reserve(store);
    if (r < 0)
        return r;
    r = store_record_outcome(store, NULL, record_creation(store, text, &identity, attributes),
                             outcome);
    if (r == 0)
        r = make_arena(store, text, &identity, attributes, &arena, outcome);
    if (r == 0)
        r = store_record_outcome(store, NULL, record_end(journal_writer(store->journal), NULL),
                                 outcome);
    if (r != 0) {
        if (arena)
            store_remove(store, arena);
        record_discard(journal_writer(store->journal));
        return r;
    }
    journal_arena_created(store->journal, &identity);
    journal_append_end(store->journal);
    store->revision = outcome->revision = store->revision + 1;
    store->updates++;
    if (store->options.keeper.created)
        store->options.keeper.created(store->options.keeper.context, &identity,
                                      arena_fd(arena->arena));
    *ret = arena;
    return 0;
}

int store_change(Store *store, StoreArena *arena, const ArenaAttributes *attributes,
                 StoreOutcome *outcome)
{
    uint64_t revision = store->revision + 1, used_before = arena_used_bytes(arena->arena);
    RecordWriter *record;
    int r = store_may_update(store, arena);

    if (r != 0)
        return r;
    r = capture_marks_resize(arena->marks, attributes->max_bytes / HOLDFAST_PAGE_BYTES);
    if (r < 0)
        return r;
    record = journal_writer(store->journal);
    r = store_record_outcome(
        store, arena, record_begin(record, revision, store->now_usec, arena_identity(arena->arena)),
        outcome);
    if (r == 0)
        r = store_record_outcome(store, arena, record_change_arena(record, attributes), outcome);
    if (r != 0) {
        record_discard(record);
        return r;
    }
    arena_begin(arena->arena);
    r = arena_change(arena->arena, attributes);
    if (r == 0)
        r = arena_prepare(arena->arena, revision);
    r = store_arena_outcome(store, arena, r, outcome);
    if (r == 0)
        r = store_record_outcome(store, arena, record_end(record, NULL), outcome);
    if (r != 0) {
        arena_abort(arena->arena);
        record_discard(record);
        return r;
    }
    journal_append_end(store->journal);
    arena_commit(arena->arena);
    store->used_bytes += arena_used_bytes(arena->arena) - used_before;
    store->revision = outcome->revision = revision;
    store->updates++;
    return 0;
}

/* The end of an arena that was dropped: its memory goes. */
static void destroy(StoreArena *arena)
{
    arena_drop(arena->arena);
    capture_marks_free(arena->marks);
    free(arena);
}

/* The last update of an arena: between the first change and the commit its record goes into the
 * batch, so whoever adopts finds it in the middle of an update, or dropped. 0 or an outcome. */
static int record_drop(Store *store, StoreArena *arena, StoreOutcome *outcome)
{
    RecordWriter *record = journal_writer(store->journal);
    int r =
        record_begin(record, store->revision + 1, store->now_usec, arena_identity(arena->arena));

    if (r == 0)
        r = record_drop_arena(record);
    if (r == 0)
        r = record_end(record, NULL);
    if (r == 0) {
        arena_begin(arena->arena);
        r = store_arena_outcome(store, arena, arena_set_dropped(arena->arena), outcome);
        if (r != 0)
            arena_abort(arena->arena);
    } else {
        r = store_record_outcome(store, arena, r, outcome);
    }
    if (r != 0)
        record_discard(record);
    return r;
}

int store_drop(Store *store, StoreArena *arena, StoreOutcome *outcome)
{
    Identity identity = *arena_identity(arena->arena);
    int r;

    if (store->reason[0] != '\0')
        return STORE_READ_ONLY;
    if (arena->parked)
        return STORE_PARKED;
    r = record_drop(store, arena, outcome);
    if (r != 0)
        return r;
    journal_append_end(store->journal);
    arena_commit(arena->arena);
    journal_arena_dropped(store->journal, &identity);
    store->revision = outcome->revision = store->revision + 1;
    store->updates++;
    arena_wake(arena->arena);
    unlink_arena(store, arena);
    if (arena_pages_held(arena->arena))
        store->dropped[store->dropped_count++] = arena; /* a checkpoint reads its pages */
    else
        destroy(arena);
    if (store->options.keeper.dropped)
        store->options.keeper.dropped(store->options.keeper.context, &identity);
    return 0;
}

void store_release_dropped(Store *store)
{
    while (store->dropped_count > 0) {
        StoreArena *arena = store->dropped[--store->dropped_count];

        /* The job let go of those in the table. Other processes may map this one: only punching
         * frees its pages. */
        arena_hold_pages(arena->arena, false);
        destroy(arena);
    }
}

/* --- reading */

int store_get(Store *store, StoreArena *arena, Bytes key, ArenaEntry *ret)
{
    StoreOutcome outcome;

    if (arena->damage[0] != '\0')
        return STORE_DAMAGED;
    return store_arena_outcome(store, arena, arena_find(arena->arena, key, ret), &outcome);
}

void store_note_damage(Store *store, StoreArena *arena)
{
    const char *where = arena_damage(arena->arena);
    const LogField fields[] = {
        {"ARENA", arena_name(arena->arena)}, {"WHERE", arena->damage}, {NULL, NULL}};

    if (arena->damage[0] != '\0')
        return;
    snprintf(arena->damage, sizeof(arena->damage), "%s", where ? where : "unknown place");
    log_event(LOG_ERR, NULL, fields, "arena %s: damaged at %s; it is closed, the others go on",
              arena_name(arena->arena), arena->damage);
    /* The next start makes it anew, from an image and the journal. */
    if (store->options.keeper.dropped)
        store->options.keeper.dropped(store->options.keeper.context, arena_identity(arena->arena));
}

/* --- the whole */

void store_set_revision(Store *store, uint64_t revision)
{
    store->revision = revision;
}

uint64_t store_revision(const Store *store)
{
    return store->revision;
}

uint64_t store_entries(const Store *store)
{
    uint64_t entries = 0;

    for (size_t i = 0; i < store->count; i++)
        entries += arena_entries(store->arenas[i]->arena);
    return entries;
}

uint64_t store_used_bytes(const Store *store)
{
    return store->used_bytes;
}

uint64_t store_updates(const Store *store)
{
    return store->updates;
}

void store_set_read_only(Store *store, const char *reason)
{
    snprintf(store->reason, sizeof(store->reason), "%s", reason ? reason : "");
}

const char *store_reason(const Store *store)
{
    return store->reason[0] != '\0' ? store->reason : NULL;
}

void store_resume(Store *store)
{
    for (size_t i = 0; i < store->count; i++)
        store->arenas[i]->parked = false;
}

bool store_was_parked(Store *store)
{
    bool full = store->ring_full;

    store->ring_full = false;
    return full;
}

bool store_was_out_of_batch(Store *store)
{
    bool full = store->batch_full;

    store->batch_full = false;
    return full;
}

void store_turn(Store *store)
{
    store->now_usec = clock_realtime();
    for (size_t i = 0; i < store->count; i++) {
        Arena *arena = store->arenas[i]->arena;

        store->used_bytes -= arena_used_bytes(arena);
        arena_upkeep(arena); /* moves entries together, which frees pages */
        store->used_bytes += arena_used_bytes(arena);
    }
}

void store_turn_end(Store *store)
{
    for (size_t i = 0; i < store->count; i++)
        arena_wake(store->arenas[i]->arena);
}

void store_recount(Store *store)
{
    store->used_bytes = 0;
    for (size_t i = 0; i < store->count; i++)
        store->used_bytes += arena_used_bytes(store->arenas[i]->arena);
}
