/* Unit tests of daemon/server: framing, order, how connections end. */
#include "server/server.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "lib/serving.h"

#define ECHO(number) "{\"method\":\"Echo\",\"parameters\":{\"n\":" #number "}}"
#define ECHOED(number) "{\"parameters\":{\"n\":" #number "}}"

/* --- framing */

Test(server, nul_ends_messages_both_ways)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);

    client_call(&client, ECHO(1));
    client_call(&client, "  {\n\t\"method\" : \"Echo\",\n\"parameters\":{}}");
    client_expect_text(&client, ECHOED(1), '\0');
    client_expect_text(&client, "{\"parameters\":{}}", '\0');
    client_free(&client);
    serving_free(serving);
}

Test(server, newline_behind_the_first_message_chooses_lines_both_ways)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);

    client_send_text(&client, ECHO(1) "\n\n \r\n" ECHO(2) "\n\n{\"method\":\n\"Echo\"}\n");
    client_expect_text(&client, ECHOED(1), '\n');
    client_expect_text(&client, ECHOED(2), '\n');
    client_expect_text(&client, "{\"parameters\":{}}", '\n');
    client_free(&client);
    serving_free(serving);
}

static void expect_bad(const char *text, size_t size, const char *reason, char terminator)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);

    client_send(&client, text, size);
    client_expect(&client, 1, terminator);
    char *message = client_take(&client, terminator);
    cr_expect(ne(ptr, strstr(message, reason), NULL), "%s: %s", text, message);
    free(message);
    client_expect_end(&client);
    cr_expect(eq(sz, buffer_size(&client.text), 0));
    cr_expect(eq(uint, serving->calls, 0));
    client_free(&client);
    serving_free(serving);
}

Test(server, what_is_no_call_is_told_so_and_closed)
{
    expect_bad("[1]", 4, "bad", '\0');
    expect_bad("12", 3, "bad", '\0');
    expect_bad("\0", 1, "bad", '\0');
    expect_bad("{\"method\":\"Echo\"}x", 18, "NUL", '\0');
    expect_bad("{\"method\":\"Echo\"} \n", 19, "NUL", '\0');
    expect_bad("{\"method\":\"Echo\",}", 19, "bad", '\0');
    expect_bad("{\"method\":5}", 13, "bad", '\0');
    expect_bad("{\"parameters\":{}}\n", 18, "bad", '\n');
}

Test(server, replies_before_a_bad_message_arrive_before_its_error)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);

    client_send_text(&client, ECHO(1) "\n" ECHO(2) "\n" ECHO(3) "x" ECHO(4) "\n");
    client_expect_text(&client, ECHOED(1), '\n');
    client_expect_text(&client, ECHOED(2), '\n');
    client_expect_text(&client, "bad the message is not followed by a newline", '\n');
    client_expect_end(&client);
    cr_expect(eq(uint, serving->calls, 2));
    client_free(&client);
    serving_free(serving);
}

Test(server, a_client_still_sending_reads_the_error_all_the_same)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);
    char *garbage = malloc(4 * MIB);

    memset(garbage, '?', 4 * MIB);
    client_send(&client, garbage, 4 * MIB);
    client_expect_text(&client, "bad the message is no JSON object", '\0');
    client_expect_end(&client);
    cr_expect(eq(uint, server_connections(serving->server), 1), "lingers until we hang up");
    client_free(&client);
    serving_until(serving, server_connections(serving->server) == 0);
    free(garbage);
    serving_free(serving);
}

Test(server, a_closed_connection_does_not_linger_for_ever)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);

    client_call(&client, "no call");
    client_expect_text(&client, "bad the message is no JSON object", '\0');
    client_expect_end(&client);
    uint64_t start = clock_monotonic();
    serving_until(serving, server_connections(serving->server) == 0);
    cr_expect(gt(u64, clock_monotonic() - start, USEC_PER_SEC));
    client_free(&client);
    serving_free(serving);
}

/* --- order and pieces */

Test(server, messages_may_arrive_byte_by_byte)
{
    static const char text[] = ECHO(1) "\n" ECHO(2) "\n" ECHO(3) "\n";
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);

    for (size_t i = 0; i < strlen(text); i++) {
        client_send(&client, text + i, 1);
        serving_turns(serving, 2);
        cr_assert(eq(uint, serving->calls, (i + 1) / strlen(ECHO(1) "\n")));
    }
    client_expect_text(&client, ECHOED(1), '\n');
    client_expect_text(&client, ECHOED(2), '\n');
    client_expect_text(&client, ECHOED(3), '\n');
    client_free(&client);
    serving_free(serving);
}

static void send_echoes(Client *client, unsigned count)
{
    Buffer calls;

    buffer_init(&calls, client->serving->pool);
    for (unsigned i = 0; i < count; i++)
        buffer_append_format(&calls, "{\"method\":\"Echo\",\"parameters\":{\"n\":%u}}\n", i);
    client_send(client, buffer_begin(&calls), buffer_size(&calls));
    buffer_clear(&calls);
}

Test(server, a_hundred_thousand_calls_at_once_are_answered_in_order)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);
    char expected[64];

    send_echoes(&client, 100000);
    client_expect(&client, 100000, '\n');
    for (unsigned i = 0; i < 100000; i++) {
        snprintf(expected, sizeof(expected), "{\"parameters\":{\"n\":%u}}", i);
        char *message = client_take(&client, '\n');
        if (strcmp(message, expected) != 0)
            cr_assert(eq(str, message, expected));
        free(message);
    }
    client_free(&client);
    serving_free(serving);
}

Test(server, one_connection_runs_no_more_than_its_share_in_a_turn)
{
    Serving *serving = serving_new(NULL);
    Client many = client_new(serving), one = client_new(serving);

    send_echoes(&many, 1000);
    client_call(&one, ECHO(2));
    serving_turn(serving);
    cr_expect(eq(uint, serving->calls, 2 * SERVER_CALLS_A_TURN + 1), "a piece, and another one");
    cr_expect(server_has_work(serving->server));
    client_expect_text(&one, ECHOED(2), '\0');
    client_expect(&many, 1000, '\n');
    cr_expect(not(server_has_work(serving->server)));
    client_free(&many);
    client_free(&one);
    serving_free(serving);
}

#define PUT "{\"method\":\"Put\"}"

Test(server, a_call_comes_before_what_others_have_left_to_do)
{
    Serving *serving = serving_new(NULL);
    Client many = client_new(serving), large = client_new(serving), one = client_new(serving);
    char *text = malloc(1 * MIB), *calls = malloc(1000 * sizeof(PUT)), expected[64];

    memset(text, ' ', 1 * MIB);
    memcpy(text, PUT, strlen(PUT) - 1);
    client_send(&large, text, 100 * KIB);
    for (unsigned i = 0; i < 1000; i++)
        memcpy(calls + i * sizeof(PUT), PUT, sizeof(PUT));
    client_send(&many, calls, 1000 * sizeof(PUT));
    serving_until(serving, serving->revision >= SERVER_CALLS_A_TURN);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t before = serving->revision;

        cr_assert(server_has_work(serving->server));
        client_send(&large, text + 1 * KIB, 50 * KIB);
        client_call(&one, PUT);
        serving_turn(serving);
        cr_assert(client_read(&one));
        snprintf(expected, sizeof(expected), "{\"parameters\":{\"revision\":%llu}}",
                 (unsigned long long)before + 1);
        client_expect_text(&one, expected, '\0');
    }
    client_expect(&many, 1000, '\0');
    client_call(&large, "}");
    client_expect(&large, 1, '\0');
    free(text);
    free(calls);
    client_free(&many);
    client_free(&large);
    client_free(&one);
    serving_free(serving);
}

Test(server, a_loop_with_work_left_does_not_sleep)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);
    struct timeval alarm = {.tv_sec = 5};
    unsigned turns = 0;

    event_base_loopexit(serving->base, &alarm);
    send_echoes(&client, 1000);
    while (serving->calls < 1000) {
        cr_assert(lt(uint, turns++, 20));
        event_base_loop(serving->base, EVLOOP_ONCE);
        server_flush(serving->server, UINT64_MAX);
    }
    client_expect(&client, 1000, '\n');
    client_free(&client);
    serving_free(serving);
}

Test(server, idle_connections_hold_no_buffers)
{
    Serving *serving = serving_new(NULL);
    Client clients[100];

    uint64_t before = pool_bytes_taken(serving->pool);
    for (unsigned i = 0; i < ARRAY_SIZE(clients); i++) {
        clients[i] = client_new(serving);
        client_call(&clients[i], ECHO(1));
        client_call(&clients[i], "{\"method\":\"Big\",\"parameters\":{\"size\":100000}}");
        client_expect(&clients[i], 2, '\0');
        buffer_clear(&clients[i].text);
    }
    cr_expect(eq(u64, server_buffer_bytes(serving->server), 0));
    cr_expect(lt(u64, pool_bytes_taken(serving->pool) - before, 128 * KIB));
    for (unsigned i = 0; i < ARRAY_SIZE(clients); i++)
        client_free(&clients[i]);
    serving_free(serving);
}

/* --- ends */

Test(server, a_half_closed_client_gets_all_its_replies)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);

    serving->hold = true;
    for (unsigned i = 0; i < 500; i++)
        client_call(&client, ECHO(1));
    client_call(&client, "{\"method\":\"Put\"}");
    client_call(&client, "{\"method\":\"Big\",\"parameters\":{\"size\":3000000}}");
    client_call(&client, "{\"method\":\"Wait\"}");
    client_call(&client, ECHO(2));
    shutdown(client.fd, SHUT_WR);
    client_expect(&client, 500, '\0');
    client_expect_silence(&client);
    serving->durable = 1;
    client_expect(&client, 502, '\0');
    cr_assert(eq(uint, serving->waiting_count, 1));
    client_expect_silence(&client);
    buffer_append_text(connection_output(serving->waiting[0]), "waited");
    buffer_append(connection_output(serving->waiting[0]), "", 1);
    connection_finish(serving->waiting[0]);
    client_expect(&client, 504, '\0');
    client_expect_end(&client);
    serving_until(serving, server_connections(serving->server) == 0);
    client_free(&client);
    serving_free(serving);
}

Test(server, a_stream_that_ends_within_a_message_is_told_so)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);

    client_send_text(&client, ECHO(1)); /* no terminator */
    shutdown(client.fd, SHUT_WR);
    client_expect_text(&client, "bad the connection ended within a message", '\0');
    client_expect_end(&client);
    client_free(&client);
    serving_until(serving, server_connections(serving->server) == 0);
    serving_free(serving);
}

Test(server, a_client_that_hangs_up_while_its_call_is_under_way_is_let_go)
{
    static const char *const calls[] = {
        "{\"method\":\"Wait\"}",
        "{\"method\":\"Park\"}",
        "{\"method\":\"Stream\",\"more\":true,\"parameters\":{\"size\":1000}}",
    };
    Serving *serving = serving_new(NULL);

    serving->parking = true;
    for (unsigned i = 0; i < ARRAY_SIZE(calls); i++) {
        for (unsigned half = 0; half < 2; half++) {
            Client client = client_new(serving);
            unsigned calls_before = serving->calls;
            client_call(&client, calls[i]);
            serving_until(serving, serving->calls > calls_before);
            serving_turns(serving, 40);
            if (half) {
                shutdown(client.fd, SHUT_WR);
                serving_turns(serving, 10);
                cr_expect(eq(uint, server_connections(serving->server), 1),
                          "%s: half closed is not gone", calls[i]);
            }
            if (!half)
                client_call(&client, ECHO(1)); /* input that is not read */
            client_free(&client);
            serving_until(serving, server_connections(serving->server) == 0);
        }
    }
    cr_expect(eq(uint, serving->released, 2));
    serving_free(serving);
}

Test(server, a_half_closed_waiting_connection_does_not_spin_the_loop)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);
    struct timeval soon = {.tv_usec = 100000};
    unsigned turns = 0;

    client_call(&client, "{\"method\":\"Wait\"}");
    client_call(&client, ECHO(1));
    shutdown(client.fd, SHUT_WR);
    serving_turns(serving, 10);
    event_base_loopexit(serving->base, &soon);
    do {
        event_base_loop(serving->base, EVLOOP_ONCE);
        server_flush(serving->server, 0);
        cr_assert(lt(uint, turns++, 20));
    } while (!event_base_got_exit(serving->base));
    client_free(&client);
    serving_until(serving, server_connections(serving->server) == 0);
    serving_free(serving);
}

Test(server, a_stop_reads_no_more_but_sends_what_is_queued)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);

    serving->hold = true;
    client_call(&client, "{\"method\":\"Put\"}");
    serving_until(serving, serving->calls == 1);
    server_stop(serving->server);
    client_call(&client, ECHO(1));
    client_expect_silence(&client);
    cr_expect(server_busy(serving->server));
    serving->durable = 1;
    client_expect_text(&client, "{\"parameters\":{\"revision\":1}}", '\0');
    cr_expect(not(server_busy(serving->server)));
    cr_expect(eq(uint, serving->calls, 1));
    client_free(&client);
    serving_until(serving, server_connections(serving->server) == 0);
    serving_free(serving);
}
