/* Appending and committing.
 *
 * Records are gathered in one half of the control memfd. journal_commit seals them into a batch,
 * writes it with one pwrite and, under `always`, hands the segment to the sync thread; until that
 * is done the next batch gathers in the other half. What can go wrong: no room in the half (the
 * caller waits for the batch under way), no room on the disk (the batch stays and goes to a fresh
 * segment, see journal_try_again), a failed sync (durability.c). */
#include "journal/journal.h"

#include "base/clock.h"
#include "base/file.h"
#include "journal/journal-internal.h"

RecordWriter *journal_writer(Journal *journal)
{
    return &journal->writer;
}

void journal_append_end(Journal *journal)
{
    /* The caller counts; a number that does not rise would make the batch unreadable. */
    assert(journal->writer.revision > journal->revision);
    journal->revision = journal->writer.revision;
    control_set_used(journal->control, journal->filling, journal->writer.used);
}

void journal_arena_created(Journal *journal, const Identity *identity)
{
    control_add_arena(journal->control, identity);
}

void journal_arena_dropped(Journal *journal, const Identity *identity)
{
    control_remove_arena(journal->control, identity);
}

bool journal_has_room(const Journal *journal, size_t bytes)
{
    return journal->writer.capacity > journal->writer.used &&
           journal->writer.capacity - journal->writer.used >= bytes;
}

uint64_t journal_revision(const Journal *journal)
{
    return journal->revision;
}

uint64_t journal_replied_revision(const Journal *journal)
{
    return journal->options.policy == JOURNAL_ALWAYS ? journal->position.durable.revision
                                                     : journal->position.written.revision;
}

uint64_t journal_durable_revision(const Journal *journal)
{
    return journal->position.durable.revision;
}

const JournalStatistics *journal_statistics(const Journal *journal)
{
    return &journal->statistics;
}

JournalState journal_state(const Journal *journal)
{
    return journal->state;
}

int journal_error(const Journal *journal)
{
    return journal->error;
}

uint64_t journal_failed_revision(const Journal *journal)
{
    return journal->failed_revision;
}

void journal_change(Journal *journal, JournalState state, int error)
{
    bool changed = journal->state != state;

    journal->state = state;
    journal->error = error;
    if (changed && journal->options.changed != NULL)
        journal->options.changed(journal->options.context, state, error);
}

/* Over the half that is filling; what it holds stays. */
void journal_open_writer(Journal *journal)
{
    journal->writer.data = control_half(journal->control, journal->filling);
    journal->writer.capacity = journal->control->header->half_bytes - JOURNAL_PAGE_BYTES;
}

void journal_close_writer(Journal *journal)
{
    journal->writer.capacity = 0;
}

void journal_advance(Journal *journal, const BatchHeader *batch)
{
    OpenSegment *current = &journal->rotation.current;

    current->offset += batch_padded(batch->bytes);
    journal->position.chain = batch->checksum;
    journal->position.last = batch->offset;
    journal->position.salt = current->salt;
    journal->position.written = (JournalMark){
        .segment = current->sequence,
        .offset = current->offset,
        .revision = batch->last_revision,
    };
    control_set_position(journal->control, &journal->position);
}

int journal_write_empty(Journal *journal, uint32_t flags)
{
    uint8_t data[SEGMENT_SECTOR] __attribute__((aligned(8)));
    const OpenSegment *current = &journal->rotation.current;
    BatchHeader fields = control_next_batch(&journal->position);

    fields.flags |= flags;
    fields.base_revision = MAX(fields.base_revision, journal->revision);
    if (flags & BATCH_RESTART)
        fields.applied_revision = journal->failed_revision;
    int64_t padded = batch_seal(data, sizeof(BatchHeader), &fields, current->salt);
    if (padded < 0)
        return (int)padded;
    int r = file_write_at(current->fd, data, (size_t)padded, fields.offset);
    if (r < 0)
        return r;
    memcpy(&fields, data, sizeof(fields));
    journal_advance(journal, &fields);
    return 0;
}

int journal_leave_segment(Journal *journal)
{
    Rotation *rotation = &journal->rotation;
    ControlPosition *position = &journal->position;
    bool used = rotation->current.fd >= 0 && rotation->current.offset > SEGMENT_BATCHES_OFFSET &&
                !journal->restart_failed;
    int fd;

    if (!rotation_has_ready(rotation))
        return -EAGAIN;
    int r = rotation_next(rotation, position->written.revision, &fd);
    if (r < 0)
        return r;
    /* A segment that nothing was written to, or that failed to begin anew, is not in the chain: the
     * next one follows the one before it. */
    if (used)
        position->left = position->written;
    position->written.segment = rotation->current.sequence;
    position->written.offset = SEGMENT_BATCHES_OFFSET;
    position->chain = 0;
    position->last = 0;
    position->salt = rotation->current.salt;
    control_set_position(journal->control, position);
    journal->submitted = position->written;
    journal_release(journal, fd);
    return 0;
}

int journal_next_segment(Journal *journal)
{
    if (!rotation_has_ready(&journal->rotation))
        return -EAGAIN;
    /* Syncs are in the order of revisions: the one left comes before anything of the next. */
    if (journal_unsynced(journal) && !journal_submit(journal))
        return -EAGAIN;
    return journal_leave_segment(journal);
}

/* Seals what was gathered and writes it. begin: now, for how long it takes. On failure it is as it
 * was: gathered, to be sealed again for another place. */
static int journal_write_gathered(Journal *journal, uint64_t begin)
{
    Control *control = journal->control;
    const OpenSegment *current = &journal->rotation.current;
    unsigned half = journal->filling;
    uint8_t *data = control_half(control, half);
    BatchHeader batch = control_next_batch(&journal->position);

    int64_t padded = batch_seal(data, journal->writer.used, &batch, current->salt);
    if (padded < 0)
        return (int)padded;
    memcpy(&batch, data, sizeof(batch));
    control->header->half[half].segment = current->sequence;
    control->header->half[half].offset = batch.offset;
    control_set_state(control, half, CONTROL_SEALED);

    /* With zeros up to the end of the page: a page written in part would first be read from the
     * disk where the page cache does not have it, and this thread would wait. */
    size_t bytes =
        (size_t)(ALIGN_UP(batch.offset + (uint64_t)padded, JOURNAL_PAGE_BYTES) - batch.offset);
    memset(data + padded, 0, bytes - (size_t)padded);
    int r = file_write_at(current->fd, data, bytes, batch.offset);
    if (r < 0) {
        control_set_state(control, half, CONTROL_FILLING);
        return r;
    }
    histogram_add(&journal->statistics.write, clock_monotonic() - begin);
    journal->statistics.written_bytes += (uint64_t)padded;
    journal_advance(journal, &batch);
    journal->sealed = journal->position.written;

    journal->filling = half ^ 1;
    journal->writer.used = sizeof(BatchHeader);
    record_discard(&journal->writer);
    journal_open_writer(journal);
    control_set_used(control, journal->filling, sizeof(BatchHeader));
    control_set_state(control, journal->filling, CONTROL_FILLING);
    if (journal->options.policy != JOURNAL_ALWAYS)
        control_set_state(control, half, CONTROL_EMPTY);
    return 0;
}

/* A batch was written: what the policy wants done about it. */
static void journal_written(Journal *journal, uint64_t now)
{
    switch (journal->options.policy) {
    case JOURNAL_ALWAYS:
        journal->want_sync = true;
        break;
    case JOURNAL_INTERVAL:
        if (journal->interval_deadline == UINT64_MAX)
            journal->interval_deadline = now + journal->options.sync_interval_usec;
        journal_write_behind(journal);
        break;
    case JOURNAL_NEVER:
        journal_write_behind(journal);
        break;
    }
}

static void journal_write_turn(Journal *journal, uint64_t now)
{
    /* Under `always` the batch before is being synced: this one goes on gathering. */
    if (journal->control->header->half[journal->filling ^ 1].state != CONTROL_EMPTY)
        return;
    /* Where no other one is ready the current segment goes on. */
    if (rotation_full(&journal->rotation, batch_padded(journal->writer.used)))
        (void)journal_next_segment(journal);
    int r = journal_write_gathered(journal, now);
    if (r < 0) {
        journal_close_writer(journal);
        journal->room_retry = journal_fresh(journal) ? now + ROTATION_RETRY_USEC : 0;
        journal_change(journal, JOURNAL_NO_ROOM, r);
        return;
    }
    journal_written(journal, now);
}

/* The batch goes to a fresh segment: where the write that failed left something, nobody looks any
 * more, since the fresh segment's first batch names the place before it. A fresh one in which it
 * failed too is tried again: each new one would take more of the room that is wanting. */
static void journal_try_again(Journal *journal, uint64_t now)
{
    if (now < journal->room_retry)
        return;
    if (!journal_fresh(journal) && journal_next_segment(journal) < 0)
        return;
    int r = journal_write_gathered(journal, now);
    if (r < 0) {
        journal->error = r;
        journal->room_retry = now + ROTATION_RETRY_USEC;
        return;
    }
    journal_change(journal, JOURNAL_OK, 0);
    journal_written(journal, now);
}

void journal_commit(Journal *journal)
{
    uint64_t now = clock_monotonic();

    rotation_turn(&journal->rotation, now);
    if (journal->state == JOURNAL_CONDEMNED) {
        journal_restart_turn(journal, now);
        return;
    }
    journal_mark_turn(journal, now);
    if (journal->state == JOURNAL_NO_ROOM)
        journal_try_again(journal, now);
    else if (journal_gathered(journal))
        journal_write_turn(journal, now);

    if (now >= journal->interval_deadline)
        journal->want_sync = true;
    if (journal->want_sync)
        journal_submit(journal);
}

uint64_t journal_deadline(const Journal *journal)
{
    uint64_t deadline = MIN(rotation_deadline(&journal->rotation), journal->interval_deadline);
    bool ready = rotation_has_ready(&journal->rotation);

    if (journal->unmarked && sync_pending(journal->sync) == 0)
        deadline = MIN(deadline, journal->mark_deadline);
    /* What waits for a segment or for a sync is woken by those. */
    switch (journal->state) {
    case JOURNAL_OK:
        break;
    case JOURNAL_NO_ROOM:
        if (ready || journal_fresh(journal))
            deadline = MIN(deadline, journal->room_retry);
        break;
    case JOURNAL_CONDEMNED:
        if (ready && !journal->restart_pending && !journal->restart_durable &&
            sync_pending(journal->sync) == 0)
            deadline = MIN(deadline, journal->restart_retry);
        break;
    }
    return deadline;
}

void journal_set_policy(Journal *journal, JournalPolicy policy, uint64_t sync_interval_usec,
                        uint64_t segment_bytes_max)
{
    journal->options.policy = policy;
    journal->options.sync_interval_usec = sync_interval_usec;
    journal->options.segment_bytes_max = segment_bytes_max;
    journal->rotation.segment_bytes_max = segment_bytes_max;
    journal->rotation.ahead = policy == JOURNAL_ALWAYS;
    /* What was written under another policy is not left in between. */
    journal->want_sync = true;
    journal->interval_deadline = UINT64_MAX;
}

bool journal_cut_ready(const Journal *journal)
{
    if (journal->state == JOURNAL_CONDEMNED)
        return true;
    return journal->state == JOURNAL_OK && !journal_gathered(journal) &&
           (rotation_has_ready(&journal->rotation) || !rotation_making(&journal->rotation));
}

bool journal_switch(Journal *journal)
{
    if (journal->state != JOURNAL_OK || journal_gathered(journal))
        return false;
    journal_sync(journal);
    /* A segment that is still fresh serves as well. */
    if (journal_fresh(journal))
        return true;
    return journal_next_segment(journal) == 0;
}

void journal_sync(Journal *journal)
{
    if (journal->state == JOURNAL_CONDEMNED)
        return;
    journal->want_sync = true;
    journal_submit(journal);
}

void journal_retire(Journal *journal, uint64_t revision)
{
    /* The segment that the mark is in tells what was before it, so the ones before are needed no
     * more (MAY_GO in tests/crash/models/publish.pml). */
    rotation_retire(&journal->rotation, revision, journal->position.durable.segment);
}

uint64_t journal_bytes_behind(const Journal *journal, uint64_t revision)
{
    return rotation_bytes_behind(&journal->rotation, revision);
}

size_t journal_segments(const Journal *journal)
{
    return journal->rotation.left_count + (journal->rotation.current.fd >= 0);
}
