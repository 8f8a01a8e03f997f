/* A connection's beginning and end: finding the socket, connecting, closing, and the way to another
 * connection like it.
 *
 * What can go wrong: there is no daemon, or no right to connect to it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "connection.h"

#define SYSTEM_PATH "/run/holdfast/holdfast.sock"

int holdfast_default_path(char *path, size_t size)
{
    const char *directory = secure_getenv("XDG_RUNTIME_DIR");

    if (geteuid() != 0 && directory != NULL && directory[0] == '/') {
        int n = snprintf(path, size, "%s/holdfast.sock", directory);
        if (n >= 0 && (size_t)n < size && access(path, F_OK) == 0)
            return 0;
    }
    int n = snprintf(path, size, "%s", SYSTEM_PATH);
    return n >= 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

static int connect_path(const char *path, int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);

    if (length == 0)
        return -ENOENT;
    if (length >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, length + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        int error = errno;
        if (error == EINTR)
            continue;
        close(fd);
        return -error;
    }
    *ret_fd = fd;
    return 0;
}

int holdfast_connect(const char *path, HoldfastConnection **ret)
{
    char standard[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    HoldfastConnection *connection;
    int fd = -1;
    int r = 0;

    if (path == NULL) {
        r = holdfast_default_path(standard, sizeof(standard));
        path = standard;
    }
    if (r == 0)
        r = connect_path(path, &fd);
    if (r < 0)
        return r;
    r = holdfast_connect_fd(fd, &connection);
    if (r < 0) {
        close(fd);
        return r;
    }
    connection->path = strdup(path);
    if (connection->path == NULL) {
        holdfast_disconnect(connection);
        return -ENOMEM;
    }
    *ret = connection;
    return 0;
}

int holdfast_connect_fd(int fd, HoldfastConnection **ret)
{
    HoldfastConnection *connection = calloc(1, sizeof(*connection));

    if (connection == NULL)
        return -ENOMEM;
    connection->fd = fd;
    connection->passed_fd = -1;
    connection->timeout_usec = HF_FOR_EVER;
    hf_forget_error(connection);
    *ret = connection;
    return 0;
}

void holdfast_disconnect(HoldfastConnection *connection)
{
    if (connection == NULL)
        return;
    close(connection->fd);
    if (connection->passed_fd >= 0)
        close(connection->passed_fd);
    free(connection->path);
    hf_output_deinit(&connection->out);
    free(connection->in);
    free(connection);
}

int hf_path(const HoldfastConnection *connection, char **ret)
{
    struct sockaddr_un address = {0};
    socklen_t size = sizeof(address) - 1; /* so that the path ends */

    if (connection->path == NULL) {
        if (getpeername(connection->fd, (struct sockaddr *)&address, &size) < 0)
            return -errno;
        if (address.sun_family != AF_UNIX || address.sun_path[0] == '\0')
            return -EOPNOTSUPP;
    }
    *ret = strdup(connection->path != NULL ? connection->path : address.sun_path);
    return *ret != NULL ? 0 : -ENOMEM;
}
