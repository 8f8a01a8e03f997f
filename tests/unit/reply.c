/* Unit tests of protocol/reply. */
#include "protocol/reply.h"

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
    pool_free(pool);
}

TestSuite(reply, .init = setup, .fini = teardown);

/* expected: without the terminator. */
static void assert_reply(const char *expected, char terminator)
{
    size_t size = strlen(expected);

    cr_assert(not(out.failed));
    cr_assert(eq(sz, buffer_size(&out), size + 1), "%.*s", (int)buffer_size(&out),
              buffer_begin(&out));
    cr_assert(eq(int, memcmp(buffer_begin(&out), expected, size), 0), "%.*s", (int)size,
              buffer_begin(&out));
    cr_assert(eq(chr, buffer_begin(&out)[size], terminator));
    buffer_truncate(&out, 0);
}

Test(reply, empty)
{
    JsonWriter writer = reply_begin(&out);
    reply_end(&writer, false, '\0');
    assert_reply("{\"parameters\":{}}", '\0');
}

Test(reply, members_in_their_order)
{
    JsonWriter writer = reply_begin(&out);
    json_name(&writer, "value");
    json_text(&writer, BYTES_OF("{\"a\":1}"));
    json_name(&writer, "revision");
    json_int(&writer, 7);
    reply_end(&writer, false, '\n');
    assert_reply("{\"parameters\":{\"value\":{\"a\":1},\"revision\":7}}", '\n');
}

Test(reply, continues_comes_last)
{
    JsonWriter writer = reply_begin(&out);
    json_name(&writer, "entries");
    json_begin_array(&writer);
    json_end_array(&writer);
    reply_end(&writer, true, '\0');
    assert_reply("{\"parameters\":{\"entries\":[]},\"continues\":true}", '\0');
}

Test(reply, error_with_parameters)
{
    JsonWriter writer = reply_begin_error(&out, "io.holdfast.NoSuchKey");
    json_name(&writer, "arena");
    json_quote(&writer, BYTES_OF("a\"b"));
    reply_end(&writer, false, '\0');
    assert_reply("{\"error\":\"io.holdfast.NoSuchKey\",\"parameters\":{\"arena\":\"a\\\"b\"}}",
                 '\0');
}

Test(reply, errors_of_the_service_interface)
{
    reply_method_not_found(&out, BYTES_OF("io.holdfast.Nope"), '\0');
    assert_reply("{\"error\":\"org.varlink.service.MethodNotFound\","
                 "\"parameters\":{\"method\":\"io.holdfast.Nope\"}}",
                 '\0');
    reply_interface_not_found(&out, BYTES_OF("x\n"), '\0');
    assert_reply("{\"error\":\"org.varlink.service.InterfaceNotFound\","
                 "\"parameters\":{\"interface\":\"x\\n\"}}",
                 '\0');
    reply_invalid_parameter(&out, BYTES_OF("key"), '\n');
    assert_reply("{\"error\":\"org.varlink.service.InvalidParameter\","
                 "\"parameters\":{\"parameter\":\"key\"}}",
                 '\n');
    reply_permission_denied(&out, '\0');
    assert_reply("{\"error\":\"org.varlink.service.PermissionDenied\",\"parameters\":{}}", '\0');
}

Test(reply, names_that_are_given_back_are_cut)
{
    static const char expected[] = "{\"error\":\"org.varlink.service.InvalidParameter\","
                                   "\"parameters\":{\"parameter\":\"begin\\\\";
    size_t size = 100 * KIB;
    char *name = malloc(size);

    memset(name, '\\', size);
    memcpy(name, "begin", 5);
    reply_invalid_parameter(&out, BYTES(name, size), '\0');
    cr_assert(lt(sz, buffer_size(&out), 2 * REPLY_NAME_MAX + 200));
    cr_assert(eq(int, memcmp(buffer_begin(&out), expected, strlen(expected)), 0));
    buffer_truncate(&out, 0);
    /* In the middle of a character: what is left of it is none. */
    memset(name, 'a', size);
    memcpy(name + REPLY_NAME_MAX - 1, "\xC3\xA4", 2);
    reply_method_not_found(&out, BYTES(name, size), '\0');
    cr_assert(
        eq(int, memcmp(buffer_begin(&out) + buffer_size(&out) - 7, "\xEF\xBF\xBD\"}}", 7), 0));
    free(name);
}

Test(reply, replies_follow_each_other)
{
    for (int i = 0; i < 2; i++) {
        JsonWriter writer = reply_begin(&out);
        json_name(&writer, "n");
        json_int(&writer, i);
        reply_end(&writer, false, '\n');
    }
    assert_reply("{\"parameters\":{\"n\":0}}\n{\"parameters\":{\"n\":1}}", '\n');
}
