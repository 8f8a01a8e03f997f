/* Sockets that the service manager opened for us (sd_listen_fds(3)). */
#pragma once

/* How many were handed over; their descriptors follow each other from *ret_first on, and are the caller's. The
 * environment that says so is cleared, so that no child takes them for its own. 0 where there are none, or a negative
 * errno. */
int activation_sockets(int *ret_first);
