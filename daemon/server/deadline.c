/* Deadlines without a timer each. As all have the same time, the oldest is due first, and adding is
 * O(1). The timer is set for the oldest there was; if that one is gone by then, it is set again for
 * the oldest there is. */
#include "server/deadline.h"

#include <event2/event.h>

#include "base/clock.h"
#include "server/connection.h"

static int deadlines_arm(Deadlines *deadlines, uint64_t now)
{
    const Connection *first = TAILQ_FIRST(&deadlines->list);
    uint64_t due = first->deadline_since + deadlines->usec;
    /* libevent's clock is coarse: never ask for less than it can tell apart. */
    struct timeval delay = clock_timeval(MAX(due > now ? due - now : 0, USEC_PER_MSEC));

    return event_add(&deadlines->timer, &delay) < 0 ? -EIO : 0;
}

static void deadlines_on_timer(evutil_socket_t fd, short what, void *context)
{
    Deadlines *deadlines = context;
    Connection *connection;
    uint64_t now = clock_monotonic();

    (void)fd, (void)what;
    while ((connection = TAILQ_FIRST(&deadlines->list)) != NULL &&
           connection->deadline_since + deadlines->usec <= now) {
        deadlines_remove(connection);
        deadlines->expired(connection);
    }
    if (connection != NULL)
        (void)deadlines_arm(deadlines,
                            now); /* a timer that has just fired has its place in the heap */
}

int deadlines_init(Deadlines *deadlines, struct event_base *base, uint64_t usec,
                   void (*expired)(Connection *connection))
{
    TAILQ_INIT(&deadlines->list);
    deadlines->usec = usec;
    deadlines->expired = expired;
    return event_assign(&deadlines->timer, base, -1, 0, deadlines_on_timer, deadlines) < 0 ? -EIO
                                                                                           : 0;
}

void deadlines_deinit(Deadlines *deadlines)
{
    event_del(&deadlines->timer);
}

int deadlines_add(Deadlines *deadlines, Connection *connection, uint64_t now)
{
    connection->deadlines = deadlines;
    connection->deadline_since = now;
    TAILQ_INSERT_TAIL(&deadlines->list, connection, deadline_link);
    if (_likely_(event_pending(&deadlines->timer, EV_TIMEOUT, NULL)))
        return 0;
    return deadlines_arm(deadlines, now);
}

void deadlines_remove(Connection *connection)
{
    if (connection->deadlines == NULL)
        return;
    TAILQ_REMOVE(&connection->deadlines->list, connection, deadline_link);
    connection->deadlines = NULL;
}
