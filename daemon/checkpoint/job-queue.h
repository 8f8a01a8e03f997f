/* The requests for checkpoints that wait, and who wants to know of each. Requests for the same
 * arenas and label that wait share one. */
#pragma once

#include "checkpoint/job.h"

typedef struct JobRequest JobRequest;

struct JobRequest {
    JobRequest *next;
    Identity *arenas; /* in order; none: all */
    size_t count;
    char label[HOLDFAST_LABEL_MAX + 1];
    JobWaiter *waiters;
    Checkpoint *checkpoint; /* what will tell of it; empty but for the label */
    JobWaiter *upcoming;    /* while waiters are told: the one that comes next */
};

typedef struct JobQueue {
    JobRequest *first;
    JobRequest **end;
    size_t count;
} JobQueue;

void job_queue_init(JobQueue *queue);
void job_queue_deinit(JobQueue *queue);

/* 0, JOB_QUEUE_FULL, -EINVAL for a label that is too long, -ENOMEM. */
int job_queue_add(JobQueue *queue, const Identity *arenas, size_t count, const char *label,
                  JobWaiter *waiter);
/* The oldest request, the caller's from now on; NULL: none waits. */
JobRequest *job_queue_take(JobQueue *queue);
void job_queue_forget(JobQueue *queue, JobWaiter *waiter);

/* NULL is fine. Its waiters hear nothing. */
JobRequest *job_request_free(JobRequest *request);
bool job_request_wants(const JobRequest *request, const Identity *identity);
/* False: it is not one of this request's. A waiter may forget itself, or another, while waiters are
 * told. */
bool job_request_forget(JobRequest *request, JobWaiter *waiter);
/* Tells all waiters of an event that is not the last, */
void job_request_tell(JobRequest *request, JobEvent event, const Checkpoint *checkpoint);
/* and of the last: they are forgotten, each before it is told. */
void job_request_end(JobRequest *request, JobEvent event, const Checkpoint *checkpoint);
