/* How long calls take: from the turn of the loop that read the call's last byte to the end of the
 * one whose flush let its reply go, kept as one histogram a kind of call. One time stamp a turn:
 * the calls that one turn read and one flush answers are counted together, so that a call costs an
 * addition. What it does not see: the time that a call waits in the socket before the loop looks at
 * it, and that its reply waits there because the client does not read. */
#pragma once

#include "base/histogram.h"

/* Kinds of calls that are told apart. */
#define LATENCY_KINDS 32u
/* Turns whose replies may be waited for at one time; more than that share the oldest time stamp of
 * those they are added to, which shows them as slower and never as faster. A power of two. */
#define LATENCY_GROUPS 64u

/* Calls of the same turn. */
typedef struct LatencyGroup {
    uint64_t begin_usec;
    uint64_t revision; /* their replies leave when this is durable */
    uint32_t kinds;    /* a bit for each that has a count */
    uint32_t counts[LATENCY_KINDS];
} LatencyGroup;

/* In the order of their revisions. */
typedef struct LatencyQueue {
    LatencyGroup groups[LATENCY_GROUPS];
    unsigned first; /* counted on, modulo */
    unsigned count;
} LatencyQueue;

typedef struct Latency {
    LatencyQueue held;              /* replies that wait for a revision */
    LatencyQueue free;              /* those that leave with the next flush */
    Histogram kinds[LATENCY_KINDS]; /* microseconds */
} Latency;

int latency_new(Latency **ret);
static inline Latency *latency_free(Latency *latency)
{
    free(latency);
    return NULL;
}

/* A queue's last group takes it, or a fresh one. */
LatencyGroup *latency_group(LatencyQueue *queue, uint64_t begin_usec);

/* A reply is whole. kind: below LATENCY_KINDS. revision: what it, or one before it on the same
 * connection, waits for; 0: nothing. */
static inline void latency_note(Latency *latency, unsigned kind, uint64_t begin_usec,
                                uint64_t revision)
{
    LatencyQueue *queue = revision > 0 ? &latency->held : &latency->free;
    LatencyGroup *group = &queue->groups[(queue->first + queue->count - 1) % LATENCY_GROUPS];

    if (_unlikely_(queue->count == 0 || group->begin_usec != begin_usec))
        group = latency_group(queue, begin_usec);
    group->revision = MAX(group->revision, revision);
    group->kinds |= UINT32_C(1) << kind;
    group->counts[kind]++;
}

/* Whether a flush of what may leave when all up to durable is lets any reply go that was noted. */
static inline bool latency_due(const Latency *latency, uint64_t durable)
{
    return latency->free.count > 0 ||
           (latency->held.count > 0 &&
            latency->held.groups[latency->held.first % LATENCY_GROUPS].revision <= durable);
}
/* They have left. */
void latency_left(Latency *latency, uint64_t durable, uint64_t now_usec);
