/* The calls of a connection, one after the other, and what a handler may ask of a connection.
 *
 * The normal way: a message is complete -> call_parse -> the handler writes its reply into the
 * output -> the reply is committed, the message consumed, the next one looked at. A call that is
 * not done leaves the connection in another state, and its message in front of the input if it is
 * to be called again.
 *
 * What can go wrong: the message is bad (answered, then closed), a reply does not fit into memory
 * (closed: what the call did is done, and no other reply may take its place). */
#include "server/connection-call.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "base/log.h"
#include "server/server-private.h"

#define FULL_FILES 16 /* descriptors that wait to be sent; they count against our own limit */

#define MAY(state) (1u << (state))
#define MAY_END (MAY(CONNECTION_OPEN) | MAY(CONNECTION_CLOSING))

static const unsigned connection_moves[] = {
    [CONNECTION_OPEN] = MAY(CONNECTION_STREAMING) | MAY(CONNECTION_PARKED) |
                        MAY(CONNECTION_WAITING) | MAY(CONNECTION_CLOSING),
    [CONNECTION_STREAMING] = MAY_END | MAY(CONNECTION_PARKED) | MAY(CONNECTION_WAITING),
    [CONNECTION_PARKED] = MAY_END | MAY(CONNECTION_STREAMING) | MAY(CONNECTION_WAITING),
    [CONNECTION_WAITING] = MAY_END,
    [CONNECTION_CLOSING] = MAY(CONNECTION_LINGERING),
    [CONNECTION_LINGERING] = 0,
};

void connection_move(Connection *connection, ConnectionState state)
{
    if (connection->state == state)
        return;
    assert(connection_moves[connection->state] & MAY(state));
    if (connection->state == CONNECTION_PARKED)
        TAILQ_REMOVE(&connection->server->parked, connection, parked_link);
    if (state == CONNECTION_PARKED)
        TAILQ_INSERT_TAIL(&connection->server->parked, connection, parked_link);
    connection->state = state;
}

static void connection_release_state(Connection *connection)
{
    if (connection->call_state_release != NULL)
        connection->call_state_release(connection->call_state);
    connection->call_state = NULL;
    connection->call_state_release = NULL;
}

void connection_drop_call(Connection *connection)
{
    if (connection->state != CONNECTION_STREAMING && connection->state != CONNECTION_PARKED &&
        connection->state != CONNECTION_WAITING)
        return;
    connection_release_state(connection);
    output_discard(&connection->output);
    connection_move(connection, CONNECTION_CLOSING);
}

void connection_close(Connection *connection)
{
    connection_drop_call(connection);
    deadlines_remove(connection);
    output_discard(&connection->output);
    input_clear(&connection->input, &connection->server->shared);
    connection_move(connection, CONNECTION_CLOSING);
    connection_queue(connection);
}

void connection_bad(Connection *connection, const char *reason, Limit limit)
{
    Server *server = connection->server;
    const char *name = limit != LIMIT_NONE ? limits_name(limit) : NULL;

    connection_close(connection);
    server->handler.bad(server->handler.context, &connection->output.data,
                        connection->input.terminator, reason, name,
                        limits_maximum(&server->limits, limit));
    if (output_commit(&connection->output, 0) < 0)
        log_debug("no memory to tell user %u what was wrong: the connection is closed",
                  (unsigned)connection->peer.uid);
}

/* --- running calls */

/* The reply is whole: it is queued, or thrown away where none was asked for. False: the connection
 * is closed. */
static bool connection_commit(Connection *connection)
{
    if (_unlikely_(connection->oneway)) {
        output_discard(&connection->output);
        return true;
    }
    if (_likely_(output_commit(&connection->output, connection->hold) == 0)) {
        connection->hold = 0;
        return true;
    }
    log_limited(&connection->server->connection_trouble, LOG_WARNING,
                "no memory for a reply to user %u: the connection is closed",
                (unsigned)connection->peer.uid);
    return false;
}

static void connection_end_call(Connection *connection)
{
    bool committed = connection_commit(connection);

    if (_likely_(committed))
        latency_note(connection->server->latency, connection->kind, connection->arrived_usec,
                     output_last_hold(&connection->output));
    connection_release_state(connection);
    connection_move(connection, CONNECTION_OPEN);
    if (_unlikely_(!committed))
        connection_close(connection);
}

static void connection_returned(Connection *connection, CallResult result)
{
    if (result == CALL_WAITING && connection->finished)
        result = CALL_DONE;
    switch (result) {
    case CALL_DONE:
        input_consume(&connection->input);
        connection_end_call(connection);
        break;
    case CALL_AGAIN:
        connection_move(connection, CONNECTION_STREAMING);
        if (connection_commit(connection))
            connection_make_ready(connection);
        else
            connection_close(connection);
        break;
    case CALL_PARKED:
        output_discard(&connection->output);
        connection_move(connection, CONNECTION_PARKED);
        break;
    case CALL_WAITING:
        input_consume(&connection->input);
        connection_move(connection, CONNECTION_WAITING);
        break;
    }
}

static void connection_run_call(Connection *connection, Bytes message)
{
    Server *server = connection->server;
    const char *reason = "the message is no call";
    Call call;

    buffer_truncate(&server->names, 0);
    buffer_truncate(&server->scratch, 0);
    server->scratch.failed = false;
    server->names.failed = false;
    if (call_parse(&call, message.data, connection->input.scan, &server->names, &reason) < 0) {
        connection_bad(connection, reason, LIMIT_NONE);
        return;
    }
    connection->oneway = call.oneway;
    connection->hold = 0;
    connection->kind = 0;
    connection->finished = false;
    connection_returned(connection,
                        server->handler.call(server->handler.context, connection, &call));
}

void connection_run_front(Connection *connection)
{
    connection_run_call(connection, BYTES(connection->input.data, connection->input.message_size));
}

bool connection_drained(const Connection *connection)
{
    return output_unsent(&connection->output) <= connection->full_until &&
           output_files(&connection->output) < FULL_FILES / 2;
}

/* May another call write its reply? */
static bool connection_check_full(Connection *connection)
{
    if (output_unsent(&connection->output) >= SERVER_OUTPUT_BYTES_MAX ||
        output_files(&connection->output) >= FULL_FILES) {
        connection->full = true;
        connection->full_until = SERVER_OUTPUT_BYTES_MAX / 2;
    }
    return connection->full;
}

/* Where its user's buffers are used up, a connection that has a part in that first sends what it
 * has; one that has none is refused. A message that just fits goes on: it leaves its memory to its
 * reply. */
static bool connection_check_buffers(Connection *connection)
{
    Server *server = connection->server;

    if (_likely_(limits_room(&server->limits, connection->user) > 0) || connection->input.size == 0)
        return true;
    if (!connection->input.borrowed && !limits_exceeded(&server->limits, connection->user))
        return true;
    if (output_unsent(&connection->output) > 0) {
        connection->full = true;
        connection->full_until = 0;
    } else {
        connection_bad(connection, NULL, LIMIT_BUFFERS);
    }
    return false;
}

/* The message in front, if there is one. False: nothing can go on now. */
static bool connection_run_next(Connection *connection)
{
    Server *server = connection->server;
    const char *reason = NULL;
    Bytes message;

    switch (input_next(&connection->input, &server->shared, server->limits.max.message_bytes_max,
                       &message, &reason)) {
    case INPUT_NONE:
        return false;
    case INPUT_LATER:
        connection_make_ready(connection);
        return false;
    case INPUT_MESSAGE:
        deadlines_remove(connection);
        connection_run_call(connection, message);
        break;
    case INPUT_BAD:
        connection_bad(connection, reason, LIMIT_NONE);
        break;
    case INPUT_TOO_LONG:
        connection_bad(connection, NULL, LIMIT_MESSAGE);
        break;
    case INPUT_NO_MEMORY:
        connection_bad(connection, NULL, LIMIT_BUFFERS);
        break;
    }
    return connection->state == CONNECTION_OPEN;
}

void connection_run(Connection *connection)
{
    if (connection->full || !connection_check_buffers(connection))
        return;
    if (connection->state == CONNECTION_STREAMING) {
        if (!connection_check_full(connection))
            connection_run_front(connection);
    }
    for (unsigned calls = 0;
         connection->state == CONNECTION_OPEN && !connection_check_full(connection); calls++) {
        if (calls == SERVER_CALLS_A_TURN) {
            connection_make_ready(connection);
            return;
        }
        if (!connection_run_next(connection))
            return;
    }
}

void connection_replace_reply(void *context, Buffer *out, uint64_t revision)
{
    Connection *connection = context;
    const ServerHandler *handler = &connection->server->handler;

    handler->not_durable(handler->context, out, connection->input.terminator, revision);
}

/* --- for the handler */

const Peer *connection_peer(const Connection *connection)
{
    return &connection->peer;
}

char connection_terminator(const Connection *connection)
{
    return connection->input.terminator;
}

Buffer *connection_output(Connection *connection)
{
    return &connection->output.data;
}

Buffer *connection_scratch(Connection *connection)
{
    return &connection->server->scratch;
}

void connection_hold(Connection *connection, uint64_t revision)
{
    connection->hold = revision;
}

void connection_set_kind(Connection *connection, unsigned kind)
{
    assert(kind < LATENCY_KINDS);
    connection->kind = kind;
}

/* Has the client read all that was sent? */
static bool connection_all_read(const Connection *connection)
{
    int unread = 0;

    return output_files(&connection->output) == 0 &&
           ioctl(connection->fd, SIOCOUTQ, &unread) == 0 && unread == 0;
}

int connection_attach(Connection *connection, int fd)
{
    if (connection_all_read(connection))
        connection->files = 0;
    if (connection->files >= SERVER_DESCRIPTORS_UNREAD_MAX) {
        close(fd);
        return -ETOOMANYREFS;
    }
    connection->files++;
    return output_attach(&connection->output, fd);
}

void connection_wrote(Connection *connection)
{
    if (connection->state != CONNECTION_WAITING)
        return; /* committed when the call returns */
    if (!connection_commit(connection)) {
        connection_break(connection);
        return;
    }
    connection_queue(connection);
    server_wake(connection->server);
}

void connection_finish(Connection *connection)
{
    if (connection->state != CONNECTION_WAITING) {
        connection->finished = true;
        return;
    }
    connection_end_call(connection);
    if (connection->state == CONNECTION_OPEN && connection->input.size > 0)
        connection_make_ready(connection);
    connection_queue(connection);
    server_wake(connection->server);
}

bool connection_has_room(const Connection *connection)
{
    return output_unsent(&connection->output) < SERVER_OUTPUT_BYTES_MAX;
}

void connection_set_state(Connection *connection, void *state, void (*release)(void *state))
{
    connection->call_state = state;
    connection->call_state_release = release;
}

void *connection_state(const Connection *connection)
{
    return connection->call_state;
}
