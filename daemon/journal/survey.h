/* A first look at all segments of a journal, before any record is read: who follows whom, where to
 * begin, and the durable marks. */
#pragma once

#include "journal/batch.h"
#include "journal/replay.h"
#include "journal/segment.h"

typedef struct SurveyedSegment {
    uint64_t sequence;
    uint64_t size;
    bool good; /* the header checks out; else all below is zero */
    uint64_t salt;
    JournalMark mark; /* zero: none */
    uint64_t mark_flags;
    bool empty;     /* neither a mark nor a first batch was ever written */
    bool has_first; /* its first batch's header checks out */
    BatchHeader first;
} SurveyedSegment;

typedef struct Survey {
    Lineage lineage;
    SurveyedSegment *segments; /* in their order; by malloc */
    size_t count;
} Survey;

/* Negative: -EPROTONOSUPPORT (damage is filled), or could not be read. */
int survey_read(int directory_fd, Survey *ret, ReplayDamage *damage);
void survey_deinit(Survey *survey);

/* Where reading begins: the last segment that nothing up to from_revision is needed before. -1:
 * none. */
ssize_t survey_start(const Survey *survey, uint64_t from_revision);
/* The segment that goes on where this one ends; -1: none. */
ssize_t survey_successor(const Survey *survey, size_t index);
/* The highest durable mark of the segments first to last, as their first two sectors and their
 * first batches tell it. */
JournalMark survey_mark(const Survey *survey, size_t first, size_t last);

/* What is wrong with a row of segments. */
typedef enum SurveyFaultKind {
    SURVEY_HEADER,      /* a header does not check out */
    SURVEY_FIRST_BATCH, /* the first batch of a segment that must have one does not */
    SURVEY_MISSING,     /* there is none of this sequence */
} SurveyFaultKind;

typedef struct SurveyFault {
    SurveyFaultKind what;
    uint64_t sequence;
    uint64_t offset; /* of what does not check out */
    size_t index;    /* unless it is missing */
} SurveyFault;

/* The first fault from index on; false: all are well. Segments behind index and up to the sequence
 * used were written to. */
bool survey_fault(const Survey *survey, size_t index, uint64_t used, SurveyFault *ret);
const char *survey_fault_text(SurveyFaultKind what);
