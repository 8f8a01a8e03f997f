/* Unit tests of journal/journal: what becomes of syncs. When an update may be answered under each
 * policy, in which order segments become durable and what the durable mark tells of it; what
 * happens without room to write, and after a sync (or the sending of pages ahead of one) that
 * failed. Appending as such: journal.c. */
#include "journal/journal.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/file.h"
#include "lib/damage.h"
#include "lib/journals.h"

/* --- policies */

Test(journal_sync, always_answers_only_what_is_durable_and_gathers_meanwhile)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_ALWAYS);

    atomic_store(&test->disk.held, true);
    cr_assert(eq(int, test_journal_append(test, 3, 100), 0));
    journal_commit(test->journal);
    cr_assert(test_journal_until(test, test_journal_is_syncing));
    cr_assert(eq(int, test_journal_append(test, 5, 100), 0));
    for (int i = 0; i < 20; i++)
        test_journal_turn(test);
    cr_assert(eq(u64, journal_replied_revision(test->journal), 0));
    cr_assert(eq(u64, journal_durable_revision(test->journal), 0));
    cr_assert(eq(uint, atomic_load(&test->disk.syncs), 1));
    /* The first batch is in the file, the second gathers. */
    cr_assert(test_journal_comes_back(test, 3, 3));

    atomic_store(&test->disk.held, false);
    cr_assert(test_journal_until(test, test_journal_is_durable));
    cr_assert(eq(u64, journal_replied_revision(test->journal), 8));
    cr_assert(eq(uint, atomic_load(&test->disk.syncs), 2), "one sync for all that gathered");
    cr_assert(test_journal_comes_back(test, 8, 8));
}

Test(journal_sync, interval_answers_what_is_written_and_syncs_later)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_INTERVAL);

    atomic_store(&test->disk.held, true);
    cr_assert(eq(int, test_journal_append(test, 4, 100), 0));
    journal_commit(test->journal);
    cr_assert(eq(u64, journal_replied_revision(test->journal), 4));
    cr_assert(eq(u64, journal_durable_revision(test->journal), 0));
    cr_assert(lt(u64, journal_deadline(test->journal), UINT64_MAX));
    cr_assert(test_journal_until(test, test_journal_is_syncing));
    /* Writing goes on while it syncs. */
    cr_assert(eq(int, test_journal_append(test, 4, 100), 0));
    journal_commit(test->journal);
    cr_assert(eq(u64, journal_replied_revision(test->journal), 8));
    atomic_store(&test->disk.held, false);
    cr_assert(test_journal_until(test, test_journal_is_durable));
}

Test(journal_sync, never_syncs_for_a_cut_alone)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_NEVER);

    cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
    cr_assert(eq(int, test_journal_append(test, 4, 100), 0));
    for (int i = 0; i < 20; i++)
        test_journal_turn(test);
    cr_assert(eq(u64, journal_replied_revision(test->journal), 4));
    cr_assert(eq(uint, atomic_load(&test->disk.syncs), 0));
    cr_assert(journal_switch(test->journal));
    cr_assert(test_journal_until(test, test_journal_is_durable));
    cr_assert(eq(uint, atomic_load(&test->disk.syncs), 1));
}

Test(journal_sync, segments_become_durable_in_their_order)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_NEVER);
    uint64_t inodes[4];

    atomic_store(&test->disk.held, true);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
        cr_assert(eq(int, test_journal_append(test, 2, 100), 0));
        journal_commit(test->journal);
        inodes[i] = test_journal_inode(test, i + 1);
        cr_assert(journal_switch(test->journal));
    }
    cr_assert(eq(int, test_journal_append(test, 2, 100), 0));
    journal_commit(test->journal);
    inodes[3] = test_journal_inode(test, 4);
    journal_sync(test->journal);
    cr_assert(eq(u64, journal_durable_revision(test->journal), 0));
    atomic_store(&test->disk.held, false);
    cr_assert(test_journal_until(test, test_journal_is_durable));
    cr_assert(eq(uint, atomic_load(&test->disk.syncs), 4));
    for (unsigned i = 0; i < 4; i++)
        cr_assert(eq(u64, test->disk.inodes[i], inodes[i]));
}

/* --- sending ahead of the syncs */

/* Appends and commits, batch by batch, until the disk was told so often to begin to write. */
static void expect_ranges(TestJournal *test, unsigned count)
{
    for (int i = 0; i < 10000 && atomic_load(&test->disk.ranges_count) < count; i++) {
        cr_assert(eq(int, test_journal_append(test, 10, 1000), 0));
        test_journal_turn(test);
    }
    cr_assert(eq(uint, atomic_load(&test->disk.ranges_count), count));
}

Test(journal_sync, without_syncs_pages_are_sent_to_the_disk_as_they_become_full)
{
    static const JournalPolicy policies[] = {JOURNAL_NEVER, JOURNAL_INTERVAL};

    for (size_t i = 0; i < 2; i++) {
        _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(policies[i]);
        const TestRange *ranges = test->disk.ranges;

        expect_ranges(test, 5);
        for (unsigned j = 0; j < 5; j++) {
            bool same = j > 0 && ranges[j].inode == ranges[j - 1].inode;
            cr_assert(eq(u64, ranges[j].from, same ? ranges[j - 1].to : 4096));
            cr_assert(eq(u64, ranges[j].to % 4096, 0));
            cr_assert(ge(u64, ranges[j].to - ranges[j].from, 256 * KIB));
        }
        cr_assert(eq(u64, ranges[0].inode, test_journal_inode(test, 1)));
        cr_assert(eq(u64, ranges[1].inode, ranges[0].inode));
        cr_assert(ne(u64, ranges[4].inode, ranges[0].inode), "segments of a megabyte");
        cr_assert(test_journal_comes_back(test, journal_revision(test->journal),
                                          journal_revision(test->journal)));
    }
}

Test(journal_sync, where_each_batch_is_synced_none_is_sent_before)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_ALWAYS);

    for (int i = 0; i < 100; i++) {
        cr_assert(eq(int, test_journal_append(test, 10, 1000), 0));
        cr_assert(test_journal_settle(test));
    }
    cr_assert(eq(uint, atomic_load(&test->disk.ranges_count), 0));
}

Test(journal_sync, a_segment_left_while_it_is_sent_stays_open_meanwhile)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_NEVER);

    cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
    atomic_store(&test->disk.held, true);
    expect_ranges(test, 1);
    journal_commit(test->journal);
    cr_assert(journal_switch(test->journal));
    cr_assert(eq(u64, journal_durable_revision(test->journal), 0));
    atomic_store(&test->disk.held, false);
    cr_assert(test_journal_until(test, test_journal_is_durable));
    cr_assert(eq(uint, atomic_load(&test->disk.syncs), 1));
    cr_assert(eq(u64, test->disk.inodes[0], test->disk.ranges[0].inode));
}

/* --- durable mark */

/* The newest mark in a sector; none of a segment where none was ever written. */
static JournalMark marked(const TestJournal *test)
{
    _cleanup_(freep) uint64_t *list = NULL;
    JournalMark newest = {0};
    size_t count;

    cr_assert(eq(int, segment_list(test->directory->fd, &list, &count), 0));
    for (size_t i = 0; i < count; i++) {
        _cleanup_(closep) int fd = -1;
        char name[SEGMENT_NAME_MAX];
        SegmentHeader header;
        JournalMark mark;
        uint64_t flags;

        fd = openat(test->directory->fd, segment_name(list[i], name), O_RDONLY | O_CLOEXEC);
        cr_assert(eq(int, segment_read_header(fd, list[i], &header), 0));
        int r = segment_read_mark(fd, header.salt, &mark, &flags);
        cr_assert(r == 0 || r == -ENODATA);
        if (r == 0 && journal_mark_compare(&mark, &newest) > 0)
            newest = mark;
    }
    return newest;
}

Test(journal_sync, at_rest_the_mark_sector_covers_all_that_was_answered)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_ALWAYS);

    for (unsigned i = 1; i <= 3; i++) {
        cr_assert(eq(int, test_journal_append(test, 1, 100), 0));
        cr_assert(test_journal_settle(test));
        /* Nothing but the deadline that it gives has the loop come back for this. */
        cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
        JournalMark mark = marked(test);
        cr_assert(eq(u64, mark.revision, i));
        cr_assert(gt(u64, mark.offset, SEGMENT_BATCHES_OFFSET));
    }
}

/* There is always something to write or to sync. */
Test(journal_sync, the_mark_sector_follows_batches_that_never_pause)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_ALWAYS);
    uint64_t deadline = clock_monotonic() + 10 * USEC_PER_SEC;
    JournalMark first = {0}, mark = {0};

    while (first.revision == 0 || mark.revision <= first.revision) {
        cr_assert(lt(u64, clock_monotonic(), deadline));
        cr_assert(eq(int, test_journal_append(test, 1, 100), 0));
        test_journal_turn(test);
        mark = marked(test);
        cr_assert(le(u64, mark.revision, journal_durable_revision(test->journal)));
        if (first.revision == 0)
            first = mark;
    }
}

/* --- want of room */

static bool is_no_room(const TestJournal *test)
{
    return journal_state(test->journal) == JOURNAL_NO_ROOM;
}

static bool is_ok(const TestJournal *test)
{
    return journal_state(test->journal) == JOURNAL_OK;
}

Test(journal_sync, want_of_room_heals_in_a_fresh_segment)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_ALWAYS);
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN);
    cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
    cr_assert(eq(int, test_journal_append(test, 1, 300 * KIB), 0));
    cr_assert(test_journal_settle(test));
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = 400 * KIB;
    setrlimit(RLIMIT_FSIZE, &limit);

    cr_assert(eq(int, test_journal_append(test, 3, 50 * KIB), 0));
    journal_commit(test->journal);
    cr_assert(eq(int, journal_state(test->journal), JOURNAL_NO_ROOM));
    cr_assert(eq(int, journal_error(test->journal), -EFBIG));
    cr_assert(eq(int, test_journal_append(test, 1, 10), -ENOSPC), "updates wait");
    cr_assert(eq(u64, journal_replied_revision(test->journal), 1));
    cr_assert(test_journal_until(test, test_journal_is_durable));
    cr_assert(eq(int, journal_state(test->journal), JOURNAL_OK));
    cr_assert(eq(uint, test->changes, 2));
    cr_assert(eq(int, test_journal_append(test, 3, 100), 0));
    cr_assert(test_journal_settle(test));
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
    cr_assert(test_journal_comes_back(test, 7, 7));
}

static bool is_in_fresh_segment(const TestJournal *test)
{
    /* Tried there, too, and waits before the next try. */
    return is_no_room(test) && journal_deadline(test->journal) > clock_monotonic();
}

Test(journal_sync, what_waits_for_room_is_written_at_the_close_where_there_is_room_by_then)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_ALWAYS);
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN);
    cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
    cr_assert(eq(int, test_journal_append(test, 2, 100), 0));
    cr_assert(test_journal_settle(test));
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = SEGMENT_BATCHES_OFFSET;
    setrlimit(RLIMIT_FSIZE, &limit);
    cr_assert(eq(int, test_journal_append(test, 1, 100), 0));
    cr_assert(test_journal_until(test, is_in_fresh_segment));
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
    cr_assert(eq(int, test_journal_close(test, true), 0));
    cr_assert(eq(int, test_journal_replay(test), 0));
    cr_assert(eq(u64, test->records, 3));
    cr_assert(test->position.clean);
}

static bool mount_small(TestJournal *test, uint64_t bytes)
{
    char options[64];

    /* In a mount namespace of the test's own: nothing is left behind, however it ends. */
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return false;
    snprintf(options, sizeof(options), "size=%llu", (unsigned long long)bytes);
    if (mount("tmpfs", test->directory->path, "tmpfs", 0, options) < 0)
        return false;
    close(test->directory->fd);
    test->directory->fd = open(test->directory->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    test->options.directory_fd = test->directory->fd;
    return true;
}

static uint64_t fill_up(TestJournal *test)
{
    int fd = openat(test->directory->fd, "filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    char block[4096] = "x";
    uint64_t size = 0;

    while (write(fd, block, sizeof(block)) == sizeof(block))
        size += sizeof(block);
    close(fd);
    return size;
}

Test(journal_sync, a_full_file_system_parks_updates_until_there_is_room)
{
    TestJournal *test = test_journal_new();

    if (!mount_small(test, MIB)) {
        test_journal_free(test);
        cr_skip_test("mounting a tmpfs needs the right to");
    }
    test->options.segment_bytes_max = 128 * KIB;
    test_journal_open(test);
    cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
    cr_assert(gt(u64, fill_up(test), 0));
    /* What was filled ahead still takes batches, then there is want. */
    while (is_ok(test) && journal_revision(test->journal) < 1000) {
        cr_assert(eq(int, test_journal_append(test, 1, 5000), 0));
        journal_commit(test->journal);
        for (int i = 0; i < 50 && is_ok(test) && !test_journal_is_durable(test); i++)
            test_journal_turn(test);
    }
    cr_assert(test_journal_until(test, is_no_room));
    uint64_t replied = journal_replied_revision(test->journal);
    cr_assert(gt(u64, replied, 10));
    for (int i = 0; i < 20; i++)
        test_journal_turn(test);
    cr_assert(eq(int, journal_state(test->journal), JOURNAL_NO_ROOM));
    cr_assert(eq(int, test_journal_append(test, 1, 10), -ENOSPC));

    cr_assert(eq(int, unlinkat(test->directory->fd, "filler", 0), 0));
    cr_assert(test_journal_until(test, is_ok));
    cr_assert(test_journal_until(test, test_journal_is_durable));
    cr_assert(eq(int, test_journal_append(test, 2, 100), 0));
    cr_assert(test_journal_settle(test));
    uint64_t last = journal_revision(test->journal);
    cr_assert(gt(u64, last, replied));
    cr_assert(eq(int, test_journal_close(test, true), 0));
    cr_assert(eq(int, test_journal_replay(test), 0));
    cr_assert(eq(u64, test->records, last));
    cr_assert(not(test->wrong));
    test_journal_free(test);
}

/* A batch that is larger than what is left: every fresh segment would take more of it. */
Test(journal_sync, tries_without_room_take_no_more_of_it)
{
    TestJournal *test = test_journal_new();
    uint64_t *list;
    size_t before, after;

    if (!mount_small(test, 2 * MIB)) {
        test_journal_free(test);
        cr_skip_test("mounting a tmpfs needs the right to");
    }
    test->options.segment_bytes_max = 128 * KIB;
    test_journal_open(test);
    cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
    cr_assert(eq(int, test_journal_append(test, 1, 3 * MIB), 0));
    journal_commit(test->journal);
    cr_assert(is_no_room(test));
    test_journal_turn(test);
    test_journal_turn(test);
    cr_assert(eq(int, segment_list(test->directory->fd, &list, &before), 0));
    free(list);
    for (int i = 0; i < 1500; i++)
        test_journal_turn(test);
    cr_assert(is_no_room(test));
    cr_assert(eq(int, segment_list(test->directory->fd, &list, &after), 0));
    free(list);
    cr_assert(le(sz, after, before + 1));
    cr_assert(eq(int, mount("tmpfs", test->directory->path, "tmpfs", MS_REMOUNT, "size=16m"), 0));
    cr_assert(test_journal_until(test, is_ok));
    cr_assert(test_journal_settle(test));
    cr_assert(eq(int, test_journal_append(test, 1, 100), 0));
    cr_assert(eq(int, test_journal_close(test, true), 0));
    cr_assert(eq(int, test_journal_replay(test), 0), "%s", test->damage.reason);
    cr_assert(eq(u64, test->records, 2));
    cr_assert(not(test->wrong));
    test_journal_free(test);
}

/* --- condemned segments */

static bool is_condemned(const TestJournal *test)
{
    return journal_state(test->journal) == JOURNAL_CONDEMNED;
}

static bool is_covered(const TestJournal *test)
{
    return journal_covers(test->journal, journal_failed_revision(test->journal));
}

Test(journal_sync, what_cannot_be_sent_condemns_its_segment)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_NEVER);

    cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
    atomic_store(&test->disk.error, EIO);
    for (int i = 0; i < 10000 && !is_condemned(test); i++) {
        (void)test_journal_append(test, 10, 1000);
        test_journal_turn(test);
    }
    cr_assert(is_condemned(test));
    cr_assert(eq(int, journal_error(test->journal), -EIO));
    atomic_store(&test->disk.error, 0);
    cr_assert(test_journal_until(test, is_covered));
}

Test(journal_sync, after_a_failed_sync_no_later_segment_is_synced)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_NEVER);

    cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
    atomic_store(&test->disk.held, true);
    atomic_store(&test->disk.error, EIO);
    cr_assert(eq(int, test_journal_append(test, 2, 100), 0));
    journal_commit(test->journal);
    cr_assert(journal_switch(test->journal));
    cr_assert(eq(int, test_journal_append(test, 2, 100), 0));
    journal_commit(test->journal);
    journal_sync(test->journal);
    cr_assert(test_journal_until(test, test_journal_is_syncing));
    uint64_t condemned = test_journal_inode(test, 1);
    atomic_store(&test->disk.held, false);
    cr_assert(test_journal_until(test, is_condemned));
    atomic_store(&test->disk.error, 0);
    cr_assert(test_journal_until(test, is_covered));
    cr_assert(eq(u64, test->disk.inodes[0], condemned));
    for (unsigned i = 1; i < atomic_load(&test->disk.syncs); i++)
        cr_assert(test->disk.inodes[i] != test_journal_inode(test, 2) &&
                  test->disk.inodes[i] != condemned);
}

/* A journal whose fourth to sixth record became durable and whose seventh and eighth did not. */
static TestJournal *condemned(JournalPolicy policy)
{
    TestJournal *test = test_journal_opened(policy);

    cr_assert(eq(int, test_journal_append(test, 6, 100), 0));
    cr_assert(test_journal_settle(test));
    atomic_store(&test->disk.error, EIO);
    cr_assert(eq(int, test_journal_append(test, 1, 100), 0));
    journal_commit(test->journal);
    cr_assert(eq(int, test_journal_append(test, 1, 100), 0));
    journal_sync(test->journal);
    cr_assert(test_journal_until(test, is_condemned));
    return test;
}

Test(journal_sync, a_failed_sync_condemns_and_is_told_before_anyone_is_answered)
{
    _cleanup_(test_journal_freep) TestJournal *test = condemned(JOURNAL_ALWAYS);

    cr_assert(eq(u32, test->control->header->condemned, 1));
    cr_assert(eq(int, journal_error(test->journal), -EIO));
    cr_assert(eq(u64, journal_durable_revision(test->journal), 6));
    cr_assert(eq(u64, journal_replied_revision(test->journal), 6));
    cr_assert(eq(u64, journal_failed_revision(test->journal), 8));
    cr_assert(eq(int, test_journal_append(test, 1, 10), -ENOSPC));
    cr_assert(eq(uint, test->changes, 1));
    cr_assert(not(journal_covers(test->journal, 8)));
    cr_assert(journal_covers(test->journal, 6));
    cr_assert(eq(int, journal_heal(test->journal, 8), -EAGAIN));
    cr_assert(journal_cut_ready(test->journal), "the checkpoint that heals must get its cut");
    cr_assert(not(journal_switch(test->journal)));
    cr_assert(eq(int, test_journal_close(test, true), -EIO), "not everything is durable");
}

Test(journal_sync, a_checkpoint_and_a_fresh_segment_heal)
{
    _cleanup_(test_journal_freep) TestJournal *test = condemned(JOURNAL_ALWAYS);

    for (int i = 0; i < 50; i++)
        test_journal_turn(test);
    cr_assert(not(journal_covers(test->journal, 8)), "the fresh segment cannot be synced either");
    atomic_store(&test->disk.error, 0);
    cr_assert(test_journal_until(test, is_covered));
    cr_assert(eq(int, journal_state(test->journal), JOURNAL_CONDEMNED),
              "no image is published yet");
    cr_assert(eq(int, journal_heal(test->journal, 7), -EAGAIN), "an image of before the end");
    cr_assert(eq(int, journal_heal(test->journal, 8), 0));
    cr_assert(eq(int, journal_state(test->journal), JOURNAL_OK));
    cr_assert(eq(u32, test->control->header->condemned, 0));
    cr_assert(eq(u64, journal_durable_revision(test->journal), 8));
    cr_assert(eq(u64, journal_failed_revision(test->journal), 0));

    cr_assert(eq(int, test_journal_append(test, 4, 100), 0));
    cr_assert(test_journal_settle(test));
    _cleanup_(test_journal_freep) TestJournal *copy = test_journal_copy(test);
    copy->replay.from_revision = 8;
    copy->replay.required_revision = 8;
    cr_assert(eq(int, test_journal_replay(copy), 0), "%s", copy->damage.reason);
    cr_assert(eq(u64, copy->first, 9));
    cr_assert(eq(u64, copy->last, 12));
    cr_assert(not(copy->position.condemned));
    /* Without that image, what was never written to the condemned segment is missing. */
    copy->replay.from_revision = 0;
    cr_assert(eq(int, test_journal_replay(copy), -EBADMSG));

    /* And the condemned file is not used again. */
    journal_retire(test->journal, 8);
    housekeeper_drain(test->housekeeper);
    cr_assert(not(test_journal_exists(test, "0000000001.journal")));
    cr_assert(not(test_journal_exists(test, "spare.segment")));
}

/* Power goes while nothing is healed: what was behind the durable mark is lost in the condemned
 * segment. */
Test(journal_sync, a_power_cut_before_the_image_is_published_loses_nothing_durable)
{
    _cleanup_(test_journal_freep) TestJournal *test = condemned(JOURNAL_ALWAYS);

    atomic_store(&test->disk.error, 0);
    cr_assert(test_journal_until(test, is_covered));
    _cleanup_(test_journal_freep) TestJournal *copy = test_journal_copy(test);
    char *path = test_journal_path(copy, 1);
    cr_assert(eq(int, test_journal_replay(copy), 0));
    cr_assert(copy->position.condemned);
    cr_assert(eq(u64, copy->last, 7), "what was written is still there to be read");
    cr_assert(eq(int, damage_fill(path, copy->position.durable.offset, 0, 4096), 0));
    cr_assert(eq(int, test_journal_replay(copy), 0), "%s", copy->damage.reason);
    cr_assert(eq(u64, copy->last, 6));
    free(path);
}

Test(journal_sync, condemned_survives_a_restart)
{
    _cleanup_(test_journal_freep) TestJournal *test = condemned(JOURNAL_INTERVAL);
    _cleanup_(test_journal_freep) TestJournal *copy = test_journal_copy(test);

    test_journal_open(copy);
    cr_assert(eq(int, journal_state(copy->journal), JOURNAL_CONDEMNED));
    cr_assert(eq(u64, journal_failed_revision(copy->journal), copy->last));
    cr_assert(eq(int, test_journal_append(copy, 1, 10), -ENOSPC));
    cr_assert(test_journal_until(copy, is_covered));
    uint64_t image = journal_revision(copy->journal);
    cr_assert(eq(int, journal_heal(copy->journal, image), 0));
    cr_assert(eq(int, test_journal_append(copy, 3, 100), 0));
    cr_assert(test_journal_settle(copy));
    cr_assert(eq(int, test_journal_close(copy, true), 0));
    copy->replay.from_revision = image;
    cr_assert(eq(int, test_journal_replay(copy), 0), "%s", copy->damage.reason);
    cr_assert(eq(u64, copy->records, 3));
    cr_assert(not(copy->position.condemned));
    cr_assert(copy->position.clean);
}

Test(journal_sync, a_sync_that_fails_at_the_start_condemns_too)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_ALWAYS);

    cr_assert(eq(int, test_journal_append(test, 3, 100), 0));
    cr_assert(test_journal_settle(test));
    _cleanup_(test_journal_freep) TestJournal *copy = test_journal_copy(test);
    atomic_store(&copy->disk.error, EIO);
    test_journal_open(copy);
    cr_assert(eq(int, journal_state(copy->journal), JOURNAL_CONDEMNED));
}
