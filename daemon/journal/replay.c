/* Reading the journal back.
 *
 * Normal way: survey all segments; begin at the last one that nothing needed lies before; read
 * batch after batch, from a segment to the one that names its end, until something does not check
 * out. Then judge: look ahead for whatever proves that more was durable (marks, in this segment and
 * later ones; segments that are missing; the revision that an image proves). Nothing does: the log
 * ends here. Something does: damage. */
#include "journal/replay.h"

#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "journal/replay-internal.h"

#define PROGRESS_BYTES (16 * MIB)

/* How a step of reading ended, beside negative errnos. */
enum {
    READ_ON,
    READ_STOP, /* something does not check out; replay->reason says what */
    READ_NEXT, /* the next segment goes on here */
};

static int replay_stop(Replay *replay, const char *reason)
{
    replay->reason = reason;
    return READ_STOP;
}

/* True where the next segment says that this one ends. Its word counts more than what lies there.
 */
static bool replay_at_next(const Replay *replay, uint64_t offset)
{
    return replay->successor >= 0 &&
           replay->survey.segments[replay->successor].first.previous_end == offset;
}

static void replay_progress(Replay *replay, bool always)
{
    uint64_t done = replay->read_before + replay->end;
    uint64_t total = 0;

    if (replay->options->progress == NULL || (!always && done - replay->reported < PROGRESS_BYTES))
        return;
    replay->reported = done;
    for (size_t i = 0; i < replay->survey.count; i++)
        total += replay->survey.segments[i].size;
    replay->options->progress(replay->options->context, MIN(done, total), total, replay->records);
}

static int replay_record(Replay *replay, const BatchHeader *batch, uint64_t offset, size_t left,
                         size_t *ret_bytes)
{
    const void *data;
    Record record;

    int r = reader_get(&replay->reader, offset, MIN(left, sizeof(RecordHeader)), &data);
    if (r < 0)
        return r;
    /* Looks at the header alone, so it need not have the rest. */
    size_t bytes = record_bytes(data, left);
    if (bytes == 0)
        return replay_stop(replay, "a record's length makes no sense");
    r = reader_get(&replay->reader, offset, bytes, &data);
    if (r < 0)
        return r;
    if (!record_sealed(data, batch_record_seed(batch, offset)))
        return replay_stop(replay, "a record's checksum does not match");
    if (record_open(data, bytes, &record) < 0 || record.revision <= replay->revision ||
        record.revision > batch->last_revision)
        return replay_stop(replay, "a record makes no sense");

    if (record.revision > replay->options->from_revision) {
        r = replay->options->record(replay->options->context, &record);
        if (r < 0)
            return r;
    }
    replay->revision = ((const RecordHeader *)data)->revision;
    replay->records++;
    if (replay->restarted)
        replay->condemned = false;
    *ret_bytes = bytes;
    return READ_ON;
}

static int replay_records(Replay *replay, const BatchHeader *batch)
{
    uint64_t at = batch->offset + sizeof(*batch);
    uint64_t end = batch->offset + batch->bytes;
    uint64_t count = 0;

    while (at < end) {
        size_t bytes;
        if (replay_at_next(replay, at))
            return READ_NEXT;
        int r = replay_record(replay, batch, at, (size_t)(end - at), &bytes);
        if (r == -ENODATA)
            return replay_stop(replay, "the file ends in the middle of a batch");
        if (r != READ_ON)
            return r;
        at += bytes;
        count++;
        replay->end = at;
        replay_progress(replay, false);
    }
    if (replay_at_next(replay, at))
        return READ_NEXT;
    if (count != batch->records || replay->revision != batch->last_revision)
        return replay_stop(replay, "a batch does not hold what it says");
    return READ_ON;
}

static bool replay_follows(const Replay *replay, const BatchHeader *batch)
{
    bool first = batch->offset == SEGMENT_BATCHES_OFFSET;

    return batch->chain == replay->chain && ((batch->flags & BATCH_FIRST) != 0) == first &&
           batch->previous_revision == replay->revision &&
           batch->base_revision >= batch->previous_revision &&
           batch->last_revision >= batch->base_revision;
}

static int replay_batch(Replay *replay, uint64_t offset)
{
    const SurveyedSegment *segment = replay_segment(replay);
    const void *data;
    BatchHeader batch;

    int r = reader_get(&replay->reader, offset, sizeof(batch), &data);
    if (r == -ENODATA)
        return replay_stop(replay, "the file ends");
    if (r < 0)
        return r;
    memcpy(&batch, data, sizeof(batch));
    if (!batch_valid(&batch, segment->sequence, offset, segment->salt))
        return replay_stop(replay, "there is no batch that checks out");
    if (!replay_follows(replay, &batch))
        return replay_stop(replay, "a batch does not follow the one before it");

    if (journal_mark_compare(&batch.mark, &replay->mark) > 0)
        replay->mark = batch.mark;
    replay->highest = MAX(replay->highest, batch.last_revision);
    replay->clean = false;
    replay->revision = batch.base_revision;
    replay->end = offset + sizeof(batch);
    r = replay_records(replay, &batch);
    if (r != READ_ON)
        return r;
    replay->end = batch_padded(offset + batch.bytes);
    replay->chain = batch.checksum;
    replay->clean = (batch.flags & BATCH_CLEAN) != 0;
    return READ_ON;
}

static int replay_open_segment(Replay *replay)
{
    const SurveyedSegment *segment = replay_segment(replay);
    char name[SEGMENT_NAME_MAX];

    int fd = openat(replay->directory_fd, segment_name(segment->sequence, name),
                    O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    int r = reader_set(&replay->reader, fd);
    if (r < 0)
        return r;
    replay->chain = 0;
    replay->end = SEGMENT_BATCHES_OFFSET;
    replay->successor = survey_successor(&replay->survey, replay->index);
    replay->restarted = segment->has_first && (segment->first.flags & BATCH_RESTART) != 0;
    if (segment->mark_flags & MARK_CONDEMNED)
        replay->condemned = true;
    return 0;
}

/* All batches of a segment: READ_STOP or READ_NEXT. */
static int replay_batches(Replay *replay)
{
    int r = replay_open_segment(replay);
    if (r < 0)
        return r;
    do {
        if (replay_at_next(replay, replay->end))
            return READ_NEXT;
        r = replay_batch(replay, replay->end);
    } while (r == READ_ON);
    return r;
}

/* From the first segment that is needed to the place where it ends. */
static int replay_read(Replay *replay, size_t start)
{
    replay->index = start;
    replay->revision = replay->survey.segments[start].first.previous_revision;
    for (;;) {
        int r = replay_batches(replay);
        if (r != READ_NEXT)
            return r < 0 ? r : 0;
        const SurveyedSegment *next = &replay->survey.segments[replay->successor];
        if (next->first.previous_revision != replay->revision) {
            replay->reason = "the segment behind it follows another revision";
            return 0;
        }
        if ((next->first.flags & BATCH_RESTART) != 0 &&
            next->first.applied_revision > replay->revision) {
            replay->reason = "the records behind it are in images only";
            return 0;
        }
        JournalPosition *position = replay->position;
        position->segments[replay->index].last_revision = replay->revision;
        position->segments[replay->index].bytes = replay->end;
        replay->read_before += replay_segment(replay)->size;
        replay->index = (size_t)replay->successor;
    }
}

/* Last revisions and sizes of the segments that were not read. */
static void replay_unread(Replay *replay, size_t start)
{
    JournalPosition *position = replay->position;

    for (size_t i = 0; i < replay->survey.count; i++) {
        const SurveyedSegment *segment = &replay->survey.segments[i];
        ssize_t next = survey_successor(&replay->survey, i);
        position->segments[i] = (ReplaySegment){
            .sequence = segment->sequence,
            .last_revision = replay->survey.segments[start].first.previous_revision,
            .bytes = segment->size,
        };
        if (i < start && next >= 0) {
            const BatchHeader *first = &replay->survey.segments[next].first;
            position->segments[i].last_revision = first->previous_revision;
            position->segments[i].bytes = first->previous_end;
        }
    }
}

static void replay_fill(Replay *replay)
{
    JournalPosition *position = replay->position;
    const SurveyedSegment *segment = replay_segment(replay);
    JournalMark end = {segment->sequence, replay->end, replay->revision};

    position->segment = end.segment;
    position->end = end.offset;
    position->revision = end.revision;
    position->segments[replay->index].last_revision = end.revision;
    position->segments[replay->index].bytes = end.offset;
    position->segment_count = replay->index + 1;
    position->highest = MAX(MAX(replay->highest, end.revision), replay->options->required_revision);
    position->condemned = replay->condemned;
    position->durable = journal_mark_compare(&replay->mark, &end) < 0 ? replay->mark : end;
    position->cut_off = replay->ahead_bytes > 0;
    position->cut_off_bytes = replay->ahead_bytes;
    position->clean = replay->clean && !position->cut_off;
    position->records = replay->records;
    replay_progress(replay, true);
}

/* There are segments, and none to begin with: which one it would have been. One that was never
 * used (that of the first start never is) follows one that was. */
static int replay_blame_beginning(Replay *replay, ReplayDamage *damage)
{
    const SurveyedSegment *first = &replay->survey.segments[0];

    if (!first->good)
        return replay_damaged(replay, first->sequence, 0, survey_fault_text(SURVEY_HEADER), damage);
    if (first->has_first)
        return replay_damaged(replay, first->sequence, SEGMENT_BATCHES_OFFSET,
                              "segments before it are missing", damage);
    if (first->sequence > 1 && first->empty)
        return replay_damaged(replay, first->sequence - 1, 0, survey_fault_text(SURVEY_MISSING),
                              damage);
    return replay_damaged(replay, first->sequence, SEGMENT_BATCHES_OFFSET,
                          survey_fault_text(SURVEY_FIRST_BATCH), damage);
}

static int replay_no_start(Replay *replay, ReplayDamage *damage)
{
    replay->revision = replay->options->from_revision;
    int r = replay_blame_beginning(replay, damage);
    if (!replay->options->cut)
        return r;
    r = replay_set_aside(replay, 0, false);
    if (r < 0)
        return r;
    replay->position->revision =
        MAX(replay->options->from_revision, replay->options->required_revision);
    replay->position->highest = replay->position->revision;
    replay->position->cut_off = true;
    return 0;
}

static int replay_run(Replay *replay, ReplayDamage *damage)
{
    JournalPosition *position = replay->position;

    position->lineage = replay->survey.lineage;
    if (replay->survey.count == 0) {
        replay->revision = replay->options->from_revision;
        if (replay->revision < replay->options->required_revision && !replay->options->cut)
            return replay_damaged(
                replay, 1, 0, "there is no journal, and an image proves a later revision", damage);
        position->revision = MAX(replay->revision, replay->options->required_revision);
        position->highest = position->revision;
        return 0;
    }
    ssize_t start = survey_start(&replay->survey, replay->options->from_revision);
    if (start < 0)
        return replay_no_start(replay, damage);
    position->segments = calloc(replay->survey.count, sizeof(*position->segments));
    if (position->segments == NULL)
        return -ENOMEM;
    replay_unread(replay, (size_t)start);
    int r = replay_read(replay, (size_t)start);
    if (r < 0)
        return r;
    r = replay_judge(replay, damage);
    if (r == -EBADMSG && replay->options->cut) {
        r = replay_set_aside(replay, replay->index, true);
        replay->ahead_bytes = MAX(replay->ahead_bytes, 1);
    }
    if (r < 0)
        return r;
    replay_fill(replay);
    return 0;
}

int journal_replay(int directory_fd, const ReplayOptions *options, JournalPosition *ret,
                   ReplayDamage *damage)
{
    JournalPosition position = {0};
    Replay replay = {
        .options = options,
        .directory_fd = directory_fd,
        .reader.fd = -1,
        .position = &position,
    };

    *damage = (ReplayDamage){0};
    int r = survey_read(directory_fd, &replay.survey, damage);
    if (r < 0)
        return r;
    r = replay_run(&replay, damage);
    reader_deinit(&replay.reader);
    survey_deinit(&replay.survey);
    if (r < 0) {
        journal_position_deinit(&position);
        return r;
    }
    *ret = position;
    return 0;
}

void journal_position_deinit(JournalPosition *position)
{
    free(position->segments);
    *position = (JournalPosition){0};
}
