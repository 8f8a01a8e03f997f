/* The threads for slow calls. There are two lanes with a thread each; the tasks of a lane run one
 * after the other in the order they were submitted.
 *
 * The prompt lane is for what the loop will want soon: segments made and filled, pages populated,
 * names made durable, holes punched. The slow lane is for what nobody waits for and may take
 * seconds: removing large files. */
#pragma once

#include "base/common.h"

typedef struct Housekeeper Housekeeper;
typedef struct HousekeeperTask HousekeeperTask;

/* Embedded in what it works for. The owner keeps it alive until done was called. */
struct HousekeeperTask {
    /* In the lane's thread. May block; touches only what belongs to the task. */
    void (*run)(HousekeeperTask *task);
    /* In the loop's thread, from housekeeper_reap; may free the task or submit it again. NULL:
     * nothing to do; then the task must stay valid until run has returned and may be freed by run
     * itself, as its last act. */
    void (*done)(HousekeeperTask *task);
    HousekeeperTask *next;
};

/* Starts the threads, with all signals blocked. */
int housekeeper_new(Housekeeper **ret);
/* Waits until all tasks ran, calls what is to be done, ends the threads. NULL is fine. */
Housekeeper *housekeeper_free(Housekeeper *housekeeper);

/* Never fails, never blocks for long: the queue is a list. From the loop's thread only. */
void housekeeper_submit(Housekeeper *housekeeper, HousekeeperTask *task);
/* The same, in the slow lane. */
void housekeeper_submit_slow(Housekeeper *housekeeper, HousekeeperTask *task);
/* An eventfd that is readable while finished tasks wait to be reaped. */
int housekeeper_fd(const Housekeeper *housekeeper);
/* Calls done of all finished tasks. */
void housekeeper_reap(Housekeeper *housekeeper);
/* Waits until everything submitted so far has run, then reaps. For stop and for tests. */
void housekeeper_drain(Housekeeper *housekeeper);
