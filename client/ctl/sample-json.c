/* A sample and its rates as one JSON object, for scripts. */
#include <holdfast/layout.h>
#include <jansson.h>

#include "sample.h"

static json_t *json_methods(const Rates *rates)
{
    json_t *array = json_array();

    for (size_t i = 0; i < rates->latencies.count; i++) {
        const LatencyMethod *method = &rates->latencies.methods[i];
        json_array_append_new(
            array, json_pack("{s:s, s:f, s:I, s:I, s:I}", "name", method->name, "callsPerSec",
                             (double)latency_requests(method) * (double)USEC_PER_SEC /
                                 (double)MAX(rates->interval_usec, 1),
                             "p50USec", (json_int_t)latency_percentile(method, 0.5), "p99USec",
                             (json_int_t)latency_percentile(method, 0.99), "p999USec",
                             (json_int_t)latency_percentile(method, 0.999)));
    }
    return array;
}

static json_t *json_arenas(const Sample *sample)
{
    json_t *array = json_array();

    for (size_t i = 0; i < sample->arena_count; i++) {
        const HoldfastArena *arena = sample->arenas[i];
        json_t *object = json_pack("{s:s}", "name", arena->name);
        if (arena->readable)
            json_object_update_new(object, json_pack("{s:I, s:I, s:I}", "entries",
                                                     (json_int_t)arena->entries, "usedBytes",
                                                     (json_int_t)arena->used_bytes, "maxBytes",
                                                     (json_int_t)arena->max_bytes));
        json_array_append_new(array, object);
    }
    return array;
}

static json_t *json_running(const HoldfastCheckpoint *running, const Rates *rates)
{
    if (running == NULL)
        return json_null();
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "id", running->id, "pagesTotal",
                     (json_int_t)running->pages_total, "pagesDone", (json_int_t)running->pages_done,
                     "pagesCaptured", (json_int_t)running->pages_captured, "bytesPerSec",
                     (json_int_t)(rates->pages * HOLDFAST_PAGE_BYTES), "durationUSec",
                     (json_int_t)running->duration_usec);
}

char *sample_json(const Sample *sample, const Rates *rates)
{
    const HoldfastStatus *status = sample->status;
    json_t *tree = json_pack(
        "{s:s, s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:I, s:o, s:o, s:o}", "version",
        status->version, "pid", (int)status->pid, "state", status->state, "revision",
        (json_int_t)status->revision, "durableRevision", (json_int_t)status->durable_revision,
        "entries", (json_int_t)status->entries, "usedBytes", (json_int_t)status->used_bytes,
        "connections", (json_int_t)status->connections, "updatesPerSec", rates->updates,
        "readsPerSec", rates->reads, "intervalUSec", (json_int_t)rates->interval_usec, "methods",
        json_methods(rates), "arenas", json_arenas(sample), "runningCheckpoint",
        json_running(status->running_checkpoint, rates));
    char *text = tree != NULL ? json_dumps(tree, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;

    json_decref(tree);
    return text;
}
