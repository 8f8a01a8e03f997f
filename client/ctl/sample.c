/* See sample.h. Three calls, one after the other: what they tell may be of slightly different
 * times, which rates over a second do not show. */
#include "sample.h"

#include <jansson.h>

#include "base/clock.h"

static int compare_arenas(const void *a, const void *b)
{
    const HoldfastArena *left = *(HoldfastArena *const *)a, *right = *(HoldfastArena *const *)b;

    if (left->readable != right->readable)
        return left->readable ? -1 : 1;
    if (left->used_bytes != right->used_bytes)
        return left->used_bytes > right->used_bytes ? -1 : 1;
    return strcmp(left->name, right->name);
}

/* Without the method, or the right to call it, there are no latencies, and that is all. */
static int take_latencies(const Ctl *ctl, Sample *sample)
{
    const char *reply;
    size_t size;
    json_t *tree, *text;
    int r = holdfast_call(ctl->connection, "GetMetrics", NULL, &reply, &size);

    if (r == HOLDFAST_ERROR_REMOTE)
        return 0;
    if (r != 0)
        return r;
    tree = json_loadb(reply, size, 0, NULL);
    text = json_object_get(tree, "text");
    if (json_is_string(text)) {
        latencies_parse(json_string_value(text), &sample->latencies);
        sample->latencies_known = true;
    }
    json_decref(tree);
    return 0;
}

int sample_take(const Ctl *ctl, Sample **ret)
{
    Sample *sample = calloc(1, sizeof(*sample));
    int r;

    if (sample == NULL)
        return -ENOMEM;
    r = holdfast_get_status(ctl->connection, &sample->status);
    sample->usec = clock_monotonic();
    if (r == 0)
        r = holdfast_list_arenas(ctl->connection, &sample->arenas, &sample->arena_count);
    if (r == 0)
        r = take_latencies(ctl, sample);
    if (r != 0) {
        sample_free(sample);
        return r;
    }
    qsort(sample->arenas, sample->arena_count, sizeof(*sample->arenas), compare_arenas);
    *ret = sample;
    return 0;
}

Sample *sample_free(Sample *sample)
{
    if (sample == NULL)
        return NULL;
    holdfast_status_free(sample->status);
    holdfast_arenas_free(sample->arenas);
    free(sample);
    return NULL;
}

static double rate(uint64_t now, uint64_t before, uint64_t usec)
{
    return now < before ? 0 : (double)(now - before) * (double)USEC_PER_SEC / (double)usec;
}

static int compare_methods(const void *a, const void *b)
{
    const LatencyMethod *left = a, *right = b;
    uint64_t left_count = latency_requests(left), right_count = latency_requests(right);

    if (left_count != right_count)
        return left_count > right_count ? -1 : 1;
    return strcmp(left->name, right->name);
}

static void keep_called(Latencies *latencies)
{
    size_t kept = 0;

    for (size_t i = 0; i < latencies->count; i++)
        if (latency_requests(&latencies->methods[i]) > 0) {
            if (kept != i)
                latencies->methods[kept] = latencies->methods[i];
            kept++;
        }
    latencies->count = kept;
    qsort(latencies->methods, kept, sizeof(latencies->methods[0]), compare_methods);
}

/* So far, from the start of the checkpoint where it began after the sample before. */
static uint64_t page_rate(const Sample *now, const Sample *before)
{
    const HoldfastCheckpoint *running = now->status->running_checkpoint,
                             *earlier = before != NULL ? before->status->running_checkpoint : NULL;

    if (running == NULL)
        return 0;
    if (earlier != NULL && strcmp(running->id, earlier->id) == 0 && now->usec > before->usec)
        return (uint64_t)rate(running->pages_done, earlier->pages_done, now->usec - before->usec);
    return (uint64_t)rate(running->pages_done, 0, MAX(running->duration_usec, 1));
}

void sample_rates(const Sample *now, const Sample *before, Rates *ret)
{
    /* A restart is another process, with counters that begin anew. */
    if (before != NULL &&
        (before->status->pid != now->status->pid ||
         before->status->started_usec != now->status->started_usec || now->usec <= before->usec))
        before = NULL;
    *ret = (Rates){.pages = page_rate(now, before)};
    ret->latencies = now->latencies;
    if (before != NULL) {
        ret->interval_usec = now->usec - before->usec;
        ret->updates = rate(now->status->updates, before->status->updates, ret->interval_usec);
        ret->reads = rate(now->status->reads, before->status->reads, ret->interval_usec);
        latencies_subtract(&ret->latencies, &before->latencies);
    }
    keep_called(&ret->latencies);
}
