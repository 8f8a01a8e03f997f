/* The beginning and the end of a journal. Here, and only here, the caller waits for the disk.
 *
 * A start always goes on in a segment of its own: its first batch names the place where the good
 * records end (so what lies behind it is cut off for good, whatever it is), and the revision to
 * count from (so no number is given twice, however often a start dies). It is in the file before
 * the file gets its name. */
#include <fcntl.h>

#include "base/file.h"
#include "base/log.h"
#include "journal/journal-internal.h"

/* One may serve as the next segment's file; a damaged one is for people to look at. */
static int open_remove(const JournalOptions *options, const JournalPosition *position,
                       uint64_t sequence)
{
    uint64_t spare = position->condemned ? 0 : options->segment_bytes_max;

    if (position->unused_damaged == 0 || sequence < position->unused_damaged)
        return segment_remove(options->directory_fd, sequence, spare);
    int r = segment_set_aside(options->directory_fd, sequence, false);
    return r < 0 ? r : file_sync_directory(options->directory_fd);
}

/* Segments behind the last that counts: made ready and never used, or cut off. Newest first, each
 * durable before the next, so that there is no hole in the row at any time. */
static int open_remove_rest(const JournalOptions *options, const JournalPosition *position)
{
    _cleanup_(freep) uint64_t *list = NULL;
    size_t count;

    int r = segment_clean(options->directory_fd);
    if (r < 0)
        return r;
    r = segment_list(options->directory_fd, &list, &count);
    if (r < 0)
        return r;
    for (; count > 0 && list[count - 1] > position->segment; count--) {
        r = open_remove(options, position, list[count - 1]);
        if (r < 0)
            return r;
    }
    return 0;
}

static int open_sync_segment(Journal *journal, uint64_t sequence)
{
    _cleanup_(closep) int fd = -1;
    const SyncOperations *operations = journal->options.sync_operations;
    char name[SEGMENT_NAME_MAX];
    SegmentHeader header;

    fd = openat(journal->options.directory_fd, segment_name(sequence, name),
                O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    int r = segment_read_header(fd, sequence, &header);
    if (r < 0)
        return r;
    if (operations != NULL)
        r = operations->datasync(operations->context, fd);
    else
        r = fdatasync(fd) < 0 ? -errno : 0;
    if (r < 0)
        journal_condemn(journal, fd, header.salt, r);
    return 0;
}

/* What was replayed may be in the page cache only. It must be durable before anything that follows
 * it is; a sync that fails condemns as it does later. */
static int open_sync_replayed(Journal *journal, const JournalPosition *position)
{
    for (size_t i = 0; i < position->segment_count && journal->state == JOURNAL_OK; i++) {
        if (position->segments[i].sequence < position->durable.segment)
            continue;
        int r = open_sync_segment(journal, position->segments[i].sequence);
        if (r < 0)
            return r;
    }
    return 0;
}

static int open_rotation(Journal *journal, const JournalPosition *position)
{
    ReplaySegment *left = NULL;

    if (position->segment_count > 0) {
        left = calloc(position->segment_count, sizeof(*left));
        if (left == NULL)
            return -ENOMEM;
        memcpy(left, position->segments, position->segment_count * sizeof(*left));
    }
    rotation_init(&journal->rotation, journal->options.directory_fd, journal->options.housekeeper,
                  &position->lineage, journal->options.segment_bytes_max, position->segment + 1,
                  left, position->segment_count);
    journal->rotation.ahead = journal->options.policy == JOURNAL_ALWAYS;
    return 0;
}

/* The first segment of this start, with its first batch. */
static int open_begin(Journal *journal)
{
    uint8_t data[SEGMENT_SECTOR] __attribute__((aligned(8)));
    ControlPosition *position = &journal->position;
    BatchHeader batch = {
        .flags = BATCH_FIRST,
        .offset = SEGMENT_BATCHES_OFFSET,
        .previous_segment = position->left.segment,
        .previous_end = position->left.offset,
        .previous_revision = position->left.revision,
        .base_revision = journal->revision,
        .mark = position->left, /* all before was synced just now */
    };
    uint64_t salt;

    int r = rotation_salt(&salt);
    if (r < 0)
        return r;
    int64_t padded = batch_seal(data, sizeof(BatchHeader), &batch, salt);
    if (padded < 0)
        return (int)padded;
    r = rotation_begin(&journal->rotation, salt, data, (size_t)padded);
    if (r < 0)
        return r;
    memcpy(&batch, data, sizeof(batch));
    position->chain = batch.checksum;
    position->last = batch.offset;
    position->salt = journal->rotation.current.salt;
    position->written = (JournalMark){
        .segment = journal->rotation.current.sequence,
        .offset = journal->rotation.current.offset,
        .revision = batch.last_revision,
    };
    position->durable = position->written;
    journal->submitted = position->written;
    journal->unmarked = true;
    return 0;
}

static void open_control(Journal *journal)
{
    ControlHeader *header = journal->control->header;
    bool condemned = journal->state == JOURNAL_CONDEMNED;

    control_set_state(journal->control, 0, CONTROL_EMPTY);
    control_set_state(journal->control, 1, CONTROL_EMPTY);
    control_set_position(journal->control, &journal->position);
    header->clean_stop = 0;
    header->condemned = condemned;
    journal->filling = 0;
    journal->writer.used = sizeof(BatchHeader);
    journal->writer.at = sizeof(BatchHeader);
    control_set_used(journal->control, 0, sizeof(BatchHeader));
    journal_open_writer(journal);
    if (condemned)
        journal_close_writer(journal);
    else
        control_set_state(journal->control, 0, CONTROL_FILLING);
}

static int open_journal(Journal *journal, const JournalPosition *position)
{
    JournalMark end = {position->segment, position->end, position->revision};

    journal->position = (ControlPosition){
        .written = end,
        .left = end,
        .durable = position->durable,
    };
    journal->submitted = end;
    journal->revision = MAX(journal->options.base_revision, position->revision);

    int r = open_remove_rest(&journal->options, position);
    if (r < 0)
        return r;
    r = open_sync_replayed(journal, position);
    if (r < 0)
        return r;
    if (position->condemned && journal->state == JOURNAL_OK) {
        journal->rotation.condemned = position->segment;
        journal_change(journal, JOURNAL_CONDEMNED, -EIO);
    }
    if (journal->state == JOURNAL_CONDEMNED)
        journal->failed_revision = MAX(position->revision, position->highest);
    if (journal->state == JOURNAL_OK) {
        r = open_begin(journal);
        if (r < 0)
            return r;
    }
    open_control(journal);
    return sync_new(journal->options.sync_operations, &journal->sync);
}

int journal_open(const JournalOptions *options, Control *control, const JournalPosition *position,
                 Journal **ret)
{
    if (!lineage_equal(&control->header->lineage, &position->lineage))
        return -ESTALE;
    Journal *journal = calloc(1, sizeof(*journal));
    if (journal == NULL)
        return -ENOMEM;
    journal->options = *options;
    journal->control = control;
    journal->interval_deadline = UINT64_MAX;
    journal->mark_deadline = UINT64_MAX;

    int r = open_rotation(journal, position);
    if (r < 0) {
        free(journal);
        return r;
    }
    r = open_journal(journal, position);
    if (r < 0) {
        rotation_deinit(&journal->rotation);
        free(journal);
        return r;
    }
    journal->options.sync_operations = NULL; /* the sync thread has a copy, the original may go */
    rotation_turn(&journal->rotation, 0);
    *ret = journal;
    return 0;
}

static bool close_pending(const Journal *journal)
{
    return journal_gathered(journal) || journal_unsynced(journal) ||
           sync_pending(journal->sync) > 0;
}

/* Everything to the disk. Each round gets a batch further; the housekeeper may have to make room
 * first. */
static int close_flush(Journal *journal)
{
    enum { ROUNDS = 8 };

    for (int i = 0; i < ROUNDS && journal->state != JOURNAL_CONDEMNED && close_pending(journal);
         i++) {
        if (i > 0)
            housekeeper_drain(journal->options.housekeeper);
        journal->room_retry = 0; /* there is no later */
        journal_commit(journal);
        journal_sync(journal);
        sync_wait(journal->sync);
        journal_reap(journal);
    }
    if (journal->state != JOURNAL_OK)
        return journal->error;
    return close_pending(journal) ? -EIO : 0;
}

/* The note that this stop was clean, durable, and then the mark that covers it, durable too: from
 * now on no byte of the journal can change unnoticed. */
static int close_note(Journal *journal)
{
    int r = journal_write_empty(journal, BATCH_CLEAN);
    if (r < 0)
        return r;
    r = close_flush(journal);
    if (r < 0)
        return r;
    journal_write_mark(journal);
    if (sync_submit(journal->sync, journal->rotation.current.fd) < 0)
        return -EAGAIN;
    sync_wait(journal->sync);
    (void)sync_take(journal->sync, &r);
    return r;
}

int journal_close(Journal *journal, bool clean)
{
    if (journal == NULL)
        return 0;
    int r = close_flush(journal);
    if (r == 0 && clean) {
        r = close_note(journal);
        if (r == 0)
            journal->control->header->clean_stop = 1;
    }
    /* What is still under way goes to files that nobody uses any more. */
    journal->sync = sync_free(journal->sync);
    for (; journal->notes_begin != journal->notes_end; journal->notes_begin++) {
        const SyncNote *note = &journal->notes[journal->notes_begin % SYNC_QUEUE_MAX];
        if (note->close_fd)
            close(note->fd);
    }
    rotation_deinit(&journal->rotation);
    free(journal);
    return r;
}
