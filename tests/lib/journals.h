/* Journals for tests: one in a temporary directory, with a disk whose syncs can be held back, made
 * to fail and watched; records whose content follows from their revision, so that what comes back
 * can be told right from wrong. */
#pragma once

#include <stdatomic.h>

#include "journal/journal.h"
#include "lib/temporary.h"

#define TEST_SYNCS_MAX 256

/* Of bytes whose writing was begun. */
typedef struct TestRange {
    uint64_t inode;
    uint64_t from;
    uint64_t to;
} TestRange;

/* What stands in for fdatasync. */
typedef struct TestDisk {
    atomic_bool held;                /* syncs wait */
    atomic_int error;                /* syncs fail with this */
    atomic_uint syncs;               /* begun so far */
    uint64_t inodes[TEST_SYNCS_MAX]; /* of each */
    atomic_uint ranges_count;
    TestRange ranges[TEST_SYNCS_MAX];
} TestDisk;

typedef struct TestJournal {
    Temporary *directory;
    Housekeeper *housekeeper;
    TestDisk disk;
    JournalOptions options; /* may be changed before test_journal_open */
    ReplayOptions replay;   /* from_revision, required_revision, cut: the same */
    JournalPosition position;
    ReplayDamage damage;
    Control *control;
    Journal *journal;
    unsigned changes; /* of the state */
    /* What the last replay brought. */
    uint64_t records;
    uint64_t first; /* revision */
    uint64_t last;
    bool wrong; /* a record's content is not what was appended */
} TestJournal;

/* A journal that is not open yet, in a directory of its own, under `always`. */
TestJournal *test_journal_new(void);
/* The same over a copy of all files as they are now: what a process finds that starts after this
 * one was killed. */
TestJournal *test_journal_copy(const TestJournal *test);
/* A new one, opened under that policy. */
TestJournal *test_journal_opened(JournalPolicy policy);
TestJournal *test_journal_free(TestJournal *test);
static inline void test_journal_freep(TestJournal **test)
{
    test_journal_free(*test);
}

/* What journal_replay returns; records are checked and counted. */
int test_journal_replay(TestJournal *test);
/* True where a process that starts now would find that many records, the last of that revision, in
 * order and as they were appended: everything that was written. What it finds else goes to standard
 * error. */
bool test_journal_comes_back(const TestJournal *test, uint64_t records, uint64_t last);
/* Replays and opens; aborts unless both succeed. base_revision is position.highest +
 * options.base_revision. */
void test_journal_open(TestJournal *test);
int test_journal_close(TestJournal *test, bool clean);

/* Appends count records, with values of value_bytes bytes. No commit. 0 or what the writer said. */
int test_journal_append(TestJournal *test, unsigned count, size_t value_bytes);
/* Turns of the loop (commit, reap, the housekeeper) until the condition holds; false after 10 s. */
bool test_journal_until(TestJournal *test, bool (*condition)(const TestJournal *test));
void test_journal_turn(TestJournal *test);
/* For test_journal_until. All that was appended is durable; a sync was begun (disk.syncs); the next
 * segment stands ready and nothing else is due. */
bool test_journal_is_durable(const TestJournal *test);
bool test_journal_is_syncing(const TestJournal *test);
bool test_journal_is_ready_for_cut(const TestJournal *test);
/* Until all that was appended is durable (and nothing is under way). */
bool test_journal_settle(TestJournal *test);

/* The path of a segment, by malloc. */
char *test_journal_path(const TestJournal *test, uint64_t sequence);
bool test_journal_exists(const TestJournal *test, const char *name);
uint64_t test_journal_inode(const TestJournal *test, uint64_t sequence);

/* The lineage that the segments in the directory have. 0, or -ENOENT where no header checks out. */
int test_journal_lineage(int directory_fd, Lineage *ret);
/* True where a half holds records that the journal may not have. */
bool test_control_pending(const Control *control);

/* Computes the checksums of a segment in memory anew, as far as its batches and records make sense;
 * whatever the bytes are, nothing outside of them is touched. data: aligned to 8. */
void test_journal_reseal(uint8_t *data, size_t size);
