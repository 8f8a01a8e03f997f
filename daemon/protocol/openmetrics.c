/* OpenMetrics text. What can go wrong: want of memory; the buffer then says `failed`. */
#include "protocol/openmetrics.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const type_names[] = {
    [METRIC_GAUGE] = "gauge",
    [METRIC_COUNTER] = "counter",
    [METRIC_HISTOGRAM] = "histogram",
    [METRIC_INFO] = "info",
};

static const char *const suffixes[] = {
    [METRIC_GAUGE] = "",
    [METRIC_COUNTER] = "_total",
    [METRIC_HISTOGRAM] = "",
    [METRIC_INFO] = "_info",
};

/* Room for 14 digits of seconds and 6 behind the point. */
#define SECONDS_MAX 32

/* "0.000016", "1.5", "2.0": without zeros at the end, with a point. */
static const char *seconds(char text[static SECONDS_MAX], uint64_t usec)
{
    int length = snprintf(text, SECONDS_MAX, "%" PRIu64 ".%06" PRIu64, usec / USEC_PER_SEC,
                          usec % USEC_PER_SEC);

    while (text[length - 1] == '0' && text[length - 2] != '.')
        text[--length] = '\0';
    return text;
}

void openmetrics_begin(Buffer *out, const MetricFamily *family)
{
    buffer_append_format(out, "# TYPE %s %s\n", family->name, type_names[family->type]);
    if (family->unit != NULL)
        buffer_append_format(out, "# UNIT %s %s\n", family->name, family->unit);
    buffer_append_format(out, "# HELP %s %s\n", family->name, family->help);
}

static void append_name(Buffer *out, const MetricFamily *family, const char *label,
                        const char *label_value)
{
    buffer_append_format(out, "%s%s", family->name, suffixes[family->type]);
    if (label != NULL)
        buffer_append_format(out, "{%s=\"%s\"}", label, label_value);
}

void openmetrics_sample(Buffer *out, const MetricFamily *family, const char *label,
                        const char *label_value, uint64_t value)
{
    append_name(out, family, label, label_value);
    buffer_append_format(out, " %" PRIu64 "\n", value);
}

void openmetrics_seconds(Buffer *out, const MetricFamily *family, const char *label,
                         const char *label_value, uint64_t usec)
{
    char text[SECONDS_MAX];

    append_name(out, family, label, label_value);
    buffer_append_format(out, " %s\n", seconds(text, usec));
}

/* 16, 24, 32, 48, ... us: the ends of buckets that a Histogram has, too. */
enum { BOUND_FIRST = 4, BOUND_LAST = 24, BOUNDS = (BOUND_LAST - BOUND_FIRST) * 2 + 1 };

static void append_bucket(Buffer *out, const MetricFamily *family, const char *labels,
                          const char *bound, uint64_t count)
{
    buffer_append_format(out, "%s_bucket{%sle=\"%s\"} %" PRIu64 "\n", family->name, labels, bound,
                         count);
}

void openmetrics_histogram(Buffer *out, const MetricFamily *family, const char *label,
                           const char *label_value, const Histogram *histogram)
{
    uint64_t bounds[BOUNDS], counts[BOUNDS];
    char labels[128] = "", braces[160] = "", text[SECONDS_MAX];

    for (unsigned i = 0; i < BOUNDS; i++)
        bounds[i] = (UINT64_C(1) << (BOUND_FIRST + i / 2)) * (2 + i % 2) / 2;
    histogram_below(histogram, bounds, BOUNDS, counts);
    if (label != NULL) {
        snprintf(labels, sizeof(labels), "%s=\"%s\",", label, label_value);
        snprintf(braces, sizeof(braces), "{%s=\"%s\"}", label, label_value);
    }
    for (unsigned i = 0; i < BOUNDS; i++)
        append_bucket(out, family, labels, seconds(text, bounds[i]), counts[i]);
    append_bucket(out, family, labels, "+Inf", histogram->count);
    buffer_append_format(out, "%s_count%s %" PRIu64 "\n", family->name, braces, histogram->count);
    buffer_append_format(out, "%s_sum%s %s\n", family->name, braces, seconds(text, histogram->sum));
}

void openmetrics_end(Buffer *out)
{
    buffer_append_text(out, "# EOF\n");
}
