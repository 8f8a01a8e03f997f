/* Unit tests of protocol/scan, and of the primitives below it. */
#include "protocol/scan.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <time.h>

#include "protocol/json.h"
#include "protocol/number.h"
#include "protocol/text.h"

static Pool *pool;
static Scan *scan;

static void setup(void)
{
    cr_assert(eq(int, pool_new(NULL, &pool), 0));
    cr_assert(eq(int, scan_new(pool, &scan), 0));
}

static void teardown(void)
{
    scan_free(scan);
    cr_expect(eq(u64, pool_bytes_taken(pool), 0), "all memory is given back");
    pool_free(pool);
}

TestSuite(scan, .init = setup, .fini = teardown);

static const char *const valid[] = {
    "{}",
    "[]",
    "0",
    "-0",
    " 1 ",
    "null",
    "true",
    "false",
    "\"\"",
    "\"\x7F\"",
    "[[],{},[[]]]",
    "{\"\":{\"\":0}}",
    "{\"a\":1,\"A\":2,\"a \":3}",
    "[{\"a\":1},{\"a\":1}]",
    "{\"a\":{\"a\":{\"a\":1}},\"b\":{\"a\":1}}",
    "[1e-400,1E-400,0e400,0.0E99999999999999999999]",
    "[9223372036854775807,-9223372036854775808]",
    "1.7976931348623158e308",
    "\"\\u0001\\uD7FF\\uE000\\uFFFF\\ud800\\udc00\\uDBFF\\uDFFF\"",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    "\"\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\"",
    " \t\r\n{ \"a\" : [ 1 , 2 ] , \"b\" : null } \t\r\n",
};

typedef struct Bad {
    const char *text;
    size_t end; /* where */
    const char *reason;
} Bad;

static const Bad bad[] = {
    {"", 0, "text ends early"},
    {" ", 1, "text ends early"},
    {"{", 1, "text ends early"},
    {"[1,", 3, "text ends early"},
    {"tru", 3, "text ends early"},
    {"\"\\u12", 5, "text ends early"},
    {"\"\xE2\x82", 3, "text ends early"},
    {"-", 1, "invalid number"},
    {"1.", 2, "invalid number"},
    {"1e+", 3, "invalid number"},
    {"[1.]", 3, "invalid number"},
    {"[-a]", 2, "invalid number"},
    {"[.5]", 1, "value expected"},
    {"[+1]", 1, "value expected"},
    {"[01]", 2, "',' or ']' expected"},
    {"[1}", 2, "',' or ']' expected"},
    {"{\"a\":1]", 6, "',' or '}' expected"},
    {"[1,]", 3, "value expected"},
    {"[,1]", 1, "value expected"},
    {"{,}", 1, "name expected"},
    {"{\"a\":1,}", 7, "name expected"},
    {"{a:1}", 1, "name expected"},
    {"{\"a\" 1}", 5, "':' expected"},
    {"{\"a\":}", 5, "value expected"},
    {"nulL", 3, "invalid literal"},
    {"[True]", 1, "value expected"},
    {"[NaN]", 1, "value expected"},
    {"1 2", 2, "bytes behind the value"},
    {"{}x", 2, "bytes behind the value"},
    {"\xEF\xBB\xBF{}", 0, "value expected"},
    {"[\"a\nb\"]", 3, "control character in a string"},
    {"\"\x1F\"", 1, "control character in a string"},
    {"\"\\x\"", 1, "invalid escape"},
    {"\"\\u00g0\"", 1, "invalid escape"},
    {"\"\\u0000\"", 1, "invalid escape"},
    {"{\"\\u0000\":1}", 2, "invalid escape"},
    {"\"\\ud800\"", 1, "invalid escape"},
    {"\"\\ud800\\u0041\"", 1, "invalid escape"},
    {"\"\\ud800\\ud800\"", 1, "invalid escape"},
    {"\"\\udc00\"", 1, "invalid escape"},
    {"\"\x80\"", 1, "invalid UTF-8"},
    {"\"\xC0\xAF\"", 1, "invalid UTF-8"},
    {"\"\xC1\xBF\"", 1, "invalid UTF-8"},
    {"\"\xC3(\"", 1, "invalid UTF-8"},
    {"\"\xE0\x9F\xBF\"", 1, "invalid UTF-8"},
    {"\"\xED\xA0\x80\"", 1, "invalid UTF-8"},
    {"\"\xF0\x8F\xBF\xBF\"", 1, "invalid UTF-8"},
    {"\"\xF4\x90\x80\x80\"", 1, "invalid UTF-8"},
    {"\"\xF5\x80\x80\x80\"", 1, "invalid UTF-8"},
    {"{\"a\":1,\"a\":2}", 8, "duplicate name"},
    {"{\"a\":1,\"\\u0061\":2}", 8, "duplicate name"},
    {"{\"x\":{\"/\":1,\"b\":{},\"\\/\":2}}", 20, "duplicate name"},
    {"[9223372036854775808]", 1, "integer beyond 64 bits"},
    {"-9223372036854775809", 0, "integer beyond 64 bits"},
    {"[1e309]", 1, "number beyond a double"},
    {"-1.7976931348623159e308", 0, "number beyond a double"},
};

/* The text, from blocks of their own size: with a sanitizer each byte read too far shows. */
static int feed_copy(const char *text, size_t size, bool finish)
{
    char *copy = malloc(size > 0 ? size : 1);
    int r;

    memcpy(copy, text, size);
    r = finish ? scan_finish(scan, copy, size) : scan_feed(scan, copy, size);
    free(copy);
    return r;
}

static void assert_bad(const Bad *expected)
{
    cr_assert(eq(sz, scan_end(scan), expected->end), "%s", expected->text);
    cr_assert(eq(str, (char *)scan_reason(scan), (char *)expected->reason), "%s", expected->text);
}

Test(scan, accepts_valid_texts)
{
    for (size_t i = 0; i < ARRAY_SIZE(valid); i++) {
        ScanSpan root;
        cr_expect(eq(int, scan_text(scan, bytes_of_text(valid[i]), 100, &root), 0), "%s: %s",
                  valid[i], scan_reason(scan));
    }
}

Test(scan, rejects_invalid_texts_and_tells_where)
{
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        ScanSpan root;
        cr_assert(eq(int, scan_text(scan, bytes_of_text(bad[i].text), 100, &root), -EBADMSG), "%s",
                  bad[i].text);
        assert_bad(&bad[i]);
        cr_assert(not(scan_failed(scan)));
    }
}

Test(scan, nul_bytes_are_never_accepted)
{
    static const Bytes texts[] = {
        BYTES("\0", 1),   BYTES("\"\0\"", 3), BYTES("[1\0]", 4),
        BYTES("[\0]", 3), BYTES("{}\0", 3),   BYTES("[null\0]", 7),
    };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        ScanSpan root;
        cr_expect(eq(int, scan_text(scan, texts[i], 100, &root), -EBADMSG), "text %zu", i);
    }
}

Test(scan, text_cut_anywhere_in_two_gives_the_same)
{
    for (size_t i = 0; i < ARRAY_SIZE(valid); i++) {
        size_t size = strlen(valid[i]);
        for (size_t cut = 0; cut <= size; cut++) {
            scan_start(scan, 2, 100);
            feed_copy(valid[i], cut, false);
            cr_assert(eq(int, feed_copy(valid[i], size, true), SCAN_DONE), "%s at %zu: %s",
                      valid[i], cut, scan_reason(scan));
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        size_t size = strlen(bad[i].text);
        for (size_t cut = 0; cut <= size; cut++) {
            scan_start(scan, 2, 100);
            feed_copy(bad[i].text, cut, false);
            cr_assert(eq(int, feed_copy(bad[i].text, size, true), SCAN_INVALID));
            assert_bad(&bad[i]);
        }
    }
}

Test(scan, text_byte_by_byte_gives_the_same)
{
    for (size_t i = 0; i < ARRAY_SIZE(valid); i++) {
        size_t size = strlen(valid[i]);
        scan_start(scan, 2, 100);
        for (size_t at = 1; at <= size; at++)
            cr_assert(ne(int, feed_copy(valid[i], at, false), SCAN_INVALID), "%s", valid[i]);
        cr_assert(eq(int, feed_copy(valid[i], size, true), SCAN_DONE), "%s", valid[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        size_t size = strlen(bad[i].text);
        scan_start(scan, 2, 100);
        for (size_t at = 1; at <= size; at++)
            feed_copy(bad[i].text, at, false);
        cr_assert(eq(int, feed_copy(bad[i].text, size, true), SCAN_INVALID));
        assert_bad(&bad[i]);
    }
}

Test(scan, stops_behind_the_value)
{
    scan_start(scan, 2, 100);
    cr_assert(eq(int, scan_feed(scan, " {\"a\":[]}garbage", 16), SCAN_DONE));
    cr_assert(eq(sz, scan_end(scan), 9));
    cr_assert(eq(int, scan_feed(scan, " {\"a\":[]}garbage", 16), SCAN_DONE));
    cr_assert(eq(int, scan_finish(scan, " {\"a\":[]}garbage", 16), SCAN_INVALID));
    cr_assert(eq(sz, scan_end(scan), 9));
}

Test(scan, bare_number_ends_with_the_input)
{
    scan_start(scan, 0, 100);
    cr_assert(eq(int, scan_feed(scan, "12", 2), SCAN_MORE));
    cr_assert(eq(int, scan_feed(scan, "12.5", 4), SCAN_MORE));
    cr_assert(eq(int, scan_finish(scan, "12.5", 4), SCAN_DONE));
    cr_assert(eq(int, scan_root(scan).type, SCAN_REAL));
    cr_assert(eq(sz, scan_end(scan), 4));
}

Test(scan, is_not_started_before_scan_start)
{
    cr_assert(eq(int, scan_feed(scan, "{}", 2), SCAN_INVALID));
    cr_assert(eq(str, (char *)scan_reason(scan), "not started"));
}

/* --- limits */

Test(scan, depth_is_limited_and_refused_at_once)
{
    size_t size = 2000000;
    char *text = malloc(size);

    memset(text, '[', size);
    for (unsigned limit = 0; limit <= SCAN_DEPTH_MAX; limit += 64) {
        scan_start(scan, 2, limit);
        cr_assert(eq(int, scan_feed(scan, text, size), SCAN_INVALID));
        cr_assert(eq(sz, scan_end(scan), limit), "no byte behind the limit was looked at");
        cr_assert(eq(str, (char *)scan_reason(scan), "nested too deep"));
    }
    scan_start(scan, 0, UINT32_MAX);
    cr_assert(eq(int, scan_feed(scan, text, size), SCAN_INVALID));
    cr_assert(eq(sz, scan_end(scan), SCAN_DEPTH_MAX));
    free(text);
}

Test(scan, depth_at_the_limit_is_accepted)
{
    static const unsigned limits[] = {1, 2, 3, 63, 64, 65, 512, SCAN_DEPTH_MAX};

    for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
        size_t size = (size_t)limits[i] * 2;
        char *text = malloc(size);
        ScanSpan root;

        memset(text, '[', limits[i]);
        memset(text + limits[i], ']', limits[i]);
        cr_assert(eq(int, scan_text(scan, BYTES(text, size), limits[i], &root), 0));
        cr_assert(eq(int, root.depth, (int)limits[i]));
        cr_assert(eq(int, scan_text(scan, BYTES(text, size), limits[i] - 1, &root), -EBADMSG));
        free(text);
    }
    ScanSpan root;
    cr_assert(eq(int, scan_text(scan, BYTES_OF("5"), 0, &root), 0));
    cr_assert(eq(int, root.depth, 0));
}

/* {"n0":1,...}: count names, the last one again under the name of `again` (SIZE_MAX: not). */
static char *many_names(size_t count, size_t again, size_t *ret_size)
{
    char *text = malloc(count * 16 + 32), *at = text;

    *at++ = '{';
    for (size_t i = 0; i < count; i++)
        at += sprintf(at, "%s\"n%zu\":1", i > 0 ? "," : "", i);
    if (again != SIZE_MAX)
        at += sprintf(at, ",\"\\u006e%zu\":1", again);
    *at++ = '}';
    *ret_size = (size_t)(at - text);
    return text;
}

Test(scan, duplicates_are_found_in_large_objects)
{
    static const size_t counts[] = {1, 15, 16, 17, 18, 100, 1000, 200000};

    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        size_t size, places[] = {0, counts[i] / 2, counts[i] - 1};
        char *text = many_names(counts[i], SIZE_MAX, &size);
        ScanSpan root;

        cr_assert(eq(int, scan_text(scan, BYTES(text, size), 4, &root), 0), "%zu names", counts[i]);
        free(text);
        for (size_t j = 0; j < ARRAY_SIZE(places); j++) {
            text = many_names(counts[i], places[j], &size);
            cr_assert(eq(int, scan_text(scan, BYTES(text, size), 4, &root), -EBADMSG));
            cr_assert(eq(str, (char *)scan_reason(scan), "duplicate name"));
            free(text);
        }
    }
}

/* Objects of the same hundred names within each other, at every tenth; at the end the outermost has
 * one more. */
static size_t nest(char *at, unsigned depth, const char *more)
{
    char *begin = at;

    *at++ = '{';
    for (unsigned i = 0; i < 100; i++) {
        at += sprintf(at, "%s\"n%u\":", i > 0 ? "," : "", i);
        if (i % 10 == 5 && depth > 1)
            at += nest(at, depth - 1, NULL);
        else
            *at++ = '1';
    }
    if (more != NULL)
        at += sprintf(at, ",\"%s\":1", more);
    *at++ = '}';
    *at = '\0';
    return (size_t)(at - begin);
}

Test(scan, large_objects_within_each_other_have_names_of_their_own)
{
    static const char *const names[] = {"new", "n3", "n16", "n17", "n99"};
    char *text = malloc(200 * KIB);
    uint64_t idle = pool_bytes_taken(pool);
    ScanSpan root;

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        size_t size = nest(text, 3, names[i]);
        cr_assert(eq(int, scan_text(scan, BYTES(text, size), 4, &root), i == 0 ? 0 : -EBADMSG),
                  "%s", names[i]);
        if (i > 0)
            cr_assert(eq(str, (char *)scan_reason(scan), "duplicate name"));
        cr_assert(le(u64, pool_bytes_taken(pool), idle + 128 * KIB));
    }
    free(text);
}

Test(scan, large_text_leaves_little_memory_behind)
{
    uint64_t idle = pool_bytes_taken(pool);
    size_t size;
    char *text = many_names(200000, SIZE_MAX, &size);
    ScanSpan root;

    cr_assert(eq(int, scan_text(scan, BYTES(text, size), 4, &root), 0));
    cr_expect(le(u64, pool_bytes_taken(pool), idle + 128 * KIB));
    /* Given up in the middle: at the next text's start. */
    scan_start(scan, 0, 4);
    cr_assert(eq(int, scan_feed(scan, text, size - 1), SCAN_MORE));
    cr_expect(gt(u64, pool_bytes_taken(pool), idle + MIB));
    scan_start(scan, 0, 4);
    cr_expect(le(u64, pool_bytes_taken(pool), idle + 128 * KIB));
    free(text);
}

Test(scan, long_tokens_byte_by_byte_take_no_longer_than_they_are)
{
    size_t size = 400000;
    char *text = malloc(size);
    clock_t begin = clock();

    memset(text, '1', size);
    scan_start(scan, 0, 4);
    for (size_t at = 1; at <= size; at++)
        cr_assert(scan_feed(scan, text, at) == SCAN_MORE);
    text[0] = '"';
    scan_start(scan, 0, 4);
    for (size_t at = 1; at <= size; at++)
        cr_assert(scan_feed(scan, text, at) == SCAN_MORE);
    free(text);
    /* Looking back at each byte would be 160,000,000,000 steps. */
    cr_assert(lt(dbl, (double)(clock() - begin) / CLOCKS_PER_SEC, 5.0));
}

/* --- what is noted */

static void assert_bytes(const char *text, ScanSpan span, const char *expected)
{
    cr_assert(eq(sz, span.end - span.begin, strlen(expected)), "%s", expected);
    cr_assert(eq(int, memcmp(text + span.begin, expected, strlen(expected)), 0), "%s", expected);
}

Test(scan, members_of_two_levels_are_noted)
{
    static const char text[] =
        " {\"method\":\"x.Y\",\"parameters\":{\"k\\n\":\"a\\tb\",\"v\": {\"in\": [1,[]]},"
        "\"n\":-1.5},\"list\":[{\"no\":1}],\"more\":true,\"z\":null}";
    static const struct {
        const char *name, *value;
        ScanType type;
        int parent;
        bool spaced, escaped;
        int depth;
    } expected[] = {
        {"method", "\"x.Y\"", SCAN_STRING, -1, false, false, 0},
        {"parameters", "{\"k\\n\":\"a\\tb\",\"v\": {\"in\": [1,[]]},\"n\":-1.5}", SCAN_OBJECT, -1,
         true, true, 4},
        {"k\\n", "\"a\\tb\"", SCAN_STRING, 1, false, true, 0},
        {"v", "{\"in\": [1,[]]}", SCAN_OBJECT, 1, true, false, 3},
        {"n", "-1.5", SCAN_REAL, 1, false, false, 0},
        {"list", "[{\"no\":1}]", SCAN_ARRAY, -1, false, false, 2},
        {"more", "true", SCAN_BOOLEAN, -1, false, false, 0},
        {"z", "null", SCAN_NULL, -1, false, false, 0},
    };
    const ScanMember *members;

    for (size_t step = 1; step < sizeof(text); step++) {
        scan_start(scan, 2, 10);
        for (size_t at = 0; at < sizeof(text) - 1; at += step)
            feed_copy(text, at, false);
        cr_assert(eq(int, feed_copy(text, sizeof(text) - 1, false), SCAN_DONE));
        cr_assert(eq(sz, scan_members(scan, &members), ARRAY_SIZE(expected)));
        cr_assert(eq(int, scan_root(scan).depth, 5));
        cr_assert(eq(int, scan_root(scan).begin, 1));
        for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
            assert_bytes(text, members[i].name, expected[i].name);
            assert_bytes(text, members[i].value, expected[i].value);
            cr_assert(eq(int, members[i].value.type, expected[i].type));
            cr_assert(eq(int, members[i].parent, expected[i].parent));
            cr_assert(eq(int, members[i].value.spaced, expected[i].spaced));
            cr_assert(eq(int, members[i].value.escaped, expected[i].escaped));
            cr_assert(eq(int, members[i].value.depth, expected[i].depth));
        }
        cr_assert(not(scan_overflow(scan)));
    }
}

Test(scan, only_as_many_levels_are_noted_as_asked)
{
    static const char text[] = "{\"a\":{\"b\":1}}";
    const ScanMember *members;

    for (unsigned levels = 0; levels <= 3; levels++) {
        scan_start(scan, levels, 10);
        cr_assert(eq(int, scan_feed(scan, text, sizeof(text) - 1), SCAN_DONE));
        cr_assert(eq(sz, scan_members(scan, &members), MIN(levels, 2)));
    }
}

Test(scan, overflow_is_told_and_leaves_room_for_the_outer_members)
{
    Buffer text;
    const ScanMember *members;
    size_t count;

    buffer_init(&text, pool);
    buffer_append_text(&text, "{\"parameters\":{");
    for (int i = 0; i < 200; i++)
        buffer_append_format(&text, "%s\"p%d\":%d", i > 0 ? "," : "", i, i);
    buffer_append_text(&text, "},\"method\":\"a.B\"}");
    scan_start(scan, 2, 10);
    cr_assert(eq(int, scan_feed(scan, buffer_begin(&text), buffer_size(&text)), SCAN_DONE));
    cr_assert(scan_overflow(scan));
    count = scan_members(scan, &members);
    assert_bytes(buffer_begin(&text), members[count - 1].name, "method");
    assert_bytes(buffer_begin(&text), members[count - 1].value, "\"a.B\"");
    buffer_clear(&text);
}

Test(scan, outer_members_overflow_too)
{
    Buffer text;
    const ScanMember *members;

    buffer_init(&text, pool);
    buffer_append_text(&text, "{\"a\":{}");
    for (int i = 0; i < 100; i++)
        buffer_append_format(&text, ",\"p%d\":{\"x\":%d}", i, i);
    buffer_append_text(&text, "}");
    scan_start(scan, 2, 10);
    cr_assert(eq(int, scan_feed(scan, buffer_begin(&text), buffer_size(&text)), SCAN_DONE));
    cr_assert(scan_overflow(scan));
    cr_assert(eq(sz, scan_members(scan, &members), SCAN_MEMBERS_MAX));
    buffer_clear(&text);
}

/* --- the primitives */

Test(scan, runs_of_plain_characters_end_where_they_must)
{
    char text[64];

    for (int byte = 0; byte < 256; byte++) {
        bool plain = byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
        for (size_t size = 1; size <= sizeof(text); size += 3) {
            for (size_t at = 0; at < size; at++) {
                const char *expected = plain ? text + size : text + at;
                memset(text, 'a', sizeof(text));
                text[at] = (char)byte;
                cr_assert(text_skip_plain(text, text + size) == expected, "%d at %zu", byte, at);
                cr_assert(text_skip_plain_words(text, text + size) == expected, "%d at %zu", byte,
                          at);
                expected = byte == '"' || byte == '\\' ? text + at : text + size;
                cr_assert(text_find_quote(text, text + size) == expected, "%d at %zu", byte, at);
            }
        }
    }
}

Test(scan, finite_numbers_are_those_that_strtod_takes)
{
    static const char *const digits[] = {
        "0",
        "1",
        "9",
        "17976931348623157",
        "17976931348623158",
        "17976931348623159",
        "1797693134862315",
        /* the threshold, and one less in its last place */
        "17976931348623158079372897140530341507993413271003782693617377898044496829276475"
        "09466490179775872070963302864166928879109465555478519404026306574886715058206819"
        "08902000708383676273854845817711531764475730270069855571366959622842914819860834"
        "936475292719074168444365510704342711559699508093042880177904174497792",
        "17976931348623158079372897140530341507993413271003782693617377898044496829276475"
        "09466490179775872070963302864166928879109465555478519404026306574886715058206819"
        "08902000708383676273854845817711531764475730270069855571366959622842914819860834"
        "936475292719074168444365510704342711559699508093042880177904174497791",
    };
    static const int exponents[] = {0,   1,   -1,  290, 291,  292,  293,   294,
                                    307, 308, 309, 310, -300, -400, 100000};
    size_t finite = 0, infinite = 0;

    for (size_t i = 0; i < ARRAY_SIZE(digits); i++) {
        for (size_t j = 0; j < ARRAY_SIZE(exponents); j++) {
            for (size_t zeros = 0; zeros < 20; zeros += 3) {
                for (size_t point = 1; point <= strlen(digits[i]); point += 7) {
                    char text[512];
                    bool expected;

                    sprintf(text, "-%.*s%.*s.%.*s%se%d", (int)point, digits[i], 0, "", (int)zeros,
                            "00000000000000000000", digits[i] + point, exponents[j]);
                    expected = !__builtin_isinf(strtod(text, NULL));
                    cr_assert(eq(int, number_finite(bytes_of_text(text)), expected), "%s", text);
                    sprintf(text, "0.%.*s%se%d", (int)zeros, "00000000000000000000", digits[i],
                            exponents[j]);
                    expected = !__builtin_isinf(strtod(text, NULL));
                    cr_assert(eq(int, number_finite(bytes_of_text(text)), expected), "%s", text);
                    sprintf(text, "%s%.*s.0E+%d", digits[i], (int)zeros, "00000000000000000000",
                            exponents[j] < 0 ? 0 : exponents[j]);
                    expected = !__builtin_isinf(strtod(text, NULL));
                    cr_assert(eq(int, number_finite(bytes_of_text(text)), expected), "%s", text);
                    *(expected ? &finite : &infinite) += 1;
                }
            }
        }
    }
    cr_assert(finite > 100 && infinite > 100);
}
