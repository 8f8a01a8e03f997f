/* Socket activation: nothing but what sd_listen_fds(3) says, kept out of the files that do not know libsystemd. */

#include "service/activation.h"

#include <systemd/sd-daemon.h>

int activation_sockets(int *ret_first)
{
    *ret_first = SD_LISTEN_FDS_START;
    return sd_listen_fds(1);
}
