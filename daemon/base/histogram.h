/* Log-linear histogram of unsigned values: 32 steps an octave, so percentiles are within 3 per
 * cent; fixed size, no allocation. */
#pragma once

#include "base/common.h"

#define HISTOGRAM_STEPS 32
#define HISTOGRAM_BUCKETS ((64 - 5 + 1) * HISTOGRAM_STEPS)

typedef struct Histogram {
    uint64_t count;
    uint64_t sum;
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
} Histogram;

void histogram_add(Histogram *histogram, uint64_t value);
/* The same value so many times. */
void histogram_add_many(Histogram *histogram, uint64_t value, uint64_t count);
/* How many values lie below each of the bounds, which rise; into ret. Exact where a bound is a
 * power of two, or one of HISTOGRAM_STEPS equal steps from one to the next. */
void histogram_below(const Histogram *histogram, const uint64_t *bounds, size_t count,
                     uint64_t *ret);
/* The value below which the given part (0 to 1) of all values lies; the bucket's upper end, at most
 * max. 0 if empty. */
uint64_t histogram_percentile(const Histogram *histogram, double part);
