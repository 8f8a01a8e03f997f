/* What top shows, asked of the daemon at one time, and the rates between two of them. */
#pragma once

#include "ctl.h"
#include "latency.h"

typedef struct Sample {
    uint64_t usec; /* CLOCK_MONOTONIC */
    HoldfastStatus *status;
    HoldfastArena **arenas; /* largest first; what the caller may read before what not */
    size_t arena_count;
    bool latencies_known; /* the daemon has GetMetrics */
    Latencies latencies;  /* since its start */
} Sample;

/* The result of the library's call that failed; else 0, and *ret is to be freed. */
int sample_take(const Ctl *ctl, Sample **ret);
Sample *sample_free(Sample *sample);

typedef struct Rates {
    uint64_t interval_usec; /* 0: there is nothing to compare with */
    double updates;         /* a second */
    double reads;
    uint64_t pages;      /* of the running checkpoint, a second */
    Latencies latencies; /* of the interval; methods that were called, the busiest first */
} Rates;

/* before: NULL, or of another process: then there are no rates, and latencies are since the
 * start. */
void sample_rates(const Sample *now, const Sample *before, Rates *ret);

/* One object; to be freed. NULL: no memory. */
char *sample_json(const Sample *sample, const Rates *rates);
