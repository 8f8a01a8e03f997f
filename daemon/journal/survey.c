/* Looking at the beginnings of all segments. What does not check out here is not judged here:
 * whether it matters depends on what the journal is needed for. */
#include "journal/survey.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/file.h"

static int survey_first_batch(int fd, bool unmarked, SurveyedSegment *segment)
{
    static const BatchHeader never;
    BatchHeader first;

    int r = file_read_at(fd, &first, sizeof(first), SEGMENT_BATCHES_OFFSET);
    if (r < 0 && r != -ENODATA)
        return r;
    if (r == -ENODATA || memcmp(&first, &never, sizeof(first)) == 0) {
        segment->empty = unmarked;
        return 0;
    }
    if (!batch_valid(&first, segment->sequence, SEGMENT_BATCHES_OFFSET, segment->salt) ||
        (first.flags & BATCH_FIRST) == 0 || first.base_revision < first.previous_revision ||
        first.previous_segment >= segment->sequence)
        return 0;
    segment->first = first;
    segment->has_first = true;
    return 0;
}

static void survey_version(const SegmentHeader *header, uint64_t sequence, ReplayDamage *damage)
{
    segment_name(sequence, damage->file);
    snprintf(damage->reason, sizeof(damage->reason),
             "it is of journal version %u (flags %#x), this program reads version %u",
             header->version, header->incompatible_flags, SEGMENT_VERSION);
}

static int survey_segment(int directory_fd, SurveyedSegment *segment, Lineage *ret_lineage,
                          ReplayDamage *damage)
{
    _cleanup_(closep) int fd = -1;
    char name[SEGMENT_NAME_MAX];
    SegmentHeader header;

    fd = openat(directory_fd, segment_name(segment->sequence, name),
                O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    int r = file_size(fd, &segment->size);
    if (r < 0)
        return r;
    /* A segment never was that short: its name came after both sectors. */
    r = segment->size < SEGMENT_BATCHES_OFFSET
            ? -EBADMSG
            : segment_read_header(fd, segment->sequence, &header);
    if (r == -EPROTONOSUPPORT)
        survey_version(&header, segment->sequence, damage);
    if (r == -EBADMSG)
        return 0;
    if (r < 0)
        return r;
    segment->good = true;
    segment->salt = header.salt;
    *ret_lineage = header.lineage;

    r = segment_read_mark(fd, segment->salt, &segment->mark, &segment->mark_flags);
    if (r < 0 && r != -EBADMSG && r != -ENODATA)
        return r;
    bool unmarked = r == -ENODATA;
    if (segment->mark.segment > segment->sequence)
        segment->mark = (JournalMark){0};
    return survey_first_batch(fd, unmarked, segment);
}

static int survey_segments(int directory_fd, Survey *survey, ReplayDamage *damage)
{
    bool has_lineage = false;

    /* From the newest on: it is its lineage that counts. */
    for (size_t i = survey->count; i > 0; i--) {
        SurveyedSegment *segment = &survey->segments[i - 1];
        Lineage lineage;
        int r = survey_segment(directory_fd, segment, &lineage, damage);
        if (r < 0)
            return r;
        if (!segment->good)
            continue;
        if (has_lineage && !lineage_equal(&lineage, &survey->lineage))
            *segment = (SurveyedSegment){.sequence = segment->sequence, .size = segment->size};
        else
            survey->lineage = lineage;
        has_lineage = true;
    }
    return 0;
}

int survey_read(int directory_fd, Survey *ret, ReplayDamage *damage)
{
    _cleanup_(freep) uint64_t *list = NULL;
    Survey survey = {0};

    if (getrandom(&survey.lineage, sizeof(survey.lineage), 0) < 0)
        return -errno;
    int r = segment_list(directory_fd, &list, &survey.count);
    if (r < 0)
        return r;
    survey.segments = calloc(survey.count + 1, sizeof(*survey.segments));
    if (survey.segments == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < survey.count; i++)
        survey.segments[i].sequence = list[i];
    r = survey_segments(directory_fd, &survey, damage);
    if (r < 0) {
        survey_deinit(&survey);
        return r;
    }
    *ret = survey;
    return 0;
}

void survey_deinit(Survey *survey)
{
    free(survey->segments);
    *survey = (Survey){0};
}

ssize_t survey_start(const Survey *survey, uint64_t from_revision)
{
    for (size_t i = survey->count; i > 0; i--) {
        const SurveyedSegment *segment = &survey->segments[i - 1];
        const BatchHeader *first = &segment->first;
        if (!segment->has_first)
            continue;
        uint64_t needs =
            first->flags & BATCH_RESTART ? first->applied_revision : first->previous_revision;
        if (needs <= from_revision)
            return (ssize_t)i - 1;
    }
    return -1;
}

/* The last one that names it: a batch that could not be written may lie in segments before that
 * one, complete in the end. */
ssize_t survey_successor(const Survey *survey, size_t index)
{
    for (size_t i = survey->count; i > index + 1; i--) {
        const SurveyedSegment *segment = &survey->segments[i - 1];
        if (segment->has_first &&
            segment->first.previous_segment == survey->segments[index].sequence)
            return (ssize_t)i - 1;
    }
    return -1;
}

JournalMark survey_mark(const Survey *survey, size_t first, size_t last)
{
    JournalMark mark = {0};

    for (size_t i = first; i <= last && i < survey->count; i++) {
        const SurveyedSegment *segment = &survey->segments[i];
        if (journal_mark_compare(&segment->mark, &mark) > 0)
            mark = segment->mark;
        if (segment->has_first && journal_mark_compare(&segment->first.mark, &mark) > 0)
            mark = segment->first.mark;
    }
    return mark;
}

bool survey_fault(const Survey *survey, size_t index, uint64_t used, SurveyFault *ret)
{
    for (size_t i = index; i < survey->count; i++) {
        const SurveyedSegment *segment = &survey->segments[i];
        SurveyFault fault = {.sequence = segment->sequence, .index = i};
        if (!segment->good) {
            fault.what = SURVEY_HEADER;
        } else if (i > index && segment->sequence <= used && !segment->has_first) {
            fault.what = SURVEY_FIRST_BATCH;
            fault.offset = SEGMENT_BATCHES_OFFSET;
        } else if (i + 1 < survey->count &&
                   survey->segments[i + 1].sequence != segment->sequence + 1) {
            fault.what = SURVEY_MISSING;
            fault.sequence++;
        } else {
            continue;
        }
        *ret = fault;
        return true;
    }
    return false;
}

const char *survey_fault_text(SurveyFaultKind what)
{
    static const char *const texts[] = {
        [SURVEY_HEADER] = "its header does not check out",
        [SURVEY_FIRST_BATCH] = "its first batch does not check out",
        [SURVEY_MISSING] = "it is missing",
    };
    return texts[what];
}
