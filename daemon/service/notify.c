/* What the service manager is told: readiness, a line of status, that something takes long, and, by
 * a timer of the event loop, that the loop turns. Where no service manager listens all of it does
 * nothing. */

#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "service/notify.h"

struct Notify {
    struct event *watchdog;
};

static void ping(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    (void)context;
    sd_notify(0, "WATCHDOG=1");
}

int notify_new(struct event_base *base, Notify **ret)
{
    Notify *notify = calloc(1, sizeof(*notify));
    uint64_t usec = 0;
    struct timeval interval;

    if (!notify)
        return -ENOMEM;
    if (sd_watchdog_enabled(0, &usec) > 0) {
        interval = clock_timeval(usec / 2);
        notify->watchdog = event_new(base, -1, EV_PERSIST, ping, NULL);
        if (!notify->watchdog || event_add(notify->watchdog, &interval) < 0) {
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

void notify_ready(void)
{
    sd_notify(0, "READY=1");
}

void notify_stopping(void)
{
    sd_notify(0, "STOPPING=1");
}

void notify_status(const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    sd_notifyf(0, "STATUS=%s", text);
}

void notify_extend(uint64_t usec)
{
    sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%llu", (unsigned long long)usec);
}
