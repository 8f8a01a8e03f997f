/* Unit tests of protocol/call. */
#include "protocol/call.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

static Pool *pool;
static Scan *scan;
static Buffer scratch;

static void setup(void)
{
    cr_assert(eq(int, pool_new(NULL, &pool), 0));
    cr_assert(eq(int, scan_new(pool, &scan), 0));
    buffer_init(&scratch, pool);
}

static void teardown(void)
{
    scan_free(scan);
    buffer_clear(&scratch);
    cr_expect(eq(u64, pool_bytes_taken(pool), 0), "all memory is given back");
    pool_free(pool);
}

TestSuite(call, .init = setup, .fini = teardown);

typedef struct Parameters {
    Bytes key;
    int64_t limit;
    bool limit_given;
    bool wait;
    bool wait_given;
    Bytes value;
    bool value_given;
    Bytes list;
    bool list_given;
} Parameters;

static const Field fields[] = {
    {"key", FIELD_STRING, .required = true, .offset = offsetof(Parameters, key)},
    {"limit", FIELD_INT, .offset = offsetof(Parameters, limit),
     .given = offsetof(Parameters, limit_given)},
    {"wait", FIELD_BOOL, .offset = offsetof(Parameters, wait),
     .given = offsetof(Parameters, wait_given)},
    {"value", FIELD_ANY, .offset = offsetof(Parameters, value),
     .given = offsetof(Parameters, value_given)},
    {"list", FIELD_ARRAY, .offset = offsetof(Parameters, list),
     .given = offsetof(Parameters, list_given)},
};

static int parse_text(Call *call, const char *text, const char **ret_reason)
{
    scan_start(scan, 2, 100);
    cr_assert(eq(int, scan_finish(scan, text, strlen(text)), SCAN_DONE), "%s", text);
    return call_parse(call, text, scan, &scratch, ret_reason);
}

static Call parse(const char *text)
{
    const char *reason = NULL;
    Call call;

    cr_assert(eq(int, parse_text(&call, text, &reason), 0), "%s: %s", text, reason);
    return call;
}

static void assert_bytes(Bytes bytes, const char *expected)
{
    cr_assert(bytes_equal(bytes, bytes_of_text(expected)), "%.*s instead of %s", (int)bytes.size,
              bytes.data, expected);
}

static Parameters fill(const char *text)
{
    Call call = parse(text);
    Parameters parameters = {.limit = 1000, .wait = true};
    Bytes wrong = {0};

    cr_assert(eq(int,
                 call_parameters(&call, fields, ARRAY_SIZE(fields), &parameters, &scratch, &wrong),
                 0),
              "%s: %.*s", text, (int)wrong.size, wrong.data);
    return parameters;
}

static void assert_wrong(const char *text, const char *expected)
{
    Call call = parse(text);
    Parameters parameters = {0};
    Bytes wrong = {0};

    cr_assert(eq(int,
                 call_parameters(&call, fields, ARRAY_SIZE(fields), &parameters, &scratch, &wrong),
                 -EINVAL),
              "%s", text);
    assert_bytes(wrong, expected);
}

/* --- the call */

Test(call, method_alone)
{
    Call call = parse("{\"method\":\"io.holdfast.GetStatus\"}");

    assert_bytes(call.method, "io.holdfast.GetStatus");
    cr_assert(eq(int, call.parameters, -1));
    cr_assert(not(call.more));
    cr_assert(not(call.oneway));
    cr_assert(not(call.upgrade));
}

Test(call, flags)
{
    Call call = parse("{\"more\":true,\"method\":\"a.B\",\"oneway\":true,\"upgrade\":false}");
    cr_assert(call.more && call.oneway && !call.upgrade);
    call = parse("{\"more\":null,\"method\":\"a.B\",\"upgrade\":true,\"parameters\":null}");
    cr_assert(call.upgrade && !call.more && !call.oneway);
    cr_assert(eq(int, call.parameters, -1));
}

Test(call, escapes_in_member_names_and_method_are_read)
{
    Call call = parse("{\"m\\u0065thod\":\"a\\u002eB\",\"more\":true}");

    assert_bytes(call.method, "a.B");
}

Test(call, what_is_no_call_is_refused_with_the_reason)
{
    static const struct {
        const char *text, *reason;
    } bad[] = {
        {"[]", "a call is an object"},
        {"\"method\"", "a call is an object"},
        {"{}", "no method"},
        {"{\"parameters\":{\"method\":\"a.B\"}}", "no method"},
        {"{\"method\":1}", "method is no string"},
        {"{\"method\":null}", "method is no string"},
        {"{\"method\":\"a.B\",\"parameters\":[]}", "parameters is no object"},
        {"{\"method\":\"a.B\",\"more\":1}", "more is no boolean"},
        {"{\"method\":\"a.B\",\"oneway\":\"\"}", "oneway is no boolean"},
        {"{\"method\":\"a.B\",\"upgrade\":{}}", "upgrade is no boolean"},
        {"{\"method\":\"a.B\",\"id\":1}", "unknown member"},
        {"{\"method\":\"a.B\",\"\":1}", "unknown member"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        const char *reason = NULL;
        Call call;
        cr_assert(eq(int, parse_text(&call, bad[i].text, &reason), -EBADMSG), "%s", bad[i].text);
        cr_assert(eq(str, (char *)reason, (char *)bad[i].reason), "%s", bad[i].text);
    }
}

/* --- parameters */

Test(call, parameters_of_all_types)
{
    Parameters p =
        fill("{\"method\":\"a.B\",\"parameters\":{\"key\":\"k\",\"limit\":-5,\"wait\":false,"
             "\"value\":{\"a\":[0.10]},\"list\":[ 1 ]}}");
    assert_bytes(p.key, "k");
    cr_assert(eq(i64, p.limit, -5));
    cr_assert(p.limit_given && p.wait_given && p.value_given && p.list_given);
    cr_assert(not(p.wait));
    assert_bytes(p.value, "{\"a\":[0.10]}");
    assert_bytes(p.list, "[ 1 ]");
}

Test(call, absent_and_null_leave_the_defaults)
{
    static const char *const texts[] = {
        "{\"method\":\"a.B\",\"parameters\":{\"key\":\"\"}}",
        "{\"parameters\":{\"key\":\"\",\"limit\":null,\"wait\":null,\"value\":null,\"list\":null},"
        "\"method\":\"a.B\"}",
    };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        Parameters p = fill(texts[i]);
        cr_assert(eq(sz, p.key.size, 0));
        cr_assert(eq(i64, p.limit, 1000));
        cr_assert(p.wait && !p.wait_given && !p.limit_given && !p.value_given && !p.list_given);
        assert_bytes(p.value, "null");
        cr_assert(p.list.data == NULL);
    }
}

Test(call, any_value_is_taken)
{
    static const char *const values[] = {"1", "-0", "1e5", "\"a b\"", "true", "[]", "{}"};
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        char text[256];
        snprintf(text, sizeof(text),
                 "{\"method\":\"a.B\",\"parameters\":{\"key\":\"k\",\"value\": %s }}", values[i]);
        assert_bytes(fill(text).value, values[i]);
    }
}

Test(call, texts_that_fit_are_not_copied)
{
    const char *text = "{\"method\":\"a.B\",\"parameters\":{\"key\":\"k\",\"value\":[\"a b\"]}}";
    Parameters p = fill(text);
    cr_assert(p.key.data > text && p.key.data < text + strlen(text));
    cr_assert(p.value.data > text && p.value.data < text + strlen(text));
    cr_assert(eq(sz, buffer_size(&scratch), 0));
}

Test(call, escapes_and_white_space_are_taken_out)
{
    Parameters p =
        fill("{ \"method\" : \"a.B\" , \"parameters\" : { \"k\\u0065y\" : \"\\u00e9\\n\" , "
             "\"value\" : { \"a b\" : [ 1 , \" \\\" \" ] } , \"limit\" : 12 } }");
    assert_bytes(p.key, "\xC3\xA9\n");
    assert_bytes(p.value, "{\"a b\":[1,\" \\\" \"]}");
    cr_assert(eq(i64, p.limit, 12));
}

Test(call, wrong_parameters_are_named)
{
    assert_wrong("{\"method\":\"a.B\"}", "key");
    assert_wrong("{\"method\":\"a.B\",\"parameters\":null}", "key");
    assert_wrong("{\"method\":\"a.B\",\"parameters\":{}}", "key");
    assert_wrong("{\"method\":\"a.B\",\"parameters\":{\"key\":null}}", "key");
    assert_wrong("{\"method\":\"a.B\",\"parameters\":{\"key\":1}}", "key");
    assert_wrong("{\"method\":\"a.B\",\"parameters\":{\"key\":\"\",\"limit\":1.0}}", "limit");
    assert_wrong("{\"method\":\"a.B\",\"parameters\":{\"key\":\"\",\"limit\":\"1\"}}", "limit");
    assert_wrong("{\"method\":\"a.B\",\"parameters\":{\"key\":\"\",\"wait\":0}}", "wait");
    assert_wrong("{\"method\":\"a.B\",\"parameters\":{\"key\":\"\",\"list\":{}}}", "list");
    assert_wrong("{\"method\":\"a.B\",\"parameters\":{\"key\":\"\",\"Key\":\"\"}}", "Key");
    assert_wrong("{\"method\":\"a.B\",\"parameters\":{\"key\":\"\",\"other\":null}}", "other");
    assert_wrong("{\"method\":\"a.B\",\"parameters\":{\"\":0,\"key\":\"\"}}", "");
}

/* More than the scan notes: known ones first, an unknown one behind them all. */
Test(call, unknown_parameter_among_very_many_is_found)
{
    Buffer text;
    char names[100][8];
    Field many[101] = {0};
    bool places[101];

    buffer_init(&text, pool);
    buffer_append_text(&text, "{\"parameters\":{");
    for (int i = 0; i < 60; i++) {
        snprintf(names[i], sizeof(names[i]), "p%d", i);
        many[i] = (Field){names[i], FIELD_BOOL, .offset = (size_t)i * sizeof(bool)};
        buffer_append_format(&text, "\"p%d\":true,", i);
    }
    buffer_append(&text, "\"p60\":true},\"method\":\"a.B\"}",
                  sizeof("\"p60\":true},\"method\":\"a.B\"}"));
    for (size_t known = 60; known <= 61; known++) {
        Call call = parse(buffer_begin(&text));
        Bytes wrong = {0};
        int r;

        many[60] = (Field){"p60", FIELD_BOOL, .offset = 60 * sizeof(bool)};
        memset(places, 0, sizeof(places));
        r = call_parameters(&call, many, known, places, &scratch, &wrong);
        cr_assert(scan_overflow(scan));
        if (known == 61) {
            cr_assert(eq(int, r, 0));
            for (int i = 0; i <= 60; i++)
                cr_assert(places[i]);
        } else {
            cr_assert(eq(int, r, -EINVAL));
            assert_bytes(wrong, "p60");
        }
    }
    buffer_clear(&text);
}

Test(call, very_many_outer_members_are_refused)
{
    Buffer text;
    const char *reason = NULL;
    Call call;

    buffer_init(&text, pool);
    buffer_append_text(&text, "{\"method\":\"a.B\"");
    for (int i = 0; i < 100; i++)
        buffer_append_format(&text, ",\"m%d\":{\"x\":1}", i);
    buffer_append(&text, "}", 2);
    cr_assert(eq(int, parse_text(&call, buffer_begin(&text), &reason), -EBADMSG));
    cr_assert(eq(str, (char *)reason, (char *)"unknown member"));
    buffer_clear(&text);
}

/* --- objects within */

Test(call, object_within_is_filled_like_parameters)
{
    Parameters p = {.limit = 1};
    Bytes wrong = {0};

    cr_assert(
        eq(int,
           call_object(BYTES_OF("{ \"key\" : \"a\\tb\" , \"value\" : [ 1 ] , \"wait\":true }"),
                       fields, ARRAY_SIZE(fields), &p, &scratch, &wrong),
           0));
    assert_bytes(p.key, "a\tb");
    assert_bytes(p.value, "[1]");
    cr_assert(eq(i64, p.limit, 1));
    cr_assert(p.wait);
    cr_assert(eq(int,
                 call_object(BYTES_OF("{\"key\":\"\",\"x\":1}"), fields, ARRAY_SIZE(fields), &p,
                             &scratch, &wrong),
                 -EINVAL));
    assert_bytes(wrong, "x");
    cr_assert(eq(int, call_object(BYTES_OF("{}"), fields, ARRAY_SIZE(fields), &p, &scratch, &wrong),
                 -EINVAL));
    assert_bytes(wrong, "key");
    cr_assert(eq(int, call_object(BYTES_OF("[]"), fields, ARRAY_SIZE(fields), &p, &scratch, &wrong),
                 -EINVAL));
    assert_bytes(wrong, "");
}

/* All results of one call stay where they are, however many there are. method: as written. */
static void assert_results_stay(const char *method)
{
    enum { COUNT = 20000 };
    Buffer text;
    Call call;
    Parameters p = {0}, *inner = calloc(COUNT, sizeof(*inner));
    Bytes wrong, name, value;
    JsonWalk walk;

    buffer_init(&text, pool);
    buffer_append_format(
        &text, "{\"method\":\"%s\",\"parameters\":{\"key\":\"\\\\\",\"value\":[ 7 ],\"list\":[",
        method);
    for (int i = 0; i < COUNT; i++)
        buffer_append_format(&text, "%s{\"key\":\"\\n%d\",\"value\":[ %d ]}", i > 0 ? "," : "", i,
                             i);
    buffer_append(&text, "]}}", 4);
    call = parse(buffer_begin(&text));
    cr_assert(eq(int, call_parameters(&call, fields, ARRAY_SIZE(fields), &p, &scratch, &wrong), 0));
    walk = json_walk(p.list);
    for (int i = 0; json_next(&walk, &name, &value); i++)
        cr_assert(eq(
            int, call_object(value, fields, ARRAY_SIZE(fields), &inner[i], &scratch, &wrong), 0));
    assert_bytes(call.method, "a.B");
    assert_bytes(p.key, "\\");
    assert_bytes(p.value, "[7]");
    for (int i = 0; i < COUNT; i++) {
        char expected[32];
        snprintf(expected, sizeof(expected), "\n%d", i);
        assert_bytes(inner[i].key, expected);
        snprintf(expected, sizeof(expected), "[%d]", i);
        assert_bytes(inner[i].value, expected);
    }
    free(inner);
    buffer_clear(&text);
}

Test(call, results_do_not_move)
{
    assert_results_stay("a.B");
    buffer_clear(&scratch);
    assert_results_stay("a\\u002eB");
}

Test(call, depth_of_a_value_is_told)
{
    const char *text =
        "{\"method\":\"a.B\",\"parameters\":{\"key\":\"k\",\"value\":[[[1]]],\"list\":[[[[[]]]]]}}";
    Call call = parse(text);
    Parameters p = fill(text);

    call.text = text;
    cr_assert(call_deeper(&call, p.value, 2));
    cr_assert(not(call_deeper(&call, p.value, 3)));
    cr_assert(call_deeper(&call, p.list, 4));
    cr_assert(not(call_deeper(&call, p.list, 100)));
}
