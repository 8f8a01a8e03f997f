/* Unit tests of daemon/server: calls that do not end at once, held replies, descriptors. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "lib/serving.h"

#define ECHO "{\"method\":\"Echo\"}"
#define ECHOED "{\"parameters\":{}}"
#define PUT "{\"method\":\"Put\"}"
#define PUT_REPLY(revision) "{\"parameters\":{\"revision\":" #revision "}}"
#define PARK "{\"method\":\"Park\"}"
#define WAIT "{\"method\":\"Wait\"}"
#define NOT_DURABLE(revision) "revision " #revision " is not durable, sorry for that"

/* --- held replies */

Test(server_calls, a_held_reply_leaves_when_its_revision_is_durable_and_not_before)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);

    serving->hold = true;
    client_call(&client, ECHO);
    client_call(&client, PUT);
    client_call(&client, ECHO);
    client_call(&client, PUT);
    client_expect_text(&client, ECHOED, '\0');
    client_expect_silence(&client);
    cr_expect(eq(uint, serving->calls, 4), "reading goes on");
    serving->durable = 1;
    client_expect_text(&client, PUT_REPLY(1), '\0');
    client_expect_text(&client, ECHOED, '\0');
    client_expect_silence(&client);
    serving->durable = 2;
    client_expect_text(&client, PUT_REPLY(2), '\0');
    client_free(&client);
    serving_free(serving);
}

Test(server_calls, only_the_replies_of_failed_updates_are_replaced)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving), other = client_new(serving);

    serving->hold = true;
    for (unsigned i = 0; i < 4; i++) {
        client_call(&client, PUT);
        client_call(&client, ECHO);
    }
    serving_until(serving, serving->calls == 8);
    client_call(&other, PUT);
    serving_until(serving, serving->calls == 9);
    /* 1 is durable, 2 and 3 failed, 4 and 5 lie in another segment. */
    server_fail(serving->server, 1, 3);
    serving->durable = 1;
    client_expect_text(&client, PUT_REPLY(1), '\0');
    client_expect_text(&client, ECHOED, '\0');
    client_expect_text(&client, NOT_DURABLE(2), '\0');
    client_expect_text(&client, ECHOED, '\0');
    client_expect_text(&client, NOT_DURABLE(3), '\0');
    client_expect_text(&client, ECHOED, '\0');
    client_expect_silence(&client);
    serving->durable = 5;
    client_expect_text(&client, PUT_REPLY(4), '\0');
    client_expect_text(&client, ECHOED, '\0');
    client_expect_text(&other, PUT_REPLY(5), '\0');
    client_free(&client);
    client_free(&other);
    serving_free(serving);
}

Test(server_calls, what_a_waiting_call_has_written_outlives_a_failure_before_it)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);
    char bytes[256];

    serving->hold = true;
    client_call(&client, PUT);
    client_call(&client, "{\"method\":\"File\"}");
    client_call(&client, WAIT);
    serving_until(serving, serving->waiting_count == 1);
    Connection *waiting = serving->waiting[0];
    buffer_append_text(connection_output(waiting), "par");
    server_fail(serving->server, 0, 1);
    serving_turn(serving);
    /* The other reply is longer: the descriptor still goes with the one behind it. */
    cr_assert(eq(int, (int)recv(client.fd, bytes, sizeof(NOT_DURABLE(1)), 0),
                 (int)sizeof(NOT_DURABLE(1))));
    cr_expect(eq(str, bytes, NOT_DURABLE(1)));
    client_expect_text(&client, "{\"parameters\":{\"file\":1}}", '\0');
    cr_expect(eq(uint, client.passed_count, 1));
    client_expect_silence(&client);
    buffer_append(connection_output(waiting), "tial", 5);
    connection_finish(waiting);
    client_expect_text(&client, "partial", '\0');
    client_free(&client);
    serving_free(serving);
}

/* --- parked */

Test(server_calls, parked_calls_go_on_in_the_order_of_parking)
{
    Serving *serving = serving_new(NULL);
    Client clients[5];
    char expected[64];

    serving->parking = true;
    for (unsigned i = 0; i < ARRAY_SIZE(clients); i++) {
        clients[i] = client_new(serving);
        client_call(&clients[i], PARK);
        client_call(&clients[i], ECHO);
        serving_until(serving, serving->calls == i + 1);
    }
    for (unsigned i = 0; i < 3; i++) {
        server_resume(serving->server);
        cr_expect(eq(uint, serving->park_calls, (i + 2) * ARRAY_SIZE(clients)));
        client_expect_silence(&clients[i]);
    }
    client_free(&clients[1]); /* one goes: the others keep their places */
    serving_until(serving, server_connections(serving->server) == ARRAY_SIZE(clients) - 1);
    serving->parking = false;
    server_resume(serving->server);
    for (unsigned i = 0, order = 1; i < ARRAY_SIZE(clients); i++) {
        if (i == 1)
            continue;
        snprintf(expected, sizeof(expected), "{\"parameters\":{\"order\":%u}}", order++);
        client_expect_text(&clients[i], expected, '\0');
        client_expect_text(&clients[i], ECHOED, '\0');
        client_free(&clients[i]);
    }
    serving_free(serving);
}

Test(server_calls, a_resume_may_let_some_through_and_park_the_rest_again)
{
    Serving *serving = serving_new(NULL);
    Client first = client_new(serving), second = client_new(serving);

    serving->parking = true;
    client_call(&first, PARK);
    client_call(&first, PARK);
    serving_until(serving, serving->calls == 1);
    client_call(&second, PARK);
    serving_until(serving, serving->calls == 2);
    serving->parking = false;
    server_resume(serving->server);
    serving->parking = true; /* the second call of the first client comes in the next turn */
    client_expect_text(&first, "{\"parameters\":{\"order\":1}}", '\0');
    client_expect_text(&second, "{\"parameters\":{\"order\":2}}", '\0');
    client_expect_silence(&first);
    serving->parking = false;
    server_resume(serving->server);
    client_expect_text(&first, "{\"parameters\":{\"order\":3}}", '\0');
    client_free(&first);
    client_free(&second);
    serving_free(serving);
}

Test(server_calls, a_parked_message_of_many_bytes_is_the_same_when_it_is_called_again)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving), noise = client_new(serving);
    Buffer message;

    /* A call of which the server keeps text and scan, while others use the shared ones. */
    buffer_init(&message, serving->pool);
    buffer_append_text(&message, "{\"parameters\":{\"a\":\"");
    for (unsigned i = 0; i < 100000; i++)
        buffer_append_text(&message, "\\n\303\244");
    buffer_append_text(&message, "\"},\"method\":\"Pa\\u0072k\"}");
    buffer_append(&message, "", 1);
    serving->parking = true;
    client_send(&client, buffer_begin(&message), buffer_size(&message));
    serving_until(serving, serving->calls == 1);
    for (unsigned i = 0; i < 10; i++) {
        client_call(&noise, ECHO);
        client_expect_text(&noise, ECHOED, '\0');
    }
    serving->parking = false;
    server_resume(serving->server);
    client_expect_text(&client, "{\"parameters\":{\"order\":1}}", '\0');
    cr_expect(eq(uint, serving->park_calls, 2));
    buffer_clear(&message);
    client_free(&client);
    client_free(&noise);
    serving_free(serving);
}

/* --- waiting */

Test(server_calls, calls_behind_a_waiting_one_wait_for_it)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);

    client_call(&client, WAIT);
    client_call(&client, ECHO);
    client_expect_silence(&client);
    Connection *waiting = serving->waiting[0];
    for (unsigned i = 0; i < 3; i++) {
        buffer_append(connection_output(waiting), "progress", 9);
        client_expect_silence(&client);
        connection_wrote(waiting);
        client_expect_text(&client, "progress", '\0');
    }
    buffer_append(connection_output(waiting), "done", 5);
    connection_finish(waiting);
    client_expect_text(&client, "done", '\0');
    client_expect_text(&client, ECHOED, '\0');
    client_call(&client, ECHO);
    client_expect_text(&client, ECHOED, '\0');
    client_free(&client);
    serving_free(serving);
}

/* --- oneway */

Test(server_calls, oneway_calls_are_never_answered)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);

    serving->hold = true;
    client_call(&client, "{\"method\":\"Echo\",\"oneway\":true}");
    client_call(&client, "{\"method\":\"Put\",\"oneway\":true}");
    client_call(&client, "{\"method\":\"File\",\"oneway\":true}");
    client_call(&client, "{\"method\":\"Stream\",\"oneway\":true,\"parameters\":{\"size\":5}}");
    client_call(&client, "{\"method\":\"Wait\",\"oneway\":true}");
    client_call(&client, ECHO);
    serving_until(serving, serving->waiting_count == 1);
    buffer_append(connection_output(serving->waiting[0]), "progress", 9);
    connection_wrote(serving->waiting[0]);
    buffer_append(connection_output(serving->waiting[0]), "done", 5);
    connection_finish(serving->waiting[0]);
    client_expect_text(&client, ECHOED, '\0');
    client_expect_silence(&client);
    cr_expect(eq(uint, client.passed_count, 0));
    client_free(&client);
    serving_free(serving);
}

/* --- streams, slow readers */

Test(server_calls, a_stream_goes_on_as_its_reader_reads)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);

    client_call(&client, "{\"method\":\"Stream\",\"more\":true,\"parameters\":{\"size\":100}}");
    client_call(&client, ECHO);
    serving_turns(serving, 200);
    cr_expect(le(u64, server_buffer_bytes(serving->server), 4 * SERVER_OUTPUT_BYTES_MAX));
    cr_expect(lt(uint, serving->calls, 50), "the reader has read nothing yet");
    client_expect(&client, 102, '\0');
    for (unsigned i = 0; i <= 100; i++) {
        char expected[64];
        char *message = client_take(&client, '\0');
        snprintf(expected, sizeof(expected),
                 i < 100 ? "{\"parameters\":{\"index\":%u,\"fill\":\"x"
                         : "{\"parameters\":{\"index\":%u}}",
                 i);
        cr_assert(eq(int, strncmp(message, expected, strlen(expected)), 0), "%.60s", message);
        cr_expect(eq(int, strstr(message, "\"continues\":true") != NULL, i < 100));
        free(message);
    }
    client_expect_text(&client, ECHOED, '\0');
    cr_expect(eq(uint, serving->released, 1));
    client_free(&client);
    serving_free(serving);
}

Test(server_calls, output_of_a_reader_that_does_not_read_is_bounded)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving), other = client_new(serving);
    static const char call[] = "{\"method\":\"Big\",\"parameters\":{\"size\":10000}}";
    unsigned sent = 0, full = 0;

    /* Send until the server has stopped reading and the socket is full. */
    while (full < 50) {
        if (send(client.fd, call, sizeof(call), MSG_DONTWAIT) == (ssize_t)sizeof(call)) {
            sent++;
            continue;
        }
        full++;
        serving_turn(serving);
    }
    cr_expect(lt(uint, serving->calls, sent));
    cr_expect(le(u64, server_buffer_bytes(serving->server), 4 * SERVER_OUTPUT_BYTES_MAX));
    client_call(&other, ECHO);
    client_expect_text(&other, ECHOED, '\0');
    /* Partial sends may have left a call cut off: what matters is that all whole ones are answered.
     */
    client_expect(&client, sent, '\0');
    client_free(&client);
    client_free(&other);
    serving_free(serving);
}

/* --- descriptors */

static unsigned file_number(int fd)
{
    char text[16] = {0};

    cr_assert(gt(int, (int)pread(fd, text, sizeof(text) - 1, 0), 0));
    return (unsigned)atoi(text);
}

Test(server_calls, descriptors_arrive_with_their_replies)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);
    char bytes[256];

    serving->hold = true;
    client_call(&client, ECHO);
    client_call(&client, "{\"method\":\"File\"}");
    client_call(&client, PUT);
    client_call(&client, "{\"method\":\"File\"}");
    client_expect(&client, 2, '\0');
    client_expect_silence(&client);
    cr_assert(eq(uint, client.passed_count, 1), "the other one waits with its reply");
    cr_expect(eq(uint, file_number(client.passed[0]), 1));
    buffer_clear(&client.text);
    serving->durable = 1;
    serving_turns(serving, 2);
    /* What lies before the reply is read without its descriptor. */
    cr_assert(eq(int, (int)recv(client.fd, bytes, strlen(PUT_REPLY(1)) + 1, 0),
                 (int)strlen(PUT_REPLY(1)) + 1));
    client_expect_text(&client, "{\"parameters\":{\"file\":2}}", '\0');
    cr_assert(eq(uint, client.passed_count, 2));
    cr_expect(eq(uint, file_number(client.passed[1]), 2));
    client_free(&client);
    serving_free(serving);
}

Test(server_calls, descriptors_that_wait_to_be_sent_are_few)
{
    Serving *serving = serving_new(NULL);
    Client client = client_new(serving);

    serving->hold = true;
    client_call(&client, PUT);
    for (unsigned i = 0; i < 100; i++)
        client_call(&client, "{\"method\":\"File\"}");
    serving_turns(serving, 20);
    cr_expect(le(uint, serving->files, 16));
    serving->durable = 1;
    serving->hold = false;
    for (unsigned i = 1; i <= 100; i++) {
        serving_until(serving, (client_read(&client), client.passed_count > 0));
        cr_assert(eq(uint, file_number(client.passed[0]), i));
        close(client.passed[0]);
        memmove(client.passed, client.passed + 1, --client.passed_count * sizeof(int));
    }
    client_free(&client);
    serving_free(serving);
}
