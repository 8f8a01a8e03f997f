/* What the parts of the job share: job.c (requests, the cut), job-child.c (the running child,
 * parked updates), job-end.c (publishing, discarding, telling). */
#pragma once

#include "checkpoint/job-plan.h"
#include "checkpoint/job-queue.h"
#include "checkpoint/job.h"
#include "checkpoint/publish.h"
#include "checkpoint/writer.h"

struct event;

typedef enum JobState {
    JOB_IDLE,
    JOB_PREPARED, /* the temporary file is open; waits for the layer above to be ready for a cut */
    JOB_RUNNING,  /* the child writes */
    JOB_KILLED,   /* the child was sent SIGKILL and is not reaped yet */
    JOB_WRITTEN,  /* the image is complete; waits for the journal up to the cut to be durable */
    JOB_PUBLISHING, /* the housekeeper gives the image its name */
    JOB_DISCARDING, /* the housekeeper unlinks the temporary file */
    JOB_STATES,
} JobState;

struct Job {
    struct event_base *base;
    Capture *capture;
    Catalog *catalog;
    Housekeeper *housekeeper;
    int directory_fd;
    JobHost host;
    JobOptions options;

    JobState state;
    JobQueue queue;
    bool freed; /* job_free waits for the housekeeper: nobody is told any more */

    /* of the current checkpoint */
    JobRequest *request;
    Checkpoint *checkpoint;
    Publish publish;
    uint64_t temporaries; /* names used so far */
    int image_fd;
    uint64_t cut_usec;

    /* while there is a child */
    Writer *writer;
    pid_t pid;
    int pidfd;
    struct event *report_event;
    struct event *exit_event;
    WriterReport verdict; /* its last report; kind 0: none came */

    /* parked updates */
    struct event *stall_event;  /* looks whether the child makes room */
    uint64_t parked_since_usec; /* 0: none is */
    uint64_t held_usec;
    uint64_t freed_seen;
    uint64_t freed_usec; /* when freed_seen last changed */
};

/* Asserts that the table of moves has it. */
void job_move(Job *job, JobState state);
/* Notes why the checkpoint comes to nothing, unless that is known already. */
void job_note(Job *job, CheckpointState state, const char *format, ...) _printf_(3, 4);

/* Of stall_event. */
void job_on_stall_timer(int fd, short what, void *context);
/* Hears the child's reports and its end. 0, or a negative errno. */
int job_watch_child(Job *job);
/* The child is gone, or there was none: nothing of it stays. */
void job_child_over(Job *job);
/* Ends the capture and the child; it is reaped later. */
void job_kill(Job *job);

/* Gives the image its name; then the checkpoint is complete. */
void job_publish(Job *job);
/* Unlinks the temporary file, if there is one; then the checkpoint has ended as was noted. */
void job_discard(Job *job);
