/* Recovery: what was adopted, images, then the journal.
 *
 * Normal way: arenas that an earlier process left in the service manager's store are taken over
 * (adoption.c); where that is all there is, nothing is read. Else arenas are restored from images
 * (recovery-images.c), and every record behind the cut of its arena's image is applied as it
 * stands.
 *
 * What can go wrong: what was handed over does not fit the journal (then nothing is adopted), the
 * journal does not reach what an image's name proves (exit 65), records for an arena nobody knows
 * (the journal's beginning is missing: exit 65). */

#include <stdio.h>

#include "base/log.h"
#include "journal/adopt.h"
#include "store/recovery-private.h"

int recovery_add_origin(Run *run, const Identity *identity, uint64_t revision)
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

Origin *recovery_find_origin(Run *run, const Identity *identity)
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

void recovery_forget(Run *run)
{
    while (store_count(run->options->store) > 0)
        store_remove(run->options->store, store_at(run->options->store, 0));
    run->origin_count = run->adopted;
    run->last = 0;
    run->last_arena = NULL;
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

    if (!arena_name_valid(operation->key))
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
    return recovery_add_origin(run, &record->identity, record->revision);
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
    origin = recovery_find_origin(run, &record->identity);
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

/* What was found and is no damage. */
static void tell_rest(const JournalPosition *position)
{
    if (position->unused_damaged != 0)
        log_notice("journal: segment %llu was made ready and never used, and its header does not "
                   "check out: put aside as *.damaged",
                   (unsigned long long)position->unused_damaged);
    if (position->cut_off)
        log_notice("journal: %llu bytes behind revision %llu were not complete and were never "
                   "promised: cut off",
                   (unsigned long long)position->cut_off_bytes,
                   (unsigned long long)position->revision);
}

static int replay_journal(Run *run)
{
    Recovery *recovery = run->recovery;
    const RecoveryOptions *options = run->options;
    ReplayDamage damage = {0};
    ReplayOptions replay = {
        .from_revision = run->from_revision,
        .required_revision = run->cut ? 0 : run->proven_revision,
        .cut = run->cut,
        .record = replay_record,
        .progress = replay_progress,
        .context = run,
    };
    int r;

    /* The image in use proves itself; only what comes from older ones needs the journal up to its
     * cut. */
    if (run->table_revision >= replay.required_revision)
        replay.required_revision =
            run->from_revision < run->table_revision && !run->cut ? run->table_revision : 0;
    r = journal_replay(options->journal_directory_fd, &replay, &recovery->position, &damage);
    if (r == 0)
        tell_rest(&recovery->position);
    if (r == 0 || recovery->message[0] != '\0')
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

/* Have the arenas come that only the journal has? */
static int check_wanted(Run *run)
{
    if (run->cut)
        return 0; /* what is missing was given up */
    for (size_t i = 0; i < run->wanted_count; i++)
        if (!recovery_find_origin(run, &run->wanted[i]) &&
            run->recovery->position.revision < run->table_revision)
            return unknown_arena(run, run->table_revision);
    return 0;
}

/* --- the whole */

/* Where revisions go on: after an unclean end far behind, so that a number seen before never names
 * another update. What was adopted knows every number that was given. */
static uint64_t base_revision(const Run *run, bool all_adopted)
{
    const JournalPosition *position = &run->recovery->position;
    uint64_t highest = MAX(MAX(position->revision, position->highest), run->table_revision);

    highest = MAX(highest, run->proven_revision);
    if (all_adopted || position->clean || (highest == 0 && position->segment == 0))
        return highest; /* nothing was given since, or ever */
    return highest + (UINT64_C(1) << 32);
}

static int read_all(Run *run)
{
    int r = recovery_restore_images(run);

    if (r == 0)
        r = replay_journal(run);
    return r == 0 ? check_wanted(run) : r;
}

/* What is not adopted comes from images and the journal, which must end where the process whose
 * arenas are adopted had it. A condemned journal may end anywhere: images will have the rest. */
static int read_rest(Run *run)
{
    JournalPosition *position = &run->recovery->position;
    int r = read_all(run);

    if (r < 0)
        return r;
    if (!run->adoption->control->header->condemned)
        return journal_adopt_agrees(run->adoption->control, position) ? 0 : -ESTALE;
    position->condemned = true;
    position->highest = MAX(position->highest, adoption_revision(run->adoption));
    return 0;
}

static RecoveryKind kind_of(const Run *run)
{
    if (run->recovery->records > 0)
        return RECOVERY_JOURNAL;
    return run->table_revision > 0 ? RECOVERY_IMAGE : RECOVERY_EMPTY;
}

static int run_adopting(Run *run)
{
    const RecoveryOptions *options = run->options;
    Recovery *recovery = run->recovery;
    bool all;
    int r = adoption_take(run->adoption, run);

    if (r < 0)
        return r;
    if (adoption_complete(run->adoption))
        r = journal_adopt_position(run->adoption->control, options->journal_directory_fd,
                                   &recovery->position);
    else
        r = read_rest(run);
    if (r < 0)
        return r;
    all = store_count(options->store) == 0;
    r = adoption_insert(run->adoption, options->store);
    if (r < 0)
        return r;
    recovery->base_revision = base_revision(run, all);
    recovery->adopted = adoption_in_place(run->adoption);
    recovery->kind = all || run->adopted > 0 ? RECOVERY_ADOPTED : kind_of(run);
    return 0;
}

static int run_plain(Run *run)
{
    int r = read_all(run);

    if (r == -EBADMSG)
        return recovery_blame_unreadable(run, r);
    if (r < 0)
        return r;
    run->recovery->base_revision = base_revision(run, false);
    run->recovery->kind = kind_of(run);
    return 0;
}

static int run_once(const RecoveryOptions *options, Adoption *adoption, Recovery *recovery)
{
    Run run = {
        .options = options,
        .recovery = recovery,
        .adoption = adoption,
        .cut = options->cut && !adoption,
    };
    int r;

    memset(recovery, 0, sizeof(*recovery));
    r = recovery_proven_revision(options->images_directory_fd, &run.proven_revision);
    if (r < 0)
        snprintf(recovery->message, sizeof(recovery->message),
                 "cannot read the directory of images: %s", log_errno(r));
    else
        r = adoption ? run_adopting(&run) : run_plain(&run);
    if (r < 0 && adoption) {
        run.adopted = 0;
        recovery_forget(&run);
    }
    free(run.origins);
    free(run.wanted);
    return r;
}

int recovery_run(const RecoveryOptions *options, Recovery *recovery)
{
    Adoption *adoption = options->adoption;
    int r;

    if (adoption && adoption->control) {
        r = run_once(options, adoption, recovery);
        if (r < 0) {
            log_warning("the arenas handed over are not used, all is made anew: %s",
                        r == -ESTALE                   ? "the journal does not end where it did"
                        : recovery->message[0] != '\0' ? recovery->message
                                                       : log_errno(r));
            adoption_give_up(adoption);
            recovery_deinit(recovery);
            r = run_once(options, NULL, recovery);
        }
    } else {
        r = run_once(options, NULL, recovery);
    }
    if (r == 0) {
        store_recount(options->store);
        store_set_revision(options->store, recovery->base_revision);
    }
    return r;
}

void recovery_deinit(Recovery *recovery)
{
    journal_position_deinit(&recovery->position);
}
