/* Unit tests of base/histogram. */
#include "base/histogram.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static Histogram histogram;

Test(histogram, empty_has_no_percentiles)
{
    cr_assert(eq(u64, histogram_percentile(&histogram, 0.5), 0));
}

Test(histogram, small_values_are_exact)
{
    for (uint64_t value = 1; value <= 10; value++)
        histogram_add(&histogram, value);
    cr_assert(eq(u64, histogram_percentile(&histogram, 0.0), 1));
    cr_assert(eq(u64, histogram_percentile(&histogram, 0.5), 5));
    cr_assert(eq(u64, histogram_percentile(&histogram, 0.95), 10));
    cr_assert(eq(u64, histogram_percentile(&histogram, 1.0), 10));
    cr_assert(eq(u64, histogram.sum, 55));
    cr_assert(eq(u64, histogram.count, 10));
}

Test(histogram, every_value_is_found_within_three_per_cent)
{
    static const uint64_t extremes[] = {0,
                                        1,
                                        31,
                                        32,
                                        33,
                                        63,
                                        64,
                                        1000,
                                        UINT64_C(1) << 40,
                                        (UINT64_C(1) << 40) - 1,
                                        INT64_MAX,
                                        UINT64_MAX - 1,
                                        UINT64_MAX};

    for (size_t i = 0; i < ARRAY_SIZE(extremes); i++) {
        Histogram one = {0};
        uint64_t found;

        histogram_add(&one, extremes[i]);
        /* A larger one beside it, so that not the maximum alone gives the answer. */
        histogram_add(&one, UINT64_MAX);
        found = histogram_percentile(&one, 0.5);
        cr_assert(ge(u64, found, extremes[i]));
        cr_assert(le(dbl, (double)found, (double)extremes[i] * (1 + 1.0 / HISTOGRAM_STEPS)));
    }
}

Test(histogram, percentiles_of_a_uniform_run)
{
    for (uint64_t value = 1; value <= 100000; value++)
        histogram_add(&histogram, value);
    for (int percent = 1; percent <= 99; percent++) {
        double found = (double)histogram_percentile(&histogram, percent / 100.0);

        cr_assert(ge(dbl, found, percent * 1000.0));
        cr_assert(le(dbl, found, percent * 1000.0 * 1.0313));
    }
    cr_assert(eq(u64, histogram_percentile(&histogram, 1.0), 100000));
}

Test(histogram, values_below_bounds_are_counted_exactly_at_steps)
{
    const uint64_t bounds[] = {1, 16, 24, 32, 48, 1024, 1536, UINT64_C(1) << 40};
    uint64_t found[ARRAY_SIZE(bounds)];

    for (uint64_t value = 0; value < 5000; value++)
        histogram_add(&histogram, value);
    histogram_add_many(&histogram, UINT64_C(1) << 40, 7);
    histogram_below(&histogram, bounds, ARRAY_SIZE(bounds), found);
    for (size_t i = 0; i < ARRAY_SIZE(bounds); i++)
        cr_assert(eq(u64, found[i], MIN(bounds[i], UINT64_C(5000))));
    cr_assert(eq(u64, histogram.count, 5007));
    cr_assert(eq(u64, histogram.sum, 4999 * 2500 + 7 * (UINT64_C(1) << 40)));
}
