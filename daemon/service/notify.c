/* What the service manager is told: readiness, a line of status, that something takes long, and, by
 * a timer of the event loop, that the loop turns. Where no service manager listens all of it does
 * nothing. What can go wrong: it has no room for a message now. Nothing waits for it; what matters
 * is said again. */

#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "service/notify-send.h"
#include "service/notify.h"

/* A ping that was not taken is tried again after this. */
#define RETRY_USEC (200 * USEC_PER_MSEC)

struct Notify {
    struct event *watchdog;
    uint64_t interval_usec;
};

static int set_watchdog(Notify *notify, uint64_t usec)
{
    const struct timeval wait = clock_timeval(usec);

    return event_add(notify->watchdog, &wait);
}

static void ping(evutil_socket_t fd, short what, void *context)
{
    Notify *notify = context;
    int r = notify_send("WATCHDOG=1", -1, 0);

    (void)fd;
    (void)what;
    /* A timer that has just fired has its place in the heap. */
    (void)set_watchdog(notify, r == -EAGAIN ? RETRY_USEC : notify->interval_usec);
}

int notify_new(struct event_base *base, Notify **ret)
{
    Notify *notify = calloc(1, sizeof(*notify));
    uint64_t usec = 0;

    if (!notify)
        return -ENOMEM;
    if (sd_watchdog_enabled(0, &usec) > 0) {
        notify->interval_usec = usec / 2;
        notify->watchdog = event_new(base, -1, 0, ping, notify);
        if (!notify->watchdog || set_watchdog(notify, notify->interval_usec) < 0) {
            notify_free(notify);
            return -ENOMEM;
        }
    }
    *ret = notify;
    return 0;
}

Notify *notify_free(Notify *notify)
{
    if (notify) {
        if (notify->watchdog)
            event_free(notify->watchdog);
        free(notify);
    }
    return NULL;
}

bool notify_listens(void)
{
    return getenv("NOTIFY_SOCKET") != NULL;
}

bool notify_ready(void)
{
    return notify_send("READY=1", -1, 0) != -EAGAIN;
}

void notify_stopping(void)
{
    (void)notify_send("STOPPING=1", -1, 0);
}

bool notify_status(const char *format, ...)
{
    static const char begin[] = "STATUS=";
    char text[512];
    va_list arguments;

    memcpy(text, begin, sizeof(begin));
    va_start(arguments, format);
    vsnprintf(text + strlen(begin), sizeof(text) - strlen(begin), format, arguments);
    va_end(arguments);
    return notify_send(text, -1, 0) != -EAGAIN;
}

void notify_extend(uint64_t usec)
{
    char text[64];

    snprintf(text, sizeof(text), "EXTEND_TIMEOUT_USEC=%llu", (unsigned long long)usec);
    (void)notify_send(text, -1, 0);
}
