/* What a checkpoint covers, taken down at the cut: the table of all arenas for the image, and of
 * those that are saved what capture and child need. */
#pragma once

#include "checkpoint/job-queue.h"

typedef struct JobPlan {
    ImageArena *arenas; /* all that exist */
    size_t count;
    /* of those that the image holds, in the order of the table */
    CaptureCut *cuts;
    int *memfds; /* the arenas' */
    size_t held;
    uint64_t pages;
    uint64_t state_bytes;
} JobPlan;

/* 0 or -ENOMEM. */
int job_plan_init(JobPlan *plan, const JobRequest *request, const JobArena *arenas, size_t count);
void job_plan_deinit(JobPlan *plan);
