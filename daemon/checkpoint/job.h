/* Checkpoints: who asked for one, the cut, the child, its end, and publishing the image. One child
 * at a time.
 *
 *   request -> waiting -> (job_turn) cut and fork -> running -> publishing -> ended
 *
 * The caller of everything here is the loop's thread. */
#pragma once

#include "checkpoint/capture.h"
#include "checkpoint/catalog.h"

struct event_base;

typedef struct Job Job;
typedef struct JobWaiter JobWaiter;

enum {
    JOB_QUEUE_FULL = 1, /* 16 requests wait already */
    JOB_NO_SUCH,        /* no waiting or running checkpoint of that id */
};

#define JOB_QUEUE_MAX 16

/* One arena as the job sees it. */
typedef struct JobArena {
    Arena *arena;
    CaptureMarks *marks;
} JobArena;

/* What the job asks of the layer above it. All are called in the loop's thread. */
typedef struct JobHost {
    void *context;
    /* All arenas that exist now; the array stays valid until control returns to the loop. */
    size_t (*arenas)(void *context, const JobArena **ret);
    /* The revision of the last applied update: the cut's. */
    uint64_t (*revision)(void *context);
    /* True when the layer above is ready for a cut (nothing unwritten in the journal's batch, next
     * segment ready). Asked each turn until it is. */
    bool (*ready)(void *context);
    /* At the cut, capture armed, before the fork: the journal changes segments here. */
    void (*cut)(void *context);
    /* True when everything up to the revision is durable, so that the image may be published. */
    bool (*durable)(void *context, uint64_t revision);
    /* Parked updates may be tried again: slots were freed, or the capture is over. */
    void (*resume)(void *context);
    /* The checkpoint ended; it is in the catalog already (state complete, failed or cancelled). */
    void (*ended)(void *context, const Checkpoint *checkpoint);
} JobHost;

typedef struct JobOptions {
    bool zstd;
    bool cached;                  /* as in ImageSpec */
    uint64_t stall_usec;          /* 0: updates wait for ever */
    uint64_t write_bytes_per_sec; /* 0: no limit */
    unsigned keep;
} JobOptions;

int job_new(struct event_base *base, Capture *capture, Catalog *catalog, Housekeeper *housekeeper,
            int images_directory_fd, const JobHost *host, const JobOptions *options, Job **ret);
/* Kills and reaps a running child, waits for the housekeeper (which must still be there, as must
 * catalog and capture). Nobody is told: neither waiters nor host. NULL is fine. */
Job *job_free(Job *job);
/* From the next checkpoint on. */
void job_set_options(Job *job, const JobOptions *options);

typedef enum JobEvent {
    JOB_CUT,      /* the child is forked */
    JOB_PROGRESS, /* at most ten times a second */
    JOB_COMPLETE, /* durable and published */
    JOB_FAILED,   /* see checkpoint->reason; no spec.id where it failed before the cut */
    JOB_CANCELLED,
} JobEvent;

/* Somebody who wants to know. Embedded in the asker. After COMPLETE, FAILED and CANCELLED the job
 * has forgotten it. */
struct JobWaiter {
    void (*notify)(JobWaiter *waiter, JobEvent event, const Checkpoint *checkpoint);
    JobWaiter *next;
};

/* Asks for a checkpoint. names: the arenas' identities; count 0: all. label: empty for none.
 * waiter: may be NULL. Requests for the same arenas and label that wait share one run. 0 or
 * JOB_QUEUE_FULL, or a negative errno. */
int job_request(Job *job, const Identity *arenas, size_t count, const char *label,
                JobWaiter *waiter);
/* The waiter goes away; the checkpoint goes on. */
void job_forget(Job *job, JobWaiter *waiter);
/* 0 or JOB_NO_SUCH, also for one that is at its end already. The waiters hear JOB_CANCELLED when
 * child and temporary file are gone. */
int job_cancel(Job *job, const char *id);
/* For stop, before job_free: waiters hear now that theirs comes to nothing, JOB_CANCELLED for the
 * one that runs and JOB_FAILED for those that have not begun. One that is ending (an image that is
 * being published may yet count) tells of itself. */
void job_abandon(Job *job);
bool job_ending(const Job *job);
/* The image is written, and is not published before JobHost.durable says so. */
bool job_waits_for_journal(const Job *job);

/* The running one; NULL: none. Up to date to the last report. */
const Checkpoint *job_running(const Job *job);

/* Between two turns of the loop: makes the cut when something waits and everything is ready; sees
 * to stalls. */
void job_turn(Job *job);
/* An update was parked for want of room: starts the clock of StallSec and the count of heldUSec. */
void job_update_parked(Job *job);
