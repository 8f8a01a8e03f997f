/* How the kernel shares the processors between us and others. Best effort: a sandbox may forbid it.
 * System calls alone: for a forked child. */
#pragma once

#include "base/common.h"

/* For a forked child that computes for seconds: nicer, and SCHED_BATCH with short time slices
 * unless somebody gave us a policy of their own. */
void schedule_behind(void);

/* Of one who yields. All zero at first. */
typedef struct YieldBackoff {
    unsigned absences;   /* long ones in a row */
    uint64_t until_usec; /* CLOCK_MONOTONIC: no yield before that */
} YieldBackoff;

/* For between two pieces of some ten microseconds: others of our scheduling group who wait for this
 * processor go first. Costs a microsecond where nobody does. A kernel that preempts nobody
 * (preempt=none) lets one who woke up wait until the next tick, milliseconds, or until the one who
 * runs gives up the processor; this is for them, who run for microseconds. Where others keep the
 * processor it is done now and then only. */
void schedule_yield(YieldBackoff *backoff);
