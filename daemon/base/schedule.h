/* How the kernel shares the processors between us and others. Best effort: a sandbox may forbid it,
 * an old kernel ignore it. */
#pragma once

#include "base/common.h"

/* For the loop's thread, before it starts others (they inherit it): short time slices. It runs for
 * microseconds at a time, and from Linux 6.12 on one that asks for a short slice does not wait for
 * the end of another's long one. Nothing changes where somebody gave us a policy of their own. */
void schedule_promptly(void);
/* For a forked child that computes for seconds: ordinary slices, SCHED_BATCH, and nicer. */
void schedule_behind(void);
