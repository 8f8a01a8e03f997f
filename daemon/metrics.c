/* The metrics of the whole daemon: one table of plain numbers, and the histograms. Nothing is
 * counted here but checkpoints; the rest is asked of who has it. */
#include "metrics.h"

#include "base/clock.h"
#include "protocol/openmetrics.h"

/* --- plain numbers */

static uint64_t count_arenas(const Manager *manager)
{
    return store_count(manager->store);
}

static uint64_t count_entries(const Manager *manager)
{
    return store_entries(manager->store);
}

static uint64_t used_bytes(const Manager *manager)
{
    return store_used_bytes(manager->store);
}

static uint64_t revision(const Manager *manager)
{
    return store_revision(manager->store);
}

static uint64_t durable_revision(const Manager *manager)
{
    return MIN(journal_durable_revision(manager->journal), store_revision(manager->store));
}

static uint64_t read_only(const Manager *manager)
{
    return store_reason(manager->store) != NULL;
}

static uint64_t updates(const Manager *manager)
{
    return store_updates(manager->store);
}

static uint64_t reads(const Manager *manager)
{
    return methods_reads(manager->methods);
}

static uint64_t connections(const Manager *manager)
{
    return server_connections(manager->server);
}

static uint64_t buffer_bytes(const Manager *manager)
{
    return server_buffer_bytes(manager->server);
}

static uint64_t start_time(const Manager *manager)
{
    return manager->status.started_usec;
}

static uint64_t recovery_duration(const Manager *manager)
{
    return manager->status.recovery_duration_usec;
}

static uint64_t journal_bytes(const Manager *manager)
{
    return journal_bytes_behind(manager->journal, 0);
}

static uint64_t journal_segment_count(const Manager *manager)
{
    return journal_segments(manager->journal);
}

static uint64_t journal_written(const Manager *manager)
{
    return journal_statistics(manager->journal)->written_bytes;
}

static uint64_t checkpoint_running(const Manager *manager)
{
    return job_running(manager->job) != NULL;
}

static uint64_t images(const Manager *manager)
{
    uint64_t count = 0;

    for (size_t i = 0; i < catalog_count(manager->catalog); i++)
        count += catalog_at(manager->catalog, i)->state == CHECKPOINT_COMPLETE;
    return count;
}

static uint64_t last_checkpoint_time(const Manager *manager)
{
    const Checkpoint *last = catalog_newest(manager->catalog);

    return last ? last->spec.started_usec : 0;
}

static uint64_t last_image_bytes(const Manager *manager)
{
    const Checkpoint *last = catalog_newest(manager->catalog);

    return last ? last->image_bytes : 0;
}

static uint64_t held_time(const Manager *manager)
{
    return manager->metrics.held_usec;
}

static uint64_t image_bytes_written(const Manager *manager)
{
    return manager->metrics.image_bytes;
}

typedef struct Number {
    MetricFamily family;
    uint64_t (*value)(const Manager *manager);
    bool usec; /* told in seconds */
} Number;

#define GAUGE(name_, unit_, help_) .family = {name_, METRIC_GAUGE, unit_, help_}
#define COUNTER(name_, unit_, help_) .family = {name_, METRIC_COUNTER, unit_, help_}
#define SECONDS .usec = true

/* clang-format off */
static const Number numbers[] = {
    {GAUGE("holdfast_arenas", NULL, "Arenas there are."), .value = count_arenas},
    {GAUGE("holdfast_entries", NULL, "Entries in all arenas."), .value = count_entries},
    {GAUGE("holdfast_used_bytes", "bytes", "Memory that the arenas' live data, indices and free lists occupy."),
     .value = used_bytes},
    {GAUGE("holdfast_revision", NULL, "Revision of the last update."), .value = revision},
    {GAUGE("holdfast_durable_revision", NULL, "Newest revision known to be on stable storage."),
     .value = durable_revision},
    {GAUGE("holdfast_read_only", NULL, "1 while updates are refused."), .value = read_only},
    {COUNTER("holdfast_updates", NULL, "Updates applied."), .value = updates},
    {COUNTER("holdfast_reads", NULL, "Calls that read entries."), .value = reads},
    {GAUGE("holdfast_connections", NULL, "Connections open."), .value = connections},
    {GAUGE("holdfast_buffer_bytes", "bytes", "Memory of the connections' buffers."), .value = buffer_bytes},
    {GAUGE("holdfast_start_time_seconds", "seconds", "When the daemon started, since the Unix epoch."),
     .value = start_time, SECONDS},
    {GAUGE("holdfast_recovery_duration_seconds", "seconds", "How long it took until the state was back."),
     .value = recovery_duration, SECONDS},
    {GAUGE("holdfast_journal_bytes", "bytes", "Size of the journal's segments."), .value = journal_bytes},
    {GAUGE("holdfast_journal_segments", NULL, "Segments of the journal."), .value = journal_segment_count},
    {COUNTER("holdfast_journal_written_bytes", "bytes", "Bytes written to the journal."), .value = journal_written},
    {GAUGE("holdfast_checkpoint_running", NULL, "1 while a checkpoint runs."), .value = checkpoint_running},
    {GAUGE("holdfast_images", NULL, "Complete images there are."), .value = images},
    {GAUGE("holdfast_last_checkpoint_time_seconds", "seconds",
           "Time of the cut of the newest complete image, since the Unix epoch; 0: none."),
     .value = last_checkpoint_time, SECONDS},
    {GAUGE("holdfast_last_image_bytes", "bytes", "Size of the newest complete image."), .value = last_image_bytes},
    {COUNTER("holdfast_images_written_bytes", "bytes", "Size of all images that were completed."),
     .value = image_bytes_written},
    {COUNTER("holdfast_held_seconds", "seconds", "How long updates waited for room in the ring of checkpoints."),
     .value = held_time, SECONDS},
};

static const MetricFamily
    build = {"holdfast_build", METRIC_INFO, NULL, "The daemon's version."},
    checkpoints = {"holdfast_checkpoints", METRIC_COUNTER, NULL, "Checkpoints that ended, by how."},
    requests = {"holdfast_request_duration_seconds", METRIC_HISTOGRAM, "seconds",
                "Time from the turn of the loop that read a call to the one that sent its reply, by method."},
    pauses = {"holdfast_checkpoint_pause_seconds", METRIC_HISTOGRAM, "seconds",
              "How long nobody was served at the cut of a checkpoint."},
    durations = {"holdfast_checkpoint_duration_seconds", METRIC_HISTOGRAM, "seconds",
                 "Time from the cut to the image being durable."},
    writes = {"holdfast_journal_write_seconds", METRIC_HISTOGRAM, "seconds",
              "How long it took to commit a batch of updates to the journal's file, not synced."},
    syncs = {"holdfast_journal_sync_seconds", METRIC_HISTOGRAM, "seconds",
             "How long it took to make what was written durable (fdatasync)."};
/* clang-format on */

static void write_number(const Manager *manager, const Number *number, Buffer *out)
{
    openmetrics_begin(out, &number->family);
    (number->usec ? openmetrics_seconds : openmetrics_sample)(out, &number->family, NULL, NULL,
                                                              number->value(manager));
}

/* --- by method, and of checkpoints */

static_assert(METHODS_KINDS_MAX <= LATENCY_KINDS, "each method is a kind of call");

/* Methods that were called; calls of what is none have no name. */
static void write_requests(const Manager *manager, Buffer *out)
{
    openmetrics_begin(out, &requests);
    for (unsigned kind = 0; kind < LATENCY_KINDS; kind++) {
        const Histogram *histogram = server_latency(manager->server, kind);
        if (histogram->count > 0)
            openmetrics_histogram(out, &requests, "method", methods_kind_name(kind), histogram);
    }
}

static void write_histogram(Buffer *out, const MetricFamily *family, const Histogram *histogram)
{
    openmetrics_begin(out, family);
    openmetrics_histogram(out, family, NULL, NULL, histogram);
}

void metrics_checkpoint(Manager *manager, const Checkpoint *checkpoint)
{
    Metrics *metrics = &manager->metrics;

    metrics->ended[checkpoint->state]++;
    if (checkpoint->spec.id[0] == '\0')
        return; /* before the cut */
    histogram_add(&metrics->pause, checkpoint->summary.pause_usec);
    metrics->held_usec += checkpoint->summary.held_usec;
    if (checkpoint->state == CHECKPOINT_COMPLETE) {
        histogram_add(&metrics->duration, checkpoint->summary.duration_usec);
        metrics->image_bytes += checkpoint->image_bytes;
    }
}

static void write_checkpoints(const Manager *manager, Buffer *out)
{
    const Metrics *metrics = &manager->metrics;

    openmetrics_begin(out, &checkpoints);
    openmetrics_sample(out, &checkpoints, "state", "complete", metrics->ended[CHECKPOINT_COMPLETE]);
    openmetrics_sample(out, &checkpoints, "state", "failed", metrics->ended[CHECKPOINT_FAILED]);
    openmetrics_sample(out, &checkpoints, "state", "cancelled",
                       metrics->ended[CHECKPOINT_CANCELLED]);
    write_histogram(out, &pauses, &metrics->pause);
    write_histogram(out, &durations, &metrics->duration);
}

void metrics_write(void *context, Buffer *out)
{
    const Manager *manager = context;
    const JournalStatistics *journal = journal_statistics(manager->journal);

    openmetrics_begin(out, &build);
    openmetrics_sample(out, &build, "version", HOLDFAST_VERSION, 1);
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        write_number(manager, &numbers[i], out);
    write_requests(manager, out);
    write_checkpoints(manager, out);
    write_histogram(out, &writes, &journal->write);
    write_histogram(out, &syncs, &journal->sync);
}
