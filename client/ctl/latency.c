/* See latency.h. A line that counts is
 *
 *     holdfast_request_duration_seconds_bucket{method="Put",le="0.001"} 123
 *
 * with its labels in any order. Text that is no such line is passed over. */
#include "latency.h"

#include <math.h>
#include <stdio.h>

#define FAMILY "holdfast_request_duration_seconds_bucket{"

/* The value of a label, of those that stand between the braces; false: there is none, or it is too
 * long. Values of these labels hold nothing that is escaped. */
static bool find_label(const char *labels, const char *end, const char *name, char *ret,
                       size_t size)
{
    size_t length = strlen(name);

    while (labels < end) {
        const char *equals = memchr(labels, '=', (size_t)(end - labels));
        if (equals == NULL || end - equals < 2 || equals[1] != '"')
            return false;
        const char *value = equals + 2, *quote = memchr(value, '"', (size_t)(end - value));
        if (quote == NULL)
            return false;
        if ((size_t)(equals - labels) == length && memcmp(labels, name, length) == 0) {
            if ((size_t)(quote - value) >= size)
                return false;
            memcpy(ret, value, (size_t)(quote - value));
            ret[quote - value] = '\0';
            return true;
        }
        labels = quote + 1;
        if (labels < end && *labels == ',')
            labels++;
    }
    return false;
}

static LatencyMethod *find_method(Latencies *latencies, const char *name)
{
    for (size_t i = 0; i < latencies->count; i++)
        if (strcmp(latencies->methods[i].name, name) == 0)
            return &latencies->methods[i];
    if (latencies->count == LATENCY_METHODS_MAX)
        return NULL;
    LatencyMethod *method = &latencies->methods[latencies->count++];
    *method = (LatencyMethod){0};
    snprintf(method->name, sizeof(method->name), "%s", name);
    return method;
}

/* 0 for what is no bound. */
static uint64_t parse_bound(const char *text)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || *end != '\0' || isnan(seconds) || seconds <= 0)
        return 0;
    return seconds < 1e9 ? (uint64_t)(seconds * 1e6 + 0.5) : UINT64_MAX;
}

static void parse_line(Latencies *latencies, const char *labels, const char *end)
{
    char name[LATENCY_NAME_MAX], bound[32], *rest;
    const char *brace = memchr(labels, '}', (size_t)(end - labels));
    LatencyBucket bucket;
    LatencyMethod *method;

    if (brace == NULL || brace + 1 == end || brace[1] != ' ' ||
        !find_label(labels, brace, "method", name, sizeof(name)) ||
        !find_label(labels, brace, "le", bound, sizeof(bound)))
        return;
    /* The text ends in NUL, so a number stops there at the latest. */
    double count = strtod(brace + 2, &rest);
    bucket.usec = parse_bound(bound);
    if (rest == brace + 2 || !(count >= 0) || count >= 0x1p63 || bucket.usec == 0)
        return;
    bucket.count = (uint64_t)count;
    method = find_method(latencies, name);
    if (method == NULL || method->count == LATENCY_BUCKETS_MAX)
        return;
    if (method->count > 0 && (bucket.usec <= method->buckets[method->count - 1].usec ||
                              bucket.count < method->buckets[method->count - 1].count))
        return;
    method->buckets[method->count++] = bucket;
}

void latencies_parse(const char *text, Latencies *ret)
{
    ret->count = 0;
    while (*text != '\0') {
        const char *end = text + strcspn(text, "\n");
        if (strncmp(text, FAMILY, strlen(FAMILY)) == 0)
            parse_line(ret, text + strlen(FAMILY), end);
        text = *end == '\n' ? end + 1 : end;
    }
}

static const LatencyMethod *find_same(const Latencies *latencies, const LatencyMethod *method)
{
    for (size_t i = 0; i < latencies->count; i++) {
        const LatencyMethod *other = &latencies->methods[i];
        if (strcmp(other->name, method->name) != 0)
            continue;
        if (other->count != method->count)
            return NULL;
        for (size_t j = 0; j < method->count; j++)
            if (other->buckets[j].usec != method->buckets[j].usec ||
                other->buckets[j].count > method->buckets[j].count)
                return NULL;
        return other;
    }
    return NULL;
}

void latencies_subtract(Latencies *now, const Latencies *before)
{
    for (size_t i = 0; before != NULL && i < now->count; i++) {
        LatencyMethod *method = &now->methods[i];
        const LatencyMethod *other = find_same(before, method);
        for (size_t j = 0; other != NULL && j < method->count; j++)
            method->buckets[j].count -= other->buckets[j].count;
    }
}

uint64_t latency_requests(const LatencyMethod *method)
{
    return method->count > 0 ? method->buckets[method->count - 1].count : 0;
}

uint64_t latency_percentile(const LatencyMethod *method, double share)
{
    double wanted = (double)latency_requests(method) * share;
    uint64_t usec = 0;

    for (size_t i = 0; i < method->count && wanted > 0; i++) {
        if (method->buckets[i].usec != UINT64_MAX)
            usec = method->buckets[i].usec;
        /* A difference of two histograms need not rise where the daemon sent what is none. */
        if ((double)method->buckets[i].count >= wanted)
            break;
    }
    return usec;
}
