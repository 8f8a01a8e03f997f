/* Unit tests of journal/journal: appending. What is appended comes back whatever the size of its
 * batch and wherever a segment ends; segments are cut, filled, retired and used again; a start goes
 * on behind the last one. What becomes of syncs, and of writing that fails: journal-sync.c. */
#include "journal/journal.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "lib/journals.h"

/* --- batches */

Test(journal, what_is_appended_comes_back)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_ALWAYS);

    for (unsigned i = 0; i < 50; i++) {
        cr_assert(eq(int, test_journal_append(test, 1 + i % 3, 1 + i * 37), 0));
        journal_commit(test->journal);
        test_journal_turn(test);
    }
    cr_assert(test_journal_until(test, test_journal_is_durable));
    cr_assert(eq(u64, journal_revision(test->journal), 99));
    cr_assert(test_journal_comes_back(test, 99, 99));
    cr_assert(eq(int, test_journal_close(test, true), 0));
    cr_assert(eq(int, test_journal_replay(test), 0));
    cr_assert(test->position.clean);
    cr_assert(not(test->position.cut_off));
    cr_assert(eq(u64, test->position.revision, 99));
    cr_assert(not(test->wrong));
}

Test(journal, a_full_half_refuses_until_the_batch_is_written)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_ALWAYS);
    int r;

    atomic_store(&test->disk.held, true);
    cr_assert(eq(int, test_journal_append(test, 1, 100), 0));
    journal_commit(test->journal);
    while ((r = test_journal_append(test, 1, 4 * MIB)) == 0)
        journal_commit(test->journal);
    cr_assert(eq(int, r, -ENOSPC));
    cr_assert(not(journal_has_room(test->journal, 4 * MIB)));
    cr_assert(eq(int, journal_state(test->journal), JOURNAL_OK));
    uint64_t last = journal_revision(test->journal);
    atomic_store(&test->disk.held, false);
    cr_assert(test_journal_until(test, test_journal_is_durable));
    cr_assert(journal_has_room(test->journal, 4 * MIB));
    cr_assert(test_journal_comes_back(test, last, last));
}

/* --- segments */

Test(journal, a_cut_goes_on_in_the_segment_that_stands_ready)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_ALWAYS);

    cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
    cr_assert(eq(int, test_journal_append(test, 10, 100), 0));
    cr_assert(not(journal_cut_ready(test->journal)), "a batch is unwritten");
    cr_assert(not(journal_switch(test->journal)));
    journal_commit(test->journal);
    cr_assert(journal_cut_ready(test->journal));
    cr_assert(journal_switch(test->journal));
    cr_assert(eq(u64, journal_bytes_behind(test->journal, 10), 1024));
    cr_assert(gt(u64, journal_bytes_behind(test->journal, 9), 2048));
    cr_assert(journal_switch(test->journal), "a fresh one serves as well");
    cr_assert(eq(sz, journal_segments(test->journal), 2));
    cr_assert(eq(int, test_journal_append(test, 10, 100), 0));
    cr_assert(test_journal_settle(test));
    cr_assert(test_journal_comes_back(test, 20, 20));

    /* From the cut's image on, the first segment is not needed, and may be missing. */
    _cleanup_(test_journal_freep) TestJournal *copy = test_journal_copy(test);
    cr_assert(eq(int, unlinkat(copy->directory->fd, "0000000001.journal", 0), 0));
    copy->replay.from_revision = 10;
    cr_assert(eq(int, test_journal_replay(copy), 0));
    cr_assert(eq(u64, copy->records, 10));
    copy->replay.from_revision = 9;
    cr_assert(eq(int, test_journal_replay(copy), -EBADMSG));
}

Test(journal, a_full_segment_is_left_by_itself)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();

    test->options.segment_bytes_max = 64 * KIB;
    test_journal_open(test);
    for (int i = 0; i < 100; i++) {
        cr_assert(eq(int, test_journal_append(test, 1, 8000), 0));
        cr_assert(test_journal_settle(test));
    }
    cr_assert(gt(sz, journal_segments(test->journal), 8));
    cr_assert(test_journal_comes_back(test, 100, 100));
}

Test(journal, a_batch_larger_than_a_segment_is_written_all_the_same)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();

    test->options.segment_bytes_max = 64 * KIB;
    test_journal_open(test);
    cr_assert(eq(int, test_journal_append(test, 5, 3 * MIB), 0));
    cr_assert(test_journal_settle(test));
    cr_assert(eq(int, test_journal_append(test, 5, 100), 0));
    cr_assert(test_journal_settle(test));
    cr_assert(test_journal_comes_back(test, 10, 10));
}

Test(journal, retired_segments_go_and_one_is_used_again)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_ALWAYS);

    for (int i = 0; i < 4; i++) {
        cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
        cr_assert(eq(int, test_journal_append(test, 10, 1000), 0));
        cr_assert(test_journal_settle(test));
        cr_assert(journal_switch(test->journal));
    }
    uint64_t oldest = test_journal_inode(test, 1);
    journal_retire(test->journal, 19);
    housekeeper_drain(test->housekeeper);
    cr_assert(eq(sz, journal_segments(test->journal), 4), "the second still holds one of 20");
    cr_assert(test_journal_exists(test, "spare.segment"));
    journal_retire(test->journal, 40);
    housekeeper_drain(test->housekeeper);
    cr_assert(eq(sz, journal_segments(test->journal), 2),
              "the last one before the current stays until that one has a durable batch");
    cr_assert(not(test_journal_exists(test, "0000000003.journal")));
    cr_assert(test_journal_exists(test, "0000000004.journal"));

    /* What the recycled file held does not come back. */
    cr_assert(eq(int, test_journal_append(test, 1, 100), 0));
    cr_assert(test_journal_settle(test));
    cr_assert(journal_switch(test->journal));
    cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
    cr_assert(eq(int, test_journal_append(test, 1, 100), 0));
    cr_assert(test_journal_settle(test));
    cr_assert(journal_switch(test->journal));
    cr_assert(eq(int, test_journal_append(test, 1, 100), 0));
    cr_assert(test_journal_settle(test));
    cr_assert(test_journal_inode(test, 6) == oldest || test_journal_inode(test, 7) == oldest);
    _cleanup_(test_journal_freep) TestJournal *copy = test_journal_copy(test);
    copy->replay.from_revision = 40;
    cr_assert(eq(int, test_journal_replay(copy), 0), "%s", copy->damage.reason);
    cr_assert(eq(u64, copy->records, 3));
    cr_assert(eq(u64, copy->last, 43));
    cr_assert(not(copy->position.cut_off));
}

/* --- opening */

Test(journal, many_restarts_lose_nothing)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();

    for (unsigned i = 0; i < 12; i++) {
        test_journal_open(test);
        cr_assert(eq(u64, test->records, i * 5));
        cr_assert(eq(int, test->position.clean, i > 0 && i % 3 == 1));
        cr_assert(eq(int, test_journal_append(test, 5, 500), 0));
        cr_assert(eq(int, test_journal_close(test, i % 3 == 0), 0));
    }
}

Test(journal, no_revision_is_given_twice_however_often_a_start_dies)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_opened(JOURNAL_ALWAYS);
    TestJournal *now = test;
    uint64_t highest = 0;

    for (int i = 0; i < 5; i++) {
        cr_assert(ge(u64, journal_revision(now->journal), highest));
        cr_assert(eq(int, test_journal_append(now, 1, 100), 0));
        highest = journal_revision(now->journal);
        /* Dies before the record is anywhere but in its memory. */
        TestJournal *next = test_journal_copy(now);
        if (now != test)
            test_journal_free(now);
        now = next;
        now->options.base_revision = UINT64_C(1) << 32;
        test_journal_open(now);
        cr_assert(gt(u64, journal_revision(now->journal), highest));
        cr_assert(eq(u64, now->records, 0));
    }
    test_journal_free(now);
}

Test(journal, an_image_alone_is_enough_to_begin_with)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();

    test->replay.from_revision = 500;
    test->replay.required_revision = 500;
    test_journal_open(test);
    cr_assert(eq(u64, journal_revision(test->journal), 500));
    cr_assert(eq(int, test_journal_append(test, 2, 100), 0));
    cr_assert(eq(int, test_journal_close(test, false), 0));
    cr_assert(eq(int, test_journal_replay(test), 0));
    cr_assert(eq(u64, test->last, 502));
    /* Were the image lost, the journal would not be enough. */
    test->replay = (ReplayOptions){0};
    cr_assert(eq(int, test_journal_replay(test), -EBADMSG));
}

Test(journal, a_control_memfd_of_another_lineage_is_refused)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();
    Lineage lineage = {.bytes = "another"};
    Control *control;
    Journal *journal;

    cr_assert(eq(int, test_journal_replay(test), 0));
    cr_assert(eq(int, control_new(&lineage, &control), 0));
    cr_assert(eq(int, journal_open(&test->options, control, &test->position, &journal), -ESTALE));
    control_free(control);
}
