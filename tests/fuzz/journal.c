/* Fuzzes the reader of journals. The input is a mode and one or two segments; odd: all checksums
 * are computed anew, so that the checks behind them are reached. Beside the sanitizers, it is held
 * that an answer is one of those that are documented, that records come in the order of their
 * revisions, and that what was replayed once is replayed the same after a start has gone on behind
 * it.
 *
 * With no input to begin from, a first mutation makes a small journal, for no mutation of nothing
 * would ever be one. */
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "journal/batch.h"
#include "lib/journals.h"

#define SEGMENT_MAX (16 * KIB)
#define INPUT_MAX (1 + 2 * SEGMENT_MAX)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

typedef struct Seen {
    uint64_t records;
    uint64_t last;
    uint64_t bytes; /* of all keys and values, and a sum that has touched them */
    uint64_t sum;
} Seen;

static void expect(bool holds, const char *what, int r)
{
    if (holds)
        return;
    fprintf(stderr, "%s: %d\n", what, r);
    abort();
}

static int see_record(void *context, Record *record)
{
    Seen *seen = context;
    RecordOperation operation;
    uint32_t operations = 0;

    expect(seen->records == 0 || record->revision > seen->last, "order", 0);
    seen->records++;
    seen->last = record->revision;
    while (record_next_operation(record, &operation)) {
        operations++;
        seen->bytes += operation.key.size + operation.value.size;
        for (size_t i = 0; i < operation.key.size; i++)
            seen->sum += (uint8_t)operation.key.data[i];
        for (size_t i = 0; i < operation.value.size; i++)
            seen->sum += (uint8_t)operation.value.data[i];
    }
    expect(operations == record->operations, "operations", (int)operations);
    return 0;
}

static int replay(int directory_fd, bool cut, Seen *seen, JournalPosition *position)
{
    ReplayDamage damage;
    ReplayOptions options = {.record = see_record, .context = seen, .cut = cut};

    *seen = (Seen){0};
    int r = journal_replay(directory_fd, &options, position, &damage);
    expect(r == 0 || r == -EBADMSG || r == -EPROTONOSUPPORT, "replay", r);
    expect(r == 0 || (damage.file[0] != '\0' && damage.reason[0] != '\0'), "no place is told", r);
    return r;
}

/* A start behind what was found: opens, writes nothing, is gone. Replayed again, it is the same. */
static void go_on(int directory_fd, JournalPosition *position, const Seen *before)
{
    Housekeeper *housekeeper;
    Control *control;
    Journal *journal;
    Seen after;

    int r = housekeeper_new(&housekeeper);
    expect(r == 0, "housekeeper", r);
    JournalOptions options = {
        .directory_fd = directory_fd,
        .segment_bytes_max = 4 * KIB,
        .base_revision = position->highest,
        .housekeeper = housekeeper,
    };
    r = control_new(&position->lineage, &control);
    expect(r == 0, "control", r);
    r = journal_open(&options, control, position, &journal);
    expect(r == 0, "open", r);
    bool condemned = journal_state(journal) == JOURNAL_CONDEMNED;
    r = journal_close(journal, false);
    expect(condemned || r == 0, "close", r);
    control_free(control);
    housekeeper_free(housekeeper);
    journal_position_deinit(position);

    /* While condemned there is no new segment yet that would name the place of a cut. */
    r = replay(directory_fd, condemned, &after, position);
    expect(r == 0, "replay again", r);
    expect(after.records == before->records && after.sum == before->sum, "not the same", r);
    journal_position_deinit(position);
}

static void write_segment(int directory_fd, uint64_t sequence, const uint8_t *data, size_t size,
                          bool reseal)
{
    static uint64_t copy[SEGMENT_MAX / 8];
    _cleanup_(closep) int fd = -1;
    char name[SEGMENT_NAME_MAX];

    memcpy(copy, data, size);
    if (reseal)
        test_journal_reseal((uint8_t *)copy, size);
    fd = openat(directory_fd, segment_name(sequence, name),
                O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int r = fd < 0 ? -errno : file_write_at(fd, copy, size, 0);
    expect(r == 0, "write", r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > INPUT_MAX)
        return 0;
    _cleanup_(temporary_freep) Temporary *directory = temporary_new();
    JournalPosition position;
    bool reseal = data[0] % 2 == 1;
    size_t first = MIN(size - 1, SEGMENT_MAX);
    Seen seen;

    write_segment(directory->fd, 1, data + 1, first, reseal);
    if (size - 1 > first)
        write_segment(directory->fd, 2, data + 1 + first, size - 1 - first, reseal);
    int r = replay(directory->fd, false, &seen, &position);
    if (r == -EBADMSG)
        r = replay(directory->fd, true, &seen, &position);
    if (r == 0 && data[0] % 4 < 2 && position.highest < UINT64_MAX / 2)
        go_on(directory->fd, &position, &seen);
    else if (r == 0)
        journal_position_deinit(&position);
    return 0;
}

/* --- journals to begin from */

static size_t add_segment(const TestJournal *test, uint64_t sequence, uint8_t *data, size_t room)
{
    char *path = test_journal_path(test, sequence);
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t bytes = 0;

    free(path);
    if (fd < 0 || file_size(fd, &bytes) < 0)
        return 0;
    bytes = MIN(bytes, room);
    return file_read_at(fd, data, bytes, 0) < 0 ? 0 : (size_t)bytes;
}

static size_t make_journal(uint8_t *data, size_t max_size, unsigned seed)
{
    TestJournal *test = test_journal_new();
    bool two = seed % 2 == 1 && max_size >= INPUT_MAX;

    test->options.segment_bytes_max = two ? SEGMENT_MAX : 4 * KIB;
    test_journal_open(test);
    for (unsigned i = 0; i < 1 + seed % 5; i++) {
        if (two && i == 2 && test_journal_until(test, test_journal_is_ready_for_cut))
            (void)journal_switch(test->journal);
        (void)test_journal_append(test, 1 + seed / 8 % 3, 1 + seed / 16 % 90);
        (void)test_journal_settle(test);
    }
    (void)test_journal_close(test, seed / 4 % 2 == 0);
    data[0] = (uint8_t)(seed % 8 | 1);
    memset(data + 1, 0, max_size - 1);
    size_t size = 1 + add_segment(test, 1, data + 1, MIN(SEGMENT_MAX, max_size - 1));
    if (two)
        size = 1 + SEGMENT_MAX + add_segment(test, 2, data + 1 + SEGMENT_MAX, SEGMENT_MAX);
    test_journal_free(test);
    return size;
}

/* A word of a header, a batch or a record set to what a count, a size or an offset may go wrong
 * with. */
static void change_word(uint8_t *data, size_t size, unsigned seed)
{
    static const uint64_t values[] = {
        0,         1,          7,         8,          48,   56,   127,  128,  255,  256,
        511,       512,        1023,      1024,       1535, 1536, 2048, 4095, 4096, UINT16_MAX,
        INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, 2,    3,    4,    5,    6};
    uint64_t value = values[seed % ARRAY_SIZE(values)];
    size_t width = seed / 32 % 2 == 0 ? 4 : 8;
    size_t place = seed / 64 % (size / 4) * 4 + 1;

    if (place + width <= size)
        memcpy(data + place, &value, width);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    if (size < SEGMENT_BATCHES_OFFSET && max_size > SEGMENT_BATCHES_OFFSET)
        return make_journal(data, max_size, seed);
    if (seed % 2 == 0 || size < 16)
        return LLVMFuzzerMutate(data, size, max_size);
    if (seed % 16 == 1)
        data[0] ^= 1;
    change_word(data, size, seed / 2);
    return size;
}
