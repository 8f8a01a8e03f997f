/* The two clocks that the daemon uses, as microseconds. Both are vDSO calls: cheap enough for every
 * call that is served, and neither can fail for these clocks. */
#include "base/clock.h"

#include <time.h>

static uint64_t clock_read(clockid_t id)
{
    struct timespec now;

    if (clock_gettime(id, &now) < 0)
        return 0;
    return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clock_monotonic(void)
{
    return clock_read(CLOCK_MONOTONIC);
}

uint64_t clock_realtime(void)
{
    return clock_read(CLOCK_REALTIME);
}
