/* What the service manager is told (sd_notify(3)); nothing happens where there is none. None of it
 * waits: where the service manager hangs, what it has no room for is lost. */
#pragma once

#include "base/common.h"

struct event_base;

typedef struct Notify Notify;

/* Pings the watchdog from the event loop at half its interval, where one is set, so that a stuck
 * loop is seen. */
int notify_new(struct event_base *base, Notify **ret);
/* NULL is fine. */
Notify *notify_free(Notify *notify);

/* False: all of the following does nothing. */
bool notify_listens(void);
/* False: it was lost and must be said again. */
bool notify_ready(void);
void notify_stopping(void);
/* One line for people. False: it was lost. */
bool notify_status(const char *format, ...) _printf_(1, 2);
/* Something takes long, but goes on: that much more time. */
void notify_extend(uint64_t usec);
