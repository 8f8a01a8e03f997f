/* Unit tests of protocol/openmetrics: the text itself. (That it is what a parser takes is seen in
 * tests/integration/metrics.py.) */
#include "protocol/openmetrics.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static Pool *pool;
static Buffer out;

static void setup(void)
{
    cr_assert(eq(int, pool_new(NULL, &pool), 0));
    buffer_init(&out, pool);
}

static void teardown(void)
{
    buffer_clear(&out);
    pool = pool_free(pool);
}

TestSuite(openmetrics, .init = setup, .fini = teardown);

static const char *text(void)
{
    buffer_append(&out, "", 1);
    return buffer_begin(&out);
}

Test(openmetrics, families_and_samples)
{
    const MetricFamily gauge = {"a_bytes", METRIC_GAUGE, "bytes", "How many."};
    const MetricFamily counter = {"b", METRIC_COUNTER, NULL, "Of what."};
    const MetricFamily info = {"c", METRIC_INFO, NULL, "Which."};

    openmetrics_begin(&out, &gauge);
    openmetrics_sample(&out, &gauge, NULL, NULL, UINT64_MAX);
    openmetrics_begin(&out, &counter);
    openmetrics_sample(&out, &counter, "kind", "x", 1);
    openmetrics_begin(&out, &info);
    openmetrics_sample(&out, &info, "version", "1.0", 1);
    openmetrics_end(&out);
    cr_assert(eq(str, (char *)text(),
                 (char *)"# TYPE a_bytes gauge\n# UNIT a_bytes bytes\n# HELP a_bytes How many.\n"
                         "a_bytes 18446744073709551615\n"
                         "# TYPE b counter\n# HELP b Of what.\nb_total{kind=\"x\"} 1\n"
                         "# TYPE c info\n# HELP c Which.\nc_info{version=\"1.0\"} 1\n# EOF\n"));
}

Test(openmetrics, seconds_keep_their_microseconds_and_no_zeros)
{
    static const struct {
        uint64_t usec;
        const char *line;
    } cases[] = {
        {0, "a 0.0\n"},       {16, "a 0.000016\n"},   {1500000, "a 1.5\n"},
        {2000000, "a 2.0\n"}, {10000000, "a 10.0\n"}, {UINT64_MAX, "a 18446744073709.551615\n"},
    };
    const MetricFamily gauge = {"a", METRIC_GAUGE, NULL, "x"};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        openmetrics_seconds(&out, &gauge, NULL, NULL, cases[i].usec);
        cr_assert(eq(str, (char *)text(), (char *)cases[i].line));
        buffer_truncate(&out, 0);
    }
}

Test(openmetrics, a_histograms_buckets_are_cumulative_and_end_with_all)
{
    const MetricFamily family = {"h_seconds", METRIC_HISTOGRAM, "seconds", "x"};
    Histogram histogram = {0};
    const char *found;

    histogram_add(&histogram, 15);
    histogram_add(&histogram, 16);
    histogram_add_many(&histogram, 23, 3);
    histogram_add(&histogram, 24);
    histogram_add(&histogram, 100 * USEC_PER_SEC);
    openmetrics_histogram(&out, &family, "method", "Put", &histogram);
    found = text();
    cr_assert(
        not(zero(ptr, strstr(found, "h_seconds_bucket{method=\"Put\",le=\"0.000016\"} 1\n"
                                    "h_seconds_bucket{method=\"Put\",le=\"0.000024\"} 5\n"
                                    "h_seconds_bucket{method=\"Put\",le=\"0.000032\"} 6\n"))));
    cr_assert(not(zero(
        ptr, strstr(found, "le=\"16.777216\"} 6\nh_seconds_bucket{method=\"Put\",le=\"+Inf\"} 7\n"
                           "h_seconds_count{method=\"Put\"} 7\nh_seconds_sum{method=\"Put\"} "
                           "100.000124\n"))));
}
