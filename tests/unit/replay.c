/* Unit tests of journal/replay: what ends the log, what is damage, and what neither may take for
 * granted. */
#include "journal/replay.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/checksum.h"
#include "base/file.h"
#include "journal/batch.h"
#include "lib/damage.h"
#include "lib/journals.h"

/* A journal of that many segments with 5 records of 700 bytes each, in batches of their own, every
 * one of them durable. */
static TestJournal *made(unsigned segments)
{
    TestJournal *test = test_journal_new();

    test_journal_open(test);
    for (unsigned i = 0; i < segments; i++) {
        if (i > 0) {
            cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
            cr_assert(journal_switch(test->journal));
        }
        for (unsigned k = 0; k < 5; k++) {
            cr_assert(eq(int, test_journal_append(test, 1, 700), 0));
            cr_assert(test_journal_settle(test));
        }
    }
    return test;
}

/* One whose last 3 records (of 10 in a single segment) are written and not synced. */
static TestJournal *made_with_tail(void)
{
    TestJournal *test = made(1);

    cr_assert(eq(int, test_journal_append(test, 2, 700), 0));
    cr_assert(test_journal_settle(test));
    atomic_store(&test->disk.syncs, 0);
    atomic_store(&test->disk.held, true);
    cr_assert(eq(int, test_journal_append(test, 3, 700), 0));
    journal_commit(test->journal);
    cr_assert(test_journal_until(test, test_journal_is_syncing));
    return test;
}

/* Where a batch begins: the index-th of the segment. */
static uint64_t batch_at(const TestJournal *test, uint64_t sequence, unsigned index,
                         BatchHeader *ret)
{
    char *path = test_journal_path(test, sequence);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t offset = SEGMENT_BATCHES_OFFSET;

    for (unsigned i = 0;; i++) {
        cr_assert(eq(int, file_read_at(fd, ret, sizeof(*ret), offset), 0));
        cr_assert(eq(u32, ret->magic, BATCH_MAGIC));
        if (i == index)
            break;
        offset += batch_padded(ret->bytes);
    }
    close(fd);
    free(path);
    return offset;
}

static void damage(const TestJournal *test, uint64_t sequence, uint64_t offset)
{
    char *path = test_journal_path(test, sequence);
    cr_assert(eq(int, damage_flip(path, (int64_t)offset, 0x01), 0));
    free(path);
}

static void expect_damage(TestJournal *test, const char *file, uint64_t offset, uint64_t last)
{
    cr_assert(eq(int, test_journal_replay(test), -EBADMSG));
    cr_assert(not(test->wrong));
    cr_assert(eq(str, test->damage.file, (char *)file));
    cr_assert(eq(u64, test->damage.offset, offset), "%s", test->damage.reason);
    cr_assert(eq(u64, test->damage.last_revision, last));
    cr_assert(test->damage.reason[0] != '\0');
}

Test(replay, an_empty_directory_is_a_new_journal)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();
    Lineage lineage;

    cr_assert(eq(int, test_journal_lineage(test->directory->fd, &lineage), -ENOENT));
    cr_assert(eq(int, test_journal_replay(test), 0));
    cr_assert(eq(u64, test->position.segment, 0));
    cr_assert(eq(u64, test->position.revision, 0));
    cr_assert(not(test->position.clean));
    lineage = test->position.lineage;
    cr_assert(eq(int, test_journal_replay(test), 0));
    cr_assert(not(lineage_equal(&lineage, &test->position.lineage)), "random each time");
}

Test(replay, torn_last_record_is_cut_off)
{
    _cleanup_(test_journal_freep) TestJournal *test = made_with_tail();
    BatchHeader batch;
    uint64_t offset = batch_at(test, 1, 7, &batch);

    cr_assert(eq(u64, batch.records, 3));
    for (uint64_t at = offset; at < offset + batch.bytes; at += SEGMENT_SECTOR) {
        _cleanup_(test_journal_freep) TestJournal *copy = test_journal_copy(test);
        char *path = test_journal_path(copy, 1);
        cr_assert(eq(int, damage_fill(path, at, 0, SEGMENT_SECTOR), 0));
        cr_assert(eq(int, test_journal_replay(copy), 0), "%s", copy->damage.reason);
        cr_assert(not(copy->wrong));
        /* Whole records of a torn batch count, each is an update of its own. */
        cr_assert(eq(u64, copy->last, 7 + (at > offset ? (at - offset - 128) / 768 : 0)));
        cr_assert(eq(int, copy->position.cut_off, at > offset));
        cr_assert(not(copy->position.clean));

        /* And it stays cut off, whatever comes after it. */
        uint64_t last = copy->last;
        test_journal_open(copy);
        cr_assert(ge(u64, journal_revision(copy->journal), last));
        cr_assert(eq(int, test_journal_append(copy, 1, 50), 0));
        cr_assert(eq(int, test_journal_close(copy, true), 0));
        cr_assert(eq(int, test_journal_replay(copy), 0), "%s", copy->damage.reason);
        cr_assert(eq(u64, copy->records, last + 1));
        cr_assert(not(copy->wrong));
        cr_assert(not(copy->position.cut_off));
        free(path);
    }
}

Test(replay, the_mark_tells_damage_from_a_torn_end)
{
    _cleanup_(test_journal_freep) TestJournal *test = made_with_tail();
    BatchHeader batch;

    for (unsigned index = 0; index < 8; index++) {
        _cleanup_(test_journal_freep) TestJournal *copy = test_journal_copy(test);
        uint64_t offset = batch_at(copy, 1, index, &batch);
        damage(copy, 1, offset + 20);
        if (index < 7) {
            expect_damage(copy, "0000000001.journal", offset, batch.previous_revision);
        } else {
            cr_assert(eq(int, test_journal_replay(copy), 0));
            cr_assert(eq(u64, copy->last, 7));
        }
    }
}

Test(replay, damage_in_a_record_is_told_by_file_offset_and_last_good_revision)
{
    _cleanup_(test_journal_freep) TestJournal *test = made(3);
    BatchHeader batch;
    uint64_t offset = batch_at(test, 2, 2, &batch);

    damage(test, 2, offset + sizeof(batch) + 300);
    expect_damage(test, "0000000002.journal", offset + sizeof(batch), 7);
    cr_assert(eq(u64, test->last, 7));
    /* An image of that revision makes it needless. */
    test->replay.from_revision = 10;
    cr_assert(eq(int, test_journal_replay(test), 0));
    cr_assert(eq(u64, test->first, 11));
}

/* The mark sector may be older (it is never synced for its own sake): the batches behind tell too.
 */
Test(replay, the_mark_is_found_in_batches_behind_the_damage)
{
    _cleanup_(test_journal_freep) TestJournal *test = made(1);
    char *path = test_journal_path(test, 1);
    BatchHeader batch;

    cr_assert(eq(int, damage_fill(path, SEGMENT_MARK_OFFSET, 0, SEGMENT_SECTOR), 0));
    uint64_t last = batch_at(test, 1, 5, &batch);
    uint64_t offset = batch_at(test, 1, 4, &batch);
    damage(test, 1, offset);
    expect_damage(test, "0000000001.journal", offset, 3);
    damage(test, 1, offset);
    /* The last one has nobody behind it: without the mark sector it could be a torn end. */
    damage(test, 1, last);
    cr_assert(eq(int, test_journal_replay(test), 0));
    cr_assert(eq(u64, test->last, 4));
    free(path);
}

/* After a power cut valid batches may follow a hole. None was promised: they go, later segments
 * with them. */
Test(replay, what_follows_a_hole_is_cut_off_with_later_segments)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();
    BatchHeader batch;

    test->options.policy = JOURNAL_NEVER;
    test_journal_open(test);
    cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
    atomic_store(&test->disk.held, true);
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned k = 0; k < 5; k++) {
            cr_assert(eq(int, test_journal_append(test, 1, 700), 0));
            journal_commit(test->journal);
        }
        cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
        cr_assert(journal_switch(test->journal));
    }
    _cleanup_(test_journal_freep) TestJournal *copy = test_journal_copy(test);
    uint64_t offset = batch_at(copy, 1, 3, &batch);
    char *path = test_journal_path(copy, 1);
    cr_assert(eq(int, damage_fill(path, offset, 0, SEGMENT_SECTOR), 0));
    free(path);

    cr_assert(eq(int, test_journal_replay(copy), 0), "%s", copy->damage.reason);
    cr_assert(eq(u64, copy->last, 2));
    cr_assert(copy->position.cut_off);
    cr_assert(ge(u64, copy->position.highest, 6), "numbers that were given count");
    copy->options.base_revision = 100;
    test_journal_open(copy);
    cr_assert(eq(int, test_journal_append(copy, 1, 700), 0));
    cr_assert(eq(int, test_journal_close(copy, true), 0));
    cr_assert(eq(int, test_journal_replay(copy), 0), "%s", copy->damage.reason);
    cr_assert(eq(u64, copy->records, 3));
    cr_assert(gt(u64, copy->last, 106));
}

Test(replay, a_missing_segment_is_damage)
{
    static const char *const names[] = {"0000000001.journal", "0000000002.journal",
                                        "0000000003.journal"};
    _cleanup_(test_journal_freep) TestJournal *test = made(3);

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        _cleanup_(test_journal_freep) TestJournal *copy = test_journal_copy(test);
        cr_assert(eq(int, unlinkat(copy->directory->fd, names[i], 0), 0));
        cr_assert(eq(int, test_journal_replay(copy), -EBADMSG), "%s", names[i]);
        cr_assert(not(copy->wrong));
        cr_assert(eq(u64, copy->damage.last_revision, i * 5));
        cr_assert(eq(u64, copy->records, i * 5));
    }
}

Test(replay, a_segment_that_is_lost_is_named_and_not_the_one_before_it)
{
    _cleanup_(test_journal_freep) TestJournal *test = made(3);

    cr_assert(eq(int, unlinkat(test->directory->fd, "0000000002.journal", 0), 0));
    expect_damage(test, "0000000002.journal", 0, 5);
    cr_assert(eq(str, test->damage.reason, "it is missing"));
    test_journal_freep(&test);

    test = made(3);
    damage(test, 2, 5);
    expect_damage(test, "0000000002.journal", 0, 5);
    cr_assert(eq(str, test->damage.reason, "its header does not check out"));
    test_journal_freep(&test);

    test = made(3);
    damage(test, 3, SEGMENT_BATCHES_OFFSET + 40);
    expect_damage(test, "0000000003.journal", SEGMENT_BATCHES_OFFSET, 10);
}

/* Nothing but the batches behind the first tells that it was durable. */
Test(replay, a_damaged_first_batch_is_noticed_without_a_mark_sector)
{
    _cleanup_(test_journal_freep) TestJournal *test = made(2);
    _cleanup_(freep) char *path = test_journal_path(test, 2);

    cr_assert(eq(int, damage_fill(path, SEGMENT_MARK_OFFSET, 0, SEGMENT_SECTOR), 0));
    cr_assert(eq(int, test_journal_replay(test), 0), "%s", test->damage.reason);
    damage(test, 2, SEGMENT_BATCHES_OFFSET + 40);
    expect_damage(test, "0000000002.journal", SEGMENT_BATCHES_OFFSET, 5);
}

Test(replay, a_beginning_that_is_missing_is_named_where_only_an_unused_segment_is_left)
{
    _cleanup_(test_journal_freep) TestJournal *test = made(1);

    cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
    cr_assert(eq(int, unlinkat(test->directory->fd, "0000000001.journal", 0), 0));
    expect_damage(test, "0000000001.journal", 0, 0);
    cr_assert(eq(str, test->damage.reason, "it is missing"));
}

static bool is_ready_and_idle(const TestJournal *test)
{
    return test_journal_is_ready_for_cut(test) && test_journal_exists(test, "0000000002.journal");
}

Test(replay, a_damaged_segment_that_was_never_used_is_put_aside)
{
    _cleanup_(test_journal_freep) TestJournal *test = made(1);

    cr_assert(test_journal_until(test, is_ready_and_idle));
    cr_assert(eq(int, test_journal_close(test, true), 0));
    damage(test, 2, 5);
    test_journal_open(test);
    cr_assert(eq(u64, test->records, 5));
    cr_assert(eq(u64, test->position.unused_damaged, 2));
    cr_assert(test->position.clean);
    cr_assert(test_journal_exists(test, "0000000002.journal.damaged"));
    cr_assert(eq(int, test_journal_append(test, 2, 100), 0));
    cr_assert(eq(int, test_journal_close(test, true), 0));
    cr_assert(eq(int, test_journal_replay(test), 0), "%s", test->damage.reason);
    cr_assert(eq(u64, test->position.unused_damaged, 0));
    cr_assert(eq(u64, test->records, 7));
}

/* What it held before it was recycled does not make it look used; a batch of its own does. */
Test(replay, a_recycled_segment_without_its_header_is_judged_by_its_batches)
{
    _cleanup_(test_journal_freep) TestJournal *test = made(1);

    cr_assert(test_journal_until(test, is_ready_and_idle));
    cr_assert(eq(int, test_journal_close(test, true), 0));
    _cleanup_(freep) char *old = test_journal_path(test, 1);
    _cleanup_(freep) char *path = test_journal_path(test, 2);
    cr_assert(eq(int, damage_copy(old, path), 0));
    damage(test, 2, 5);
    cr_assert(eq(int, test_journal_replay(test), 0), "%s", test->damage.reason);
    cr_assert(eq(u64, test->position.unused_damaged, 2));
    test_journal_freep(&test);

    test = made(2);
    damage(test, 2, 5);
    expect_damage(test, "0000000002.journal", 0, 5);
}

Test(replay, a_revision_that_an_image_proves_must_be_reached)
{
    _cleanup_(test_journal_freep) TestJournal *test = made(1);

    test->replay.required_revision = 5;
    cr_assert(eq(int, test_journal_replay(test), 0));
    test->replay.required_revision = 6;
    cr_assert(eq(int, test_journal_replay(test), -EBADMSG));
    cr_assert(eq(u64, test->damage.last_revision, 5));
}

Test(replay, cut_keeps_the_rest_aside_and_goes_on)
{
    _cleanup_(test_journal_freep) TestJournal *test = made(3);
    BatchHeader batch;

    cr_assert(eq(int, test_journal_close(test, true), 0));
    damage(test, 2, batch_at(test, 2, 2, &batch) + 3);
    test->replay.cut = true;
    test->replay.required_revision = 15;
    cr_assert(eq(int, test_journal_replay(test), 0));
    cr_assert(eq(str, test->damage.file, "0000000002.journal"), "the caller tells what was cut");
    cr_assert(eq(u64, test->last, 7));
    cr_assert(test->position.cut_off);
    cr_assert(not(test->position.clean));
    cr_assert(ge(u64, test->position.highest, 15));
    cr_assert(test_journal_exists(test, "0000000002.journal.damaged"));
    cr_assert(test_journal_exists(test, "0000000003.journal.damaged"));
    cr_assert(not(test_journal_exists(test, "0000000003.journal")));

    test_journal_open(test);
    cr_assert(eq(int, test_journal_append(test, 2, 100), 0));
    cr_assert(eq(int, test_journal_close(test, true), 0));
    /* From now on it is a whole journal again, without any option. */
    test->replay.cut = false;
    cr_assert(eq(int, test_journal_replay(test), 0), "%s", test->damage.reason);
    cr_assert(eq(u64, test->records, 9));
    cr_assert(gt(u64, test->last, 15));
    cr_assert(test_journal_exists(test, "0000000002.journal.damaged"));
}

Test(replay, cut_goes_on_without_a_beginning_too)
{
    _cleanup_(test_journal_freep) TestJournal *test = made(2);

    cr_assert(eq(int, test_journal_close(test, true), 0));
    cr_assert(eq(int, unlinkat(test->directory->fd, "0000000001.journal", 0), 0));
    test->replay = (ReplayOptions){.from_revision = 3, .required_revision = 4, .cut = true};
    test_journal_open(test);
    cr_assert(eq(u64, test->records, 0));
    cr_assert(test_journal_exists(test, "0000000002.journal.damaged"));
    cr_assert(eq(int, test_journal_append(test, 2, 100), 0));
    cr_assert(eq(int, test_journal_close(test, true), 0));
    test->replay = (ReplayOptions){.from_revision = 4, .required_revision = 4};
    cr_assert(eq(int, test_journal_replay(test), 0), "%s", test->damage.reason);
    cr_assert(eq(u64, test->records, 2));
}

static void change_header(const TestJournal *test, uint64_t sequence,
                          void (*change)(SegmentHeader *header))
{
    char *path = test_journal_path(test, sequence);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    SegmentHeader header;

    cr_assert(eq(int, file_read_at(fd, &header, sizeof(header), 0), 0));
    change(&header);
    header.checksum = checksum((char *)&header + 8, sizeof(header) - 8);
    cr_assert(eq(int, file_write_at(fd, &header, sizeof(header), 0), 0));
    close(fd);
    free(path);
}

static void newer_version(SegmentHeader *header)
{
    header->version = 7;
}

static void unknown_flag(SegmentHeader *header)
{
    header->incompatible_flags = 0x100;
}

static void harmless_flag(SegmentHeader *header)
{
    header->compatible_flags = 0x100;
}

static void other_lineage(SegmentHeader *header)
{
    header->lineage.bytes[3] ^= 1;
}

Test(replay, an_unknown_version_is_refused_by_its_name)
{
    _cleanup_(test_journal_freep) TestJournal *test = made(2);

    change_header(test, 2, harmless_flag);
    cr_assert(eq(int, test_journal_replay(test), 0));
    change_header(test, 2, newer_version);
    cr_assert(eq(int, test_journal_replay(test), -EPROTONOSUPPORT));
    cr_assert(eq(str, test->damage.file, "0000000002.journal"));
    cr_assert(strstr(test->damage.reason, "version 7") != NULL, "%s", test->damage.reason);
    cr_assert(eq(u64, test->records, 0));
}

Test(replay, unknown_incompatible_flags_are_refused)
{
    _cleanup_(test_journal_freep) TestJournal *test = made(1);

    change_header(test, 1, unknown_flag);
    cr_assert(eq(int, test_journal_replay(test), -EPROTONOSUPPORT));
}

Test(replay, a_segment_of_another_state_directory_is_damage)
{
    _cleanup_(test_journal_freep) TestJournal *test = made(3);

    change_header(test, 2, other_lineage);
    cr_assert(eq(int, test_journal_replay(test), -EBADMSG));
    cr_assert(not(test->wrong));
}

/* A batch that was good once, at its own place, in an earlier life of the file. */
Test(replay, stale_contents_of_a_recycled_file_are_not_taken)
{
    _cleanup_(test_journal_freep) TestJournal *test = made(2);
    char *one = test_journal_path(test, 1), *two = test_journal_path(test, 2);
    size_t size;
    char *old = temporary_read(test->directory, "0000000001.journal", &size);
    BatchHeader batch;

    /* The second segment ends where the first has batches of the same size at the same places. */
    uint64_t end = batch_at(test, 2, 4, &batch) + batch_padded(batch.bytes);
    int fd = open(two, O_RDWR | O_CLOEXEC);
    cr_assert(eq(int, file_write_at(fd, old + end, size - end, end), 0));
    cr_assert(eq(int, test_journal_replay(test), 0), "%s", test->damage.reason);
    cr_assert(eq(u64, test->last, 10));
    cr_assert(not(test->position.cut_off));

    close(fd);
    free(old);
    free(one);
    free(two);
}

Test(replay, an_older_batch_at_the_same_place_is_not_taken)
{
    _cleanup_(test_journal_freep) TestJournal *test = made_with_tail();
    _cleanup_(test_journal_freep) TestJournal *other = test_journal_copy(test);
    BatchHeader batch;
    uint64_t offset = batch_at(test, 1, 7, &batch);
    uint64_t first = batch_at(test, 1, 6, &batch);
    uint8_t sector[SEGMENT_SECTOR];
    char *path = test_journal_path(other, 1);
    int fd = open(path, O_RDWR | O_CLOEXEC);

    /* The header and records of another batch of the same segment, moved to where this one is. */
    for (uint64_t at = 0; at < batch_padded(batch.bytes); at += sizeof(sector)) {
        cr_assert(eq(int, file_read_at(fd, sector, sizeof(sector), first + at), 0));
        cr_assert(eq(int, file_write_at(fd, sector, sizeof(sector), offset + at), 0));
    }
    cr_assert(eq(int, test_journal_replay(other), 0));
    cr_assert(eq(u64, other->last, 7));
    /* Its records alone, behind the true header. */
    uint8_t record[4096];
    size_t size = (size_t)batch.bytes - sizeof(batch);
    char *from = test_journal_path(test, 1);
    int source = open(from, O_RDONLY | O_CLOEXEC);
    cr_assert(eq(int, file_read_at(source, record, sizeof(batch), offset), 0));
    cr_assert(eq(int, file_write_at(fd, record, sizeof(batch), offset), 0));
    cr_assert(eq(int, file_read_at(source, record, size, first + sizeof(batch)), 0));
    cr_assert(eq(int, file_write_at(fd, record, size, offset + sizeof(batch)), 0));
    cr_assert(eq(int, test_journal_replay(other), 0));
    cr_assert(eq(u64, other->last, 7));
    cr_assert(other->position.cut_off);
    close(source);
    free(from);
    close(fd);
    free(path);
}

static void note_progress(void *context, uint64_t done, uint64_t total, uint64_t records)
{
    uint64_t *calls = context;

    cr_assert(le(u64, done, total));
    cr_assert(gt(u64, records, 0));
    (*calls)++;
}

static int count_record(void *context, Record *record)
{
    uint64_t *calls = context;
    return record->revision == *calls ? -ECANCELED : 0;
}

Test(replay, progress_is_told_and_the_callee_can_end_it)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();
    uint64_t calls = 0;

    test->options.segment_bytes_max = 256 * MIB;
    test_journal_open(test);
    for (unsigned i = 0; i < 20; i++) {
        cr_assert(eq(int, test_journal_append(test, 1, 2 * MIB), 0));
        cr_assert(test_journal_settle(test));
    }
    test->replay.progress = note_progress;
    test->replay.record = count_record;
    test->replay.context = &calls;
    JournalPosition position;
    cr_assert(
        eq(int, journal_replay(test->directory->fd, &test->replay, &position, &test->damage), 0));
    cr_assert(ge(u64, calls, 3));
    journal_position_deinit(&position);
    calls = 7;
    test->replay.progress = NULL;
    cr_assert(eq(int, journal_replay(test->directory->fd, &test->replay, &position, &test->damage),
                 -ECANCELED));
}
