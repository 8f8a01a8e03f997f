/* When a loop looks for the next event again and again instead of sleeping until it comes.
 *
 * A client that waits for each answer sends its next call some ten or twenty microseconds after it.
 * To fall asleep and be woken for that takes longer than the call itself, and as much of the
 * processor's time as looking does. So after a turn that answered somebody the loop looks for
 * BUSY_POLL_USEC before it sleeps, for as long as that proves right: each time in vain makes the
 * next ones four times as rare, each time that a call came makes them twice as frequent. Clients
 * that call at longer intervals, or that wait for the very processor that looking takes, cost one
 * time in vain for BUSY_POLL_SKIP_MAX answers. (A client that always takes nearly BUSY_POLL_USEC
 * keeps a processor busy, as a few more like it would.) */
#pragma once

#include "base/common.h"

/* What the kernel's documentation recommends for net.core.busy_poll, which is for the same case. */
#define BUSY_POLL_USEC 50
#define BUSY_POLL_SKIP_MAX 1024u

/* All zero at first. */
typedef struct BusyPoll {
    uint64_t until_usec; /* CLOCK_MONOTONIC; 0: the loop may sleep */
    unsigned skip;       /* so many answers pass without looking, since it was in vain */
    unsigned left;       /* of these */
} BusyPoll;

static inline bool busy_poll_looks(const BusyPoll *poll)
{
    return poll->until_usec != 0;
}

/* Nothing has come yet: whether to look again. */
bool busy_poll_again(BusyPoll *poll, uint64_t now_usec);
/* Something has come before the loop slept. call: what was looked for. */
void busy_poll_found(BusyPoll *poll, bool call);
/* Calls were answered, and more may follow soon. */
void busy_poll_answered(BusyPoll *poll, uint64_t now_usec);
