/* What the service manager is told (sd_notify(3)); nothing happens where there is none. */
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
void notify_ready(void);
void notify_stopping(void);
/* One line for people. */
void notify_status(const char *format, ...) _printf_(1, 2);
/* Something takes long, but goes on: that much more time. */
void notify_extend(uint64_t usec);
