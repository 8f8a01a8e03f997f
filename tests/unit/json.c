/* Unit tests of protocol/json: walking, compacting, writing, merging. */
#include "protocol/json.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <time.h>

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
    cr_expect(eq(u64, pool_bytes_taken(pool), 0), "all memory is given back");
    pool_free(pool);
}

TestSuite(json, .init = setup, .fini = teardown);

static void assert_bytes(Bytes bytes, const char *expected)
{
    cr_assert(bytes_equal(bytes, bytes_of_text(expected)), "%.*s instead of %s", (int)bytes.size,
              bytes.data, expected);
}

static void assert_out(const char *expected)
{
    cr_assert(not(out.failed));
    assert_bytes(BYTES(buffer_begin(&out), buffer_size(&out)), expected);
    buffer_truncate(&out, 0);
}

/* --- reading */

Test(json, walk_over_an_object)
{
    static const char *const texts[] = {
        "{\"a\":1,\"b\\\"\":\"x,}\",\"\":[1,{\"]\":2}],\"d\":{},\"e\":null}",
        " { \"a\" : 1 , \"b\\\"\" : \"x,}\" , \"\" : [1,{\"]\":2}] , \"d\" : {} , \"e\" : null } ",
    };
    static const char *const names[] = {"a", "b\\\"", "", "d", "e"};
    static const char *const values[] = {"1", "\"x,}\"", "[1,{\"]\":2}]", "{}", "null"};

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        JsonWalk walk = json_walk(bytes_of_text(texts[i]));
        Bytes name, value;

        for (size_t j = 0; j < ARRAY_SIZE(names); j++) {
            cr_assert(json_next(&walk, &name, &value));
            assert_bytes(name, names[j]);
            assert_bytes(value, values[j]);
        }
        cr_assert(not(json_next(&walk, &name, &value)));
        cr_assert(not(json_next(&walk, &name, &value)));
    }
}

Test(json, walk_over_an_array)
{
    JsonWalk walk = json_walk(BYTES_OF("[ 1 ,\"\\\\\", [[\"[\"]] ,true]"));
    static const char *const values[] = {"1", "\"\\\\\"", "[[\"[\"]]", "true"};
    Bytes name, value;

    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        cr_assert(json_next(&walk, &name, &value));
        assert_bytes(value, values[i]);
    }
    cr_assert(not(json_next(&walk, &name, &value)));
    walk = json_walk(BYTES_OF("[]"));
    cr_assert(not(json_next(&walk, &name, &value)));
    walk = json_walk(BYTES_OF("{ }"));
    cr_assert(not(json_next(&walk, &name, &value)));
}

Test(json, types)
{
    cr_expect(eq(int, json_type_of(BYTES_OF("null")), SCAN_NULL));
    cr_expect(eq(int, json_type_of(BYTES_OF("true")), SCAN_BOOLEAN));
    cr_expect(eq(int, json_type_of(BYTES_OF("false")), SCAN_BOOLEAN));
    cr_expect(eq(int, json_type_of(BYTES_OF("-12")), SCAN_INTEGER));
    cr_expect(eq(int, json_type_of(BYTES_OF("1.0")), SCAN_REAL));
    cr_expect(eq(int, json_type_of(BYTES_OF("1E5")), SCAN_REAL));
    cr_expect(eq(int, json_type_of(BYTES_OF("\"1.0\"")), SCAN_STRING));
    cr_expect(eq(int, json_type_of(BYTES_OF("[]")), SCAN_ARRAY));
    cr_expect(eq(int, json_type_of(BYTES_OF("{}")), SCAN_OBJECT));
}

Test(json, depth_and_space)
{
    cr_expect(eq(uint, json_depth(BYTES_OF("1")), 0));
    cr_expect(eq(uint, json_depth(BYTES_OF("\"[[\"")), 0));
    cr_expect(eq(uint, json_depth(BYTES_OF("[]")), 1));
    cr_expect(eq(uint, json_depth(BYTES_OF("[[],{\"a\":[1]},[]]")), 3));
    cr_expect(not(json_spaced(BYTES_OF("{\"a b\":\" \\\" \"}"))));
    cr_expect(json_spaced(BYTES_OF("{\"a b\":\"\\\"\" }")));
    cr_expect(json_spaced(BYTES_OF("[\n]")));
}

Test(json, compact_takes_space_between_tokens_only)
{
    json_compact(&out, BYTES_OF(" { \"a b\" : [ 1 , 2.50 , \" \\\" \\\\\" ] ,\t\"c\"\n:\r{ } } "));
    assert_out("{\"a b\":[1,2.50,\" \\\" \\\\\"],\"c\":{}}");
    json_compact(&out, BYTES_OF(" 1e5 "));
    assert_out("1e5");
    json_compact(&out, BYTES_OF("\" x \""));
    assert_out("\" x \"");
    json_compact(&out, BYTES_OF("[]"));
    assert_out("[]");
}

Test(json, unescape)
{
    json_unescape(&out, BYTES_OF("plain"));
    assert_out("plain");
    json_unescape(&out, BYTES_OF("\\\"\\\\\\/\\b\\f\\n\\r\\tx"));
    assert_out("\"\\/\b\f\n\r\tx");
    json_unescape(&out, BYTES_OF("\\u0041\\u00e9\\u20AC\\ud83d\\ude00\xC3\xA9"));
    assert_out("A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xC3\xA9");
    json_unescape(&out, BYTES_OF(""));
    assert_out("");
}

Test(json, names_are_compared_unescaped)
{
    cr_expect(json_name_is(BYTES_OF("key"), BYTES_OF("key")));
    cr_expect(json_name_is(BYTES_OF("k\\u0065y"), BYTES_OF("key")));
    cr_expect(json_name_is(BYTES_OF("\\ud83d\\ude00"), BYTES_OF("\xF0\x9F\x98\x80")));
    cr_expect(json_name_is(BYTES_OF(""), BYTES_OF("")));
    cr_expect(not(json_name_is(BYTES_OF("k\\u0065y"), BYTES_OF("ke"))));
    cr_expect(not(json_name_is(BYTES_OF("k\\u0065"), BYTES_OF("key"))));
    cr_expect(not(json_name_is(BYTES_OF("k\\u0065y"), BYTES_OF("k\\u0065y"))));
}

Test(json, integers)
{
    int64_t value = 5;

    cr_expect(json_to_int(BYTES_OF("-0"), &value) && value == 0);
    cr_expect(json_to_int(BYTES_OF("42"), &value) && value == 42);
    cr_expect(json_to_int(BYTES_OF("9223372036854775807"), &value) && value == INT64_MAX);
    cr_expect(json_to_int(BYTES_OF("-9223372036854775808"), &value) && value == INT64_MIN);
    value = 5;
    cr_expect(not(json_to_int(BYTES_OF("9223372036854775808"), &value)));
    cr_expect(not(json_to_int(BYTES_OF("-9223372036854775809"), &value)));
    cr_expect(not(json_to_int(BYTES_OF("1.0"), &value)));
    cr_expect(not(json_to_int(BYTES_OF("1e2"), &value)));
    cr_expect(not(json_to_int(BYTES_OF("\"1\""), &value)));
    cr_expect(not(json_to_int(BYTES_OF("-"), &value)));
    cr_expect(not(json_to_int(BYTES_OF(""), &value)));
    cr_expect(eq(i64, value, 5));
}

/* --- writing */

Test(json, writer_puts_commas)
{
    JsonWriter writer = json_writer(&out);

    json_begin_object(&writer);
    json_name(&writer, "a");
    json_int(&writer, INT64_MIN);
    json_name(&writer, "b");
    json_begin_array(&writer);
    json_text(&writer, BYTES_OF("true"));
    json_begin_object(&writer);
    json_end_object(&writer);
    json_begin_array(&writer);
    json_end_array(&writer);
    json_text(&writer, BYTES_OF("1.50"));
    json_end_array(&writer);
    json_name(&writer, "c");
    json_quote(&writer, BYTES_OF("x"));
    json_end_object(&writer);
    assert_out("{\"a\":-9223372036854775808,\"b\":[true,{},[],1.50],\"c\":\"x\"}");
    writer = json_writer(&out);
    json_begin_array(&writer);
    json_int(&writer, 0);
    json_int(&writer, INT64_MAX);
    json_end_array(&writer);
    assert_out("[0,9223372036854775807]");
}

Test(json, writer_escapes_what_must_be)
{
    JsonWriter writer = json_writer(&out);

    json_quote(
        &writer,
        BYTES_OF("\"\\/\b\f\n\r\t\x01\x1F\x7F\xC3\xA9\xF0\x9F\x98\x80 long plain run of text"));
    assert_out("\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7F\xC3\xA9\xF0\x9F\x98\x80 long plain "
               "run of text\"");
    writer = json_writer(&out);
    json_quote(&writer, BYTES("", 0));
    assert_out("\"\"");
}

Test(json, writer_makes_valid_text_of_any_bytes)
{
    Scan *scan;

    cr_assert(eq(int, scan_new(pool, &scan), 0));
    for (int first = 0; first < 256; first++) {
        for (int second = 0; second < 256; second++) {
            char bytes[3] = {(char)first, (char)second, (char)(first ^ second)};
            JsonWriter writer = json_writer(&out);
            ScanSpan root;

            json_quote(&writer, BYTES(bytes, sizeof(bytes)));
            cr_assert(scan_text(scan, BYTES(buffer_begin(&out), buffer_size(&out)), 1, &root) == 0,
                      "%d %d", first, second);
            buffer_truncate(&out, 0);
        }
    }
    scan_free(scan);
}

/* --- RFC 7396 */

static int merge(const char *target, const char *patch, size_t size_max, unsigned depth_max)
{
    return json_merge(&out, target != NULL ? bytes_of_text(target) : BYTES(NULL, 0),
                      bytes_of_text(patch), size_max, depth_max);
}

typedef struct Example {
    const char *target, *patch, *result;
} Example;

static void assert_examples(const Example *examples, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        cr_assert(eq(int, merge(examples[i].target, examples[i].patch, SIZE_MAX, 512), 0));
        assert_out(examples[i].result);
    }
}

Test(json, merge_does_the_examples_of_the_rfc)
{
    static const Example examples[] = {
        /* appendix A */
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
        {"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
        {"{\"a\":\"foo\"}", "null", "null"},
        {"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
        {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
        {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
        /* section 3 */
        {"{\"title\":\"Goodbye!\",\"author\":{\"givenName\":\"John\",\"familyName\":\"Doe\"},"
         "\"tags\":[\"example\",\"sample\"],\"content\":\"This will be unchanged\"}",
         "{\"title\":\"Hello!\",\"phoneNumber\":\"+01-123-456-7890\",\"author\":{\"familyName\":"
         "null},"
         "\"tags\":[\"example\"]}",
         "{\"title\":\"Hello!\",\"author\":{\"givenName\":\"John\"},\"tags\":[\"example\"],"
         "\"content\":\"This will be unchanged\",\"phoneNumber\":\"+01-123-456-7890\"}"},
    };
    assert_examples(examples, ARRAY_SIZE(examples));
}

Test(json, merge_keeps_text_and_order)
{
    static const Example examples[] = {
        {" { \"z\" : 0.10 , \"\\u0061\" : 1e2 , \"b\" : [ -0 , null ] } ",
         "{ \"new\" : [ { \"x\" : null } ] }",
         "{\"z\":0.10,\"\\u0061\":1e2,\"b\":[-0,null],\"new\":[{\"x\":null}]}"},
        {"{\"z\":1,\"\\u0061\":1,\"b\":2}", "{\"\\u0062\":3,\"a\":{\"k\":1.0}}",
         "{\"z\":1,\"\\u0061\":{\"k\":1.0},\"b\":3}"},
        {"{\"\\u0061\":1}", "{\"\\u0061\":null}", "{}"},
        {"{\"x\\ny\":1}", "{\"x\\u000ay\":2}", "{\"x\\ny\":2}"},
        {"{\"a\":{\"b\":{\"c\":1,\"d\":2},\"e\":3},\"f\":4}",
         "{\"a\":{\"b\":{\"c\":null,\"g\":{}}}}",
         "{\"a\":{\"b\":{\"d\":2,\"g\":{}},\"e\":3},\"f\":4}"},
        {"{\"\":1}", "{\"\":2}", "{\"\":2}"},
        {"5", "{}", "{}"},
        {"{ }", " { } ", "{}"},
    };
    assert_examples(examples, ARRAY_SIZE(examples));
}

Test(json, merge_without_a_target_drops_nulls)
{
    static const Example examples[] = {
        {NULL, "{\"a\":null,\"b\":{\"c\":null,\"d\":1}}", "{\"b\":{\"d\":1}}"},
        {NULL, "null", "null"},
        {NULL, " [ null ] ", "[null]"},
        {NULL, "{}", "{}"},
    };
    assert_examples(examples, ARRAY_SIZE(examples));
}

Test(json, merge_appends_behind_what_is_there)
{
    buffer_append_text(&out, "before:");
    cr_assert(eq(int, merge("{\"a\":1}", "{\"b\":2}", 13, 512), 0));
    assert_out("before:{\"a\":1,\"b\":2}");
}

Test(json, merge_refuses_a_result_too_long_and_leaves_nothing)
{
    buffer_append_text(&out, "before");
    cr_assert(eq(int, merge("{\"a\":1}", "{\"b\":2}", 12, 512), -E2BIG));
    assert_out("before");
    cr_assert(eq(int, merge("{\"a\":1}", "\"0123456789\"", 11, 512), -E2BIG));
    assert_out("");
    cr_assert(eq(int, merge("{\"a\":1,\"b\":2}", "{\"b\":null}", 7, 512), 0));
    assert_out("{\"a\":1}");
}

Test(json, merge_refuses_a_result_too_deep)
{
    cr_assert(eq(int, merge("{}", "{\"a\":{\"b\":{}}}", SIZE_MAX, 2), -E2BIG));
    cr_assert(eq(int, merge("{}", "{\"a\":{\"b\":{}}}", SIZE_MAX, 3), 0));
    assert_out("{\"a\":{\"b\":{}}}");
    cr_assert(eq(int, merge("{}", "{\"a\":[[1]]}", SIZE_MAX, 2), -E2BIG));
    cr_assert(eq(int, merge("{\"a\":[[1]]}", "{\"b\":1}", SIZE_MAX, 2), -E2BIG));
    cr_assert(eq(int, merge("{\"a\":[[1]]}", "{\"a\":1}", SIZE_MAX, 1), 0));
    assert_out("{\"a\":1}");
    cr_assert(eq(int, merge(NULL, "[[]]", SIZE_MAX, 1), -E2BIG));
    cr_assert(eq(int, merge(NULL, "{\"a\":{\"b\":null}}", SIZE_MAX, 1), -E2BIG));
    assert_out("");
}

/* {"n0":V,...} in text. */
static void many(Buffer *text, int first, int count, const char *value)
{
    buffer_append_text(text, "{");
    for (int i = first; i < first + count; i++)
        buffer_append_format(text, "%s\"n%d\":%s", i > first ? "," : "", i, value);
    buffer_append_text(text, "}");
}

static double seconds_since(clock_t begin)
{
    return (double)(clock() - begin) / CLOCKS_PER_SEC;
}

Test(json, merge_of_many_members_is_not_quadratic)
{
    Buffer target, patch, expected;
    clock_t begin;

    buffer_init(&target, pool);
    buffer_init(&patch, pool);
    buffer_init(&expected, pool);
    many(&target, 0, 100000, "1");
    many(&patch, 50000, 100000, "2");
    buffer_append_text(&expected, "{");
    for (int i = 0; i < 150000; i++)
        buffer_append_format(&expected, "%s\"n%d\":%d", i > 0 ? "," : "", i, i < 50000 ? 1 : 2);
    buffer_append_text(&expected, "}");
    begin = clock();
    cr_assert(eq(int,
                 json_merge(&out, BYTES(buffer_begin(&target), buffer_size(&target)),
                            BYTES(buffer_begin(&patch), buffer_size(&patch)), SIZE_MAX, 512),
                 0));
    /* 10,000,000,000 comparisons would take more. */
    cr_assert(seconds_since(begin) < 5);
    cr_assert(bytes_equal(BYTES(buffer_begin(&out), buffer_size(&out)),
                          BYTES(buffer_begin(&expected), buffer_size(&expected))));
    buffer_clear(&target);
    buffer_clear(&patch);
    buffer_clear(&expected);
}

Test(json, merge_of_deep_texts_reads_each_once)
{
    enum { DEPTH = 510 };
    Buffer text;
    clock_t begin;

    buffer_init(&text, pool);
    for (int i = 0; i < DEPTH; i++)
        buffer_append_text(&text, "{\"a\":");
    buffer_append_text(&text, "[");
    for (int i = 0; i < 1000000; i++)
        buffer_append_text(&text, "1,[],");
    buffer_append_text(&text, "1]");
    for (int i = 0; i < DEPTH; i++)
        buffer_append_text(&text, "}");
    begin = clock();
    for (int i = 0; i < 3; i++) {
        Bytes bytes = BYTES(buffer_begin(&text), buffer_size(&text));
        buffer_truncate(&out, 0);
        cr_assert(
            eq(int, json_merge(&out, i == 0 ? BYTES(NULL, 0) : bytes, bytes, SIZE_MAX, 512), 0));
        cr_assert(bytes_equal(BYTES(buffer_begin(&out), buffer_size(&out)), bytes));
    }
    /* Read once a level: 3 * 510 * 5 MB. */
    cr_assert(seconds_since(begin) < 5);
    cr_assert(eq(int,
                 json_merge(&out, BYTES(NULL, 0), BYTES(buffer_begin(&text), buffer_size(&text)),
                            SIZE_MAX, 511),
                 -E2BIG));
    buffer_clear(&text);
}
