/* See journals.h. What a record holds follows from its revision alone, so that a replay can be
 * checked by somebody who did not see what was appended. */
#include "lib/journals.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include "base/checksum.h"
#include "base/clock.h"
#include "journal/batch.h"
#include "journal/survey.h"
#include "lib/damage.h"

#define DEADLINE_USEC (10 * USEC_PER_SEC)
#define VALUE_MAX (4 * MIB)

static const Identity test_identity = {.bytes = {0x42, 1, 2, 3}};

static void *need(void *pointer)
{
    if (pointer == NULL)
        abort();
    return pointer;
}

static int disk_sync(void *context, int fd)
{
    TestDisk *disk = context;
    struct stat status;

    unsigned index = atomic_load(&disk->syncs);
    if (fstat(fd, &status) == 0 && index < TEST_SYNCS_MAX)
        disk->inodes[index] = status.st_ino;
    atomic_store(&disk->syncs, index + 1);
    while (atomic_load(&disk->held))
        usleep(200);
    return atomic_load(&disk->error) != 0 ? -atomic_load(&disk->error) : 0;
}

static int disk_begin_writing(void *context, int fd, uint64_t from, uint64_t to)
{
    TestDisk *disk = context;
    struct stat status;

    unsigned index = atomic_load(&disk->ranges_count);
    if (index < TEST_SYNCS_MAX && fstat(fd, &status) == 0)
        disk->ranges[index] = (TestRange){status.st_ino, from, to};
    atomic_store(&disk->ranges_count, index + 1);
    while (atomic_load(&disk->held))
        usleep(200);
    return atomic_load(&disk->error) != 0 ? -atomic_load(&disk->error) : 0;
}

static void test_changed(void *context, JournalState state, int error)
{
    TestJournal *test = context;

    if ((state == JOURNAL_OK) != (error == 0))
        abort();
    test->changes++;
}

TestJournal *test_journal_new(void)
{
    TestJournal *test = need(calloc(1, sizeof(*test)));

    test->directory = temporary_new();
    if (housekeeper_new(&test->housekeeper) < 0)
        abort();
    test->options = (JournalOptions){
        .directory_fd = test->directory->fd,
        .policy = JOURNAL_ALWAYS,
        .sync_interval_usec = 10 * USEC_PER_MSEC,
        .segment_bytes_max = MIB,
        .housekeeper = test->housekeeper,
        .sync_operations = NULL,
        .changed = test_changed,
        .context = test,
    };
    return test;
}

TestJournal *test_journal_copy(const TestJournal *test)
{
    TestJournal *copy = test_journal_new();

    /* So that no name changes while the directory is read. */
    housekeeper_drain(test->housekeeper);
    int fd = openat(test->directory->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = need(fdopendir(fd));
    const struct dirent *entry;

    while ((entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        char *from = temporary_path(test->directory, entry->d_name);
        char *to = temporary_path(copy->directory, entry->d_name);
        if (damage_copy(from, to) < 0)
            abort();
        free(from);
        free(to);
    }
    closedir(directory);
    copy->options.segment_bytes_max = test->options.segment_bytes_max;
    return copy;
}

TestJournal *test_journal_opened(JournalPolicy policy)
{
    TestJournal *test = test_journal_new();

    test->options.policy = policy;
    test_journal_open(test);
    return test;
}

TestJournal *test_journal_free(TestJournal *test)
{
    if (test == NULL)
        return NULL;
    atomic_store(&test->disk.held, false);
    (void)journal_close(test->journal, false);
    control_free(test->control);
    journal_position_deinit(&test->position);
    housekeeper_free(test->housekeeper);
    temporary_free(test->directory);
    free(test);
    return NULL;
}

/* --- records */

static void make_value(char *value, size_t size, uint64_t revision)
{
    for (size_t i = 0; i < size; i++)
        value[i] = (char)('a' + (revision + i) % 23);
}

static bool record_right(Record *record)
{
    static char value[VALUE_MAX];
    RecordOperation operation;
    char key[32];

    snprintf(key, sizeof(key), "key-%llu", (unsigned long long)(record->revision % 1000));
    if (!identity_equal(&record->identity, &test_identity) || record->operations != 1 ||
        !record_next_operation(record, &operation) || operation.kind != RECORD_PUT ||
        !bytes_equal(operation.key, bytes_of_text(key)) || operation.value.size > VALUE_MAX)
        return false;
    make_value(value, operation.value.size, record->revision);
    return memcmp(operation.value.data, value, operation.value.size) == 0;
}

static int check_record(void *context, Record *record)
{
    TestJournal *test = context;

    if (!record_right(record) || (test->records > 0 && record->revision <= test->last))
        test->wrong = true;
    if (test->records == 0)
        test->first = record->revision;
    test->last = record->revision;
    test->records++;
    return 0;
}

int test_journal_append(TestJournal *test, unsigned count, size_t value_bytes)
{
    static char value[VALUE_MAX];

    for (unsigned i = 0; i < count; i++) {
        RecordWriter *writer = journal_writer(test->journal);
        uint64_t revision = journal_revision(test->journal) + 1;
        char key[32];

        snprintf(key, sizeof(key), "key-%llu", (unsigned long long)(revision % 1000));
        make_value(value, value_bytes, revision);
        record_begin(writer, revision, clock_realtime(), &test_identity);
        record_put(writer, bytes_of_text(key), BYTES(value, value_bytes));
        int r = record_end(writer, NULL);
        if (r < 0)
            return r;
        journal_append_end(test->journal);
    }
    return 0;
}

int test_journal_replay(TestJournal *test)
{
    test->replay.record = check_record;
    test->replay.context = test;
    test->records = 0;
    test->wrong = false;
    journal_position_deinit(&test->position);
    return journal_replay(test->directory->fd, &test->replay, &test->position, &test->damage);
}

bool test_journal_comes_back(const TestJournal *test, uint64_t records, uint64_t last)
{
    _cleanup_(test_journal_freep) TestJournal *copy = test_journal_copy(test);
    int r = test_journal_replay(copy);

    if (r == 0 && !copy->wrong && copy->records == records && copy->last == last)
        return true;
    if (r < 0)
        fprintf(stderr, "replay: %s: %s: %s\n", strerror(-r), copy->damage.file,
                copy->damage.reason);
    fprintf(stderr, "replayed %llu records, the last %llu%s; expected %llu, %llu\n",
            (unsigned long long)copy->records, (unsigned long long)copy->last,
            copy->wrong ? ", of wrong content or order" : "", (unsigned long long)records,
            (unsigned long long)last);
    return false;
}

void test_journal_open(TestJournal *test)
{
    SyncOperations operations = {
        .datasync = disk_sync,
        .behind = disk_begin_writing,
        .context = &test->disk,
    };
    JournalOptions options = test->options;

    if (test_journal_replay(test) < 0)
        abort();
    if (options.sync_operations == NULL)
        options.sync_operations = &operations;
    options.base_revision += test->position.highest;
    if (control_new(&test->position.lineage, &test->control) < 0 ||
        journal_open(&options, test->control, &test->position, &test->journal) < 0)
        abort();
}

int test_journal_close(TestJournal *test, bool clean)
{
    int r = journal_close(test->journal, clean);

    test->journal = NULL;
    test->control = control_free(test->control);
    return r;
}

/* --- turns of the loop */

void test_journal_turn(TestJournal *test)
{
    struct pollfd fds[] = {
        {.fd = journal_fd(test->journal), .events = POLLIN},
        {.fd = housekeeper_fd(test->housekeeper), .events = POLLIN},
    };
    eventfd_t count;

    (void)poll(fds, ARRAY_SIZE(fds), 1);
    (void)eventfd_read(fds[0].fd, &count);
    housekeeper_reap(test->housekeeper);
    journal_reap(test->journal);
    journal_commit(test->journal);
}

bool test_journal_until(TestJournal *test, bool (*condition)(const TestJournal *test))
{
    uint64_t deadline = clock_monotonic() + DEADLINE_USEC;

    while (!condition(test)) {
        if (clock_monotonic() > deadline)
            return false;
        test_journal_turn(test);
    }
    return true;
}

bool test_journal_is_durable(const TestJournal *test)
{
    return journal_durable_revision(test->journal) == journal_revision(test->journal);
}

bool test_journal_is_syncing(const TestJournal *test)
{
    return atomic_load(&test->disk.syncs) > 0;
}

bool test_journal_is_ready_for_cut(const TestJournal *test)
{
    /* Ready with a segment, that is: nothing is being made any more. */
    return journal_cut_ready(test->journal) && journal_deadline(test->journal) == UINT64_MAX;
}

static bool is_settled(const TestJournal *test)
{
    return test_journal_is_durable(test) && journal_cut_ready(test->journal);
}

bool test_journal_settle(TestJournal *test)
{
    journal_commit(test->journal);
    journal_sync(test->journal);
    return test_journal_until(test, is_settled);
}

/* --- files */

char *test_journal_path(const TestJournal *test, uint64_t sequence)
{
    char name[SEGMENT_NAME_MAX];
    return temporary_path(test->directory, segment_name(sequence, name));
}

bool test_journal_exists(const TestJournal *test, const char *name)
{
    return faccessat(test->directory->fd, name, F_OK, 0) == 0;
}

uint64_t test_journal_inode(const TestJournal *test, uint64_t sequence)
{
    char name[SEGMENT_NAME_MAX];
    struct stat status;

    if (fstatat(test->directory->fd, segment_name(sequence, name), &status, 0) < 0)
        return 0;
    return status.st_ino;
}

static void reseal_batch(uint8_t *data, size_t size, size_t offset, uint64_t salt)
{
    BatchHeader *batch = (BatchHeader *)(data + offset);
    size_t skip = sizeof(batch->checksum);

    batch->checksum = checksum_seeded((const uint8_t *)batch + skip, sizeof(*batch) - skip, salt);
    size_t end = batch->bytes > size - offset ? size : offset + (size_t)batch->bytes;
    for (size_t at = offset + sizeof(*batch); at < end;) {
        size_t bytes = record_bytes(data + at, end - at);
        if (bytes == 0)
            break;
        record_seal(data + at, batch_record_seed(batch, at));
        at += bytes;
    }
}

int test_journal_lineage(int directory_fd, Lineage *ret)
{
    ReplayDamage damage;
    Survey survey;
    int r = survey_read(directory_fd, &survey, &damage);

    if (r < 0)
        return r;
    r = -ENOENT;
    for (size_t i = 0; i < survey.count && r < 0; i++)
        if (survey.segments[i].good)
            r = 0;
    *ret = survey.lineage;
    survey_deinit(&survey);
    return r;
}

bool test_control_pending(const Control *control)
{
    bool pending = false;

    for (unsigned i = 0; i < 2; i++) {
        const ControlHalf *half = &control->header->half[i];
        pending = pending || half->state == CONTROL_SEALED ||
                  (half->state == CONTROL_FILLING && half->used > sizeof(BatchHeader));
    }
    return pending;
}

void test_journal_reseal(uint8_t *data, size_t size)
{
    SegmentHeader *header = (SegmentHeader *)data;
    MarkSector *mark = (MarkSector *)(data + SEGMENT_MARK_OFFSET);
    size_t skip = sizeof(uint64_t);
    uint64_t chain = 0;

    if (size < SEGMENT_BATCHES_OFFSET)
        return;
    header->checksum = checksum(data + skip, sizeof(*header) - skip);
    mark->checksum =
        checksum_seeded((const uint8_t *)mark + skip, sizeof(*mark) - skip, header->salt);
    for (size_t at = SEGMENT_BATCHES_OFFSET; at + sizeof(BatchHeader) <= size;
         at += SEGMENT_SECTOR) {
        BatchHeader *batch = (BatchHeader *)(data + at);
        if (batch->magic != BATCH_MAGIC)
            continue;
        batch->chain = chain;
        reseal_batch(data, size, at, header->salt);
        chain = batch->checksum;
    }
}
