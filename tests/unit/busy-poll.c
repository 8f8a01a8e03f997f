/* When the loop looks for events instead of sleeping: as long as calls come soon, and rarely where
 * they do not. Times are given, none is measured. */
#include "base/busy-poll.h"

#include <criterion/criterion.h>

/* A client is answered and calls again after so long. True: the call was found before the loop
 * slept. looked: where not NULL, the microseconds that were spent looking are added. */
static bool answer(BusyPoll *poll, uint64_t *now, uint64_t gap, uint64_t *looked)
{
    uint64_t begin = *now;
    uint64_t end = begin + gap;

    busy_poll_answered(poll, begin);
    while (busy_poll_looks(poll)) {
        if (*now >= end) {
            busy_poll_found(poll, true);
            return true;
        }
        ++*now;
        if (looked != NULL)
            ++*looked;
        (void)busy_poll_again(poll, *now);
    }
    *now = MAX(*now, end);
    return false;
}

Test(busy_poll, sleeps_until_somebody_was_answered)
{
    BusyPoll poll = {0};

    cr_assert(!busy_poll_looks(&poll));
    busy_poll_answered(&poll, 1000);
    cr_assert(busy_poll_looks(&poll));
}

Test(busy_poll, looks_for_its_time_and_no_longer)
{
    BusyPoll poll = {0};

    busy_poll_answered(&poll, 1000);
    cr_assert(busy_poll_again(&poll, 1000 + BUSY_POLL_USEC - 1));
    cr_assert(busy_poll_looks(&poll));
    cr_assert(!busy_poll_again(&poll, 1000 + BUSY_POLL_USEC));
    cr_assert(!busy_poll_looks(&poll));
}

Test(busy_poll, finds_every_call_of_a_quick_client)
{
    BusyPoll poll = {0};
    uint64_t now = 1;

    for (int i = 0; i < 100000; i++)
        cr_assert(answer(&poll, &now, BUSY_POLL_USEC / 2, NULL), "call %d", i);
}

Test(busy_poll, what_is_no_call_ends_the_looking_and_proves_nothing)
{
    BusyPoll poll = {0};
    uint64_t now = 1;

    (void)answer(&poll, &now, 1000, NULL);
    unsigned skip = poll.skip;
    cr_assert_gt(skip, 0);
    while (poll.left > 0)
        busy_poll_answered(&poll, now);
    busy_poll_answered(&poll, now);
    cr_assert(busy_poll_looks(&poll));
    busy_poll_found(&poll, false);
    cr_assert(!busy_poll_looks(&poll));
    cr_assert_eq(poll.skip, skip);
}

Test(busy_poll, looks_a_quarter_as_often_after_each_time_in_vain_and_twice_as_often_after_a_call)
{
    BusyPoll poll = {0};
    uint64_t now = 1;
    const unsigned skips[] = {4, 16, 64, 256, BUSY_POLL_SKIP_MAX, BUSY_POLL_SKIP_MAX};

    for (size_t i = 0; i < ARRAY_SIZE(skips); i++) {
        while (poll.left > 0)
            cr_assert(!answer(&poll, &now, 1000, NULL));
        cr_assert(!answer(&poll, &now, 1000, NULL));
        cr_assert_eq(poll.skip, skips[i], "%u", poll.skip);
        cr_assert_eq(poll.left, skips[i]);
    }
    for (unsigned skip = BUSY_POLL_SKIP_MAX / 2; skip > 0; skip /= 2) {
        while (poll.left > 0)
            cr_assert(!answer(&poll, &now, 10, NULL));
        cr_assert(answer(&poll, &now, 10, NULL));
        cr_assert_eq(poll.skip, skip, "%u", poll.skip);
    }
}

Test(busy_poll, costs_little_where_it_is_in_vain)
{
    BusyPoll poll = {0};
    uint64_t now = 1, looked = 0;
    const unsigned answers = 100 * BUSY_POLL_SKIP_MAX;

    for (unsigned i = 0; i < answers; i++)
        cr_assert(!answer(&poll, &now, 100, &looked));
    /* A hundred times, and the few while it became rare. */
    cr_assert_leq(looked, (100 + 10) * BUSY_POLL_USEC, "%lu us", (unsigned long)looked);
}

Test(busy_poll, comes_back_when_a_quick_client_does)
{
    BusyPoll poll = {0};
    uint64_t now = 1;
    unsigned answers = 0, found = 0;

    for (unsigned i = 0; i < 10 * BUSY_POLL_SKIP_MAX; i++)
        (void)answer(&poll, &now, 1000, NULL);
    cr_assert_eq(poll.skip, BUSY_POLL_SKIP_MAX);
    /* It is looked for once in 1024, 512, 256 ... answers. */
    for (; found < 20 && answers < 3 * BUSY_POLL_SKIP_MAX; answers++)
        found += answer(&poll, &now, 10, NULL);
    cr_assert_eq(found, 20);
    cr_assert_leq(answers, 2 * BUSY_POLL_SKIP_MAX + 20);
    for (int i = 0; i < 1000; i++)
        cr_assert(answer(&poll, &now, 10, NULL));
}
