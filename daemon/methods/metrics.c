/* GetMetrics. The daemon's own numbers are the host's to tell; of single arenas only those are told
 * that the caller may read. What can go wrong: want of memory. */
#include "methods/method.h"
#include "protocol/openmetrics.h"

/* With more the text would be too long for a reply. */
#define METRICS_ARENAS_MAX 1024

static const MetricFamily entries = {"holdfast_arena_entries", METRIC_GAUGE, NULL,
                                     "Entries of an arena."},
                          used = {"holdfast_arena_used_bytes", METRIC_GAUGE, "bytes",
                                  "Memory that an arena's live data, index and free lists occupy."},
                          maximum = {"holdfast_arena_max_bytes", METRIC_GAUGE, "bytes",
                                     "Memory that an arena may occupy."};

static uint64_t maximum_bytes(const Arena *arena)
{
    ArenaAttributes attributes;

    arena_attributes(arena, &attributes);
    return attributes.max_bytes;
}

static bool may_read(const MethodCall *call, const Arena *arena)
{
    ArenaAttributes attributes;

    arena_attributes(arena, &attributes);
    return call->ops->may(call->caller, attributes.uid, attributes.gid, attributes.mode,
                          RIGHT_READ);
}

static void write_arenas(const MethodCall *call, Buffer *out, const MetricFamily *family,
                         uint64_t (*value)(const Arena *arena))
{
    const Store *store = call->methods->options.store;
    size_t told = 0;

    openmetrics_begin(out, family);
    for (size_t i = 0; i < store_count(store) && told < METRICS_ARENAS_MAX; i++) {
        const Arena *arena = store_at(store, i)->arena;
        if (arena_damage(arena) || !may_read(call, arena))
            continue;
        openmetrics_sample(out, family, "arena", arena_name(arena), value(arena));
        told++;
    }
}

MethodResult method_get_metrics(MethodCall *call)
{
    const MethodsHost *host = call->methods->options.host;
    Buffer *text = call->ops->scratch(call->caller);
    JsonWriter writer;

    host->metrics(host->context, text);
    write_arenas(call, text, &entries, arena_entries);
    write_arenas(call, text, &used, arena_used_bytes);
    write_arenas(call, text, &maximum, maximum_bytes);
    openmetrics_end(text);
    if (text->failed)
        return error_limit(call, "buffers", 0);
    writer = method_reply(call);
    member_bytes(&writer, "text", BYTES(buffer_begin(text), buffer_size(text)));
    return method_end(call, &writer);
}
