/* The socket: listener, connections and their limits. Reads messages, hands calls to the dispatcher
 * it is given, sends replies in the order of the calls. Knows nothing of what the calls mean.
 *
 * A turn of the loop: every readable connection reads at most SERVER_READ_BYTES and runs the calls
 * that are complete (at most SERVER_CALLS_A_TURN); then the manager calls server_flush, which
 * sends, with one send a connection, what may leave. Last come those that have more: a message that
 * was begun before, calls beyond that number. They go on by pieces of the same size. Turn with
 * EVLOOP_ONCE: EVLOOP_NONBLOCK alone does not come back while a socket can be written to, since the
 * sending is in server_flush. */
#pragma once

#include "base/buffer.h"
#include "base/common.h"
#include "base/pool.h"
#include "protocol/call.h"
#include "server/latency.h"
#include "server/peer.h"

struct event_base;

typedef struct Server Server;
typedef struct Connection Connection;

#define SERVER_READ_BYTES (64 * KIB)
#define SERVER_CALLS_A_TURN 128
/* Unsent output above which a connection is not read and its calls wait. */
#define SERVER_OUTPUT_BYTES_MAX (1 * MIB)
/* Descriptors that a connection may leave unread: all that are under way count against the one
 * limit (RLIMIT_NOFILE) that the system has for the daemon. */
#define SERVER_DESCRIPTORS_UNREAD_MAX 32

typedef enum CallResult {
    CALL_DONE,    /* the reply, or the last one of many, was written */
    CALL_AGAIN,   /* replies were written, more come: call again when there is room for output
                     (streams) */
    CALL_PARKED,  /* nothing happened: call again, with the same Call, after server_resume. Later
                     calls of this connection wait */
    CALL_WAITING, /* the reply comes later: connection_finish. Later calls wait */
} CallResult;

typedef struct ServerHandler {
    void *context;
    /* Runs a call. Writes replies into connection_output. call->oneway: whatever is written
     * is thrown away by the server. */
    CallResult (*call)(void *context, Connection *connection, const Call *call);
    /* The message was no JSON, no call, or broke a limit: writes the error that is sent before
     * closing. limit NULL: BadMessage(reason); else LimitExceeded(limit, maximum). */
    void (*bad)(void *context, Buffer *out, char terminator, const char *reason, const char *limit,
                uint64_t maximum);
    /* Replaces the held reply of an update that did not become durable. */
    void (*not_durable)(void *context, Buffer *out, char terminator, uint64_t revision);
} ServerHandler;

typedef struct ServerLimits {
    unsigned connections_max;
    unsigned connections_per_user_max;
    uint64_t message_bytes_max;
    uint64_t buffer_bytes_max; /* over all connections; a quarter of it per user */
    uint64_t message_usec_max; /* from the first byte of a message to its last: 30 s */
} ServerLimits;

int server_new(struct event_base *base, Pool *pool, const ServerHandler *handler,
               const ServerLimits *limits, Server **ret);
/* Closes all connections and listeners; states of calls under way are released. NULL is fine. */
Server *server_free(Server *server);
void server_set_limits(Server *server, const ServerLimits *limits);

/* Binds a Unix stream socket at path (an old socket nobody listens on is replaced: connect is
 * refused there; -EADDRINUSE otherwise), mode and group set before anybody can connect. gid
 * (gid_t)-1: unchanged. The path is unlinked at server_free. Accepting starts with server_accept.
 */
int server_listen(Server *server, const char *path, mode_t mode, gid_t gid);
/* Takes a listening socket over (socket activation). */
int server_listen_fd(Server *server, int fd);
/* Starts accepting: recovery is done. */
int server_accept(Server *server);
/* Stops accepting and reading; what is queued is still sent by server_flush. */
void server_stop(Server *server);

/* End of a turn: sends what may leave, and lets those go on that have more to do. durable: replies
 * held for a revision above it stay. True where calls were answered. */
bool server_flush(Server *server, uint64_t durable);
/* Updates up to and including failed_to but above durable did not become durable: their held
 * replies are replaced. */
void server_fail(Server *server, uint64_t durable, uint64_t failed_to);
/* Runs the parked calls again, in the order in which they were parked. */
void server_resume(Server *server);
/* True while any reply is held or output is unsent: a stop waits for it, but not for ever, since a
 * reader that does not read is among them. */
bool server_busy(const Server *server);
/* True while calls remain buffered that could run now: the loop must not sleep. */
bool server_has_work(const Server *server);

/* How long calls of that kind took, in microseconds (server/latency.h). */
const Histogram *server_latency(const Server *server, unsigned kind);
unsigned server_connections(const Server *server);
uint64_t server_buffer_bytes(const Server *server);

/* --- for the handler */

const Peer *connection_peer(const Connection *connection);
/* What ends a message on this connection: '\0' or '\n'. */
char connection_terminator(const Connection *connection);
/* Where replies of the current call are written. */
Buffer *connection_output(Connection *connection);
/* Scratch space, emptied by the server before each call. */
Buffer *connection_scratch(Connection *connection);
/* The reply just written belongs to an update: it leaves when the revision is durable. Once a call.
 */
void connection_hold(Connection *connection, uint64_t revision);
/* Sends a descriptor with the first byte of the reply of the current call (SCM_RIGHTS). The
 * connection owns fd now, also on error: -ENOMEM, -E2BIG above eight a reply, -ETOOMANYREFS above
 * SERVER_DESCRIPTORS_UNREAD_MAX that the client has not read. */
int connection_attach(Connection *connection, int fd);
/* Ends a call that was WAITING; its last reply was written to connection_output. Later calls go on
 * in the next turn. */
void connection_finish(Connection *connection);
/* Something was written to the output of a WAITING call (progress): it is sent with the next flush.
 */
void connection_wrote(Connection *connection);
/* What kind of call the current one is, below LATENCY_KINDS; 0 unless told. */
void connection_set_kind(Connection *connection, unsigned kind);
/* True when less than SERVER_OUTPUT_BYTES_MAX are unsent. */
bool connection_has_room(const Connection *connection);
/* State of the current call over AGAIN and WAITING; release is called when the call ends, or when
 * the connection goes before: that is how the handler hears of it. */
void connection_set_state(Connection *connection, void *state, void (*release)(void *state));
void *connection_state(const Connection *connection);
