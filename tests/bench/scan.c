/* How fast the scan is, and jansson on the same texts: nanoseconds a call for small calls, MB/s for
 * messages of 16 MiB, by the processor time of this process. One line a text and way; the median of
 * some runs.
 *
 * bench-scan [RUNS] */
#include <jansson.h>
#include <stdio.h>
#include <time.h>

#include "protocol/call.h"
#include "protocol/json.h"
#include "protocol/scan.h"

#define LARGE_BYTES (16 * MIB)
#define SMALL_ROUNDS 20000
#define RUNS_MAX 101

typedef struct Bench {
    Pool *pool;
    Scan *scan;
    Buffer scratch;
    Buffer text;
} Bench;

/* Does something with the text once. */
typedef void (*Way)(Bench *bench, Bytes text);

static void must(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "bench-scan: %s\n", what);
        exit(EXIT_FAILURE);
    }
}

static void way_scan(Bench *bench, Bytes text)
{
    scan_start(bench->scan, 2, 600);
    must(scan_feed(bench->scan, text.data, text.size) == SCAN_DONE, "the scan rejects the text");
}

/* As the server reads: 64 KiB more each time. */
static void way_scan_pieces(Bench *bench, Bytes text)
{
    int r = SCAN_MORE;

    scan_start(bench->scan, 2, 600);
    for (size_t size = 0; size < text.size && r == SCAN_MORE;) {
        size = MIN(size + 64 * KIB, text.size);
        r = scan_feed(bench->scan, text.data, size);
    }
    must(r == SCAN_DONE, "the scan rejects the text");
}

typedef struct PutParameters {
    Bytes arena;
    Bytes key;
    Bytes value;
    int64_t if_revision;
} PutParameters;

static void way_call(Bench *bench, Bytes text)
{
    static const Field fields[] = {
        {"arena", FIELD_STRING, .required = true, .offset = offsetof(PutParameters, arena)},
        {"key", FIELD_STRING, .required = true, .offset = offsetof(PutParameters, key)},
        {"value", FIELD_ANY, .offset = offsetof(PutParameters, value)},
        {"ifRevision", FIELD_INT, .offset = offsetof(PutParameters, if_revision)},
    };
    PutParameters parameters = {0};
    const char *reason;
    Bytes wrong;
    Call call;

    way_scan(bench, text);
    buffer_truncate(&bench->scratch, 0);
    must(call_parse(&call, text.data, bench->scan, &bench->scratch, &reason) == 0, "no call");
    must(call_parameters(&call, fields, ARRAY_SIZE(fields), &parameters, &bench->scratch, &wrong) ==
             0,
         "wrong parameters");
}

static void way_compact(Bench *bench, Bytes text)
{
    buffer_truncate(&bench->scratch, 0);
    json_compact(&bench->scratch, text);
    must(!bench->scratch.failed, "out of memory");
}

static void way_jansson(Bench *bench, Bytes text)
{
    json_t *tree = json_loadb(text.data, text.size, JSON_REJECT_DUPLICATES, NULL);

    (void)bench;
    must(tree != NULL, "jansson rejects the text");
    json_decref(tree);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double cpu_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* Microseconds of one round, the median of runs. */
static double measure(Bench *bench, Way way, Bytes text, size_t rounds, size_t runs)
{
    double times[RUNS_MAX];

    way(bench, text);
    for (size_t i = 0; i < runs; i++) {
        double begin = cpu_usec();
        for (size_t j = 0; j < rounds; j++)
            way(bench, text);
        times[i] = (cpu_usec() - begin) / (double)rounds;
    }
    qsort(times, runs, sizeof(times[0]), compare);
    return times[runs / 2];
}

/* --- texts */

static void element_ascii(Buffer *text, unsigned i)
{
    buffer_append_format(text,
                         "{\"name%u\":\"The quick brown fox jumps over the lazy dog, and then over "
                         "another one that is quite as lazy as the first; number %u.\"}",
                         i % 10, i);
}

static void element_utf8(Buffer *text, unsigned i)
{
    buffer_append_format(text,
                         "\"\xE5\xBF\xAB\xE9\x80\x9F\xE7\x9A\x84\xE6\xA3\x95\xE8\x89\xB2\xE7\x8B"
                         "\x90\xE7\x8B\xB8 \xC3\xA4\xC3\xB6\xC3\xBC \xF0\x9F\xA6\x8A %u\"",
                         i);
}

static void element_escapes(Buffer *text, unsigned i)
{
    buffer_append_format(text, "\"line\\none\\ttwo \\\"three\\\" \\u00e4\\ud83e\\udd8a %u\"", i);
}

static void element_numbers(Buffer *text, unsigned i)
{
    buffer_append_format(text, "%u,-%u.%02u,%ue-3", i * 7919, i, i % 100, i);
}

static void element_records(Buffer *text, unsigned i)
{
    buffer_append_format(text,
                         "{\"id\":%u,\"name\":\"user %u\",\"active\":%s,\"tags\":[\"a\",\"b\"],"
                         "\"score\":%u.5,\"parent\":null}",
                         i, i, i % 2 ? "true" : "false", i);
}

typedef struct Large {
    const char *name;
    void (*element)(Buffer *text, unsigned i);
} Large;

static const Large larges[] = {
    {"ASCII strings", element_ascii}, {"UTF-8 strings", element_utf8}, {"escapes", element_escapes},
    {"numbers", element_numbers},     {"records", element_records},
};

/* {"method":...,"parameters":{...,"value":[ELEMENT,...]}} */
static Bytes make_large(Buffer *text, const Large *large)
{
    buffer_truncate(text, 0);
    buffer_append_text(text, "{\"method\":\"io.holdfast.Put\",\"parameters\":{\"arena\":\"bench\","
                             "\"key\":\"large\",\"value\":[");
    for (unsigned i = 0; buffer_size(text) < LARGE_BYTES - 256; i++) {
        if (i > 0)
            buffer_append_text(text, ",");
        large->element(text, i);
    }
    buffer_append_text(text, "]}}");
    must(!text->failed, "out of memory");
    return BYTES(buffer_begin(text), buffer_size(text));
}

/* One object of very many names: each is hashed and looked up. */
static Bytes make_names(Buffer *text)
{
    buffer_truncate(text, 0);
    buffer_append_text(text, "{\"method\":\"io.holdfast.Put\",\"parameters\":{\"arena\":\"bench\","
                             "\"key\":\"large\",\"value\":{\"\":0");
    for (unsigned i = 0; buffer_size(text) < LARGE_BYTES - 256; i++)
        buffer_append_format(text, ",\"name%u\":%u", i, i);
    buffer_append_text(text, "}}}");
    must(!text->failed, "out of memory");
    return BYTES(buffer_begin(text), buffer_size(text));
}

static void report_large(Bench *bench, const char *name, Bytes text, size_t runs)
{
    static const struct {
        const char *name;
        Way way;
    } ways[] = {{"scan", way_scan},
                {"scan, 64 KiB pieces", way_scan_pieces},
                {"call with parameters", way_call},
                {"compact", way_compact},
                {"jansson", way_jansson}};

    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        /* A tree of 16 MiB takes seconds: once is enough. */
        double usec = measure(bench, ways[i].way, text, 1, ways[i].way == way_jansson ? 1 : runs);
        printf("16 MiB %-14s %-21s %8.0f MB/s\n", name, ways[i].name, (double)text.size / usec);
    }
}

static void report_small(Bench *bench, const char *name, Bytes text, size_t runs)
{
    static const struct {
        const char *name;
        Way way;
    } ways[] = {{"scan", way_scan}, {"call with parameters", way_call}, {"jansson", way_jansson}};

    for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
        printf("%3zu bytes %-11s %-21s %8.0f ns\n", text.size, name, ways[i].name,
               measure(bench, ways[i].way, text, SMALL_ROUNDS, runs) * 1000);
}

int main(int argc, char **argv)
{
    Bench bench;
    size_t runs = argc > 1 ? strtoul(argv[1], NULL, 10) : 5;

    must(runs >= 1 && runs <= RUNS_MAX, "runs: 1 to 101");
    must(pool_new(NULL, &bench.pool) == 0 && scan_new(bench.pool, &bench.scan) == 0, "no memory");
    buffer_init(&bench.scratch, bench.pool);
    buffer_init(&bench.text, bench.pool);
    report_small(&bench, "put",
                 BYTES_OF("{\"method\":\"io.holdfast.Put\",\"parameters\":{\"arena\":\"sessions\","
                          "\"key\":\"user:1234567\",\"value\":{\"name\":\"Ada\",\"n\":12}}}"),
                 runs);
    report_small(&bench, "put, spaced",
                 BYTES_OF("{\"method\": \"io.holdfast.Put\", \"parameters\": {\"arena\": \"s\", "
                          "\"key\": \"user:1234567\", \"value\": {\"name\": \"A\\u0064a\"}}}"),
                 runs);
    for (size_t i = 0; i < ARRAY_SIZE(larges); i++)
        report_large(&bench, larges[i].name, make_large(&bench.text, &larges[i]), runs);
    report_large(&bench, "one object", make_names(&bench.text), runs);
    buffer_clear(&bench.scratch);
    buffer_clear(&bench.text);
    scan_free(bench.scan);
    pool_free(bench.pool);
    return 0;
}
