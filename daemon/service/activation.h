/* Descriptors that the service manager hands over (sd_listen_fds(3)): listening sockets, and what
 * an earlier process had put into its descriptor store. */
#pragma once

#include "base/common.h"

typedef struct ActivationDescriptor {
    int fd;     /* CLOEXEC; -1: taken by somebody */
    char *name; /* as the manager calls it; by malloc */
} ActivationDescriptor;

typedef struct Activation {
    ActivationDescriptor *sockets; /* whatever they are called; not looked at any closer */
    size_t socket_count;
    ActivationDescriptor *others;
    size_t other_count;
} Activation;

/* Takes them all. The environment that tells of them is cleared, so that no child takes them for
 * its own. */
int activation_take(Activation *ret);
/* Closes what nobody took. */
void activation_deinit(Activation *activation);
