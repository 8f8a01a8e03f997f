/* How the kernel shares the processors between us and others. Best effort: a sandbox may forbid it.
 * System calls alone: for a forked child. */
#pragma once

/* For a forked child that computes for seconds: nicer, and SCHED_BATCH with short time slices
 * unless somebody gave us a policy of their own. */
void schedule_behind(void);
/* Whoever waits for this processor goes first; a microsecond where nobody does. For between pieces
 * of work of some ten microseconds: a kernel that preempts nobody (preempt=none) lets one who woke
 * up wait until the next tick, milliseconds, or until the one who runs gives up the processor. */
void schedule_yield(void);
