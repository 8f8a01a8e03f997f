/* How the kernel shares the processors between us and others. Best effort: a sandbox may forbid it,
 * an old kernel ignore it. */
#pragma once

#include "base/common.h"

/* For a forked child that computes for seconds: SCHED_BATCH, and nicer. Nothing but nicer where somebody gave us a
 * policy of their own. */
void schedule_behind(void);
