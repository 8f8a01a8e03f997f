/* What a load measured: a histogram of latencies for each phase of the run, and the course of them
 * in windows of a tenth of a second. Times are nanoseconds of CLOCK_MONOTONIC. */
#pragma once

#include "base/common.h"
#include "base/histogram.h"

#define LOAD_PHASES_MAX 64
#define LOAD_WINDOW_NSEC UINT64_C(100000000)
#define LOAD_WINDOWS_MAX 36000

typedef struct LoadPhase {
    char name[32];
    uint64_t begin_nsec;
    uint64_t operations;
    Histogram latencies;
} LoadPhase;

typedef struct LoadResult {
    uint64_t begin_nsec;
    LoadPhase *phases[LOAD_PHASES_MAX];
    unsigned phase_count;
    Histogram **windows; /* NULL: not wanted; each made when something falls into it */
} LoadResult;

/* with_windows: also the course. -ENOMEM. Begins with a phase "all". */
int load_result_init(LoadResult *result, uint64_t begin_nsec, bool with_windows);
void load_result_deinit(LoadResult *result);

/* What is due from now on counts in a new phase. -ENOMEM, -E2BIG. */
int load_result_phase(LoadResult *result, const char *name, uint64_t now_nsec);
/* A call that was due at due_nsec in a phase is answered now. */
void load_result_add(LoadResult *result, unsigned phase, unsigned operations, uint64_t due_nsec,
                     uint64_t now_nsec);

/* JSON on stdout; latencies in microseconds. */
void load_result_print(const LoadResult *result, uint64_t end_nsec);
/* A line a window: seconds since the beginning, calls, p50, p99, max in microseconds. */
int load_result_write_windows(const LoadResult *result, const char *path);
