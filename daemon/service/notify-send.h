/* One message to the service manager, as sd_notify(3) makes it, but never waiting longer than it
 * was told to: the service manager may hang, and must not take this process with it. */
#pragma once

#include "base/common.h"

/* text: lines of NAME=value. fd: goes with it; -1: none. wait_msec: how long it may wait for room
 * in the service manager's queue; 0: not at all. 1: it was sent; 0: nobody listens; -EAGAIN: the
 * queue was full all the time; other negative errnos: it cannot be sent. From any thread. */
int notify_send(const char *text, int fd, int wait_msec);
