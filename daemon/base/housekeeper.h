/* The thread for slow calls: unlink, directory fsync, filling segments, punching holes, unmapping,
 * freeing arenas. Tasks run one after the other in the order they were submitted. */
#pragma once

#include "base/common.h"

typedef struct Housekeeper Housekeeper;
typedef struct HousekeeperTask HousekeeperTask;

/* Embedded in what it works for. The owner keeps it alive until done was called. */
struct HousekeeperTask {
    /* In the housekeeper's thread. May block; touches only what belongs to the task. */
    void (*run)(HousekeeperTask *task);
    /* In the loop's thread, from housekeeper_reap; may free the task or submit it again. NULL:
     * nothing to do; then the task must stay valid until run has returned and may be freed by run
     * itself, as its last act. */
    void (*done)(HousekeeperTask *task);
    HousekeeperTask *next;
};

/* Starts the thread, with all signals blocked. */
int housekeeper_new(Housekeeper **ret);
/* Waits until all tasks ran, calls what is to be done, ends the thread. NULL is fine. */
Housekeeper *housekeeper_free(Housekeeper *housekeeper);

/* Never fails, never blocks for long: the queue is a list. From the loop's thread only. */
void housekeeper_submit(Housekeeper *housekeeper, HousekeeperTask *task);
/* An eventfd that is readable while finished tasks wait to be reaped. */
int housekeeper_fd(const Housekeeper *housekeeper);
/* Calls done of all finished tasks. */
void housekeeper_reap(Housekeeper *housekeeper);
/* Waits until everything submitted so far has run, then reaps. For stop and for tests. */
void housekeeper_drain(Housekeeper *housekeeper);
