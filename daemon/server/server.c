/* The server: lists of connections by what they wait for, and the turn.
 *
 * A turn: the loop calls the events of connections that can be read or written; calls are parked,
 * wait, or leave replies; server_flush sends, and then those go on that have more to do than fits
 * in a turn. So a call waits for a piece of theirs at most, and its reply for none. Each list is
 * walked by who has something to do with it alone, so that a thousand idle connections cost
 * nothing.
 *
 * What can go wrong concerns single connections and is dealt with there. */
#include "server/server.h"

#include <event2/event.h>

#include "base/clock.h"
#include "server/connection.h"
#include "server/server-private.h"

#define SCRATCH_KEEP_BYTES (1 * MIB)
#define GO_ON_USEC 50 /* at least; one piece takes about that */
#define GO_ON_PART 4  /* a quarter of what the others took */

uint64_t server_now(Server *server)
{
    if (server->now == 0)
        server->now = clock_monotonic();
    return server->now;
}

void server_wake(Server *server)
{
    event_active(&server->wake, EV_TIMEOUT, 0);
}

/* That the loop has turned is all. */
static void server_on_wake(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what, (void)context;
}

/* Those that cannot be watched now are tried again, as after a want of descriptors; the others do
 * not wait for them. */
static void server_resume_accepting(Server *server)
{
    Listener *listener;
    int error = 0;

    if (!server->accept_paused || !server->accepting)
        return;
    server->accept_paused = false;
    event_del(&server->accept_retry);
    LIST_FOREACH(listener, &server->listeners, link)
    {
        int r = listener_start(listener);
        if (r < 0)
            error = r;
    }
    if (error == 0)
        return;
    server->accept_paused = true; /* without the timer it is the end of a connection that goes on */
    (void)listeners_retry(server, error);
}

static void server_on_accept_retry(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    server_resume_accepting(context);
}

void server_descriptor_freed(Server *server)
{
    server_resume_accepting(server);
}

static void server_on_lingered(Connection *connection)
{
    connection_free(connection);
}

/* --- making and ending */

static int server_init_events(Server *server)
{
    const ServerLimits *limits = &server->limits.max;

    if (event_assign(&server->wake, server->base, -1, EV_PERSIST, server_on_wake, server) < 0 ||
        event_assign(&server->accept_retry, server->base, -1, 0, server_on_accept_retry, server) <
            0 ||
        deadlines_init(&server->messages, server->base, limits->message_usec_max,
                       connection_message_expired) < 0 ||
        deadlines_init(&server->lingering, server->base, SERVER_LINGER_USEC, server_on_lingered) <
            0)
        return -EIO;
    return 0;
}

int server_new(struct event_base *base, Pool *pool, const ServerHandler *handler,
               const ServerLimits *limits, Server **ret)
{
    _cleanup_(freep) Server *server = calloc(1, sizeof(*server));

    if (server == NULL)
        return -ENOMEM;
    server->base = base;
    server->pool = pool;
    server->handler = *handler;
    server->limits.max = *limits;
    TAILQ_INIT(&server->all);
    TAILQ_INIT(&server->sending);
    TAILQ_INIT(&server->stuck);
    TAILQ_INIT(&server->ready);
    TAILQ_INIT(&server->parked);
    LIST_INIT(&server->listeners);
    buffer_init(&server->scratch, pool);
    buffer_init(&server->names, pool);
    int r = server_init_events(server);
    if (r < 0)
        return r;
    r = latency_new(&server->latency);
    if (r < 0)
        return r;
    r = input_shared_init(&server->shared, pool);
    if (r < 0) {
        latency_free(server->latency);
        return r;
    }
    *ret = TAKE_PTR(server);
    return 0;
}

Server *server_free(Server *server)
{
    Listener *listener;

    if (server == NULL)
        return NULL;
    server_stop(server);
    while ((listener = LIST_FIRST(&server->listeners)) != NULL) {
        LIST_REMOVE(listener, link);
        listener_free(listener);
    }
    while (!TAILQ_EMPTY(&server->all))
        connection_free(TAILQ_FIRST(&server->all));
    deadlines_deinit(&server->messages);
    deadlines_deinit(&server->lingering);
    event_del(&server->wake);
    buffer_clear(&server->scratch);
    buffer_clear(&server->names);
    input_shared_deinit(&server->shared);
    latency_free(server->latency);
    free(server);
    return NULL;
}

void server_set_limits(Server *server, const ServerLimits *limits)
{
    server->limits.max = *limits;
    server->messages.usec = limits->message_usec_max;
}

/* --- listening */

static int server_add_listener(Server *server, Listener *listener)
{
    LIST_INSERT_HEAD(&server->listeners, listener, link);
    return server->accepting && !server->accept_paused ? listener_start(listener) : 0;
}

int server_listen(Server *server, const char *path, mode_t mode, gid_t gid)
{
    Listener *listener;
    int r = listener_new(server, path, mode, gid, &listener);
    return r < 0 ? r : server_add_listener(server, listener);
}

int server_listen_fd(Server *server, int fd)
{
    Listener *listener;
    int r = listener_new_fd(server, fd, &listener);
    return r < 0 ? r : server_add_listener(server, listener);
}

int server_accept(Server *server)
{
    Listener *listener;

    server->accepting = true;
    LIST_FOREACH(listener, &server->listeners, link)
    {
        int r = listener_start(listener);
        if (r < 0)
            return r;
    }
    return 0;
}

void server_stop(Server *server)
{
    Listener *listener;

    server->stopped = true;
    server->accepting = false;
    event_del(&server->accept_retry);
    LIST_FOREACH(listener, &server->listeners, link)
    listener_pause(listener);
}

/* --- turns */

/* Those that had more to do than one turn takes when it ended, one after the other, each a piece,
 * until new calls should be looked at again; the others come first the next time. What they leave
 * to do, and their replies, are for the next turn, which does not wait. began: when those who came
 * before them did, 0 where nobody looked. */
static void server_go_on(Server *server, uint64_t began)
{
    Connection *connection = TAILQ_FIRST(&server->ready);
    uint64_t now, end;

    if (!server_has_work(server))
        return;
    server_wake(server);
    now = server_now(server);
    end = now + MAX(GO_ON_USEC, began > 0 ? (now - began) / GO_ON_PART : 0);
    while (connection != NULL && connection->ready_turn < server->turn) {
        TAILQ_REMOVE(&server->ready, connection, ready_link);
        connection->ready = false;
        connection_go_on(connection);
        if (clock_monotonic() >= end)
            break;
        connection = TAILQ_FIRST(&server->ready);
    }
    server->now = 0;
}

bool server_flush(Server *server, uint64_t durable)
{
    uint64_t began = server->now;
    bool answered = latency_due(server->latency, durable);
    Connection *next;

    server->turn++; /* who can go on because all is sent lets its client read first */
    for (Connection *connection = TAILQ_FIRST(&server->sending); connection != NULL;
         connection = next) {
        next = TAILQ_NEXT(connection, output_link);
        connection_flush(connection, durable);
    }
    if (answered)
        latency_left(server->latency, durable, clock_monotonic());
    server->now = 0;
    server_go_on(server, began);
    buffer_truncate(&server->scratch, 0);
    buffer_shrink(&server->scratch, SCRATCH_KEEP_BYTES);
    return answered;
}

static void server_fail_list(ConnectionList *list, uint64_t durable, uint64_t failed_to)
{
    Connection *next;

    /* One that breaks moves to the end of the sending ones. */
    for (Connection *connection = TAILQ_FIRST(list); connection != NULL; connection = next) {
        next = TAILQ_NEXT(connection, output_link);
        if (!connection->broken)
            connection_fail(connection, durable, failed_to);
    }
}

void server_fail(Server *server, uint64_t durable, uint64_t failed_to)
{
    server_fail_list(&server->sending, durable, failed_to);
    server_fail_list(&server->stuck, durable, failed_to);
}

void server_resume(Server *server)
{
    Connection *next;

    /* A call that is parked again stays where it is in the list. */
    for (Connection *connection = TAILQ_FIRST(&server->parked); connection != NULL;
         connection = next) {
        next = TAILQ_NEXT(connection, parked_link);
        connection_retry(connection);
    }
}

bool server_busy(const Server *server)
{
    return !TAILQ_EMPTY(&server->sending) || !TAILQ_EMPTY(&server->stuck);
}

bool server_has_work(const Server *server)
{
    return !server->stopped && !TAILQ_EMPTY(&server->ready);
}

const Histogram *server_latency(const Server *server, unsigned kind)
{
    return &server->latency->kinds[kind];
}

unsigned server_connections(const Server *server)
{
    return server->limits.connections;
}

uint64_t server_buffer_bytes(const Server *server)
{
    return server->limits.buffer_bytes;
}
