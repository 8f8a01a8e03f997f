/* How the kernel shares the processors between us and others. Best effort: a sandbox may forbid it.
 * A policy that somebody gave us stays. System calls alone: for a forked child. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* For a process that computes for seconds: nicer, and SCHED_BATCH. */
void schedule_behind(void);
/* The same for one that only runs while nobody else wants to (SCHED_IDLE), where schedule_hurry can
 * take that back; else as above. */
void schedule_last(void);
/* That process runs as after schedule_behind. False: it has not come to schedule_last yet. */
bool schedule_hurry(pid_t pid);
