/* Arithmetic on what happened so far; nothing can go wrong. */
#include "base/busy-poll.h"

#define SKIP_MIN 4u
#define SKIP_FACTOR 4u

bool busy_poll_again(BusyPoll *poll, uint64_t now_usec)
{
    if (now_usec < poll->until_usec)
        return true;
    poll->until_usec = 0;
    poll->skip = MIN(MAX(poll->skip * SKIP_FACTOR, SKIP_MIN), BUSY_POLL_SKIP_MAX);
    poll->left = poll->skip;
    return false;
}

void busy_poll_found(BusyPoll *poll, bool call)
{
    poll->until_usec = 0;
    if (call)
        poll->skip /= 2;
    poll->left = poll->skip;
}

void busy_poll_answered(BusyPoll *poll, uint64_t now_usec)
{
    if (poll->left > 0)
        poll->left--;
    else
        poll->until_usec = now_usec + BUSY_POLL_USEC;
}
