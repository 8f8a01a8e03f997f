/* Unit tests of server/latency. */
#include "server/latency.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static Latency *latency;

static void setup(void)
{
    cr_assert(eq(int, latency_new(&latency), 0));
}

static void teardown(void)
{
    latency = latency_free(latency);
}

TestSuite(latency, .init = setup, .fini = teardown);

static void assert_kind(unsigned kind, uint64_t count, uint64_t sum)
{
    cr_assert(eq(u64, latency->kinds[kind].count, count));
    cr_assert(eq(u64, latency->kinds[kind].sum, sum));
}

Test(latency, replies_that_wait_for_nothing_are_counted_with_the_next_flush)
{
    cr_assert(not(latency_due(latency, UINT64_MAX)));
    latency_note(latency, 3, 1000, 0);
    latency_note(latency, 3, 1000, 0);
    latency_note(latency, 31, 1000, 0);
    cr_assert(latency_due(latency, 0));
    latency_left(latency, 0, 1050);
    assert_kind(3, 2, 100);
    assert_kind(31, 1, 50);
    cr_assert(not(latency_due(latency, UINT64_MAX)));
}

Test(latency, replies_that_are_held_are_counted_when_the_last_of_their_turn_may_leave)
{
    latency_note(latency, 0, 1000, 7);
    latency_note(latency, 1, 1000, 0);
    latency_note(latency, 0, 1000, 8);
    latency_note(latency, 0, 2000, 9);
    latency_left(latency, 7, 1010);
    assert_kind(0, 0, 0);
    assert_kind(1, 1, 10);
    cr_assert(not(latency_due(latency, 7)));
    cr_assert(latency_due(latency, 8));
    latency_left(latency, 8, 3000);
    assert_kind(0, 2, 4000);
    latency_left(latency, 100, 3000);
    assert_kind(0, 3, 5000);
}

Test(latency, more_turns_than_there_is_room_for_are_shown_as_slower_and_never_lost)
{
    for (uint64_t i = 0; i < 1000; i++)
        latency_note(latency, 2, 1000 + i, i + 1);
    latency_left(latency, LATENCY_GROUPS - 1, 5000);
    cr_assert(eq(u64, latency->kinds[2].count, LATENCY_GROUPS - 1));
    latency_left(latency, 999, 5000);
    cr_assert(eq(u64, latency->kinds[2].count, LATENCY_GROUPS - 1));
    latency_left(latency, 1000, 5000);
    cr_assert(eq(u64, latency->kinds[2].count, 1000));
    cr_assert(eq(u64, latency->kinds[2].max, 4000));
    cr_assert(ge(u64, histogram_percentile(&latency->kinds[2], 0.5), 3900));
}

Test(latency, queues_go_round)
{
    for (uint64_t i = 1; i <= 1000; i++) {
        latency_note(latency, 5, i * 10, i);
        latency_note(latency, 5, i * 10, 0);
        latency_left(latency, i, i * 10 + 3);
    }
    assert_kind(5, 2000, 6000);
}

Test(latency, a_clock_that_stands_still_is_no_harm)
{
    latency_note(latency, 0, 1000, 0);
    latency_left(latency, 0, 999);
    assert_kind(0, 1, 0);
}
