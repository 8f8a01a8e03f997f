/* How the kernel shares the processors between us and others. Best effort: a sandbox may forbid it.
 * System calls alone: for a forked child. */
#pragma once

#include "base/common.h"

/* For a forked child that computes for seconds: nicer, and SCHED_BATCH with short time slices
 * unless somebody gave us a policy of their own. */
void schedule_behind(void);
/* One who computes for long in pieces. All zero at first. */
typedef struct Courtesy {
    uint64_t none_until_usec; /* CLOCK_MONOTONIC */
} Courtesy;

/* Between two pieces of some ten microseconds: whoever waits for this processor goes first. Costs a
 * microsecond where nobody does. A kernel that preempts nobody (preempt=none) lets one who woke up
 * wait until the next tick, milliseconds, or until the one who runs gives up the processor; this is
 * for them, who run for microseconds. To those who keep the processor it gives way now and then
 * only. */
void schedule_yield(Courtesy *courtesy);
