/* Writes OpenMetrics text (the OpenMetrics specification 1.0; Prometheus reads it). Families come
 * one after the other, each begun once and followed by its samples. Labels and help are the
 * daemon's own words, or names that hold nothing that would have to be escaped. */
#pragma once

#include "base/buffer.h"
#include "base/histogram.h"

typedef enum MetricType {
    METRIC_GAUGE,
    METRIC_COUNTER,
    METRIC_HISTOGRAM, /* of microseconds, told in seconds */
    METRIC_INFO,
} MetricType;

typedef struct MetricFamily {
    const char *name; /* ends in its unit; a counter's without _total */
    MetricType type;
    const char *unit; /* "seconds", "bytes"; NULL: none */
    const char *help; /* no line break, no backslash, no quote */
} MetricFamily;

void openmetrics_begin(Buffer *out, const MetricFamily *family);
/* label: NULL: none; else its name, and then its value. */
void openmetrics_sample(Buffer *out, const MetricFamily *family, const char *label,
                        const char *label_value, uint64_t value);
/* The value in seconds. */
void openmetrics_seconds(Buffer *out, const MetricFamily *family, const char *label,
                         const char *label_value, uint64_t usec);
/* Buckets end at powers of two and half way between, from 16 us to 16.8 s. */
void openmetrics_histogram(Buffer *out, const MetricFamily *family, const char *label,
                           const char *label_value, const Histogram *histogram);
void openmetrics_end(Buffer *out);
