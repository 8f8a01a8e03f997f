/* How fast updates become durable, and how fast they are read back.
 *
 *   bench-journal [SECONDS [DIRECTORY]]      2 (a round) and the current directory if left out
 *
 * Beside the journal under `always`, with one update a batch and with 50, stands the way of Redis'
 * appendfsync: write(2) to the end of a growing file and fdatasync(2). Rounds of all alternate, for
 * a shared disk has good and bad minutes; the medians are told, and the best. Then a million
 * records are written under `never` and replayed from the page cache. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/file.h"
#include "journal/journal.h"

#define ROUNDS 5
#define RECORD_VALUE 144 /* makes a record of 200 bytes: 48 and 8 of headers, no key to speak of   \
                          */
#define REPLAY_RECORDS 1000000u

typedef struct Series {
    const char *name;
    double rate[ROUNDS]; /* updates a second */
    unsigned count;
} Series;

typedef struct Bench {
    int directory_fd;
    uint64_t usec;
    Housekeeper *housekeeper;
    Control *control;
    Journal *journal;
} Bench;

static const Identity identity = {.bytes = {1}};
static char value[RECORD_VALUE];

static void check(int r, const char *what)
{
    if (r >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, strerror(-r));
    exit(1);
}

static int compare(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static void show(Series *series)
{
    qsort(series->rate, series->count, sizeof(series->rate[0]), compare);
    double median = series->rate[series->count / 2];
    printf("%-44s %9.0f/s  (%6.1f us)   best %9.0f/s\n", series->name, median, 1e6 / median,
           series->rate[series->count - 1]);
    fflush(stdout);
}

static int ignore_record(void *context, Record *record)
{
    uint64_t *operations = context;
    RecordOperation operation;

    while (record_next_operation(record, &operation))
        (*operations)++;
    return 0;
}

static void bench_open(Bench *bench, JournalPolicy policy)
{
    uint64_t operations = 0;
    ReplayOptions replay = {.record = ignore_record, .context = &operations};
    JournalPosition position;
    ReplayDamage damage;

    check(journal_replay(bench->directory_fd, &replay, &position, &damage), "replay");
    check(control_new(&position.lineage, &bench->control), "control memfd");
    JournalOptions options = {
        .directory_fd = bench->directory_fd,
        .policy = policy,
        .segment_bytes_max = 256 * MIB,
        .base_revision = position.highest,
        .housekeeper = bench->housekeeper,
    };
    check(journal_open(&options, bench->control, &position, &bench->journal), "open");
    journal_position_deinit(&position);
    housekeeper_drain(bench->housekeeper);
}

static void bench_close(Bench *bench)
{
    check(journal_close(bench->journal, true), "close");
    bench->control = control_free(bench->control);
}

static void bench_append(Bench *bench, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        RecordWriter *writer = journal_writer(bench->journal);
        record_begin(writer, journal_revision(bench->journal) + 1, clock_realtime(), &identity);
        record_put(writer, BYTES_OF("k"), BYTES(value, sizeof(value)));
        check(record_end(writer, NULL), "record");
        journal_append_end(bench->journal);
    }
}

/* One turn of a loop whose clients all wait for their answers. */
static void bench_turn(Bench *bench, unsigned batch)
{
    struct pollfd result = {.fd = journal_fd(bench->journal), .events = POLLIN};
    eventfd_t count;

    bench_append(bench, batch);
    journal_commit(bench->journal);
    while (journal_replied_revision(bench->journal) < journal_revision(bench->journal)) {
        (void)poll(&result, 1, 100);
        (void)eventfd_read(result.fd, &count);
        journal_reap(bench->journal);
        housekeeper_reap(bench->housekeeper);
        journal_commit(bench->journal);
    }
}

static double bench_journal(Bench *bench, unsigned batch)
{
    uint64_t begin = clock_monotonic(), now;
    uint64_t updates = 0;

    do {
        bench_turn(bench, batch);
        updates += batch;
        now = clock_monotonic();
    } while (now - begin < bench->usec);
    return (double)updates * 1e6 / (double)(now - begin);
}

static double bench_growing(Bench *bench, unsigned batch)
{
    _cleanup_(closep) int fd =
        openat(bench->directory_fd, "growing", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    char data[50 * 200] = "x";
    uint64_t begin = clock_monotonic(), now;
    uint64_t updates = 0;

    check(fd < 0 ? -errno : 0, "growing file");
    do {
        check(file_write(fd, data, batch * 200), "write");
        check(fdatasync(fd) < 0 ? -errno : 0, "fdatasync");
        updates += batch;
        now = clock_monotonic();
    } while (now - begin < bench->usec);
    return (double)updates * 1e6 / (double)(now - begin);
}

static void bench_sync(Bench *bench)
{
    Series series[] = {
        {.name = "growing file, 1 update a fdatasync"},
        {.name = "journal, 1 update a batch"},
        {.name = "growing file, 50 updates a fdatasync"},
        {.name = "journal, 50 updates a batch"},
    };

    bench_open(bench, JOURNAL_ALWAYS);
    for (unsigned i = 0; i < ROUNDS; i++)
        for (unsigned k = 0; k < ARRAY_SIZE(series); k++)
            series[k].rate[series[k].count++] = k % 2 == 0 ? bench_growing(bench, k < 2 ? 1 : 50)
                                                           : bench_journal(bench, k < 2 ? 1 : 50);
    for (unsigned k = 0; k < ARRAY_SIZE(series); k++)
        show(&series[k]);
    bench_close(bench);
}

static void bench_replay(Bench *bench)
{
    Series append = {.name = "append, 100 a batch, no sync"};
    Series replay = {.name = "replay of 200-byte records, page cache"};
    uint64_t bytes = 0, begin = 0;

    bench_open(bench, JOURNAL_NEVER);
    uint64_t first = journal_revision(bench->journal);
    begin = clock_monotonic();
    for (unsigned i = 0; i < REPLAY_RECORDS; i += 100)
        bench_turn(bench, 100);
    append.rate[append.count++] = REPLAY_RECORDS * 1e6 / (double)(clock_monotonic() - begin);
    bytes = journal_bytes_behind(bench->journal, first);
    bench_close(bench);
    show(&append);

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t operations = 0;
        ReplayOptions options = {
            .from_revision = first, .record = ignore_record, .context = &operations};
        JournalPosition position;
        ReplayDamage damage;
        begin = clock_monotonic();
        check(journal_replay(bench->directory_fd, &options, &position, &damage), "replay");
        replay.rate[replay.count++] =
            (double)operations * 1e6 / (double)(clock_monotonic() - begin);
        check(operations == REPLAY_RECORDS ? 0 : -EBADMSG, "records");
        journal_position_deinit(&position);
    }
    show(&replay);
    printf("%-44s %9.2f GB/s\n", "",
           (double)bytes / REPLAY_RECORDS * replay.rate[replay.count / 2] / 1e9);
}

static void remove_all(int directory_fd)
{
    uint64_t *list;
    size_t count;

    (void)unlinkat(directory_fd, "growing", 0);
    (void)segment_clean(directory_fd);
    if (segment_list(directory_fd, &list, &count) < 0)
        return;
    for (size_t i = 0; i < count; i++)
        (void)segment_remove(directory_fd, list[i], 0);
    free(list);
}

int main(int argc, char **argv)
{
    Bench bench = {.usec = (argc > 1 ? strtoull(argv[1], NULL, 10) : 2) * USEC_PER_SEC};
    char path[4096];

    snprintf(path, sizeof(path), "%s/bench-journal-XXXXXX", argc > 2 ? argv[2] : ".");
    check(mkdtemp(path) == NULL ? -errno : 0, path);
    bench.directory_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    check(bench.directory_fd < 0 ? -errno : 0, path);
    check(housekeeper_new(&bench.housekeeper), "housekeeper");
    memset(value, 'v', sizeof(value));
    bench_sync(&bench);
    bench_replay(&bench);
    housekeeper_free(bench.housekeeper);
    remove_all(bench.directory_fd);
    close(bench.directory_fd);
    (void)rmdir(path);
    return 0;
}
