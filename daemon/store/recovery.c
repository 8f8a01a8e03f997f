/* Recovery: images, then the journal.
 *
 * Images: the newest good one's table says which arenas existed at its cut. Each is restored from
 * the newest good image that holds it; where one turns out damaged it is renamed, and where that
 * was the image whose table is used, all begins anew with the one before it. Journal: every record
 * behind the cut of its arena's image is applied as it stands.
 *
 * What can go wrong: an image is damaged (an older one and more journal do), the journal does not
 * reach what an image's name proves (exit 65), records for an arena nobody knows (the journal's
 * beginning is missing: exit 65). */

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "base/log.h"
#include "store/recovery.h"

/* Where an arena came from: records up to this revision are in it already. */
typedef struct Origin {
    Identity identity;
    uint64_t revision;
} Origin;

typedef struct Run {
    const RecoveryOptions *options;
    Recovery *recovery;
    Origin *origins;
    size_t origin_count;
    size_t origin_capacity;
    Identity *wanted; /* in the table, but in no image: the journal must have them from their
                         creation on */
    size_t wanted_count;
    uint64_t from_revision;  /* up to here no record is needed */
    uint64_t table_revision; /* cut of the image whose table was used; 0: there is none */
    size_t last;             /* origin of the last record, where the next one is looked for first */
    StoreArena *last_arena;
} Run;

/* "Records of this revision and later belong to it": an arena that is known. */
static int add_origin(Run *run, const Identity *identity, uint64_t revision)
{
    if (run->origin_count == run->origin_capacity) {
        size_t capacity = MAX(2 * run->origin_capacity, (size_t)16);
        Origin *origins = reallocarray(run->origins, capacity, sizeof(*origins));

        if (!origins)
            return -ENOMEM;
        run->origins = origins;
        run->origin_capacity = capacity;
    }
    run->origins[run->origin_count++] = (Origin){.identity = *identity, .revision = revision};
    return 0;
}

static Origin *find_origin(Run *run, const Identity *identity)
{
    if (run->last < run->origin_count &&
        identity_equal(&run->origins[run->last].identity, identity))
        return &run->origins[run->last];
    for (size_t i = 0; i < run->origin_count; i++)
        if (identity_equal(&run->origins[i].identity, identity)) {
            run->last = i;
            run->last_arena = NULL;
            return &run->origins[i];
        }
    return NULL;
}

/* --- images */

static bool image_progress(void *context, uint64_t pages_done, uint64_t pages_total)
{
    const Run *run = context;

    if (run->options->progress)
        run->options->progress(run->options->progress_context, "images", pages_done, pages_total);
    return true;
}

/* Restores one arena out of one image. -EBADMSG: the image is damaged; it was renamed. */
static int restore_from(Run *run, Checkpoint *image, const Identity *identity, Arena **ret)
{
    _cleanup_(closep) int fd = -1, arena_memory = -1;
    const char *where = "", *why = "";
    char name[HOLDFAST_IMAGE_ID_MAX + 8];
    ImageReader *reader = NULL;
    size_t index = 0;
    int r;

    snprintf(name, sizeof(name), "%s.image", image->spec.id);
    fd = openat(run->options->images_directory_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    r = image_open(fd, &reader, &where, &why);
    if (r == 0) {
        while (index < image_reader_arenas(reader) &&
               !identity_equal(&image_reader_arena(reader, index)->identity, identity))
            index++;
        if (index < image_reader_arenas(reader))
            r = image_reader_restore(reader, index, image_progress, run, &arena_memory);
        else
            r = -EBADMSG;
        where = image_reader_where(reader);
        why = image_reader_why(reader);
    }
    if (r == 0) {
        r = arena_open(&run->options->context, arena_memory, ret);
        if (r == 0) {
            TAKE_FD(arena_memory);
        } else if (r == -EBADMSG || r == -EBUSY) {
            r = -EBADMSG;
            where = "arena header";
            why = "the memory it holds is no arena at rest";
        }
    }
    if (r == -EBADMSG)
        catalog_damaged(run->options->catalog, image, where, why);
    image_reader_free(reader);
    return r;
}

/* Restores an arena from the newest image that holds it and checks out. *ret NULL: no image holds
 * it. -EAGAIN: the image whose table is used turned out damaged. */
static int restore_arena(Run *run, const Identity *identity, const char *table_id, Arena **ret,
                         uint64_t *ret_revision)
{
    Catalog *catalog = run->options->catalog;

    *ret = NULL;
    for (;;) {
        size_t index;
        Checkpoint *image = catalog_newest_of(catalog, identity, catalog_count(catalog), &index);
        bool is_table;
        uint64_t revision;
        int r;

        if (!image)
            return 0;
        is_table = strcmp(image->spec.id, table_id) == 0;
        revision = image->spec.revision;
        r = restore_from(run, image, identity, ret);
        if (r == 0)
            *ret_revision = revision;
        if (r != -EBADMSG)
            return r;
        if (is_table)
            return -EAGAIN;
    }
}

static void forget_all(Run *run)
{
    while (store_count(run->options->store) > 0)
        store_remove(run->options->store, store_at(run->options->store, 0));
    run->origin_count = 0;
}

/* All arenas of one image's table. Those that no image holds come from the journal. */
static int restore_table(Run *run, const Checkpoint *table)
{
    char id[HOLDFAST_IMAGE_ID_MAX + 1];
    size_t count = table->arena_count;
    _cleanup_(freep) Identity *identities = calloc(count + 1, sizeof(*identities));
    _cleanup_(freep) uint64_t *created = calloc(count + 1, sizeof(*created));
    int r;

    free(run->wanted);
    run->wanted = calloc(count + 1, sizeof(*run->wanted));
    run->wanted_count = 0;
    if (!identities || !created || !run->wanted)
        return -ENOMEM;
    memcpy(id, table->spec.id, sizeof(id));
    run->from_revision = run->table_revision = table->spec.revision;
    /* The table may be freed below, when its image turns out damaged. */
    for (size_t i = 0; i < count; i++) {
        identities[i] = table->arenas[i].identity;
        created[i] = table->arenas[i].created_revision;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t revision = 0;
        Arena *arena;

        r = restore_arena(run, &identities[i], id, &arena, &revision);
        if (r < 0)
            return r;
        if (!arena) {
            run->wanted[run->wanted_count++] = identities[i];
            run->from_revision = MIN(run->from_revision, MAX(created[i], UINT64_C(1)) - 1);
            continue;
        }
        r = store_insert(run->options->store, arena);
        if (r < 0) {
            arena_free(arena);
            return r;
        }
        run->from_revision = MIN(run->from_revision, revision);
        r = add_origin(run, &identities[i], revision);
        if (r < 0)
            return r;
    }
    return 0;
}

static int restore_images(Run *run)
{
    for (;;) {
        const Checkpoint *newest = catalog_newest(run->options->catalog);
        int r;

        if (!newest)
            return 0;
        r = restore_table(run, newest);
        if (r != -EAGAIN) {
            if (r < 0)
                snprintf(run->recovery->message, sizeof(run->recovery->message),
                         "cannot restore from the image %s: %s", newest->spec.id, log_errno(r));
            return r;
        }
        /* What it promised to hold must come from elsewhere now. */
        forget_all(run);
        run->table_revision = 0;
        run->from_revision = 0;
        run->wanted_count = 0;
    }
}

/* The highest revision that an image's name proves, damaged ones included. */
static uint64_t proven_revision(int images_directory_fd)
{
    int fd = openat(images_directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    uint64_t highest = 0;

    if (!directory) {
        closep(&fd);
        return 0;
    }
    for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
        char *end;
        uint64_t revision;

        if (!strstr(entry->d_name, ".image"))
            continue;
        revision = strtoull(entry->d_name, &end, 10);
        if (end == entry->d_name + 20 && *end == '-')
            highest = MAX(highest, revision);
    }
    closedir(directory);
    return highest;
}

/* --- the journal */

static int unknown_arena(Run *run, uint64_t revision)
{
    snprintf(run->recovery->message, sizeof(run->recovery->message),
             "revision %llu in the journal belongs to an arena that no image and no earlier record "
             "knows: the beginning "
             "of the journal, or an image, is missing",
             (unsigned long long)revision);
    return -EBADMSG;
}

static int create_arena(Run *run, const Record *record, const RecordOperation *operation)
{
    char name[HOLDFAST_NAME_MAX + 1] = "";
    Arena *arena;
    int r;

    if (!store_name_valid(operation->key))
        return -EBADMSG;
    memcpy(name, operation->key.data, operation->key.size);
    r = arena_new(&run->options->context, name, &record->identity, &operation->attributes,
                  operation->created_usec, record->revision, &arena);
    if (r < 0)
        return r;
    r = store_insert(run->options->store, arena);
    if (r < 0) {
        arena_free(arena);
        return r;
    }
    return add_origin(run, &record->identity, record->revision);
}

/* The marks of the capture grow with the arena: an update may reach past the old ones at once. */
static int change_arena(const StoreArena *slot, const ArenaAttributes *attributes)
{
    int r = capture_marks_resize(slot->marks, attributes->max_bytes / HOLDFAST_PAGE_BYTES);

    return r < 0 ? r : arena_change(slot->arena, attributes);
}

/* Memory is laid out otherwise than it was when the update was made, so what fitted then may just
 * not fit now: the limit is raised rather than an acknowledged update lost. */
static int make_room(const StoreArena *slot)
{
    Arena *arena = slot->arena;
    ArenaAttributes attributes;
    int r;

    arena_attributes(arena, &attributes);
    attributes.max_bytes += MAX(attributes.max_bytes / 8, 16 * MIB);
    log_notice("arena %s: maxBytes raised to %llu, so that the journal fits", arena_name(arena),
               (unsigned long long)attributes.max_bytes);
    arena_begin(arena);
    r = change_arena(slot, &attributes);
    if (r == 0)
        r = arena_prepare(arena, arena_revision(arena));
    if (r != 0) {
        arena_abort(arena);
        return r < 0 ? r : -ENOMEM;
    }
    arena_commit(arena);
    return 0;
}

static int apply_operation(const StoreArena *slot, const RecordOperation *operation,
                           uint64_t revision)
{
    int r;

    switch (operation->kind) {
    case RECORD_PUT:
        return arena_put(slot->arena, operation->key, operation->value, revision);
    case RECORD_DELETE:
        r = arena_delete(slot->arena, operation->key);
        return r == ARENA_NO_ENTRY ? 0 : r;
    case RECORD_CHANGE_ARENA:
        return change_arena(slot, &operation->attributes);
    default:
        return -EBADMSG;
    }
}

/* One record into one arena: whole, as it was. 0, ARENA_FULL, or a negative errno. */
static int apply_record(const StoreArena *slot, Record record)
{
    Arena *arena = slot->arena;
    RecordOperation operation;
    int r = 0;

    arena_begin(arena);
    while (r == 0 && record_next_operation(&record, &operation))
        r = apply_operation(slot, &operation, record.revision);
    if (r == 0)
        r = arena_prepare(arena, record.revision);
    if (r == 0) {
        arena_commit(arena);
        return 0;
    }
    arena_abort(arena);
    return r == ARENA_FULL || r < 0 ? r : -EBADMSG;
}

static int apply_to_known(Run *run, Record *record)
{
    StoreArena *arena = run->last_arena;
    int r;

    if (!arena)
        arena = run->last_arena = store_find_identity(run->options->store, &record->identity);
    if (!arena)
        return unknown_arena(run, record->revision);
    for (;;) {
        r = apply_record(arena, *record);
        if (r != ARENA_FULL)
            break;
        r = make_room(arena);
        if (r < 0)
            break;
    }
    if (r < 0 && run->recovery->message[0] == '\0')
        snprintf(run->recovery->message, sizeof(run->recovery->message),
                 "arena %s: cannot apply revision %llu: %s", arena_name(arena->arena),
                 (unsigned long long)record->revision, log_errno(r));
    return r;
}

/* Dropped: its records before this one do not matter any more, and none may follow. */
static void drop_arena(Run *run, Origin *origin)
{
    StoreArena *arena = store_find_identity(run->options->store, &origin->identity);

    if (arena)
        store_remove(run->options->store, arena);
    *origin = run->origins[--run->origin_count];
    run->last_arena = NULL;
    run->last = 0;
}

static bool is_wanted(const Run *run, const Identity *identity)
{
    for (size_t i = 0; i < run->wanted_count; i++)
        if (identity_equal(&run->wanted[i], identity))
            return true;
    return false;
}

static int replay_record(void *context, Record *record)
{
    Run *run = context;
    Record reading = *record;
    RecordOperation first;
    Origin *origin;

    if (!record_next_operation(&reading, &first))
        return -EBADMSG;
    origin = find_origin(run, &record->identity);
    if (origin && record->revision <= origin->revision)
        return 0;
    if (!origin && first.kind == RECORD_CREATE_ARENA) {
        /* What is not in the table was dropped before its cut. */
        if (record->revision <= run->table_revision && !is_wanted(run, &record->identity))
            return 0;
        run->recovery->records++;
        return create_arena(run, record, &first);
    }
    if (!origin)
        return record->revision <= run->table_revision ? 0 : unknown_arena(run, record->revision);
    run->recovery->records++;
    if (first.kind == RECORD_DROP_ARENA) {
        drop_arena(run, origin);
        return 0;
    }
    return apply_to_known(run, record);
}

static void replay_progress(void *context, uint64_t bytes_done, uint64_t bytes_total,
                            uint64_t records)
{
    const Run *run = context;

    (void)records;
    if (run->options->progress)
        run->options->progress(run->options->progress_context, "journal", bytes_done, bytes_total);
}

/* What is told of a journal that is damaged, with the two choices. */
static void tell_damage(Recovery *recovery, const ReplayDamage *damage)
{
    snprintf(recovery->message, sizeof(recovery->message),
             "the journal is damaged: %s, offset %llu: %s; the last good revision is %llu. Bring "
             "back the file, or start "
             "once with --recover=cut, which keeps the damaged rest aside as *.damaged and goes on "
             "from revision %llu",
             damage->file, (unsigned long long)damage->offset, damage->reason,
             (unsigned long long)damage->last_revision, (unsigned long long)damage->last_revision);
}

static int replay_journal(Run *run)
{
    Recovery *recovery = run->recovery;
    const RecoveryOptions *options = run->options;
    ReplayDamage damage = {0};
    ReplayOptions replay = {
        .from_revision = run->from_revision,
        .required_revision = options->cut ? 0 : proven_revision(options->images_directory_fd),
        .cut = options->cut,
        .record = replay_record,
        .progress = replay_progress,
        .context = run,
    };
    int r;

    /* The image in use proves itself; only what comes from older ones needs the journal up to its
     * cut. */
    if (run->table_revision >= replay.required_revision)
        replay.required_revision =
            run->from_revision < run->table_revision && !options->cut ? run->table_revision : 0;
    r = journal_replay(options->journal_directory_fd, &replay, &recovery->position, &damage);
    if (r == 0) {
        if (recovery->position.cut_off)
            log_notice("journal: %llu bytes behind revision %llu were not complete and were never "
                       "promised: cut off",
                       (unsigned long long)recovery->position.cut_off_bytes,
                       (unsigned long long)recovery->position.revision);
        return 0;
    }
    if (recovery->message[0] != '\0')
        return r;
    if (r == -EBADMSG)
        tell_damage(recovery, &damage);
    else if (r == -EPROTONOSUPPORT)
        snprintf(recovery->message, sizeof(recovery->message), "the journal's %s: %s", damage.file,
                 damage.reason);
    else
        snprintf(recovery->message, sizeof(recovery->message), "cannot read the journal: %s",
                 log_errno(r));
    return r;
}

/* Arenas that must come from the journal did they come? */
static int check_wanted(Run *run)
{
    if (run->options->cut)
        return 0; /* what is missing was given up */
    for (size_t i = 0; i < run->wanted_count; i++)
        if (!find_origin(run, &run->wanted[i]) &&
            run->recovery->position.revision < run->table_revision)
            return unknown_arena(run, run->table_revision);
    return 0;
}

/* Where revisions go on: after an unclean end far behind, so that a number seen before never names
 * another update. */
static uint64_t base_revision(const Run *run)
{
    const JournalPosition *position = &run->recovery->position;
    uint64_t highest = MAX(MAX(position->revision, position->highest), run->table_revision);

    highest = MAX(highest, proven_revision(run->options->images_directory_fd));
    if (position->clean || (highest == 0 && position->segment == 0))
        return highest; /* nothing was given since, or ever */
    return highest + (UINT64_C(1) << 32);
}

int recovery_run(const RecoveryOptions *options, Recovery *recovery)
{
    Run run = {.options = options, .recovery = recovery};
    int r;

    memset(recovery, 0, sizeof(*recovery));
    r = restore_images(&run);
    if (r == 0)
        r = replay_journal(&run);
    if (r == 0)
        r = check_wanted(&run);
    if (r == 0) {
        recovery->base_revision = base_revision(&run);
        recovery->kind = recovery->records > 0    ? RECOVERY_JOURNAL
                         : run.table_revision > 0 ? RECOVERY_IMAGE
                                                  : RECOVERY_EMPTY;
        store_recount(options->store);
        store_set_revision(options->store, recovery->base_revision);
    }
    free(run.origins);
    free(run.wanted);
    return r;
}

void recovery_deinit(Recovery *recovery)
{
    journal_position_deinit(&recovery->position);
}
