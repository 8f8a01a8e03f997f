/* Whether a control memfd and a journal belong together, and where the journal ends.
 *
 * A control memfd can be out of date: another daemon may have gone on with the state directory
 * meanwhile, or an older copy of it may have been put in place. A daemon that starts always begins
 * a segment of its own, so a batch in a later segment tells of one that came after; the salt and
 * the last batch's checksum, which covers the chain of all headers before it, tell that the segment
 * is the same and as long as it was. (FITS in tests/crash/models/publish.pml.) */
#include "journal/adopt.h"

#include <fcntl.h>

#include "base/file.h"
#include "journal/survey.h"

static int adopt_stale(const char **ret_why, const char *why)
{
    *ret_why = why;
    return -ESTALE;
}

/* The last batch that is known to be written is there, and ends where the next one goes. */
static int adopt_check_last(const ControlPosition *position, int directory_fd, const char **ret_why)
{
    _cleanup_(closep) int fd = -1;
    const JournalMark *written = &position->written;
    char name[SEGMENT_NAME_MAX];
    SegmentHeader segment;
    BatchHeader batch;

    fd = openat(directory_fd, segment_name(written->segment, name),
                O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    int r = segment_read_header(fd, written->segment, &segment);
    if (r < 0)
        return r;
    if (position->salt != 0 && position->salt != segment.salt)
        return adopt_stale(ret_why, "its last segment was made anew");
    if (position->chain == 0)
        return 0;
    r = file_read_at(fd, &batch, sizeof(batch), position->last);
    if (r < 0 && r != -ENODATA)
        return r;
    if (r == -ENODATA || !batch_valid(&batch, written->segment, position->last, segment.salt) ||
        batch.checksum != position->chain ||
        batch.offset + batch_padded(batch.bytes) != written->offset)
        return adopt_stale(ret_why, "its last batch is another one");
    return 0;
}

static int adopt_check_survey(const Control *control, const Survey *survey, const char **ret_why)
{
    uint64_t last = control_position(control)->written.segment;
    bool found = false;

    if (survey->count == 0)
        return adopt_stale(ret_why, "there is none");
    if (!lineage_equal(&survey->lineage, &control->header->lineage))
        return adopt_stale(ret_why, "it is another one");
    for (size_t i = 0; i < survey->count; i++) {
        const SurveyedSegment *segment = &survey->segments[i];

        found = found || (segment->sequence == last && segment->good);
        if (segment->sequence > last && segment->has_first)
            return adopt_stale(ret_why, "another daemon has gone on with it since");
    }
    return found ? 0 : adopt_stale(ret_why, "its last segment is missing");
}

int journal_adopt_check(const Control *control, int directory_fd, const char **ret_why)
{
    ReplayDamage damage;
    Survey survey;

    *ret_why = "it cannot be read";
    int r = survey_read(directory_fd, &survey, &damage);
    if (r < 0)
        return r;
    r = adopt_check_survey(control, &survey, ret_why);
    survey_deinit(&survey);
    return r < 0 ? r : adopt_check_last(control_position(control), directory_fd, ret_why);
}

/* Where the records end. A segment that was changed to and not written in yet does not count. */
static JournalMark adopt_end(const Control *control)
{
    const ControlPosition *position = control_position(control);

    return position->chain == 0 ? position->left : position->written;
}

bool journal_adopt_agrees(const Control *control, const JournalPosition *position)
{
    JournalMark end = adopt_end(control);

    return position->segment == end.segment && position->end == end.offset &&
           position->revision == end.revision && !position->condemned;
}

/* Of each segment up to the end what its successor says of it. */
static int adopt_segments(const Survey *survey, JournalPosition *position)
{
    position->segments = calloc(survey->count + 1, sizeof(*position->segments));
    if (position->segments == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < survey->count && survey->segments[i].sequence <= position->segment;
         i++) {
        ssize_t next = survey_successor(survey, i);
        ReplaySegment *segment = &position->segments[position->segment_count++];

        *segment = (ReplaySegment){
            .sequence = survey->segments[i].sequence,
            .last_revision = position->revision,
            .bytes = survey->segments[i].size,
        };
        if (segment->sequence == position->segment) {
            segment->bytes = position->end;
        } else if (next >= 0) {
            segment->last_revision = survey->segments[next].first.previous_revision;
            segment->bytes = survey->segments[next].first.previous_end;
        }
    }
    return 0;
}

int journal_adopt_position(const Control *control, int directory_fd, JournalPosition *ret)
{
    JournalMark end = adopt_end(control), durable = control_position(control)->durable;
    JournalPosition position = {
        .lineage = control->header->lineage,
        .segment = end.segment,
        .end = end.offset,
        .revision = end.revision,
        .highest = end.revision,
        .durable = journal_mark_compare(&durable, &end) < 0 ? durable : end,
        .clean = control->header->clean_stop != 0,
    };
    ReplayDamage damage;
    Survey survey;

    int r = survey_read(directory_fd, &survey, &damage);
    if (r < 0)
        return r;
    r = adopt_segments(&survey, &position);
    survey_deinit(&survey);
    if (r < 0)
        return r;
    *ret = position;
    return 0;
}
