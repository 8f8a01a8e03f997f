/* What sd_listen_fds_with_names(3) says, split into sockets and the rest.
 *
 * A socket is a socket by what it is, not by its name: a unit that an administrator wrote may call
 * it anything. */
#include "service/activation.h"

#include <systemd/sd-daemon.h>

static void free_names(char ***names)
{
    for (char **name = *names; name && *name; name++)
        free(*name);
    free(*names);
}

/* Owns descriptors and names from here on. */
static void take_all(Activation *activation, char **names, int count)
{
    for (int i = 0; i < count; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        bool is_socket = sd_is_socket(fd, AF_UNSPEC, 0, -1) > 0;
        ActivationDescriptor *descriptor = is_socket
                                               ? &activation->sockets[activation->socket_count++]
                                               : &activation->others[activation->other_count++];

        *descriptor = (ActivationDescriptor){.fd = fd, .name = names[i]};
        names[i] = NULL;
    }
    free(names);
}

int activation_take(Activation *ret)
{
    Activation activation = {0};
    char **names = NULL;
    int count = sd_listen_fds_with_names(1, &names);

    if (count < 0)
        return count;
    if (count > 0) {
        activation.sockets = calloc((size_t)count, sizeof(*activation.sockets));
        activation.others = calloc((size_t)count, sizeof(*activation.others));
        if (!activation.sockets || !activation.others) {
            free_names(&names);
            activation_deinit(&activation);
            return -ENOMEM;
        }
        take_all(&activation, names, count);
    }
    *ret = activation;
    return 0;
}

static void close_all(ActivationDescriptor *descriptors, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        closep(&descriptors[i].fd);
        free(descriptors[i].name);
    }
    free(descriptors);
}

void activation_deinit(Activation *activation)
{
    close_all(activation->sockets, activation->socket_count);
    close_all(activation->others, activation->other_count);
    *activation = (Activation){0};
}
