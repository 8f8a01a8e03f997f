/* How long requests took, out of the daemon's OpenMetrics text: the histograms of
 * holdfast_request_duration_seconds, one a method. Nothing that the daemon sends is relied on:
 * what does not fit is left out, and counters that run backwards count as begun anew. */
#pragma once

#include "base/common.h"

#define LATENCY_METHODS_MAX 32
#define LATENCY_BUCKETS_MAX 64
#define LATENCY_NAME_MAX 32

/* How many requests took up to so long, the shorter ones included. */
typedef struct LatencyBucket {
    uint64_t usec; /* UINT64_MAX: longer ones */
    uint64_t count;
} LatencyBucket;

typedef struct LatencyMethod {
    char name[LATENCY_NAME_MAX];
    size_t count;
    LatencyBucket buckets[LATENCY_BUCKETS_MAX]; /* rising */
} LatencyMethod;

typedef struct Latencies {
    size_t count;
    LatencyMethod methods[LATENCY_METHODS_MAX];
} Latencies;

void latencies_parse(const char *text, Latencies *ret);
/* What came between the two, in *now; before: NULL for nothing. */
void latencies_subtract(Latencies *now, const Latencies *before);
uint64_t latency_requests(const LatencyMethod *method);
/* In how many microseconds that share of the requests was answered (0.99): the upper bound of its
 * bucket, or the largest there is. 0 where there were none. */
uint64_t latency_percentile(const LatencyMethod *method, double share);
