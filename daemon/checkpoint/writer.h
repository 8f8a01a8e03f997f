/* The child that writes an image. All it needs is made before the fork (writer_new); then it sweeps
 * ring and arenas into the image (sweep.h, image-write.h) and tells how far it is in fixed-size
 * reports over a pipe. The parent keeps the pipe's other end and the child's process id; killing
 * and reaping is its business. */
#pragma once

#include <sys/types.h>

#include "checkpoint/capture.h"
#include "checkpoint/image-write.h"

typedef struct Writer Writer;

typedef enum WriterReportKind {
    WRITER_PROGRESS = 1, /* at most ten times a second */
    WRITER_ROOM,         /* slots are free, and the parent had asked */
    WRITER_SCANNED,      /* nothing is captured any more; the arenas are not read any more */
    WRITER_DONE,         /* the file is complete and synced */
    WRITER_FAILED,       /* error and step tell why */
} WriterReportKind;

/* Written by one write(2) each, so that it comes whole (pipe(7)). */
typedef struct WriterReport {
    uint32_t kind;
    int32_t error; /* negative errno */
    char step[16];
    uint64_t pages_done;
    uint64_t pages_captured;
    uint64_t image_bytes;
    ImageSummary summary; /* with WRITER_DONE: as it stands in the image */
} WriterReport;

typedef struct WriterPlan {
    Capture *capture;
    int image_fd; /* an empty file; the writer's on success */
    const ImageSpec *spec;
    const ImageArena *arenas; /* the table, copied */
    size_t count;
    const int
        *memfds; /* one for each arena that is held, in their order, which is that of the cuts */
    uint64_t state_bytes;
    uint64_t bytes_per_sec; /* 0: no limit */
} WriterPlan;

int writer_new(const WriterPlan *plan, Writer **ret);
/* Does nothing to the child. NULL is fine. */
Writer *writer_free(Writer *writer);

/* Forks the child. Once, after capture_arm. cut_usec: when the pause began, CLOCK_MONOTONIC.
 * ret_pid: the caller must reap it. 0, or the errno of the fork. */
int writer_fork(Writer *writer, uint64_t cut_usec, pid_t *ret_pid);
/* In the parent, after the fork: closes what only the child needs. */
void writer_close_files(Writer *writer);

/* Readable when reports are there, and at the child's end; never blocks. */
int writer_fd(const Writer *writer);
/* 1: a report; 0: the child closed the pipe; -EAGAIN: nothing now; -EBADMSG: no report of ours. */
int writer_read(Writer *writer, WriterReport *ret);

/* What only the parent knows, for the summary in the image. */
void writer_set_pause(Writer *writer, uint64_t pause_usec);
/* Updates were held back for so long in all, and one is since parked_since_usec (CLOCK_MONOTONIC;
 * 0: none is). */
void writer_set_held(Writer *writer, uint64_t held_usec, uint64_t parked_since_usec);
