/* Connections that have the same time for something, in the order in which their time began, and
 * one timer for all of them. */
#pragma once

#include <sys/queue.h>

#include <event2/event_struct.h>

#include "base/common.h"

typedef struct Connection Connection;
TAILQ_HEAD(ConnectionList, Connection);
typedef struct ConnectionList ConnectionList;

typedef struct Deadlines {
    ConnectionList list; /* the oldest first */
    struct event timer;
    uint64_t usec;
    void (*expired)(Connection *connection);
} Deadlines;

/* expired: the connection is off the list then. It may free the connection, but no other. */
int deadlines_init(Deadlines *deadlines, struct event_base *base, uint64_t usec,
                   void (*expired)(Connection *connection));
void deadlines_deinit(Deadlines *deadlines);

/* The connection's time begins, now: microseconds of clock_monotonic, not less than at the last
 * call. The connection is on no such list. -EIO where the timer could not be set. */
int deadlines_add(Deadlines *deadlines, Connection *connection, uint64_t now);
/* Takes the connection off the list that it is on, if any. */
void deadlines_remove(Connection *connection);
