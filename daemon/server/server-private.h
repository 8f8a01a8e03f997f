/* The server's inside, shared by its own files. */
#pragma once

#include <event2/event_struct.h>

#include "base/log.h"
#include "server/deadline.h"
#include "server/input.h"
#include "server/latency.h"
#include "server/limits.h"
#include "server/listener.h"
#include "server/server.h"

/* Connections above the limits that are being told so at one time; more are closed without a word.
 */
#define SERVER_REFUSALS_MAX 64
/* How long a connection that was told goodbye may take to hang up. */
#define SERVER_LINGER_USEC (2 * USEC_PER_SEC)

struct Server {
    struct event_base *base;
    Pool *pool;
    ServerHandler handler;
    Limits limits;
    InputShared shared;
    Buffer scratch; /* of the call that runs */
    Buffer names;   /* its method's name, where it had escapes */

    ConnectionList all;
    ConnectionList sending; /* have output, or are to be closed: looked at by the next flush */
    ConnectionList stuck;   /* have output that their socket takes no more of for now */
    ConnectionList ready;   /* have input or a stream that can go on when the replies are sent */
    ConnectionList parked;  /* in the order of parking */
    Deadlines messages;     /* a message has begun */
    Deadlines lingering;    /* closed by us, not yet by the peer */
    struct event wake;      /* active while there is something to do: the loop does not sleep */

    ListenerList listeners;
    struct event accept_retry;
    bool accepting;
    bool accept_paused; /* for want of descriptors or memory; accept_retry or a connection's end
                           goes on */
    bool accept_warned;
    LogLimit accept_trouble;
    LogLimit connection_trouble; /* that ends single connections */

    Latency *latency;
    bool stopped;
    unsigned refusals;
    uint64_t now;  /* clock of this turn; 0: not asked for yet */
    uint64_t turn; /* number of flushes */
};

uint64_t server_now(Server *server);
/* The loop turns once more before it sleeps. */
void server_wake(Server *server);
/* A descriptor has become free. */
void server_descriptor_freed(Server *server);
