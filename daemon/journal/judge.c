/* Judging the place where reading stopped: the end of the log, or damage.
 *
 * What proves that more was durable: a durable mark behind the place, in the mark sectors, in the
 * batches that were read, in batches further on in the segment, or in later segments; a segment
 * that is missing; one whose header does not check out, unless nothing was ever written to it; the
 * revision that an image proves. */
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "journal/replay-internal.h"

/* A batch that must begin in [from, to) and was written there: its salt is the segment's, whatever
 * became of what lies before it. */
static int replay_look(Replay *replay, const SurveyedSegment *segment, uint64_t from, uint64_t to)
{
    const void *data;
    int r = 0;

    for (uint64_t offset = from; offset < to; offset += SEGMENT_SECTOR) {
        r = reader_get(&replay->reader, offset, sizeof(BatchHeader), &data);
        if (r < 0)
            break;
        const BatchHeader *batch = data;
        if (batch->magic != BATCH_MAGIC ||
            !batch_valid(batch, segment->sequence, offset, segment->salt))
            continue;
        if (journal_mark_compare(&batch->mark, &replay->mark) > 0)
            replay->mark = batch->mark;
        replay->highest = MAX(replay->highest, batch->last_revision);
        replay->ahead_bytes += batch->bytes;
    }
    return r == -ENODATA ? 0 : r;
}

static int replay_open_other(Replay *replay, const SurveyedSegment *segment)
{
    char name[SEGMENT_NAME_MAX];
    int fd = openat(replay->directory_fd, segment_name(segment->sequence, name),
                    O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    return reader_set(&replay->reader, fd);
}

/* Behind the end in this segment. *ret_more: there is something written by this segment's user. */
static int replay_look_ahead(Replay *replay, bool *ret_more)
{
    const SurveyedSegment *segment = replay_segment(replay);
    uint64_t offset = batch_padded(replay->end);

    int r = replay_look(replay, segment, offset, UINT64_MAX);
    *ret_more = replay->ahead_bytes > 0 || replay->end % SEGMENT_SECTOR != 0 ||
                (segment->mark.segment == segment->sequence && segment->mark.offset > replay->end);
    /* The batch that has just failed is among what is cut off. */
    replay->ahead_bytes += offset - replay->end;
    return r;
}

/* Later segments whose first batch does not check out: never used, or that one batch is damaged.
 * Then the second begins no further on than a batch is long. */
static int replay_look_behind(Replay *replay, size_t last)
{
    for (size_t i = replay->index + 1; i <= last; i++) {
        const SurveyedSegment *segment = &replay->survey.segments[i];
        if (!segment->good || segment->has_first)
            continue;
        int r = replay_open_other(replay, segment);
        if (r == 0)
            r = replay_look(replay, segment, SEGMENT_BATCHES_OFFSET,
                            SEGMENT_BATCHES_OFFSET + BATCH_BYTES_MAX);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Whether a segment was never used since it got its name, where its header, and so its salt, is
 * lost: nothing in it looks like a batch that counts from the end of the log or further on. What a
 * recycled file holds from before is older than that. */
static int replay_unused(Replay *replay, const SurveyedSegment *segment, bool *ret)
{
    const void *data;
    int r = replay_open_other(replay, segment);

    /* A file without room for a batch was cut off, whatever it held. */
    *ret = segment->size >= SEGMENT_BATCHES_OFFSET + SEGMENT_SECTOR;
    for (uint64_t offset = SEGMENT_BATCHES_OFFSET; r == 0 && *ret; offset += SEGMENT_SECTOR) {
        r = reader_get(&replay->reader, offset, sizeof(BatchHeader), &data);
        if (r < 0)
            break;
        const BatchHeader *batch = data;
        /* A checksum that is all there is of it counts: better a start refused than a record lost.
         */
        if (batch->magic == BATCH_MAGIC && batch->last_revision > replay->revision)
            *ret = false;
    }
    return r == -ENODATA ? 0 : r;
}

/* The log ends here, and all that follows should have been made ready and never used. */
static int replay_judge_rest(Replay *replay, ReplayDamage *damage)
{
    SurveyFault fault;
    size_t from = replay->index;

    while (survey_fault(&replay->survey, from, 0, &fault)) {
        bool unused = false;
        if (fault.what == SURVEY_HEADER && fault.index > replay->index) {
            int r = replay_unused(replay, &replay->survey.segments[fault.index], &unused);
            if (r < 0)
                return r;
        }
        if (!unused)
            return replay_damaged(replay, fault.sequence, fault.offset,
                                  survey_fault_text(fault.what), damage);
        if (replay->position->unused_damaged == 0)
            replay->position->unused_damaged = fault.sequence;
        from = fault.index;
        replay->survey.segments[from].good = true; /* all that can be said of it is said */
    }
    return 0;
}

/* More was durable than could be read. The segment that reading stopped in is to blame unless all
 * that was written there was read: then it is the one that should go on. */
static int replay_blame(const Replay *replay, bool more, ReplayDamage *damage)
{
    const SurveyedSegment *segment = replay_segment(replay);
    SurveyFault fault;

    if (!more && replay->successor < 0 && replay->mark.segment > segment->sequence &&
        survey_fault(&replay->survey, replay->index, replay->mark.segment, &fault))
        return replay_damaged(replay, fault.sequence, fault.offset, survey_fault_text(fault.what),
                              damage);
    return replay_damaged(replay, segment->sequence, replay->end, replay->reason, damage);
}

/* Whether anything was ever appended to a segment that began anew behind a condemned one: it must
 * hold another batch behind the one that began it, or have a successor. */
static int replay_restart_used(Replay *replay, size_t index, bool *ret)
{
    const SurveyedSegment *segment = &replay->survey.segments[index];
    _cleanup_(closep) int fd = -1;
    char name[SEGMENT_NAME_MAX];
    BatchHeader second;

    *ret = true;
    if (survey_successor(&replay->survey, index) >= 0 || segment->first.records > 0)
        return 0;
    /* Its own mark would tell of a second batch that is damaged. */
    uint64_t offset = SEGMENT_BATCHES_OFFSET + batch_padded(segment->first.bytes);
    if (segment->mark.segment == segment->sequence && segment->mark.offset > offset)
        return 0;
    fd = openat(replay->directory_fd, segment_name(segment->sequence, name),
                O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    int r = file_read_at(fd, &second, sizeof(second), offset);
    if (r < 0 && r != -ENODATA)
        return r;
    *ret = r == 0 && batch_valid(&second, segment->sequence, offset, segment->salt) &&
           (second.records > 0 || (second.flags & BATCH_CLEAN) == 0);
    return 0;
}

int replay_damaged(const Replay *replay, uint64_t sequence, uint64_t offset, const char *reason,
                   ReplayDamage *damage)
{
    segment_name(sequence, damage->file);
    damage->offset = offset;
    damage->last_revision = replay->revision;
    snprintf(damage->reason, sizeof(damage->reason), "%s", reason);
    return -EBADMSG;
}

/* Finds the highest mark and revision that anything from here to the last segment tells. */
static int replay_survey_ahead(Replay *replay, size_t last, bool *ret_more)
{
    int r = replay_look_ahead(replay, ret_more);
    if (r == 0)
        r = replay_look_behind(replay, last);
    if (r < 0)
        return r;
    JournalMark mark = survey_mark(&replay->survey, 0, last);
    if (journal_mark_compare(&mark, &replay->mark) > 0)
        replay->mark = mark;
    replay->highest = MAX(replay->highest, replay->mark.revision);
    for (size_t i = replay->index + 1; i <= last; i++) {
        if (!replay->survey.segments[i].has_first)
            continue;
        replay->highest = MAX(replay->highest, replay->survey.segments[i].first.last_revision);
        replay->ahead_bytes += replay->survey.segments[i].first.bytes;
    }
    return 0;
}

int replay_judge(Replay *replay, ReplayDamage *damage)
{
    const SurveyedSegment *segment = replay_segment(replay);
    JournalMark end = {.segment = segment->sequence, .offset = replay->end};
    size_t last = replay->survey.count - 1;
    bool more;

    /* A segment that began anew and was never used is as good as not there: see journal_covers. */
    if (replay->successor >= 0 &&
        (replay->survey.segments[replay->successor].first.flags & BATCH_RESTART)) {
        bool used;
        int r = replay_restart_used(replay, (size_t)replay->successor, &used);
        if (r < 0)
            return r;
        if (used)
            return replay_damaged(replay, segment->sequence, replay->end,
                                  "a sync had failed here; what follows is in images only, and "
                                  "they are missing",
                                  damage);
        last = (size_t)replay->successor - 1;
    }
    int r = replay_survey_ahead(replay, last, &more);
    if (r < 0)
        return r;
    if (journal_mark_compare(&replay->mark, &end) > 0)
        return replay_blame(replay, more, damage);
    r = replay_judge_rest(replay, damage);
    if (r < 0)
        return r;
    if (replay->revision < replay->options->required_revision)
        return replay_damaged(replay, segment->sequence, replay->end,
                              "the journal ends before a revision that an image proves", damage);
    return 0;
}

int replay_set_aside(const Replay *replay, size_t first, bool stays)
{
    /* Newest first: there is no hole in the row at any time. */
    for (size_t i = replay->survey.count; i > first; i--) {
        int r = segment_set_aside(replay->directory_fd, replay->survey.segments[i - 1].sequence,
                                  stays && i - 1 == first);
        if (r < 0)
            return r;
        r = file_sync_directory(replay->directory_fd);
        if (r < 0)
            return r;
    }
    return 0;
}
