/* Clocks, in microseconds. */
#pragma once

#include <sys/time.h>

#include "base/common.h"

/* CLOCK_MONOTONIC: for durations and deadlines. */
uint64_t clock_monotonic(void);
/* CLOCK_REALTIME: since the Unix epoch, for what people and files see. */
uint64_t clock_realtime(void);

/* A length of time as timers want it. */
static inline struct timeval clock_timeval(uint64_t usec)
{
    return (struct timeval){.tv_sec = (time_t)(usec / USEC_PER_SEC),
                            .tv_usec = (suseconds_t)(usec % USEC_PER_SEC)};
}
