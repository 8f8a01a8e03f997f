/* Judging the place where reading stopped: the end of the log, or damage.
 *
 * What proves that more was durable: a durable mark behind the place, in the mark sectors, in the
 * batches that were read, in batches further on in the segment, or in later segments; a segment
 * that is missing or whose header does not check out; the revision that an image proves. */
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "journal/replay-internal.h"

/* Batches behind the end, and what they prove. Theirs is the salt of the segment, so they were
 * written there, whatever became of what lies between. */
static int replay_look_ahead(Replay *replay)
{
    const SurveyedSegment *segment = replay_segment(replay);
    uint64_t offset = batch_padded(replay->end);
    const void *data;
    int r;

    /* The batch that has just failed is among what is cut off. */
    if (replay->end % SEGMENT_SECTOR != 0)
        replay->ahead_bytes = offset - replay->end;
    for (; (r = reader_get(&replay->reader, offset, sizeof(BatchHeader), &data)) == 0;
         offset += SEGMENT_SECTOR) {
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

int replay_judge(Replay *replay, ReplayDamage *damage)
{
    const SurveyedSegment *segment = replay_segment(replay);
    JournalMark end = {.segment = segment->sequence, .offset = replay->end};
    size_t last = replay->survey.count - 1;
    uint64_t sequence;
    bool missing;

    int r = replay_look_ahead(replay);
    if (r < 0)
        return r;
    /* A segment that began anew and was never used is as good as not there: see journal_covers. */
    if (replay->successor >= 0 &&
        (replay->survey.segments[replay->successor].first.flags & BATCH_RESTART)) {
        bool used;
        r = replay_restart_used(replay, (size_t)replay->successor, &used);
        if (r < 0)
            return r;
        if (used)
            return replay_damaged(replay, segment->sequence, replay->end,
                                  "a sync had failed here; what follows is in images only, and "
                                  "they are missing",
                                  damage);
        last = (size_t)replay->successor - 1;
    }
    JournalMark mark = survey_mark(&replay->survey, 0, last);
    if (journal_mark_compare(&replay->mark, &mark) > 0)
        mark = replay->mark;
    replay->mark = mark;
    replay->highest = MAX(replay->highest, mark.revision);
    for (size_t i = replay->index + 1; i <= last; i++) {
        if (!replay->survey.segments[i].has_first)
            continue;
        replay->highest = MAX(replay->highest, replay->survey.segments[i].first.last_revision);
        replay->ahead_bytes += replay->survey.segments[i].first.bytes;
    }

    if (journal_mark_compare(&mark, &end) > 0)
        return replay_damaged(replay, segment->sequence, replay->end, replay->reason, damage);
    if (survey_broken(&replay->survey, replay->index, &sequence, &missing))
        return replay_damaged(replay, sequence, 0,
                              missing ? "it is missing" : "its header does not check out", damage);
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
