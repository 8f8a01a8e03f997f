/* The child's way through the arenas: the ring first, always, else the next run of pages, until
 * every page below the high-water marks was handed to a sink once, as it was at the cut. No malloc,
 * no locks: made before the fork, run after it (or, in a test, in a thread beside the one that
 * changes the pages). */
#pragma once

#include "checkpoint/capture.h"

typedef struct Sweep Sweep;

/* One arena, in the order of the cuts given to capture_arm. */
typedef struct SweepArena {
    int fd;         /* the memfd; still the caller's */
    uint64_t pages; /* high-water mark at the cut */
} SweepArena;

/* Where the pages go. A negative errno ends the sweep. */
typedef struct SweepSink {
    void *context;
    /* The buffer to fill next, room for HOLDFAST_BLOCK_PAGES pages; the same one until the next
     * put. */
    int (*buffer)(void *context, void **ret);
    /* Saves the first count pages of the buffer, which are these pages of the arena. Never the same
     * page twice. */
    int (*put)(void *context, uint32_t arena, const uint32_t *pages, uint32_t count);
    /* Between steps, at least once for every 256 pages, or every millisecond of waiting. room: the parent waits
     * for free slots, and there are. */
    void (*turn)(void *context, bool room);
    /* The scan is through: nothing more will be captured. */
    void (*scanned)(void *context);
} SweepSink;

typedef struct SweepOptions {
    Capture *capture;
    const SweepArena *arenas; /* copied */
    size_t count;
    uint64_t bytes_per_sec; /* of the scan, not of the ring; 0: no limit */
    SweepSink sink;
} SweepOptions;

/* Maps all memory that the sweep needs, and touches none of it. */
int sweep_new(const SweepOptions *options, Sweep **ret);
Sweep *sweep_free(Sweep *sweep);

/* 0, or a negative errno; sweep_step tells where. Once, after capture_arm. */
int sweep_run(Sweep *sweep);
/* What failed: "read" or "write". */
const char *sweep_step(const Sweep *sweep);

uint64_t sweep_pages_total(const Sweep *sweep);
/* Pages done: handed to the sink, or known to be zero. After a sweep that went well, all of them.
 */
uint64_t sweep_pages_done(const Sweep *sweep);
/* Of these, the ones that came out of the ring. */
uint64_t sweep_pages_captured(const Sweep *sweep);
