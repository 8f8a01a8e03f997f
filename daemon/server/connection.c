/* A connection's life: accepted, read, flushed, closed. What its calls do is in connection-call.c.
 *
 * The normal way: readable -> bytes into the input -> calls run, replies gather in the output ->
 * end of turn, the rest is kept -> the server's flush sends. Reading stops by itself while a call
 * is under way, the output is full or the server stops: the event stays as it is until it fires in
 * vain once, because mostly reading goes on before that.
 *
 * What can go wrong: the peer hangs up. A peer that only shut down its side (as socat and nc do)
 * still gets its replies. poll(2) tells the two apart: POLLHUP comes only with the second. While we
 * do not read, an edge-triggered event watches for it, since a half-closed socket is readable for
 * ever. */
#include "server/connection.h"

#include <poll.h>
#include <sys/socket.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/connection-call.h"
#include "server/server-private.h"

#define LINGER_BYTES_MAX (64 * MIB)

enum {
    WATCH_READ = EV_READ | EV_PERSIST,
    WATCH_WRITE = EV_WRITE | EV_PERSIST, /* fires on a hang-up, too */
    WATCH_BOTH = EV_READ | EV_WRITE | EV_PERSIST,
    WATCH_HANGUP = EV_READ | EV_ET | EV_PERSIST,
};

static bool connection_reads(const Connection *connection)
{
    if (connection->state == CONNECTION_LINGERING)
        return true;
    return connection->state == CONNECTION_OPEN && !connection->full && !connection->end_seen &&
           !connection->server->stopped;
}

static bool connection_hung_up(const Connection *connection)
{
    struct pollfd poll_fd = {.fd = connection->fd};
    return poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

static void connection_on_event(evutil_socket_t fd, short what, void *context);

/* Sets the event for what the connection waits for. lazy: an event for reading may stay where
 * hang-ups are to be watched for. */
static int connection_watch(Connection *connection, bool lazy)
{
    bool writes = connection->queue == QUEUE_STUCK;
    unsigned wanted = WATCH_HANGUP;

    if (connection_reads(connection))
        wanted = writes ? WATCH_BOTH : WATCH_READ;
    else if (writes)
        wanted = WATCH_WRITE;
    if (wanted == connection->watched ||
        (lazy && wanted == WATCH_HANGUP && connection->watched == WATCH_READ))
        return 0;

    if (connection->watched != 0)
        event_del(&connection->event);
    connection->watched = 0;
    if (event_assign(&connection->event, connection->server->base, connection->fd, (short)wanted,
                     connection_on_event, connection) < 0 ||
        event_add(&connection->event, NULL) < 0)
        return -EIO;
    connection->watched = wanted;
    return 0;
}

void connection_queue(Connection *connection)
{
    if (connection->queue != QUEUE_NONE)
        return;
    TAILQ_INSERT_TAIL(&connection->server->sending, connection, output_link);
    connection->queue = QUEUE_SENDING;
}

static void connection_unqueue(Connection *connection)
{
    Server *server = connection->server;

    if (connection->queue != QUEUE_NONE)
        TAILQ_REMOVE(connection->queue == QUEUE_STUCK ? &server->stuck : &server->sending,
                     connection, output_link);
    connection->queue = QUEUE_NONE;
}

static void connection_stick(Connection *connection)
{
    connection_unqueue(connection);
    TAILQ_INSERT_TAIL(&connection->server->stuck, connection, output_link);
    connection->queue = QUEUE_STUCK;
}

void connection_make_ready(Connection *connection)
{
    if (connection->ready)
        return;
    TAILQ_INSERT_TAIL(&connection->server->ready, connection, ready_link);
    connection->ready = true;
    connection->ready_turn = connection->server->turn;
}

static void connection_account(Connection *connection)
{
    uint64_t now = input_memory(&connection->input) + output_capacity(&connection->output);

    if (now == connection->accounted)
        return;
    limits_account(&connection->server->limits, connection->user, connection->accounted, now);
    connection->accounted = now;
}

void connection_break(Connection *connection)
{
    connection->broken = true;
    connection_unqueue(connection);
    connection_queue(connection);
    server_wake(connection->server);
}

static void connection_rewatch(Connection *connection, bool lazy)
{
    if (connection_watch(connection, lazy) == 0)
        return;
    log_limited(&connection->server->connection_trouble, LOG_WARNING,
                "cannot watch a connection of user %u: it is closed",
                (unsigned)connection->peer.uid);
    connection_break(connection);
}

/* The shared block goes to the next connection: what is left moves to our own memory. */
static void connection_end_turn(Connection *connection)
{
    Server *server = connection->server;
    Input *input = &connection->input;

    if (connection->state < CONNECTION_CLOSING) {
        if (connection->end_seen && connection->state == CONNECTION_OPEN && input_partial(input))
            connection_bad(connection, "the connection ended within a message", LIMIT_NONE);
        else if (input_keep(input, &server->shared,
                            limits_room(&server->limits, connection->user)) < 0)
            connection_bad(connection, NULL, LIMIT_BUFFERS);
    }
    if (connection->state == CONNECTION_OPEN && input_partial(input) &&
        connection->deadlines == NULL &&
        deadlines_add(&server->messages, connection, server_now(server)) < 0)
        connection_close(connection);

    connection_account(connection);
    if (connection->output.committed > connection->output.base || connection->end_seen ||
        connection->state == CONNECTION_CLOSING)
        connection_queue(connection);
    connection_rewatch(connection, true);
}

static void connection_read(Connection *connection)
{
    Server *server = connection->server;
    uint64_t room = limits_room(&server->limits, connection->user);
    ssize_t n = input_receive(&connection->input, &server->shared, connection->fd, room);

    if (n == -EAGAIN || n == -EINTR)
        return;
    if (n == -ENOBUFS || n == -ENOMEM) {
        connection_bad(connection, NULL, LIMIT_BUFFERS);
    } else if (n < 0) {
        connection_free(connection);
        return;
    } else if (n == 0) {
        connection->end_seen = true;
    } else {
        connection->arrived_usec = server_now(server);
        connection_run(connection);
    }
    connection_end_turn(connection);
}

/* Throws away what the peer still sends, so that it can finish sending and read our last reply. */
static void connection_drain(Connection *connection)
{
    InputShared *shared = &connection->server->shared;
    ssize_t n = recv(connection->fd, shared->block, SERVER_READ_BYTES, 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        connection->lingered += (uint64_t)n;
    if (n <= 0 || connection->lingered > LINGER_BYTES_MAX)
        connection_free(connection);
}

static void connection_receive(Connection *connection)
{
    if (connection->state == CONNECTION_LINGERING)
        connection_drain(connection);
    else
        connection_read(connection);
}

/* The rest of a message, or bytes that nobody wants: likely many, which come after the replies of
 * those who sent a call. */
static bool connection_is_bulk(const Connection *connection)
{
    return connection->state == CONNECTION_LINGERING || connection->input.size > 0;
}

static void connection_on_event(evutil_socket_t fd, short what, void *context)
{
    Connection *connection = context;

    (void)fd;
    if ((what & EV_WRITE) && connection->queue == QUEUE_STUCK) {
        connection_unqueue(connection);
        connection_queue(connection);
    }
    if (!(what & EV_READ))
        return;
    if (connection->ready && !connection->server->stopped)
        return; /* what has gathered comes first */
    if (!connection_reads(connection)) {
        if (connection_hung_up(connection))
            connection_free(connection);
        else
            connection_rewatch(connection, false);
    } else if (connection_is_bulk(connection) && !connection->server->stopped) {
        connection->reads_on = true;
        connection_make_ready(connection);
    } else {
        connection_receive(connection);
    }
}

void connection_go_on(Connection *connection)
{
    bool reads_on = connection->reads_on;

    connection->reads_on = false;
    if (reads_on && connection_reads(connection)) {
        connection_receive(connection);
        return;
    }
    connection_run(connection);
    connection_end_turn(connection);
}

void connection_retry(Connection *connection)
{
    connection_run_front(connection);
    if (connection->state == CONNECTION_OPEN && connection->input.size > 0)
        connection_make_ready(connection);
    connection_end_turn(connection);
}

void connection_message_expired(Connection *connection)
{
    /* What came in time, and waits for its turn, is none of the peer's slowness. */
    if (connection->ready &&
        deadlines_add(&connection->server->messages, connection, clock_monotonic()) == 0)
        return;
    connection_bad(connection, "the message took too long", LIMIT_NONE);
    connection_end_turn(connection);
}

void connection_fail(Connection *connection, uint64_t durable, uint64_t failed_to)
{
    if (output_fail(&connection->output, durable, failed_to, connection_replace_reply,
                    connection) == 0) {
        connection_account(connection);
        return;
    }
    /* Not a word rather than a wrong one. */
    log_limited(&connection->server->connection_trouble, LOG_WARNING,
                "no memory to tell user %u that updates are not durable: the connection is closed",
                (unsigned)connection->peer.uid);
    connection_break(connection);
}

/* All is sent that can be for now: does anything go on from here? False: the connection is no more.
 */
static bool connection_settle(Connection *connection)
{
    Server *server = connection->server;

    if (connection->full && connection_drained(connection)) {
        connection->full = false;
        if (connection->state <= CONNECTION_STREAMING && connection->input.size > 0)
            connection_make_ready(connection);
    }
    if (output_unsent(&connection->output) > 0)
        return true;
    if (connection->end_seen && !connection->ready &&
        (connection->state == CONNECTION_OPEN || connection->state == CONNECTION_CLOSING)) {
        connection_free(connection);
        return false;
    }
    if (connection->state == CONNECTION_CLOSING) {
        shutdown(connection->fd, SHUT_WR);
        connection_move(connection, CONNECTION_LINGERING);
        if (deadlines_add(&server->lingering, connection, server_now(server)) < 0) {
            connection_free(connection);
            return false;
        }
    }
    return true;
}

void connection_flush(Connection *connection, uint64_t durable)
{
    int r = connection->broken ? -EPIPE : output_send(&connection->output, connection->fd, durable);

    if (r < 0) {
        connection_free(connection); /* nobody is there to read it */
        return;
    }
    if (r == OUTPUT_STUCK)
        connection_stick(connection);
    else if (output_unsent(&connection->output) == 0)
        connection_unqueue(connection);
    connection_account(connection);
    if (connection_settle(connection))
        connection_rewatch(connection, true);
}

/* --- coming and going */

static int connection_new(Server *server, int fd, Connection **ret)
{
    Connection *connection = calloc(1, sizeof(*connection));

    if (connection == NULL)
        return -ENOMEM;
    int r = peer_init(&connection->peer, fd);
    if (r < 0) {
        free(connection);
        return r;
    }
    connection->server = server;
    connection->fd = fd;
    input_init(&connection->input, server->pool);
    output_init(&connection->output, server->pool);
    TAILQ_INSERT_TAIL(&server->all, connection, all_link);
    *ret = connection;
    return 0;
}

static void connection_refuse(Connection *connection, Limit limit)
{
    connection->refused = true;
    connection->server->refusals++;
    connection_bad(connection, NULL, limit);
}

void connection_accept(Server *server, int fd)
{
    Connection *connection;

    int r = connection_new(server, fd, &connection);
    if (r < 0) {
        log_limited(&server->connection_trouble, LOG_WARNING,
                    "cannot take a connection, it is closed: %s", log_errno(r));
        close(fd);
        return;
    }
    int limit = limits_enter(&server->limits, connection->peer.uid, &connection->user);
    if (limit < 0 || (limit > 0 && server->refusals >= SERVER_REFUSALS_MAX)) {
        connection_free(connection);
        return;
    }
    if (limit > 0)
        connection_refuse(connection, (Limit)limit);
    connection_rewatch(connection, false);
}

static void connection_leave_lists(Connection *connection)
{
    Server *server = connection->server;

    TAILQ_REMOVE(&server->all, connection, all_link);
    connection_unqueue(connection);
    if (connection->ready)
        TAILQ_REMOVE(&server->ready, connection, ready_link);
    deadlines_remove(connection);
    if (connection->watched != 0)
        event_del(&connection->event);
}

Connection *connection_free(Connection *connection)
{
    if (connection == NULL)
        return NULL;

    Server *server = connection->server;
    connection_drop_call(connection);
    connection_leave_lists(connection);
    input_clear(&connection->input, &server->shared);
    output_deinit(&connection->output);
    connection_account(connection);
    if (connection->user != NULL)
        limits_leave(&server->limits, connection->user);
    if (connection->refused)
        server->refusals--;
    peer_deinit(&connection->peer);
    close(connection->fd);
    free(connection);
    server_descriptor_freed(server);
    return NULL;
}
