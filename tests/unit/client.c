/* The client library's calls against a daemon that is played here: values, errors, time, sizes,
 * pipelines, connecting. Where the order in time matters, a thread plays. */
#include <criterion/criterion.h>
#include <errno.h>
#include <holdfast.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/played.h"

#define MIB (1u << 20)

/* --- values */

Test(client, put_is_one_call_and_returns_the_revision)
{
    Fixture fixture = fixture_make();
    uint64_t revision = 0;

    say(&fixture, "{\"parameters\":{\"revision\":17}}");
    cr_assert_eq(
        holdfast_put(fixture.connection, "a", "k\"\n", 3, " {\"x\": 1} ", 10, 5, &revision), 0);
    cr_assert_eq(revision, 17);
    expect_heard(
        &fixture,
        "{\"method\":\"io.holdfast.Put\",\"parameters\":{\"arena\":\"a\",\"key\":\"k\\\"\\u000a\","
        "\"value\":{\"x\": 1},\"ifRevision\":5}}");
    fixture_end(&fixture);
}

Test(client, a_value_comes_back_token_for_token)
{
    static const char *const values[] = {
        "0.1",
        "-0",
        "1e2",
        "9007199254740993.0",
        "\"a\\\\\\\"}\"",
        "null",
        "[]",
        "{\"b\":[1,{\"}\":\"]\"}],\"a\":1E+5}",
    };

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        Fixture fixture = fixture_make();
        char reply[256];
        const char *json;
        size_t length;
        uint64_t revision;

        snprintf(reply, sizeof(reply), "{\"parameters\":{\"value\":%s,\"revision\":3}}", values[i]);
        say(&fixture, reply);
        cr_assert_eq(holdfast_get(fixture.connection, "a", "k", 1, &json, &length, &revision), 0);
        cr_assert_str_eq(json, values[i]);
        cr_assert_eq(length, strlen(values[i]));
        cr_assert_eq(revision, 3);
        snprintf(reply, sizeof(reply),
                 " { \"parameters\" : { \"revision\" : 3 , \"value\" : %s } } ", values[i]);
        say(&fixture, reply);
        cr_assert_eq(
            holdfast_merge(fixture.connection, "a", "k", 1, "1", 1, 0, &json, &length, &revision),
            0);
        cr_assert_str_eq(json, values[i]);
        fixture_end(&fixture);
    }
}

Test(client, increments_read_the_whole_range_of_64_bits)
{
    Fixture fixture = fixture_make();
    int64_t value;

    say(&fixture, "{\"parameters\":{\"value\":-9223372036854775808,\"revision\":1}}");
    cr_assert_eq(holdfast_increment(fixture.connection, "a", "k", 1, INT64_MIN,
                                    HOLDFAST_ANY_REVISION, &value, NULL),
                 0);
    cr_assert_eq(value, INT64_MIN);
    expect_heard(&fixture, "{\"method\":\"io.holdfast.Increment\",\"parameters\":{\"arena\":\"a\","
                           "\"key\":\"k\",\"by\":"
                           "-9223372036854775808}}");
    say(&fixture, "{\"parameters\":{\"value\":9223372036854775808,\"revision\":1}}");
    cr_assert_eq(
        holdfast_increment(fixture.connection, "a", "k", 1, 1, HOLDFAST_ANY_REVISION, &value, NULL),
        -EBADMSG);
    fixture_end(&fixture);
}

Test(client, apply_writes_each_kind_of_operation)
{
    Fixture fixture = fixture_make();
    const HoldfastOperation operations[] = {
        {.type = HOLDFAST_PUT, .key = {"a", 1}, .json = {"1.0", 3}, .check_revision = true},
        {.type = HOLDFAST_DELETE, .key = {"b", 1}},
        {.type = HOLDFAST_MERGE, .key = {"c", 1}, .json = {"{}", 2}},
        {.type = HOLDFAST_INCREMENT, .key = {"d", 1}, .by = -2},
    };

    say(&fixture, "{\"parameters\":{\"revision\":9}}");
    cr_assert_eq(holdfast_apply(fixture.connection, "x", operations, 4, NULL), 0);
    expect_heard(
        &fixture,
        "{\"method\":\"io.holdfast.Apply\",\"parameters\":{\"arena\":\"x\",\"operations\":["
        "{\"op\":\"put\",\"key\":\"a\",\"value\":1.0,\"ifRevision\":0},"
        "{\"op\":\"delete\",\"key\":\"b\"},"
        "{\"op\":\"merge\",\"key\":\"c\",\"value\":{}},"
        "{\"op\":\"increment\",\"key\":\"d\",\"by\":-2}]}}");
    fixture_end(&fixture);
}

Test(client, what_is_no_single_value_or_no_text_is_not_sent)
{
    Fixture fixture = fixture_make();
    HoldfastConnection *c = fixture.connection;
    const uint64_t any = HOLDFAST_ANY_REVISION;

    cr_assert_eq(holdfast_put(c, "a", "k", 1, "1,2", 3, any, NULL), -EINVAL);
    cr_assert_eq(holdfast_put(c, "a", "k", 1, "1}", 2, any, NULL), -EINVAL);
    cr_assert_eq(holdfast_put(c, "a", "k", 1, "", 0, any, NULL), -EINVAL);
    cr_assert_eq(holdfast_put(c, "a", "k", 1, "\"a\0b\"", 5, any, NULL), -EINVAL);
    cr_assert_eq(holdfast_put(c, "a", "k", 1, "\"a\\\"", 4, any, NULL), -EINVAL);
    cr_assert_eq(holdfast_put(c, "a", "k", 1, "1", 1, UINT64_C(1) << 63, NULL), -EINVAL);
    cr_assert_eq(holdfast_put(c, "a", "\xff", 1, "1", 1, any, NULL), -EILSEQ);
    cr_assert_eq(holdfast_put(c, "a", "\xed\xa0\x80", 3, "1", 1, any, NULL), -EILSEQ);
    cr_assert_eq(holdfast_put(c, "a", "a\0b", 3, "1", 1, any, NULL), -EILSEQ);
    cr_assert_eq(holdfast_call(c, "Put", "[]", NULL, NULL), -EINVAL);
    cr_assert(nothing_heard(&fixture));
    say(&fixture, "{}");
    cr_assert_eq(holdfast_drop_arena(c, "a"), 0);
    expect_heard(&fixture,
                 "{\"method\":\"io.holdfast.DropArena\",\"parameters\":{\"name\":\"a\"}}");
    fixture_end(&fixture);
}

/* --- errors */

Test(client, an_error_comes_with_name_and_parameters_and_the_connection_goes_on)
{
    Fixture fixture = fixture_make();
    HoldfastConnection *c = fixture.connection;
    const char *reply;

    say(&fixture,
        "{\"error\":\"io.holdfast.NoSuchKey\",\"parameters\":{\"arena\":\"a\",\"key\":\"k\"}}");
    cr_assert_eq(holdfast_get(c, "a", "k", 1, NULL, NULL, NULL), HOLDFAST_ERROR_REMOTE);
    cr_assert_str_eq(holdfast_error_name(c), "io.holdfast.NoSuchKey");
    cr_assert_str_eq(holdfast_error_parameters(c), "{\"arena\":\"a\",\"key\":\"k\"}");
    cr_assert(holdfast_error_is(c, "NoSuchKey"));
    cr_assert(holdfast_error_is(c, "io.holdfast.NoSuchKey"));
    cr_assert_not(holdfast_error_is(c, "NoSuchArena"));
    say(&fixture, "{\"parameters\":{},\"error\":\"org.varlink.service.PermissionDenied\"}");
    cr_assert_eq(holdfast_drop_arena(c, "a"), HOLDFAST_ERROR_REMOTE);
    cr_assert_str_eq(holdfast_error_parameters(c), "{}");
    cr_assert_not(holdfast_error_is(c, "PermissionDenied"));
    cr_assert(holdfast_error_is(c, "org.varlink.service.PermissionDenied"));
    say(&fixture, "{\"parameters\":{ }}");
    cr_assert_eq(holdfast_call(c, "org.example.Ping", NULL, &reply, NULL), 0);
    cr_assert_str_eq(reply, "{ }");
    cr_assert_str_eq(holdfast_error_name(c), "");
    fixture_end(&fixture);
}

Test(client, replies_that_make_no_sense_end_the_connection)
{
    static const char *const replies[] = {
        "",
        "garbage",
        "[]",
        "{",
        "{}x",
        "{\"parameters\":[]}",
        "{\"parameters\":{}",
        "{\"parameters\" {}}",
        "{\"error\":5}",
        "{\"error\":\"a\\q\"}",
        "{\"error\":\"x\",\"continues\":true}",
        "{\"parameters\":{\"revision\":\"1\"}}",
        "{\"parameters\":{\"revision\":-1}}",
        "{\"parameters\":{\"revision\":1.5}}",
        "{\"parameters\":{}}",
        "{\"parameters\":{\"revision\":99999999999999999999}}",
        "{\"extra\":1}",
    };

    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        Fixture fixture = fixture_make();
        say(&fixture, replies[i]);
        cr_expect_eq(holdfast_put(fixture.connection, "a", "k", 1, "1", 1, 0, NULL), -EBADMSG, "%s",
                     replies[i]);
        cr_expect_eq(holdfast_put(fixture.connection, "a", "k", 1, "1", 1, 0, NULL), -EBADMSG);
        fixture_end(&fixture);
    }
}

Test(client, a_daemon_that_goes_away_is_an_error_and_no_signal)
{
    Fixture fixture = fixture_make();

    close(fixture.peer);
    fixture.peer = -1;
    int r = holdfast_drop_arena(fixture.connection, "a");
    cr_assert(r == -EPIPE || r == -ECONNRESET, "%d", r);
    cr_assert_lt(holdfast_drop_arena(fixture.connection, "a"), 0);
    fixture_end(&fixture);
}

Test(client, the_end_in_the_middle_of_a_reply_is_an_error)
{
    Fixture fixture = fixture_make();

    say_bytes(&fixture, "{\"parameters\":{\"rev", 19);
    shutdown(fixture.peer, SHUT_WR);
    cr_assert_eq(holdfast_put(fixture.connection, "a", "k", 1, "1", 1, 0, NULL), -ECONNRESET);
    fixture_end(&fixture);
}

Test(client, what_the_daemon_said_before_it_hung_up_is_heard)
{
    Fixture fixture = fixture_make();
    size_t size = 8 * MIB;
    char *value = malloc(size);

    memset(value, '1', size);
    say(&fixture, "{\"error\":\"io.holdfast.LimitExceeded\",\"parameters\":{\"limit\":"
                  "\"connections\",\"maximum\":4}}");
    close(fixture.peer);
    fixture.peer = -1;
    cr_assert_eq(holdfast_put(fixture.connection, "a", "k", 1, value, size, 0, NULL),
                 HOLDFAST_ERROR_REMOTE);
    cr_assert(holdfast_error_is(fixture.connection, "LimitExceeded"));
    free(value);
    fixture_end(&fixture);
}

/* --- time */

Test(client, a_timeout_gives_the_call_up_and_its_late_reply_is_dropped)
{
    Fixture fixture = fixture_make();
    uint64_t revision;

    holdfast_set_timeout(fixture.connection, 20000);
    say_bytes(&fixture, "{\"parameters\":{\"revi", 20);
    cr_assert_eq(holdfast_put(fixture.connection, "a", "k", 1, "1", 1, 0, &revision), -ETIMEDOUT);
    say(&fixture, "sion\":1}}");
    say(&fixture, "{\"parameters\":{\"revision\":2}}");
    cr_assert_eq(holdfast_put(fixture.connection, "a", "k", 1, "1", 1, 0, &revision), 0);
    cr_assert_eq(revision, 2);
    fixture_end(&fixture);
}

/* --- the player in a thread */

typedef struct Player {
    Fixture *fixture;
    void (*play)(Fixture *fixture);
    pthread_t thread;
} Player;

static void *player_run(void *argument)
{
    Player *player = argument;

    player->play(player->fixture);
    return NULL;
}

static void player_start(Player *player, Fixture *fixture, void (*play)(Fixture *fixture))
{
    *player = (Player){.fixture = fixture, .play = play};
    cr_assert_eq(pthread_create(&player->thread, NULL, player_run, player), 0);
}

static void play_bytewise(Fixture *fixture)
{
    static const char reply[] = "{\"parameters\":{\"value\":\"abc\",\"revision\":12}}";

    free(heard(fixture));
    for (size_t i = 0; i < sizeof(reply); i++) {
        say_bytes(fixture, reply + i, 1);
        usleep(200);
    }
}

Test(client, a_reply_may_come_byte_by_byte)
{
    Fixture fixture = fixture_make();
    Player player;
    const char *json;
    uint64_t revision;

    player_start(&player, &fixture, play_bytewise);
    cr_assert_eq(holdfast_get(fixture.connection, "a", "k", 1, &json, NULL, &revision), 0);
    cr_assert_str_eq(json, "\"abc\"");
    cr_assert_eq(revision, 12);
    pthread_join(player.thread, NULL);
    fixture_end(&fixture);
}

static void read_to_nul(Fixture *fixture)
{
    static char bytes[1 << 16];
    ssize_t n;

    do
        n = recv(fixture->peer, bytes, sizeof(bytes), 0);
    while (n > 0 && bytes[n - 1] != '\0');
}

static void play_late(Fixture *fixture)
{
    char reply[64];

    for (int i = 1; i <= 3; i++) {
        char *text = heard(fixture);
        snprintf(reply, sizeof(reply), "{\"parameters\":{\"revision\":%d}}",
                 strstr(text, i == 1   ? "io.holdfast.Put"
                              : i == 2 ? "\"two\""
                                       : "\"three\"") != NULL
                     ? i
                     : 99);
        say(fixture, reply);
        free(text);
    }
}

Test(client, a_call_that_was_not_sent_whole_in_time_goes_out_before_the_next)
{
    Fixture fixture = fixture_make();
    size_t size = MIB;
    char *value = malloc(size);
    Player player;
    uint64_t revision;

    memset(value, '1', size);
    holdfast_set_timeout(fixture.connection, 20000);
    cr_assert_eq(holdfast_put(fixture.connection, "a", "one", 3, value, size, 0, NULL), -ETIMEDOUT);
    cr_assert_eq(holdfast_delete(fixture.connection, "a", "two", 3, 0, NULL), -ETIMEDOUT);
    holdfast_set_timeout(fixture.connection, UINT64_MAX);
    player_start(&player, &fixture, play_late);
    cr_assert_eq(holdfast_delete(fixture.connection, "a", "three", 5, 0, &revision), 0);
    cr_assert_eq(revision, 3);
    pthread_join(player.thread, NULL);
    free(value);
    fixture_end(&fixture);
}

static void play_large(Fixture *fixture)
{
    size_t size = 15 * MIB;
    char *text = malloc(size);

    read_to_nul(fixture);
    say_bytes(fixture, "{\"parameters\":{\"value\":\"", 24);
    memset(text, 'x', size);
    say_bytes(fixture, text, size);
    say(fixture, "\",\"revision\":1}}");
    free(text);
}

Test(client, messages_of_nearly_16_MiB_go_both_ways)
{
    Fixture fixture = fixture_make();
    size_t size = 15 * MIB, length;
    char *value = malloc(size);
    Player player;
    const char *json;

    memset(value, '7', size);
    player_start(&player, &fixture, play_large);
    cr_assert_eq(
        holdfast_merge(fixture.connection, "a", "k", 1, value, size, 0, &json, &length, NULL), 0);
    cr_assert_eq(length, size + 2);
    cr_assert_eq(json[size], 'x');
    cr_assert_eq(json[length], '\0');
    pthread_join(player.thread, NULL);
    free(value);
    fixture_end(&fixture);
}

static void play_endless(Fixture *fixture)
{
    size_t size = MIB;
    char *text = malloc(size);

    read_to_nul(fixture);
    memset(text, ' ', size);
    for (int i = 0; i < 20; i++)
        say_bytes(fixture, text, size);
    free(text);
}

Test(client, a_reply_without_end_is_given_up)
{
    Fixture fixture = fixture_make();
    Player player;

    player_start(&player, &fixture, play_endless);
    cr_assert_eq(holdfast_drop_arena(fixture.connection, "a"), -EMSGSIZE);
    cr_assert_eq(holdfast_drop_arena(fixture.connection, "a"), -EMSGSIZE);
    holdfast_disconnect(fixture.connection);
    pthread_join(player.thread, NULL);
    close(fixture.peer);
}

Test(client, a_call_over_16_MiB_is_not_sent)
{
    Fixture fixture = fixture_make();
    size_t size = 16 * MIB;
    char *value = malloc(size);

    memset(value, '7', size);
    cr_assert_eq(holdfast_put(fixture.connection, "a", "k", 1, value, size, 0, NULL), -EMSGSIZE);
    cr_assert(nothing_heard(&fixture));
    say(&fixture, "{}");
    cr_assert_eq(holdfast_drop_arena(fixture.connection, "a"), 0);
    free(value);
    fixture_end(&fixture);
}

/* --- pipelining */

Test(client, replies_come_in_the_order_of_the_calls_and_an_error_answers_one)
{
    Fixture fixture = fixture_make();
    HoldfastConnection *c = fixture.connection;
    const char *reply;
    bool continues;

    cr_assert_eq(holdfast_send(c, "GetStatus", NULL, 0, 0), 0);
    cr_assert_eq(holdfast_send(c, "Put", "{\"x\":1}", 7, 0), 0);
    cr_assert_eq(holdfast_send(c, "Reload", NULL, 0, HOLDFAST_ONEWAY), 0);
    cr_assert_eq(holdfast_send(c, "List", "{}", 2, HOLDFAST_MORE), 0);
    cr_assert_eq(holdfast_send(c, "List", "[]", 2, 0), -EINVAL);
    cr_assert_eq(holdfast_outstanding(c), 3);
    cr_assert_eq(holdfast_drop_arena(c, "a"), -EBUSY);
    cr_assert_eq(holdfast_flush(c), 0);
    expect_heard(&fixture, "{\"method\":\"io.holdfast.GetStatus\",\"parameters\":{}}");
    expect_heard(&fixture, "{\"method\":\"io.holdfast.Put\",\"parameters\":{\"x\":1}}");
    expect_heard(&fixture, "{\"method\":\"io.holdfast.Reload\",\"oneway\":true,\"parameters\":{}}");
    expect_heard(&fixture, "{\"method\":\"io.holdfast.List\",\"more\":true,\"parameters\":{}}");

    say(&fixture, "{\"parameters\":{\"n\":1}}");
    say(&fixture, "{\"error\":\"io.holdfast.NoSuchArena\"}");
    say(&fixture, "{\"parameters\":{\"n\":3},\"continues\":true}");
    say(&fixture, "{\"parameters\":{\"n\":4}}");
    cr_assert_eq(holdfast_receive(c, &reply, NULL, &continues), 0);
    cr_assert_str_eq(reply, "{\"n\":1}");
    cr_assert_eq(holdfast_receive(c, &reply, NULL, &continues), HOLDFAST_ERROR_REMOTE);
    cr_assert(holdfast_error_is(c, "NoSuchArena"));
    cr_assert_eq(holdfast_receive(c, &reply, NULL, &continues), 0);
    cr_assert(continues);
    cr_assert_eq(holdfast_outstanding(c), 1);
    cr_assert_eq(holdfast_receive(c, &reply, NULL, &continues), 0);
    cr_assert_not(continues);
    cr_assert_eq(holdfast_receive(c, &reply, NULL, &continues), -ENODATA);
    fixture_end(&fixture);
}

/* A daemon that answers each call at once and reads no more before the answer is taken. */
static void play_echo(Fixture *fixture)
{
    char *bytes = malloc(64 * 1024), *filler = malloc(64 * 1024);
    ssize_t n;

    memset(filler, 'y', 64 * 1024);
    while ((n = recv(fixture->peer, bytes, 64 * 1024, 0)) > 0)
        for (ssize_t i = 0; i < n; i++) {
            if (bytes[i] != '\0')
                continue;
            say_bytes(fixture, "{\"parameters\":{\"text\":\"", 23);
            say_bytes(fixture, filler, 64 * 1024);
            say(fixture, "\"}}");
        }
    free(filler);
    free(bytes);
}

Test(client, sends_do_not_block_for_ever_while_answers_wait)
{
    Fixture fixture = fixture_make();
    size_t size = 64 * 1024, length;
    char *parameters = malloc(size);
    Player player;

    memset(parameters, ' ', size);
    parameters[0] = '{';
    parameters[size - 1] = '}';
    /* 12 MiB each way, far more than the socket holds. */
    player_start(&player, &fixture, play_echo);
    for (int i = 0; i < 200; i++) {
        cr_assert_eq(holdfast_send(fixture.connection, "Put", parameters, size, 0), 0);
        cr_assert_eq(holdfast_flush(fixture.connection), 0);
    }
    for (int i = 0; i < 200; i++) {
        cr_assert_eq(holdfast_receive(fixture.connection, NULL, &length, NULL), 0);
        cr_assert_eq(length, size + 11);
    }
    holdfast_disconnect(fixture.connection);
    pthread_join(player.thread, NULL);
    free(parameters);
    close(fixture.peer);
}

/* --- connecting */

Test(client, a_socket_that_is_not_there_is_told)
{
    HoldfastConnection *connection;

    cr_assert_eq(holdfast_connect("/nonexistent/holdfast.sock", &connection), -ENOENT);
    cr_assert_eq(holdfast_connect("", &connection), -ENOENT);
    char path[300];
    memset(path, 'x', sizeof(path));
    path[sizeof(path) - 1] = '\0';
    cr_assert_eq(holdfast_connect(path, &connection), -ENAMETOOLONG);
}

Test(client, the_default_is_the_systems_socket_for_root)
{
    char path[128];

    if (geteuid() != 0)
        cr_skip("needs root");
    setenv("XDG_RUNTIME_DIR", "/", 1);
    cr_assert_eq(holdfast_default_path(path, sizeof(path)), 0);
    cr_assert_str_eq(path, "/run/holdfast/holdfast.sock");
    cr_assert_eq(holdfast_default_path(path, 5), -ENAMETOOLONG);
}
