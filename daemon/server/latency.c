/* The latency of calls, a group a turn. Two queues: replies that leave with the next flush, and
 * those that wait for the journal, in the order of their revisions, so that only the first is ever
 * looked at. What can go wrong: a queue is full; then its last group takes more and keeps the older
 * of the two time stamps. */
#include "server/latency.h"

static_assert(LATENCY_KINDS == 32, "a bit each");
static_assert((LATENCY_GROUPS & (LATENCY_GROUPS - 1)) == 0, "numbers wrap");

int latency_new(Latency **ret)
{
    Latency *latency = calloc(1, sizeof(*latency));

    if (latency == NULL)
        return -ENOMEM;
    *ret = latency;
    return 0;
}

LatencyGroup *latency_group(LatencyQueue *queue, uint64_t begin_usec)
{
    LatencyGroup *last = &queue->groups[(queue->first + queue->count - 1) % LATENCY_GROUPS];

    if (queue->count == LATENCY_GROUPS) {
        last->begin_usec = MIN(last->begin_usec, begin_usec);
        return last;
    }
    last = &queue->groups[(queue->first + queue->count++) % LATENCY_GROUPS];
    *last = (LatencyGroup){.begin_usec = begin_usec};
    return last;
}

static void add_group(Latency *latency, const LatencyGroup *group, uint64_t now_usec)
{
    uint64_t usec = now_usec > group->begin_usec ? now_usec - group->begin_usec : 0;

    for (uint32_t kinds = group->kinds; kinds != 0; kinds &= kinds - 1) {
        unsigned kind = (unsigned)__builtin_ctz(kinds);
        histogram_add_many(&latency->kinds[kind], usec, group->counts[kind]);
    }
}

static void queue_left(Latency *latency, LatencyQueue *queue, uint64_t durable, uint64_t now_usec)
{
    while (queue->count > 0) {
        const LatencyGroup *group = &queue->groups[queue->first % LATENCY_GROUPS];
        if (group->revision > durable)
            return;
        add_group(latency, group, now_usec);
        queue->first++;
        queue->count--;
    }
}

void latency_left(Latency *latency, uint64_t durable, uint64_t now_usec)
{
    queue_left(latency, &latency->free, durable, now_usec);
    queue_left(latency, &latency->held, durable, now_usec);
}
