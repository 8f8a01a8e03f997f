/* The client library against a daemon that is played here: the other end of a socket pair. Where a
 * reply fits into the socket's buffer it is laid there before the call; where the order in time
 * matters, a thread plays. */
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

#define MIB (1u << 20)

typedef struct Fixture {
    HoldfastConnection *connection;
    int peer;
} Fixture;

static Fixture fixture_make(void)
{
    Fixture fixture;
    int pair[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    cr_assert_eq(holdfast_connect_fd(pair[0], &fixture.connection), 0);
    fixture.peer = pair[1];
    return fixture;
}

static void fixture_end(Fixture *fixture)
{
    holdfast_disconnect(fixture->connection);
    if (fixture->peer >= 0)
        close(fixture->peer);
}

static void say_bytes(Fixture *fixture, const char *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = send(fixture->peer, bytes + done, size - done, MSG_NOSIGNAL);
        if (n < 0)
            return; /* the library hung up, as it may */
        done += (size_t)n;
    }
}

/* A message, with its NUL. */
static void say(Fixture *fixture, const char *text)
{
    say_bytes(fixture, text, strlen(text) + 1);
}

/* The next message that the library sent; to be freed. */
static char *heard(Fixture *fixture)
{
    size_t capacity = 64 * 1024, size = 0;
    char *text = malloc(capacity);

    for (;;) {
        ssize_t n = recv(fixture->peer, text + size, 1, 0);
        cr_assert_eq(n, 1, "the library sent no whole message");
        if (text[size++] == '\0')
            return text;
        if (size == capacity)
            text = realloc(text, capacity *= 2);
    }
}

static void expect_heard(Fixture *fixture, const char *expected)
{
    char *text = heard(fixture);

    cr_assert_str_eq(text, expected);
    free(text);
}

static bool nothing_heard(Fixture *fixture)
{
    struct pollfd wait = {.fd = fixture->peer, .events = POLLIN};

    return poll(&wait, 1, 0) == 0;
}

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

/* --- streams and lists */

typedef struct Seen {
    char text[512];
    int calls;
    int stop_at;
} Seen;

static int see_reply(void *context, const char *reply, size_t length)
{
    Seen *seen = context;

    strncat(seen->text, reply, length);
    return ++seen->calls == seen->stop_at ? 77 : 0;
}

Test(client, a_stream_ends_with_the_reply_that_does_not_continue)
{
    Fixture fixture = fixture_make();
    Seen seen = {0};

    say(&fixture, "{\"parameters\":{\"n\":1},\"continues\":true}");
    say(&fixture, "{\"continues\":true,\"parameters\":{\"n\":2}}");
    say(&fixture, "{\"parameters\":{\"n\":3},\"continues\":false}");
    cr_assert_eq(holdfast_stream(fixture.connection, "List", NULL, see_reply, &seen), 0);
    cr_assert_str_eq(seen.text, "{\"n\":1}{\"n\":2}{\"n\":3}");
    fixture_end(&fixture);
}

Test(client, the_rest_of_a_stream_that_was_stopped_is_dropped)
{
    Fixture fixture = fixture_make();
    Seen seen = {.stop_at = 1};
    const char *reply;

    say(&fixture, "{\"parameters\":{\"n\":1},\"continues\":true}");
    say(&fixture, "{\"parameters\":{\"n\":2},\"continues\":true}");
    say(&fixture, "{\"parameters\":{\"n\":3}}");
    say(&fixture, "{\"parameters\":{\"n\":4}}");
    cr_assert_eq(holdfast_stream(fixture.connection, "List", NULL, see_reply, &seen), 77);
    cr_assert_eq(holdfast_outstanding(fixture.connection), 0);
    cr_assert_eq(holdfast_call(fixture.connection, "GetStatus", NULL, &reply, NULL), 0);
    cr_assert_str_eq(reply, "{\"n\":4}");
    fixture_end(&fixture);
}

Test(client, an_error_ends_a_stream)
{
    Fixture fixture = fixture_make();
    Seen seen = {0};

    say(&fixture, "{\"parameters\":{\"n\":1},\"continues\":true}");
    say(&fixture, "{\"error\":\"io.holdfast.ArenaDamaged\",\"parameters\":{\"arena\":\"a\","
                  "\"where\":\"w\"}}");
    cr_assert_eq(holdfast_stream(fixture.connection, "List", NULL, see_reply, &seen),
                 HOLDFAST_ERROR_REMOTE);
    cr_assert_eq(seen.calls, 1);
    cr_assert_eq(holdfast_outstanding(fixture.connection), 0);
    fixture_end(&fixture);
}

static int see_entry(void *context, const HoldfastItem *entry)
{
    Seen *seen = context;
    size_t used = strlen(seen->text);

    cr_assert_eq(strlen(entry->key), entry->key_length);
    snprintf(seen->text + used, sizeof(seen->text) - used, "%s=%s@%llu;", entry->key,
             entry->json != NULL ? entry->json : "-", (unsigned long long)entry->revision);
    return ++seen->calls == seen->stop_at ? 77 : 0;
}

#define ENTRIES                                                                                    \
    "[{\"key\":\"a\\u00e4\\ud83d\\ude00\\n\",\"value\":{\"x\":[0.10,\"]}\"]},\"revision\":1}, "    \
    "{\"revision\":2,\"value\":null,\"key\":\"\\\"\\\\\"}]"

Test(client, a_page_of_entries_has_plain_keys_and_untouched_values)
{
    Fixture fixture = fixture_make();
    Seen seen = {0};
    const char *next;

    say(&fixture, "{\"parameters\":{\"next\":\"00\\u0066f\",\"entries\":" ENTRIES "}}");
    cr_assert_eq(holdfast_list(fixture.connection, "a", "p", "0001", 5, 0, see_entry, &seen, &next),
                 0);
    cr_assert_str_eq(seen.text, "aä😀\n={\"x\":[0.10,\"]}\"]}@1;\"\\=null@2;");
    cr_assert_str_eq(next, "00ff");
    expect_heard(&fixture, "{\"method\":\"io.holdfast.List\",\"parameters\":{\"arena\":\"a\","
                           "\"prefix\":\"p\",\"cursor\":"
                           "\"0001\",\"limit\":5}}");
    /* A cursor may be handed back as it was given. */
    say(&fixture, "{\"parameters\":{\"entries\":[]}}");
    cr_assert_eq(holdfast_list(fixture.connection, "a", NULL, next, 0, HOLDFAST_KEYS_ONLY,
                               see_entry, &seen, &next),
                 0);
    cr_assert_null(next);
    expect_heard(&fixture, "{\"method\":\"io.holdfast.List\",\"parameters\":{\"arena\":\"a\","
                           "\"cursor\":\"00ff\",\"values\":false}}");
    fixture_end(&fixture);
}

Test(client, all_pages_are_streamed_and_can_be_stopped)
{
    Fixture fixture = fixture_make();
    Seen seen = {.stop_at = 3};

    say(&fixture, "{\"parameters\":{\"entries\":" ENTRIES ",\"next\":\"1\"},\"continues\":true}");
    say(&fixture, "{\"parameters\":{\"entries\":" ENTRIES ",\"next\":\"2\"},\"continues\":true}");
    say(&fixture, "{\"parameters\":{\"entries\":[]}}");
    cr_assert_eq(
        holdfast_list_all(fixture.connection, "a", NULL, HOLDFAST_KEYS_ONLY, see_entry, &seen), 77);
    cr_assert_str_eq(seen.text, "aä😀\n=-@1;\"\\=-@2;aä😀\n=-@1;");
    say(&fixture, "{}");
    cr_assert_eq(holdfast_drop_arena(fixture.connection, "a"), 0);
    fixture_end(&fixture);
}

Test(client, get_many_visits_the_entries_there_are)
{
    Fixture fixture = fixture_make();
    const HoldfastText keys[] = {{"x", 1}, {"y", 1}};
    Seen seen = {0};
    uint64_t revision;

    say(&fixture, "{\"parameters\":{\"entries\":[{\"key\":\"y\",\"value\":1,\"revision\":4}],"
                  "\"revision\":6}}");
    cr_assert_eq(holdfast_get_many(fixture.connection, "a", keys, 2, see_entry, &seen, &revision),
                 0);
    cr_assert_str_eq(seen.text, "y=1@4;");
    cr_assert_eq(revision, 6);
    expect_heard(&fixture, "{\"method\":\"io.holdfast.GetMany\",\"parameters\":{\"arena\":\"a\","
                           "\"keys\":[\"x\",\"y\"]}}");
    fixture_end(&fixture);
}

/* --- records */

#define CHECKPOINT(state, done)                                                                    \
    "{\"id\":\"00000000000000000007-20260101T000000Z\",\"label\":null,\"state\":\"" state          \
    "\",\"revision\":7,"                                                                           \
    "\"arenas\":[\"a\",\"b\"],\"pid\":9,\"startedUSec\":1,\"pauseUSec\":2,\"heldUSec\":3,"         \
    "\"durationUSec\":4,"                                                                          \
    "\"pagesTotal\":100,\"pagesDone\":" done                                                       \
    ",\"pagesCaptured\":6,\"stateBytes\":7,\"imageBytes\":8}"

static void see_progress(void *context, const HoldfastCheckpoint *checkpoint)
{
    Seen *seen = context;
    size_t used = strlen(seen->text);

    snprintf(seen->text + used, sizeof(seen->text) - used, "%s %llu;", checkpoint->state,
             (unsigned long long)checkpoint->pages_done);
}

Test(client, a_checkpoint_is_followed_to_its_end)
{
    Fixture fixture = fixture_make();
    const char *const arenas[] = {"a", "b", NULL};
    HoldfastCheckpoint *checkpoint;
    Seen seen = {0};

    say(&fixture,
        "{\"parameters\":{\"checkpoint\":" CHECKPOINT("running", "10") "},\"continues\":true}");
    say(&fixture,
        "{\"parameters\":{\"checkpoint\":" CHECKPOINT("running", "50") "},\"continues\":true}");
    say(&fixture, "{\"parameters\":{\"checkpoint\":" CHECKPOINT("complete", "100") "}}");
    cr_assert_eq(holdfast_take_checkpoint(fixture.connection, arenas, "l", true, see_progress,
                                          &seen, &checkpoint),
                 0);
    cr_assert_str_eq(seen.text, "running 10;running 50;");
    cr_assert_str_eq(checkpoint->state, "complete");
    cr_assert_null(checkpoint->label);
    cr_assert_null(checkpoint->path);
    cr_assert_str_eq(checkpoint->arenas[1], "b");
    cr_assert_null(checkpoint->arenas[2]);
    cr_assert_eq(checkpoint->image_bytes, 8);
    holdfast_checkpoint_free(checkpoint);
    expect_heard(&fixture, "{\"method\":\"io.holdfast.TakeCheckpoint\",\"more\":true,"
                           "\"parameters\":{\"arenas\":[\"a\","
                           "\"b\"],\"label\":\"l\",\"wait\":true}}");
    fixture_end(&fixture);
}

Test(client, a_status_holds_its_checkpoints_and_its_command)
{
    Fixture fixture = fixture_make();
    HoldfastStatus *status;

    say(&fixture, "{\"parameters\":{\"status\":{\"version\":\"1\",\"pid\":5,\"state\":\"readonly\","
                  "\"reason\":\"why\",\"startedUSec\":1,"
                  "\"recovery\":\"image\",\"recoveryDurationUSec\":2,\"arenas\":1,\"entries\":2,"
                  "\"usedBytes\":3,\"revision\":4,"
                  "\"durableRevision\":3,\"connections\":1,\"updates\":2,\"reads\":3,"
                  "\"lastCheckpoint\":" CHECKPOINT(
                      "complete", "1") ",\"runningCheckpoint\":null,\"afterCommand\":{"
                                       "\"checkpoint\":\"x\",\"startedUSec\":1,"
                                       "\"exitStatus\":0}}}}");
    cr_assert_eq(holdfast_get_status(fixture.connection, &status), 0);
    cr_assert_str_eq(status->reason, "why");
    cr_assert_eq(status->durable_revision, 3);
    cr_assert_str_eq(status->last_checkpoint->arenas[0], "a");
    cr_assert_null(status->running_checkpoint);
    cr_assert_eq(status->after_command->exit_status, 0);
    cr_assert_eq(status->after_command->signal, -1);
    holdfast_status_free(status);
    fixture_end(&fixture);
}

Test(client, arenas_that_may_not_be_read_are_told_apart)
{
    Fixture fixture = fixture_make();
    HoldfastArena **arenas;
    size_t count;

    say(&fixture, "{\"parameters\":{\"arenas\":[{\"name\":\"a\",\"entries\":0,\"maxBytes\":1048576,"
                  "\"uid\":4294967295,"
                  "\"mode\":384},{\"name\":\"b\",\"entries\":0,\"maxBytes\":0,\"uid\":1}]}}");
    cr_assert_eq(holdfast_list_arenas(fixture.connection, &arenas, &count), 0);
    cr_assert_eq(count, 2);
    cr_assert(arenas[0]->readable);
    cr_assert_eq(arenas[0]->uid, UINT32_MAX);
    cr_assert_not(arenas[1]->readable);
    cr_assert_null(arenas[2]);
    holdfast_arenas_free(arenas);
    fixture_end(&fixture);
}

Test(client, records_of_wrong_types_end_the_connection)
{
    static const char *const arenas[] = {
        "{}",
        "[]",
        "{\"name\":1}",
        "{\"name\":\"a\",\"entries\":\"1\"}",
        "{\"name\":\"a\",\"entries\":-1}",
        "{\"name\":\"a\",\"uid\":4294967296}",
        "{\"name\":\"a\",\"mode\":1.0}",
        "{\"name\":\"a\",\"name\":\"b\"}",
    };

    for (size_t i = 0; i < sizeof(arenas) / sizeof(arenas[0]); i++) {
        Fixture fixture = fixture_make();
        char reply[256];

        snprintf(reply, sizeof(reply), "{\"parameters\":{\"arena\":%s}}", arenas[i]);
        say(&fixture, reply);
        cr_expect_eq(holdfast_create_arena(fixture.connection, "a", NULL, NULL), -EBADMSG, "%s",
                     arenas[i]);
        fixture_end(&fixture);
    }
}

Test(client, arena_options_are_sent_where_they_are_set)
{
    Fixture fixture = fixture_make();
    HoldfastArenaOptions options = {
        .set = HOLDFAST_SET_MODE | HOLDFAST_SET_GROUP, .max_bytes = 5, .mode = 0660, .gid = 7};

    say(&fixture, "{\"parameters\":{\"arena\":{\"name\":\"a\"}}}");
    cr_assert_eq(holdfast_change_arena(fixture.connection, "a", &options, NULL), 0);
    expect_heard(&fixture, "{\"method\":\"io.holdfast.ChangeArena\",\"parameters\":{\"name\":\"a\","
                           "\"mode\":432,\"gid\":7}}");
    fixture_end(&fixture);
}

Test(client, reload_and_descriptions_give_their_texts)
{
    Fixture fixture = fixture_make();
    const char *description;
    char **ignored;

    say(&fixture, "{\"parameters\":{\"ignored\":[\"Server.Socket\",\"b\"]}}");
    cr_assert_eq(holdfast_reload(fixture.connection, &ignored), 0);
    cr_assert_str_eq(ignored[0], "Server.Socket");
    cr_assert_str_eq(ignored[1], "b");
    cr_assert_null(ignored[2]);
    holdfast_names_free(ignored);
    say(&fixture, "{\"parameters\":{\"description\":\"# a\\ninterface \\\"x\\\"\\n\"}}");
    cr_assert_eq(holdfast_describe(fixture.connection, "x", &description), 0);
    cr_assert_str_eq(description, "# a\ninterface \"x\"\n");
    fixture_end(&fixture);
}

/* --- whatever comes */

static uint32_t random_next(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* Replies with a few bytes changed, for calls that take them apart in each way; what they return
 * does not matter, that they return does (and the sanitizers). */
Test(client, damaged_replies_are_survived, .timeout = 120)
{
    static const char *const replies[] = {
        "{\"parameters\":{\"next\":\"00\\u0066f\",\"entries\":" ENTRIES "}}",
        "{\"parameters\":{\"value\":{\"a\":[1,2,\"\\ud83d\\ude00\"]},\"revision\":7}}",
        "{\"parameters\":{\"checkpoint\":" CHECKPOINT("complete", "100") "}}",
        "{\"error\":\"io.holdfast.NoSuchKey\",\"parameters\":{\"arena\":\"a\",\"key\":\"k\"}}",
    };
    static const char interesting[] = "{}[]\",:\\u0d8 \n";
    uint32_t state = 1;

    for (int i = 0; i < 20000; i++) {
        Fixture fixture = fixture_make();
        Seen seen = {0};
        char text[1024];
        size_t size = strlen(replies[i % 4]) + 1;

        memcpy(text, replies[i % 4], size);
        for (uint32_t n = random_next(&state) % 4; n > 0; n--)
            text[random_next(&state) % (size - 1)] =
                random_next(&state) % 4 == 0
                    ? (char)random_next(&state)
                    : interesting[random_next(&state) % (sizeof(interesting) - 1)];
        say_bytes(&fixture, text, size);
        shutdown(fixture.peer, SHUT_WR);
        switch (random_next(&state) % 4) {
        case 0:
            holdfast_list(fixture.connection, "a", NULL, NULL, 0, 0, see_entry,
                          &(Seen){.stop_at = 9}, NULL);
            break;
        case 1:
            holdfast_get(fixture.connection, "a", "k", 1, NULL, NULL, NULL);
            break;
        case 2:
            holdfast_verify_checkpoint(fixture.connection, "i", see_progress, &seen, NULL);
            break;
        case 3:
            holdfast_describe(fixture.connection, "i", NULL);
            break;
        }
        fixture_end(&fixture);
    }
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
