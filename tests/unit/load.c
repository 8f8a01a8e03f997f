/* The load of the benchmarks: what it sends, and that it counts replies however they are cut up. */
#include <criterion/criterion.h>

#include "load-protocol.h"
#include "load-result.h"

static const char *const names[] = {"holdfast", "redis"};

static void fill_in(const LoadTemplate *template)
{
    for (unsigned i = 0; i < template->operations; i++) {
        load_write_key(template->text + template->keys[i], 40 + i);
        memset(template->text + template->values[i], 'v', template->value_bytes);
    }
}

static void expect(const char *protocol, LoadCommand command, const char *text, size_t size)
{
    LoadTemplate template;

    if (!load_protocol(protocol))
        return; /* not built in */
    cr_assert_eq(load_protocol(protocol)->make(command, 2, 3, &template), 0);
    fill_in(&template);
    cr_assert_eq(template.size, size);
    cr_assert_arr_eq(template.text, text, size);
    load_template_deinit(&template);
}

#define EXPECT(protocol, command, text) expect(protocol, command, text, sizeof(text) - 1)

Test(load, calls_are_what_the_protocols_say)
{
    EXPECT("holdfast", LOAD_PUT,
           "{\"method\":\"io.holdfast.Put\",\"parameters\":{\"arena\":\"a\",\"key\":"
           "\"key:000000000040\",\"value\":\"vvv\"}}\0");
    EXPECT("holdfast", LOAD_GET,
           "{\"method\":\"io.holdfast.Get\",\"parameters\":{\"arena\":\"a\",\"key\":"
           "\"key:000000000040\"}}\0");
    EXPECT("holdfast", LOAD_APPLY,
           "{\"method\":\"io.holdfast.Apply\",\"parameters\":{\"arena\":\"a\",\"operations\":["
           "{\"op\":\"put\",\"key\":\"key:000000000040\",\"value\":\"vvv\"},"
           "{\"op\":\"put\",\"key\":\"key:000000000041\",\"value\":\"vvv\"}]}}\0");
    EXPECT("redis", LOAD_PUT, "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000040\r\n$3\r\nvvv\r\n");
    EXPECT("redis", LOAD_APPLY,
           "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000040\r\n$3\r\nvvv\r\n"
           "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000041\r\n$3\r\nvvv\r\n");
}

/* Feeds the text in pieces of so many bytes; how many replies there were. */
static int count_replies(const LoadProtocol *protocol, const char *text, size_t size, size_t piece,
                         bool *ret_failed)
{
    LoadReader reader;
    int count = 0;

    cr_assert_eq(protocol->reader_init(&reader), 0);
    for (size_t at = 0; at < size; at += piece) {
        int r = protocol->replies(&reader, text + at, MIN(piece, size - at));

        cr_assert_geq(r, 0);
        count += r;
    }
    *ret_failed = reader.failed;
    protocol->reader_deinit(&reader);
    return count;
}

Test(load, replies_are_counted_however_they_are_cut_and_errors_are_seen)
{
    static const char good[][64] = {
        "{\"parameters\":{\"value\":\"e\"}}\0{\"parameters\":{}}\0{\"par",
        "+OK\r\n$3\r\n-E\n\r\n$-1\r\n:4",
    };
    static const size_t good_sizes[] = {51, 23};
    static const char bad[][64] = {
        "{\"parameters\":{}}\0{\"error\":\"io.holdfast.NoSuchKey\"}\0",
        "+OK\r\n-ERR no\r\n",
    };
    static const size_t bad_sizes[] = {52, 14};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const LoadProtocol *protocol = load_protocol(names[i]);
        bool failed;

        for (size_t piece = 1; protocol && piece <= 60; piece++) {
            int replies = count_replies(protocol, good[i], good_sizes[i], piece, &failed);

            cr_assert_eq(replies, i == 0 ? 2 : 3, "%s by %zu: %d", names[i], piece, replies);
            cr_assert_not(failed);
            cr_assert_eq(count_replies(protocol, bad[i], bad_sizes[i], piece, &failed), 2);
            cr_assert(failed);
        }
    }
}

Test(load, a_call_counts_in_the_phase_in_which_it_was_due)
{
    LoadResult result;

    cr_assert_eq(load_result_init(&result, 1000, true), 0);
    load_result_add(&result, 0, 1, 1000, 3000);
    cr_assert_eq(load_result_phase(&result, "during", 4000), 0);
    load_result_add(&result, 0, 1, 3500, 900000000);
    load_result_add(&result, 1, 100, 5000, 250000000);
    cr_assert_eq(result.phases[0]->operations, 2);
    cr_assert_eq(result.phases[1]->operations, 100);
    cr_assert_eq(result.phases[0]->latencies.max, 900000000 - 3500);
    cr_assert_eq(result.phases[1]->latencies.count, 1);
    cr_assert_eq(result.windows[0]->count, 3);
    cr_assert_eq(result.windows[1], NULL);
    while (result.phase_count < LOAD_PHASES_MAX)
        cr_assert_eq(load_result_phase(&result, "more", 5000), 0);
    cr_assert_eq(load_result_phase(&result, "one too many", 5000), -E2BIG);
    load_result_deinit(&result);
}
