/* Taking over live arenas.
 *
 * Normal way through: the control memfd is ours and the journal ends where it says; its halves are
 * written out; each arena in its table was handed over, is ours and at rest. Then all that is left
 * to do is to map them.
 *
 * What can go wrong: an arena was caught in the middle of an update, is of another layout, is not
 * ours or was not handed over: it is made anew, the others are adopted. The control memfd is
 * missing or does not fit the journal: nothing is adopted. Nothing of that is lost, since the
 * journal and the images have it all. */
#include "store/adoption.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "journal/adopt.h"
#include "store/recovery-private.h"

int adoption_add(Adoption *adoption, const Identity *identity, int fd)
{
    StoredArena *arenas =
        reallocarray(adoption->arenas, adoption->count + 1, sizeof(*adoption->arenas));

    if (!arenas) {
        closep(&fd);
        return -ENOMEM;
    }
    adoption->arenas = arenas;
    arenas[adoption->count++] = (StoredArena){.identity = *identity, .fd = fd};
    return 0;
}

/* --- the control memfd */

static int check_control(Control *control, int journal_directory_fd, const char **ret_why)
{
    int r = journal_adopt_check(control, journal_directory_fd, ret_why);

    if (r < 0)
        return r;
    *ret_why = "what it holds cannot be written to the journal";
    return control_write_out(control, journal_directory_fd, &control->header->lineage);
}

void adoption_begin(Adoption *adoption, int control_fd, int journal_directory_fd)
{
    Control *control;
    const char *why = "";
    int r = control_adopt(control_fd, &control);

    if (r < 0) {
        log_warning("the control memfd handed over is not used: %s",
                    r == -EBADMSG           ? "it is not one of ours"
                    : r == -EPROTONOSUPPORT ? "it is of another version"
                                            : log_errno(r));
        closep(&control_fd);
        return;
    }
    r = check_control(control, journal_directory_fd, &why);
    if (r < 0) {
        log_warning("the arenas handed over do not fit the journal, nothing is adopted: %s%s%s",
                    why, r == -ESTALE ? "" : ": ", r == -ESTALE ? "" : log_errno(r));
        control_free(control);
        return;
    }
    if (control->header->clean_stop)
        control->header->adoptions = 0; /* nothing had ended it */
    if (control->header->adoptions >= ADOPTIONS_MAX) {
        log_warning("%u adoptions without a minute of service: this time nothing is adopted",
                    control->header->adoptions);
        control_free(control);
        return;
    }
    control->header->adoptions++;
    adoption->control = control;
}

/* --- arenas */

static bool in_table(const Control *control, const Identity *identity)
{
    Identity row;

    for (uint32_t i = 0; i < control->header->arenas; i++)
        if (control_arena(control, i, &row) && identity_equal(&row, identity))
            return true;
    return false;
}

/* NULL: nothing was taken for it. */
static StoredArena *find_taken(const Adoption *adoption, const Identity *identity)
{
    for (size_t i = 0; i < adoption->count; i++)
        if (adoption->arenas[i].arena && identity_equal(&adoption->arenas[i].identity, identity))
            return &adoption->arenas[i];
    return NULL;
}

/* The table names all that exist. */
static const char unlisted[] = "the arena was dropped, or its creation was never recorded";

static const char *refusal(int error)
{
    switch (error) {
    case -EBUSY:
        return "it was in the middle of an update";
    case -EPROTONOSUPPORT:
        return "it is of a layout version that is not known";
    case -EBADMSG:
        return "its header makes no sense";
    default:
        return log_errno(error);
    }
}

/* NULL: it can be looked into. */
static const char *check_stored(StoredArena *stored, ArenaPeek *ret_peek)
{
    uint64_t size;

    if (file_check_memfd(stored->fd, &size) < 0)
        return "it is not ours alone";
    if (arena_peek(stored->fd, ret_peek) < 0)
        return "it holds no arena";
    if (!identity_equal(&ret_peek->identity, &stored->identity))
        return "it is another one than its name says";
    stored->ours = true;
    return NULL;
}

/* A descriptor of its own for the arena's object: should adopting fail altogether, ours is what the
 * next start finds. */
static int open_stored(const StoredArena *stored, const ArenaContext *context, Arena **ret)
{
    int fd = fcntl(stored->fd, F_DUPFD_CLOEXEC, 3);
    int r;

    if (fd < 0)
        return -errno;
    r = arena_open(context, fd, ret);
    if (r < 0)
        closep(&fd);
    else
        arena_set_shared(*ret); /* the earlier process may have handed it out */
    return r;
}

static const char *take_one(Adoption *adoption, StoredArena *stored, const ArenaContext *context)
{
    const Control *control = adoption->control;
    ArenaPeek peek;
    const char *why = check_stored(stored, &peek);
    int r;

    if (why)
        return why;
    if (peek.state == HOLDFAST_STATE_DROPPED && !peek.mid_update) {
        stored->dropped = true;
        return "it was dropped";
    }
    if (find_taken(adoption, &stored->identity))
        return "it was handed over twice";
    if (!control->header->arenas_lost && !in_table(control, &stored->identity))
        return unlisted;
    if (peek.revision > control_position(control)->written.revision && !control->header->condemned)
        return "it is ahead of the journal";
    r = open_stored(stored, context, &stored->arena);
    if (r == -EPROTONOSUPPORT) {
        r = arena_convert(context, stored->fd, &stored->arena);
        stored->converted = r == 0;
        if (stored->converted)
            log_notice("arena %s: read from layout version %u into version %u", peek.name,
                       peek.layout_version, arena_layout_own());
    }
    return r < 0 ? refusal(r) : NULL;
}

static void tell_refused(const StoredArena *stored, const char *why)
{
    ArenaPeek peek;

    if (!stored->ours || arena_peek(stored->fd, &peek) < 0)
        log_notice("memory that was handed over as an arena's is not used: %s", why);
    else if (why == unlisted)
        log_notice("arena %s: its memory is given back: %s", peek.name, why);
    else
        log_notice("arena %s: not adopted, but rebuilt from images and journal: %s", peek.name,
                   why);
}

int adoption_take(Adoption *adoption, Run *run)
{
    for (size_t i = 0; i < adoption->count; i++) {
        StoredArena *stored = &adoption->arenas[i];
        const char *why = take_one(adoption, stored, &run->options->context);
        int r;

        if (why && !stored->dropped)
            tell_refused(stored, why);
        if (why)
            continue;
        r = recovery_add_origin(run, &stored->identity, UINT64_MAX);
        if (r < 0)
            return r;
        run->adopted++;
    }
    return 0;
}

/* A row whose memory says dropped is no proof that the arena is: a start that made it anew gives up
 * its old memory so, too, and may have ended before the new one was in the store. The journal
 * knows. (ADOPT_GIVEN_UP in tests/crash/models/publish.pml.) */
bool adoption_complete(const Adoption *adoption)
{
    const Control *control = adoption->control;
    Identity identity;

    if (control->header->condemned || control->header->arenas_lost)
        return false;
    for (uint32_t i = 0; i < control->header->arenas; i++)
        if (control_arena(control, i, &identity) && !find_taken(adoption, &identity))
            return false;
    return true;
}

int adoption_insert(Adoption *adoption, Store *store)
{
    for (size_t i = 0; i < adoption->count; i++) {
        StoredArena *stored = &adoption->arenas[i];
        int r;

        if (!stored->arena)
            continue;
        r = store_insert(store, stored->arena);
        if (r < 0)
            return r;
        stored->arena = NULL;
        stored->in_place = !stored->converted;
    }
    return 0;
}

void adoption_give_up(Adoption *adoption)
{
    for (size_t i = 0; i < adoption->count; i++) {
        adoption->arenas[i].arena = arena_free(adoption->arenas[i].arena);
        adoption->arenas[i].in_place = false;
    }
    adoption->control = control_free(adoption->control);
}

/* --- afterwards */

uint64_t adoption_revision(const Adoption *adoption)
{
    uint64_t revision = control_position(adoption->control)->written.revision;

    for (size_t i = 0; i < adoption->count; i++)
        if (adoption->arenas[i].arena)
            revision = MAX(revision, arena_revision(adoption->arenas[i].arena));
    return revision;
}

size_t adoption_in_place(const Adoption *adoption)
{
    size_t count = 0;

    for (size_t i = 0; i < adoption->count; i++)
        count += adoption->arenas[i].in_place;
    return count;
}

static bool same_memory(int a, int b)
{
    struct stat one, other;

    return fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

/* This descriptor's memory serves on, be it by another descriptor that was handed over, too. */
static bool serves(const Adoption *adoption, const StoredArena *stored)
{
    for (size_t i = 0; i < adoption->count; i++)
        if (adoption->arenas[i].in_place &&
            (&adoption->arenas[i] == stored || same_memory(adoption->arenas[i].fd, stored->fd)))
            return true;
    return false;
}

void adoption_discard(Adoption *adoption, const ArenaContext *context)
{
    for (size_t i = 0; i < adoption->count; i++) {
        StoredArena *stored = &adoption->arenas[i];
        ArenaPeek peek;

        if (serves(adoption, stored))
            continue;
        if (stored->ours || !check_stored(stored, &peek))
            arena_discard(context, TAKE_FD(stored->fd));
    }
}

void adoption_deinit(Adoption *adoption)
{
    adoption_give_up(adoption);
    for (size_t i = 0; i < adoption->count; i++)
        closep(&adoption->arenas[i].fd);
    free(adoption->arenas);
    *adoption = (Adoption){0};
}
