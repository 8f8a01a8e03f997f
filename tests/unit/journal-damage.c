/* Every single byte of a small journal inverted, and every truncation of its files: the replay
 * brings all records, or says that there is damage after it has brought the right ones up to there.
 * Never fewer without a word, never wrong ones. With all checksums made right again after the
 * damage it cannot know, but nothing outside is touched (under a sanitizer). */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>

#include "base/file.h"
#include "lib/journals.h"

#define SEGMENTS_MAX 16

typedef struct SmallFile {
    uint64_t sequence;
    int fd;
    uint8_t *data;
    uint64_t size;
} SmallFile;

typedef struct Small {
    TestJournal *test;
    SmallFile files[SEGMENTS_MAX];
    size_t count;
    uint64_t records;
    uint64_t damaged; /* replays that said so */
    uint64_t whole;   /* and that brought everything */
} Small;

/* Two starts, three segments that hold records and one that stands ready; batches of one record and
 * of several. */
static TestJournal *make_journal(bool clean)
{
    TestJournal *test = test_journal_new();

    test->options.segment_bytes_max = 4096;
    test_journal_open(test);
    cr_assert(eq(int, test_journal_append(test, 3, 30), 0));
    cr_assert(test_journal_settle(test));
    cr_assert(eq(int, test_journal_close(test, false), 0));
    test_journal_open(test);
    for (unsigned i = 0; i < 5; i++) {
        if (i == 3) {
            cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
            cr_assert(journal_switch(test->journal));
        }
        cr_assert(eq(int, test_journal_append(test, 1 + i % 3, 10 + 90 * i), 0));
        cr_assert(test_journal_settle(test));
    }
    cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
    if (clean) {
        cr_assert(eq(int, test_journal_close(test, true), 0));
        return test;
    }
    /* Killed while it was idle: the last mark is in its sector. */
    journal_commit(test->journal);
    TestJournal *copy = test_journal_copy(test);
    test_journal_free(test);
    return copy;
}

static Small small_new(bool clean)
{
    Small small = {.test = make_journal(clean)};
    _cleanup_(freep) uint64_t *list = NULL;

    cr_assert(eq(int, segment_list(small.test->directory->fd, &list, &small.count), 0));
    cr_assert(ge(sz, small.count, 4));
    cr_assert(le(sz, small.count, SEGMENTS_MAX));
    for (size_t i = 0; i < small.count; i++) {
        SmallFile *file = &small.files[i];
        char *path = test_journal_path(small.test, list[i]);
        file->sequence = list[i];
        file->fd = open(path, O_RDWR | O_CLOEXEC);
        cr_assert(eq(int, file_size(file->fd, &file->size), 0));
        file->data = aligned_alloc(8, ALIGN_UP(file->size, 8));
        cr_assert(eq(int, file_read_at(file->fd, file->data, file->size, 0), 0));
        free(path);
    }
    cr_assert(eq(int, test_journal_replay(small.test), 0));
    small.records = small.test->records;
    cr_assert(eq(u64, small.records, 3 + 1 + 2 + 3 + 1 + 2));
    cr_assert(eq(int, small.test->position.clean, clean));
    return small;
}

static void small_free(Small *small)
{
    for (size_t i = 0; i < small->count; i++) {
        close(small->files[i].fd);
        free(small->files[i].data);
    }
    test_journal_free(small->test);
}

/* Whether what the replay says is true of a journal that has all records or is damaged. */
static void expect_truth(Small *small, const char *what, uint64_t sequence, uint64_t place)
{
    TestJournal *test = small->test;
    int r = test_journal_replay(test);

    cr_assert(not(test->wrong), "%s %llu at %llu: wrong records", what,
              (unsigned long long)sequence, (unsigned long long)place);
    if (r == 0) {
        cr_assert(eq(u64, test->records, small->records), "%s %llu at %llu: records are missing",
                  what, (unsigned long long)sequence, (unsigned long long)place);
        small->whole++;
        return;
    }
    cr_assert(eq(int, r, -EBADMSG), "%s %llu at %llu", what, (unsigned long long)sequence,
              (unsigned long long)place);
    cr_assert(test->damage.file[0] != '\0' && test->damage.reason[0] != '\0');
    cr_assert(test->records == 0 || test->damage.last_revision == test->last);
    small->damaged++;
}

static void flip_every_byte(bool clean)
{
    Small small = small_new(clean);

    for (size_t i = 0; i < small.count; i++) {
        SmallFile *file = &small.files[i];
        for (uint64_t at = 0; at < file->size; at++) {
            uint8_t byte = (uint8_t)~file->data[at];
            cr_assert(eq(int, file_write_at(file->fd, &byte, 1, at), 0));
            expect_truth(&small, "flipped", file->sequence, at);
            cr_assert(eq(int, file_write_at(file->fd, &file->data[at], 1, at), 0));
        }
    }
    cr_assert(gt(u64, small.damaged, 3000), "headers and records");
    cr_assert(gt(u64, small.whole, 3000), "padding, marks and what is not used yet");
    small_free(&small);
}

Test(journal_damage, every_byte_of_a_clean_journal)
{
    flip_every_byte(true);
}

Test(journal_damage, every_byte_of_a_journal_whose_daemon_was_killed)
{
    flip_every_byte(false);
}

/* One bit at a time, where a whole byte inverted may be an easy catch: headers and the first
 * records. */
Test(journal_damage, every_bit_of_the_beginnings)
{
    Small small = small_new(true);

    for (size_t i = 0; i < small.count; i++) {
        SmallFile *file = &small.files[i];
        for (uint64_t bit = 0; bit < 8 * MIN(file->size, SEGMENT_BATCHES_OFFSET + 256); bit++) {
            uint64_t at = bit / 8;
            /* The reserved tails of the two sectors are alike. */
            if (at % SEGMENT_SECTOR > 256 && at < SEGMENT_BATCHES_OFFSET)
                continue;
            uint8_t byte = file->data[at] ^ (uint8_t)(1u << bit % 8);
            cr_assert(eq(int, file_write_at(file->fd, &byte, 1, at), 0));
            expect_truth(&small, "flipped", file->sequence, at);
            cr_assert(eq(int, file_write_at(file->fd, &file->data[at], 1, at), 0));
        }
    }
    small_free(&small);
}

Test(journal_damage, every_truncation)
{
    Small small = small_new(true);

    for (size_t i = 0; i < small.count; i++) {
        SmallFile *file = &small.files[i];
        for (uint64_t size = 0; size < file->size; size++) {
            cr_assert(eq(int, ftruncate(file->fd, (off_t)size), 0));
            expect_truth(&small, "cut", file->sequence, size);
            cr_assert(
                eq(int, file_write_at(file->fd, file->data + size, file->size - size, size), 0));
        }
    }
    cr_assert(gt(u64, small.damaged, 3000));
    cr_assert(gt(u64, small.whole, 1000));
    small_free(&small);
}

Test(journal_damage, every_file_missing)
{
    Small small = small_new(true);

    for (size_t i = 0; i < small.count; i++) {
        TestJournal *copy = test_journal_copy(small.test);
        TestJournal *test = small.test;
        char name[SEGMENT_NAME_MAX];
        cr_assert(eq(
            int, unlinkat(copy->directory->fd, segment_name(small.files[i].sequence, name), 0), 0));
        small.test = copy;
        expect_truth(&small, "missing", small.files[i].sequence, 0);
        small.test = test;
        test_journal_free(copy);
    }
    /* The one that stands ready is not needed. */
    cr_assert(eq(u64, small.whole, 1));
    small_free(&small);
}

Test(journal_damage, every_byte_with_the_checksums_made_right_again)
{
    static const uint8_t masks[] = {0xff, 0x01, 0x80};
    Small small = small_new(true);
    uint8_t *data = aligned_alloc(8, 64 * KIB);

    for (size_t i = 0; i < small.count; i++) {
        SmallFile *file = &small.files[i];
        cr_assert(le(u64, file->size, 64 * KIB));
        for (uint64_t at = 0; at < file->size; at++) {
            memcpy(data, file->data, file->size);
            data[at] ^= masks[at % ARRAY_SIZE(masks)];
            /* The salt's bytes too: all is sealed with the new one. */
            test_journal_reseal(data, file->size);
            cr_assert(eq(int, file_write_at(file->fd, data, file->size, 0), 0));
            int r = test_journal_replay(small.test);
            cr_assert(r == 0 || r == -EBADMSG || r == -EPROTONOSUPPORT);
            small.damaged += r < 0;
        }
        cr_assert(eq(int, file_write_at(file->fd, file->data, file->size, 0), 0));
    }
    cr_assert(gt(u64, small.damaged, 500));
    free(data);
    small_free(&small);
}
