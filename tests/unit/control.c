/* Unit tests of journal/control: what a process that adopts finds is written out, and nothing there
 * is trusted. */
#include "journal/control.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "journal/adopt.h"
#include "journal/batch.h"
#include "lib/journals.h"

/* Another process's view of the memfd: a copy of its bytes, as of now, in a memfd that is like it.
 */
static int copy_memfd(const Control *control)
{
    int fd = memfd_create(CONTROL_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    cr_assert(eq(int, fchmod(fd, 0600), 0));
    cr_assert(eq(int, ftruncate(fd, (off_t)control->size), 0));
    /* What the halves hold in these tests lies at their beginnings. */
    const uint8_t *map = (const uint8_t *)control->header;
    const size_t part = 64 * KIB;
    cr_assert(eq(sz, pwrite(fd, map, part, 0), part));
    for (unsigned i = 0; i < 2; i++) {
        uint64_t at = 4096 + i * control->header->half_bytes;
        cr_assert(eq(sz, pwrite(fd, map + at, part, (off_t)at), part));
    }
    cr_assert(eq(int, fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL), 0));
    return fd;
}

/* Without reading the records the same is known as with. */
static void expect_position(const Control *control, const TestJournal *copy)
{
    const JournalPosition *read = &copy->position;
    JournalPosition known;

    cr_assert(journal_adopt_agrees(control, read));
    cr_assert(eq(int, journal_adopt_position(control, copy->directory->fd, &known), 0));
    cr_assert(lineage_equal(&known.lineage, &read->lineage));
    cr_assert(eq(u64, known.segment, read->segment));
    cr_assert(eq(u64, known.end, read->end));
    cr_assert(eq(u64, known.revision, read->revision));
    cr_assert(eq(u64, known.highest, read->highest));
    cr_assert(eq(sz, known.segment_count, read->segment_count));
    for (size_t i = 0; i < known.segment_count; i++) {
        cr_assert(eq(u64, known.segments[i].sequence, read->segments[i].sequence));
        cr_assert(eq(u64, known.segments[i].last_revision, read->segments[i].last_revision));
        cr_assert(eq(u64, known.segments[i].bytes, read->segments[i].bytes));
    }
    journal_position_deinit(&known);
}

/* What a process does that starts after this one was killed: adopts, writes out, replays. */
static void adopt(const TestJournal *test, TestJournal **ret_copy, int expected)
{
    TestJournal *copy = test_journal_copy(test);
    Control *control = NULL;
    Lineage lineage;
    const char *why;

    cr_assert(eq(int, control_adopt(copy_memfd(test->control), &control), 0));
    cr_assert(eq(int, test_journal_lineage(copy->directory->fd, &lineage), 0));
    cr_assert(eq(int, journal_adopt_check(control, copy->directory->fd, &why), 0), "%s", why);
    int r = control_write_out(control, copy->directory->fd, &lineage);
    cr_assert(eq(int, r, expected));
    cr_assert(r < 0 || !test_control_pending(control));
    if (r == 0) {
        cr_assert(eq(int, test_journal_replay(copy), 0), "%s", copy->damage.reason);
        expect_position(control, copy);
    }
    control_free(control);
    *ret_copy = copy;
}

static void expect_adopted(const TestJournal *test, uint64_t records)
{
    _cleanup_(test_journal_freep) TestJournal *copy = NULL;

    adopt(test, &copy, 0);
    cr_assert(eq(int, test_journal_replay(copy), 0), "%s", copy->damage.reason);
    cr_assert(not(copy->wrong));
    cr_assert(eq(u64, copy->records, records));
    cr_assert(not(copy->position.cut_off));
    test_journal_open(copy);
    cr_assert(eq(int, test_journal_append(copy, 1, 100), 0));
    cr_assert(eq(int, test_journal_close(copy, true), 0));
    cr_assert(eq(int, test_journal_replay(copy), 0), "%s", copy->damage.reason);
    cr_assert(eq(u64, copy->records, records + 1));
}

Test(control, what_gathers_is_written_out_by_whoever_adopts)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();

    test_journal_open(test);
    expect_adopted(test, 0);
    cr_assert(eq(int, test_journal_append(test, 3, 100), 0));
    cr_assert(test_control_pending(test->control));
    expect_adopted(test, 3);
    journal_commit(test->journal);
    expect_adopted(test, 3);
    cr_assert(test_journal_until(test, test_journal_is_durable));
    cr_assert(not(test_control_pending(test->control)));
    expect_adopted(test, 3);
}

Test(control, the_batch_under_way_comes_before_the_one_that_gathers)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();

    test_journal_open(test);
    atomic_store(&test->disk.held, true);
    cr_assert(eq(int, test_journal_append(test, 3, 100), 0));
    journal_commit(test->journal);
    cr_assert(eq(int, test_journal_append(test, 4, 100), 0));
    expect_adopted(test, 7);
}

Test(control, whoever_writes_out_may_be_stopped_before_it_says_that_a_half_is_empty)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();

    test_journal_open(test);
    cr_assert(eq(int, test_journal_append(test, 3, 100), 0));
    const Lineage *lineage = &test->control->header->lineage;
    cr_assert(eq(int, control_write_out(test->control, test->directory->fd, lineage), 0));
    for (unsigned i = 0; i < 2; i++)
        if (test->control->header->half[i].used > sizeof(BatchHeader))
            control_set_state(test->control, i, CONTROL_FILLING);
    cr_assert(test_control_pending(test->control));
    expect_adopted(test, 3);
}

Test(control, a_record_that_was_not_finished_is_not_there)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();
    Identity identity = {0};

    test_journal_open(test);
    cr_assert(eq(int, test_journal_append(test, 2, 100), 0));
    RecordWriter *writer = journal_writer(test->journal);
    cr_assert(eq(int, record_begin(writer, 3, 0, &identity), 0));
    cr_assert(eq(int, record_put(writer, BYTES_OF("key"), BYTES_OF("1")), 0));
    expect_adopted(test, 2);
    /* Finished, but not appended: still nothing. */
    cr_assert(eq(int, record_end(writer, NULL), 0));
    expect_adopted(test, 2);
}

Test(control, a_segment_that_was_changed_to_gets_its_first_batch)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();

    test_journal_open(test);
    cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
    cr_assert(eq(int, test_journal_append(test, 2, 100), 0));
    journal_commit(test->journal);
    cr_assert(journal_switch(test->journal));
    expect_adopted(test, 2);
    cr_assert(eq(int, test_journal_append(test, 2, 100), 0));
    expect_adopted(test, 4);
    cr_assert(test_journal_settle(test));
    cr_assert(eq(int, test_journal_append(test, 2, 100), 0));
    expect_adopted(test, 6);
}

/* Killed at any moment: the copy is taken by another thread of control, between any two
 * instructions. */
Test(control, a_process_killed_at_any_moment_leaves_whole_records)
{
    for (unsigned round = 0; round < 25; round++) {
        _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();
        Control *control;
        Lineage lineage;
        int fds[2];

        cr_assert(eq(int, test_journal_replay(test), 0));
        cr_assert(eq(int, control_new(&test->position.lineage, &control), 0));
        cr_assert(eq(int, pipe(fds), 0));
        pid_t pid = fork();
        if (pid == 0) {
            /* It inherits the descriptor, not the mapping, and makes threads of its own. */
            Control *mine;
            JournalOptions options = test->options;
            options.changed = NULL;
            if (control_adopt(control->fd, &mine) < 0 ||
                housekeeper_new(&options.housekeeper) < 0 ||
                journal_open(&options, mine, &test->position, &test->journal) < 0)
                _exit(1);
            for (;;) {
                if (test_journal_append(test, 1 + round % 3, 200) == 0) {
                    uint64_t revision = journal_revision(test->journal);
                    if (write(fds[1], &revision, sizeof(revision)) < 0)
                        _exit(2);
                }
                journal_commit(test->journal);
                journal_reap(test->journal);
            }
        }
        usleep(3000 + round * 700);
        kill(pid, SIGKILL);
        cr_assert(eq(int, waitpid(pid, NULL, 0), pid));
        close(fds[1]);
        uint64_t revision, appended = 0;
        while (read(fds[0], &revision, sizeof(revision)) == sizeof(revision))
            appended = revision;
        close(fds[0]);

        Control *adopted = NULL;
        bool fits = false;
        if (test_journal_lineage(test->directory->fd, &lineage) == 0) {
            const char *why;
            cr_assert(eq(int, control_adopt(dup(control->fd), &adopted), 0));
            fits = journal_adopt_check(adopted, test->directory->fd, &why) == 0;
            cr_assert(eq(int, control_write_out(adopted, test->directory->fd, &lineage), 0));
        }
        cr_assert(eq(int, test_journal_replay(test), 0), "%s", test->damage.reason);
        cr_assert(not(test->wrong));
        if (adopted != NULL && fits)
            expect_position(adopted, test);
        control_free(adopted);
        /* All that was appended; and perhaps what was, but could not tell any more. */
        cr_assert(ge(u64, test->last, appended));
        cr_assert(le(u64, test->last, appended + 3));
        control_free(control);
    }
}

/* What a check says of a journal in which this control memfd was left behind. */
static int check_stale(const TestJournal *test, int control_fd, const char **ret_why)
{
    Control *control;

    cr_assert(eq(int, control_adopt(control_fd, &control), 0));
    int r = journal_adopt_check(control, test->directory->fd, ret_why);
    control_free(control);
    return r;
}

Test(control, a_journal_that_went_on_without_it_is_told)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();
    const char *why;

    test_journal_open(test);
    cr_assert(eq(int, test_journal_append(test, 3, 100), 0));
    cr_assert(test_journal_settle(test));
    int left = copy_memfd(test->control), ready = copy_memfd(test->control);
    /* One that had changed to its next segment, and not written there: that number is given again.
     */
    cr_assert(test_journal_until(test, test_journal_is_ready_for_cut));
    cr_assert(journal_switch(test->journal));
    int changed = copy_memfd(test->control);
    cr_assert(eq(int, check_stale(test, ready, &why), 0), "%s", why);
    cr_assert(eq(int, test_journal_close(test, true), 0));
    test_journal_open(test);
    cr_assert(eq(int, check_stale(test, left, &why), -ESTALE));
    cr_assert(eq(int, check_stale(test, changed, &why), -ESTALE));
}

Test(control, an_older_copy_of_the_journal_is_told)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();
    const char *why;

    test_journal_open(test);
    cr_assert(eq(int, test_journal_append(test, 3, 100), 0));
    cr_assert(test_journal_settle(test));
    _cleanup_(test_journal_freep) TestJournal *older = test_journal_copy(test);
    cr_assert(eq(int, check_stale(older, copy_memfd(test->control), &why), 0), "%s", why);
    cr_assert(eq(int, test_journal_append(test, 1, 100), 0));
    /* Not written yet: it fits both. */
    cr_assert(eq(int, check_stale(older, copy_memfd(test->control), &why), 0), "%s", why);
    cr_assert(test_journal_settle(test));
    cr_assert(eq(int, check_stale(older, copy_memfd(test->control), &why), -ESTALE));
    cr_assert(eq(int, check_stale(test, copy_memfd(test->control), &why), 0), "%s", why);
}

Test(control, the_table_of_arenas_holds_what_was_added_and_not_removed)
{
    Lineage lineage = {0};
    Control *control;
    Identity identity;
    unsigned found = 0;

    cr_assert(eq(int, control_new(&lineage, &control), 0));
    for (unsigned i = 1; i <= 300; i++) {
        identity = (Identity){.bytes = {(uint8_t)i, (uint8_t)(i >> 8), 1}};
        control_add_arena(control, &identity);
    }
    for (unsigned i = 1; i <= 300; i += 2) {
        identity = (Identity){.bytes = {(uint8_t)i, (uint8_t)(i >> 8), 1}};
        control_remove_arena(control, &identity);
    }
    identity = (Identity){.bytes = "new"};
    control_add_arena(control, &identity);
    cr_assert(eq(uint, control->header->arenas, 300), "an empty row is used again");
    for (uint32_t i = 0; i < control->header->arenas; i++)
        if (control_arena(control, i, &identity)) {
            unsigned number = identity.bytes[0] + 256u * identity.bytes[1];
            cr_assert(number % 2 == 0 || strcmp((const char *)identity.bytes, "new") == 0);
            found++;
        }
    cr_assert(eq(uint, found, 151));
    control_clear_arenas(control);
    cr_assert(control->header->arenas_lost);
    control_arenas_complete(control);
    cr_assert(not(control->header->arenas_lost));
    control_free(control);
}

Test(control, another_lineage_is_refused_and_nothing_is_written)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();
    Lineage lineage = {.bytes = "another"};

    test_journal_open(test);
    cr_assert(eq(int, test_journal_append(test, 2, 100), 0));
    cr_assert(eq(int, control_write_out(test->control, test->directory->fd, &lineage), -ESTALE));
    cr_assert(test_control_pending(test->control));
}

Test(control, a_missing_segment_is_told)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();
    Lineage lineage;

    test_journal_open(test);
    cr_assert(eq(int, test_journal_append(test, 2, 100), 0));
    cr_assert(eq(int, test_journal_lineage(test->directory->fd, &lineage), 0));
    cr_assert(eq(int, unlinkat(test->directory->fd, "0000000001.journal", 0), 0));
    cr_assert(eq(int, control_write_out(test->control, test->directory->fd, &lineage), -ENOENT));
}

Test(control, memfds_that_are_not_ours_are_refused)
{
    Lineage lineage = {0};
    Control *control, *other;

    cr_assert(eq(int, control_new(&lineage, &control), 0));
    cr_assert(eq(int, fchmod(control->fd, 0660), 0));
    cr_assert(eq(int, control_adopt(control->fd, &other), -EBADMSG),
              "others could have changed it");
    cr_assert(eq(int, fchmod(control->fd, 0600), 0));
    if (geteuid() == 0) {
        cr_assert(eq(int, fchown(control->fd, 12345, 0), 0));
        cr_assert(eq(int, control_adopt(control->fd, &other), -EBADMSG));
        cr_assert(eq(int, fchown(control->fd, 0, 0), 0));
    }
    cr_assert(eq(int, ftruncate(control->fd, (off_t)control->size + 4096), 0));
    cr_assert(eq(int, control_adopt(control->fd, &other), -EBADMSG));
    control_free(control);

    int fd = memfd_create("plain", MFD_CLOEXEC);
    cr_assert(eq(int, fchmod(fd, 0600), 0));
    cr_assert(eq(int, control_adopt(fd, &other), -EBADMSG), "it could shrink under us");
    close(fd);
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    cr_assert(eq(int, control_adopt(fd, &other), -EBADMSG));
    close(fd);
}

/* Every byte of the header and of the batches changed: refused, or written out and then judged by
 * the journal's own checks; never a crash, never an access outside. */
Test(control, whatever_the_bytes_are_nothing_is_touched_outside)
{
    _cleanup_(test_journal_freep) TestJournal *test = test_journal_new();
    unsigned adopted = 0;

    test_journal_open(test);
    atomic_store(&test->disk.held, true);
    cr_assert(eq(int, test_journal_append(test, 1, 20), 0));
    journal_commit(test->journal);
    cr_assert(eq(int, test_journal_append(test, 1, 20), 0));
    _cleanup_(test_journal_freep) TestJournal *copy = test_journal_copy(test);
    Lineage lineage;
    cr_assert(eq(int, test_journal_lineage(copy->directory->fd, &lineage), 0));

    for (unsigned i = 0; i < sizeof(ControlHeader) + 2 * 256; i++) {
        int fd = copy_memfd(test->control);
        uint64_t half = test->control->header->half_bytes;
        uint64_t at = i < sizeof(ControlHeader) ? i
                      : i < sizeof(ControlHeader) + 256
                          ? 4096 + i - sizeof(ControlHeader)
                          : 4096 + half + i - sizeof(ControlHeader) - 256;
        uint8_t byte;
        cr_assert(eq(sz, pread(fd, &byte, 1, (off_t)at), 1));
        byte ^= (uint8_t)(1u << i % 8);
        cr_assert(eq(sz, pwrite(fd, &byte, 1, (off_t)at), 1));
        Control *control;
        int r = control_adopt(fd, &control);
        if (r < 0) {
            cr_assert(r == -EBADMSG || r == -EPROTONOSUPPORT);
            close(fd);
            continue;
        }
        adopted++;
        r = control_write_out(control, copy->directory->fd, &lineage);
        cr_assert(r == 0 || r == -EBADMSG || r == -ESTALE || r == -ENOENT || r == -EFBIG);
        control_free(control);
    }
    cr_assert(gt(uint, adopted, 100));
}
