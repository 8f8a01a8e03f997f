/* One client: its input, its calls one after the other, its output. Embedded in nothing; lives in
 * the server's lists. */
#pragma once

#include <event2/event_struct.h>

#include "server/deadline.h"
#include "server/input.h"
#include "server/limits.h"
#include "server/output.h"
#include "server/peer.h"
#include "server/server.h"

typedef enum ConnectionState {
    CONNECTION_OPEN,      /* between calls: reads, and runs what is complete */
    CONNECTION_STREAMING, /* a call said AGAIN */
    CONNECTION_PARKED,    /* a call said PARKED; it is in the server's list */
    CONNECTION_WAITING,   /* a call said WAITING */
    CONNECTION_CLOSING,   /* no more calls: what is queued is sent, then the end of the stream */
    CONNECTION_LINGERING, /* all is sent: waits for the peer to hang up, so that it reads our last
                             words */
} ConnectionState;

/* Which of the server's lists it is in with its output. */
typedef enum ConnectionQueue {
    QUEUE_NONE,
    QUEUE_SENDING,
    QUEUE_STUCK,
} ConnectionQueue;

struct Connection {
    Server *server;
    int fd;
    ConnectionState state;
    ConnectionQueue queue;
    struct event event;
    unsigned watched; /* what the event is set for: CONNECTION_WATCH_... in connection.c */

    bool end_seen; /* the peer has shut down its side, or hung up */
    bool full;     /* calls wait until the output has drained to full_until */
    bool ready;    /* in the server's list of those that can go on */
    bool reads_on; /* when it goes on, it reads */
    bool broken;   /* the next flush frees it */
    bool refused;  /* was above the limits, not counted among the connections */
    uint64_t ready_turn; /* the turn in which it came into that list */
    size_t full_until;
    uint64_t lingered; /* bytes thrown away since it was told goodbye */

    Input input;
    Output output;
    uint64_t accounted; /* bytes of buffers that limits know of */

    uint64_t arrived_usec; /* time stamp of the turn that read last */
    unsigned kind;         /* of the current call, for its latency */
    bool oneway;           /* of the current call */
    bool finished;         /* connection_finish came before the call returned */
    uint64_t hold;         /* revision that the current reply waits for */
    unsigned files; /* descriptors attached since the client was last seen to have read all */
    void *call_state;
    void (*call_state_release)(void *state);

    Peer peer;
    User *user;

    TAILQ_ENTRY(Connection) all_link;
    TAILQ_ENTRY(Connection) output_link;
    TAILQ_ENTRY(Connection) ready_link;
    TAILQ_ENTRY(Connection) parked_link;
    TAILQ_ENTRY(Connection) deadline_link;
    Deadlines *deadlines; /* the list it is in with deadline_link */
    uint64_t deadline_since;
};

/* Takes a socket that was just accepted. What goes wrong concerns that client alone: it is told,
 * where it is above a limit, and closed. */
void connection_accept(Server *server, int fd);
/* Takes it out of everything and frees it. A call that is under way is given up. */
Connection *connection_free(Connection *connection);

/* Its turn, with what has gathered: goes on with a stream, runs complete calls. */
void connection_go_on(Connection *connection);
/* Calls a parked call again. */
void connection_retry(Connection *connection);
/* Sends what may leave; then goes on reading, or ends, as the state says. May free the connection.
 */
void connection_flush(Connection *connection, uint64_t durable);
/* The replies held for revisions above durable, up to failed_to, tell of the failure instead. */
void connection_fail(Connection *connection, uint64_t durable, uint64_t failed_to);

/* For the server's timers. */
void connection_message_expired(Connection *connection);
