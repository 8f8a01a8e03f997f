/* Log-linear histogram. Values below HISTOGRAM_STEPS have a bucket each; above, every octave is cut
 * into HISTOGRAM_STEPS equal buckets. Adding is a few instructions, so it can sit on the way of
 * every call. */
#include "base/histogram.h"

#define STEP_BITS 5
static_assert(HISTOGRAM_STEPS == 1 << STEP_BITS, "an octave's steps are a power of two");

static unsigned bucket_of(uint64_t value)
{
    unsigned octave, step;

    if (value < HISTOGRAM_STEPS)
        return (unsigned)value;
    octave = 63 - (unsigned)__builtin_clzll(value);
    step = (unsigned)(value >> (octave - STEP_BITS)) & (HISTOGRAM_STEPS - 1);
    return (octave - STEP_BITS + 1) * HISTOGRAM_STEPS + step;
}

/* The largest value that falls into the bucket. */
static uint64_t bucket_end(unsigned bucket)
{
    unsigned shift;

    if (bucket < HISTOGRAM_STEPS)
        return bucket;
    shift = bucket / HISTOGRAM_STEPS - 1;
    return ((uint64_t)(HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS) << shift) +
           ((UINT64_C(1) << shift) - 1);
}

void histogram_add(Histogram *histogram, uint64_t value)
{
    histogram_add_many(histogram, value, 1);
}

void histogram_add_many(Histogram *histogram, uint64_t value, uint64_t count)
{
    histogram->buckets[bucket_of(value)] += count;
    histogram->count += count;
    histogram->sum += value * count;
    histogram->max = MAX(histogram->max, value);
}

void histogram_below(const Histogram *histogram, const uint64_t *bounds, size_t count,
                     uint64_t *ret)
{
    uint64_t seen = 0;
    unsigned bucket = 0;

    for (size_t i = 0; i < count; i++) {
        for (unsigned end = bucket_of(bounds[i]); bucket < end; bucket++)
            seen += histogram->buckets[bucket];
        ret[i] = seen;
    }
}

uint64_t histogram_percentile(const Histogram *histogram, double part)
{
    uint64_t rank, seen = 0;

    if (histogram->count == 0)
        return 0;
    if (!(part < 1.0))
        return histogram->max;
    /* The rank is rounded up: of ten values the 0.95 quantile is the tenth. */
    rank = part > 0.0 ? (uint64_t)(part * (double)histogram->count) : 0;
    if ((double)rank < part * (double)histogram->count)
        rank++;
    rank = MAX(rank, UINT64_C(1));
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->buckets[bucket];
        if (seen >= rank)
            return MIN(bucket_end(bucket), histogram->max);
    }
    return histogram->max;
}
