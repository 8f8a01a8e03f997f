/* How the kernel shares the processors between us and others. Best effort: a sandbox may forbid it.
 */
#pragma once

/* For a forked child that computes for seconds: nicer, and SCHED_BATCH unless somebody gave us a
 * policy of their own. */
void schedule_behind(void);
