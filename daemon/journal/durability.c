/* What becomes of written batches: requests to the sync thread, their results, the durable mark,
 * and a sync that failed.
 *
 * After a failed fdatasync the kernel may have marked the lost pages clean: the data is readable
 * and not on the disk, and another fdatasync of the same file would say that all is well. So the
 * file is condemned, first in the control memfd and in its own mark sector (which lives in the page
 * cache just as long as the false contents), then to everybody else. The journal begins anew in a
 * fresh segment whose first batch says that everything up to a revision is in images; once such an
 * image is published (journal_heal) updates go on. */
#include "base/clock.h"
#include "journal/journal-internal.h"

/* So long may the mark sector be older than the durable mark (and until the sync is done that is
 * under way then). Dozens of syncs of a fast disk; at rest nobody notices. */
#define MARK_USEC (10 * USEC_PER_MSEC)

int journal_fd(const Journal *journal)
{
    return sync_fd(journal->sync);
}

/* At least: mostly little enough that the kernel is through with it in a tenth of a millisecond. */
#define WRITE_BEHIND_BYTES (256 * KIB)

static bool journal_submit_note(Journal *journal, bool restart)
{
    const OpenSegment *current = &journal->rotation.current;

    if (sync_submit(journal->sync, current->fd) < 0)
        return false;
    journal->notes[journal->notes_end++ % SYNC_QUEUE_MAX] = (SyncNote){
        .fd = current->fd,
        .salt = current->salt,
        .mark = journal->position.written,
        .restart = restart,
    };
    journal->submitted = journal->position.written;
    return true;
}

bool journal_submit(Journal *journal)
{
    if (!journal_unsynced(journal)) {
        journal->want_sync = false;
        return false;
    }
    journal->want_sync = !journal_submit_note(journal, false);
    if (!journal->want_sync)
        journal->interval_deadline = UINT64_MAX;
    return !journal->want_sync;
}

void journal_write_behind(Journal *journal)
{
    OpenSegment *current = &journal->rotation.current;
    /* Neither the page of the mark nor that of the next batch. */
    uint64_t from = MAX(current->behind, JOURNAL_PAGE_BYTES);
    uint64_t to = ALIGN_DOWN(current->offset, JOURNAL_PAGE_BYTES);

    if (to < from + WRITE_BEHIND_BYTES || sync_pending(journal->sync) > 0)
        return;
    if (sync_submit_behind(journal->sync, current->fd, from, to) < 0)
        return;
    journal->notes[journal->notes_end++ % SYNC_QUEUE_MAX] =
        (SyncNote){.fd = current->fd, .salt = current->salt, .behind = true};
    current->behind = to;
}

void journal_release(Journal *journal, int fd)
{
    if (fd < 0)
        return;
    for (unsigned i = journal->notes_end; i != journal->notes_begin; i--) {
        SyncNote *note = &journal->notes[(i - 1) % SYNC_QUEUE_MAX];
        if (note->fd == fd) {
            note->close_fd = true;
            return;
        }
    }
    close(fd);
}

void journal_write_mark(Journal *journal)
{
    const OpenSegment *current = &journal->rotation.current;

    journal->unmarked = false;
    journal->mark_deadline = UINT64_MAX;
    /* A mark that cannot be written is an older mark: less is known to be damage, nothing is lost.
     */
    (void)segment_write_mark(current->fd, current->salt, &journal->position.durable, 0);
}

/* Not after each sync: a client alone that waits for each of its updates would wait for this write
 * too, and each fdatasync would have two places to write. While batches follow each other each
 * one's header tells what was durable when it was written, under `always` all before it; only the
 * last one has nobody behind it. The sector is for damage that takes the headers too, and for that
 * last one. */
void journal_mark_turn(Journal *journal, uint64_t now)
{
    if (!journal->unmarked)
        return;
    if (journal->mark_deadline == UINT64_MAX)
        journal->mark_deadline = now + MARK_USEC;
    /* Not while the page may be on its way to the disk: its result comes with another turn. */
    if (now >= journal->mark_deadline && sync_pending(journal->sync) == 0)
        journal_write_mark(journal);
}

void journal_condemn(Journal *journal, int fd, uint64_t salt, int error)
{
    journal->control->header->condemned = 1;
    journal->rotation.condemned =
        MAX(journal->position.durable.segment, journal->position.written.segment);
    journal_close_writer(journal);
    journal->failed_revision = MAX(journal->failed_revision, journal->revision);
    journal->want_sync = false;
    journal->interval_deadline = UINT64_MAX;
    journal->unmarked = false;
    journal->mark_deadline = UINT64_MAX;
    /* Should this fail, a restart that adopts nothing takes what it reads for durable; it was
     * answered NotDurable. */
    (void)segment_write_mark(fd, salt, &journal->position.durable, MARK_CONDEMNED);
    journal_change(journal, JOURNAL_CONDEMNED, error);
}

static void journal_synced(Journal *journal, const SyncNote *note)
{
    unsigned other = journal->filling ^ 1;

    journal->position.durable = note->mark;
    journal->unmarked = true;
    control_set_position(journal->control, &journal->position);
    if (journal_mark_compare(&note->mark, &journal->sealed) >= 0)
        control_set_state(journal->control, other, CONTROL_EMPTY);
}

/* The fresh segment behind a condemned one was synced, or not. */
static void journal_restarted(Journal *journal, int result)
{
    journal->restart_pending = false;
    journal->restart_durable = result == 0;
    if (result < 0) {
        journal->rotation.condemned = journal->rotation.current.sequence;
        journal->restart_failed = true;
        journal->restart_retry = clock_monotonic() + ROTATION_RETRY_USEC;
    }
}

static void journal_take_result(Journal *journal, const SyncNote *note, int result)
{
    if (note->behind && result == 0)
        return;
    if (result == 0)
        histogram_add(&journal->statistics.sync, sync_took_usec(journal->sync));
    if (note->restart)
        journal_restarted(journal, result);
    else if (result == 0)
        journal_synced(journal, note);
    else if (journal->state != JOURNAL_CONDEMNED)
        journal_condemn(journal, note->fd, note->salt, result);
}

void journal_reap(Journal *journal)
{
    int result;

    while (sync_take(journal->sync, &result)) {
        SyncNote note = journal->notes[journal->notes_begin++ % SYNC_QUEUE_MAX];
        journal_take_result(journal, &note, result);
        if (note.close_fd)
            close(note.fd);
    }
}

/* What the halves hold is in no segment that counts, and it is in the arenas: images will have it.
 */
static void journal_empty_halves(Journal *journal)
{
    control_set_state(journal->control, 0, CONTROL_EMPTY);
    control_set_state(journal->control, 1, CONTROL_EMPTY);
    record_discard(&journal->writer);
    journal->writer.used = sizeof(BatchHeader);
    journal->writer.at = sizeof(BatchHeader);
    control_set_used(journal->control, journal->filling, sizeof(BatchHeader));
}

void journal_restart_turn(Journal *journal, uint64_t now)
{
    if (journal->restart_pending || journal->restart_durable || now < journal->restart_retry ||
        sync_pending(journal->sync) > 0)
        return;
    if (journal_leave_segment(journal) < 0)
        return;
    journal_empty_halves(journal);
    sync_reset(journal->sync);
    journal->restart_failed = false;
    if (journal_write_empty(journal, BATCH_RESTART) < 0 || !journal_submit_note(journal, true)) {
        journal->restart_failed = true;
        journal->restart_retry = now + ROTATION_RETRY_USEC;
        return;
    }
    journal->restart_pending = true;
}

bool journal_covers(const Journal *journal, uint64_t revision)
{
    if (journal->position.durable.revision >= revision)
        return true;
    return journal->state == JOURNAL_CONDEMNED && journal->restart_durable &&
           revision >= journal->failed_revision;
}

int journal_heal(Journal *journal, uint64_t revision)
{
    if (journal->state != JOURNAL_CONDEMNED)
        return 0;
    if (!journal->restart_durable || revision < journal->failed_revision)
        return -EAGAIN;

    journal->restart_durable = false;
    journal->failed_revision = 0;
    journal->restart_retry = 0;
    journal->revision = journal->position.written.revision;
    journal->position.durable = journal->position.written;
    journal->unmarked = true;
    control_set_position(journal->control, &journal->position);
    control_set_state(journal->control, journal->filling, CONTROL_FILLING);
    journal->control->header->condemned = 0;
    journal_open_writer(journal);
    journal_change(journal, JOURNAL_OK, 0);
    return 0;
}
