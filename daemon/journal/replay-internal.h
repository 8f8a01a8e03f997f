/* What replay.c (reading) and judge.c (what the end of reading means) share; nobody else includes
 * it. */
#pragma once

#include "journal/batch.h"
#include "journal/reader.h"
#include "journal/replay.h"
#include "journal/survey.h"

typedef struct Replay {
    const ReplayOptions *options;
    int directory_fd;
    Survey survey;
    Reader reader;
    /* Where it is. */
    size_t index;      /* segment */
    ssize_t successor; /* the segment that goes on; -1: none */
    uint64_t end;      /* of what checked out in this segment */
    uint64_t chain;
    uint64_t revision; /* the last one that checked out */
    uint64_t highest;
    uint64_t records;
    JournalMark mark; /* the highest seen in batches */
    const char *reason;
    bool clean;
    bool condemned;
    bool restarted; /* in a segment that began anew; a record there proves that it was healed */
    uint64_t ahead_bytes; /* batches found behind the end */
    uint64_t read_before; /* bytes of the segments before this one */
    uint64_t reported;
    JournalPosition *position;
} Replay;

static inline const SurveyedSegment *replay_segment(const Replay *replay)
{
    return &replay->survey.segments[replay->index];
}

/* Fills in *damage; returns -EBADMSG. */
int replay_damaged(const Replay *replay, uint64_t sequence, uint64_t offset, const char *reason,
                   ReplayDamage *damage);
/* Whether what lies behind the end was durable. 0: no; -EBADMSG: yes. Also finds the highest mark
 * and revision. */
int replay_judge(Replay *replay, ReplayDamage *damage);
/* What is damaged and all behind it is kept under other names. stays: the first of them stays in
 * place too, for what is good in it. */
int replay_set_aside(const Replay *replay, size_t first, bool stays);
