/* Listening sockets: making the name, taking a stale one's place, accepting.
 *
 * The way in: bind (with no permissions at all, so that there is no moment in which anybody could
 * connect), group and mode, listen. Connections are accepted in bounded rounds, so that a flood of
 * them does not stop the others.
 *
 * What can go wrong: somebody listens already, the directory is missing; later, no descriptors or
 * memory are left, which is weather: all listeners pause and go on when a connection ends or a
 * moment later. */
#include "server/listener.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <event2/event.h>

#include "base/log.h"
#include "server/connection.h"
#include "server/server-private.h"

#define ACCEPTS_A_TURN 4
#define BACKLOG 4096 /* the kernel cuts it to net.core.somaxconn */
#define ACCEPT_RETRY_USEC (100 * USEC_PER_MSEC)

static int listener_address(const char *path, struct sockaddr_un *ret)
{
    size_t length = strlen(path);

    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (length == 0)
        return -EINVAL;
    if (length >= sizeof(ret->sun_path))
        return -ENAMETOOLONG;
    memcpy(ret->sun_path, path, length);
    return 0;
}

/* Removes the socket that a dead process left behind. connect(2) refuses regular files in the same
 * way, so look first. 0: the name is free now. */
static int listener_remove_stale(const struct sockaddr_un *address)
{
    struct stat status;
    _cleanup_(closep) int fd = -1;

    if (lstat(address->sun_path, &status) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(status.st_mode))
        return -EADDRINUSE;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
        errno != ECONNREFUSED)
        return -EADDRINUSE;
    if (unlink(address->sun_path) < 0 && errno != ENOENT)
        return -errno;
    return 0;
}

static int listener_bind(int fd, const struct sockaddr_un *address)
{
    const struct sockaddr *name = (const struct sockaddr *)address;

    /* The socket's mode is what bind gives to the name, less the umask: unlike a changed umask this
     * concerns no other thread. */
    if (fchmod(fd, 0) < 0)
        return -errno;
    if (bind(fd, name, sizeof(*address)) == 0)
        return 0;
    if (errno != EADDRINUSE)
        return -errno;
    int r = listener_remove_stale(address);
    if (r < 0)
        return r;
    return bind(fd, name, sizeof(*address)) < 0 ? -errno : 0;
}

static int listener_open(Listener *listener, const char *path, mode_t mode, gid_t gid)
{
    struct stat status;

    if (gid != (gid_t)-1 && lchown(path, (uid_t)-1, gid) < 0)
        return -errno;
    if (chmod(path, mode) < 0 || lstat(path, &status) < 0)
        return -errno;
    listener->device = status.st_dev;
    listener->inode = status.st_ino;
    return listen(listener->fd, BACKLOG) < 0 ? -errno : 0;
}

int listeners_retry(Server *server, int error)
{
    struct timeval delay = {.tv_usec = ACCEPT_RETRY_USEC};

    if (!server->accept_warned)
        log_limited(&server->accept_trouble, LOG_WARNING,
                    "cannot accept connections for now, it is tried again every %u ms: %s",
                    (unsigned)(ACCEPT_RETRY_USEC / USEC_PER_MSEC), log_errno(error));
    server->accept_warned = true;
    return event_add(&server->accept_retry, &delay) < 0 ? -ENOMEM : 0;
}

static void listeners_pause(Server *server, int error)
{
    Listener *listener;

    /* Without the timer, only the end of a connection would bring them back. */
    if (listeners_retry(server, error) < 0)
        return;
    server->accept_paused = true;
    LIST_FOREACH(listener, &server->listeners, link)
    listener_pause(listener);
}

static void listener_on_event(evutil_socket_t fd, short what, void *context)
{
    Listener *listener = context;
    Server *server = listener->server;

    (void)what;
    for (unsigned i = 0; i < ACCEPTS_A_TURN; i++) {
        int peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (peer >= 0) {
            connection_accept(server, peer);
            continue;
        }
        switch (errno) {
        case EMFILE:
        case ENFILE:
        case ENOMEM:
        case ENOBUFS:
            listeners_pause(server, errno);
            return;
        case EINTR:
        case ECONNABORTED:
        case EPERM:
            continue; /* concerns that one connection */
        default:
            server->accept_warned = false; /* all were let in: a later want is news */
            return;
        }
    }
}

/* A listener that owns fd. */
static int listener_wrap(Server *server, int fd, Listener **ret)
{
    Listener *listener = calloc(1, sizeof(*listener));

    if (listener == NULL)
        return -ENOMEM;
    listener->server = server;
    listener->fd = fd;
    if (event_assign(&listener->event, server->base, fd, EV_READ | EV_PERSIST, listener_on_event,
                     listener) < 0) {
        free(listener);
        return -EIO;
    }
    *ret = listener;
    return 0;
}

static void listener_freep(Listener **listener)
{
    listener_free(*listener);
}

int listener_new(Server *server, const char *path, mode_t mode, gid_t gid, Listener **ret)
{
    _cleanup_(listener_freep) Listener *listener = NULL;
    _cleanup_(closep) int fd = -1;
    struct sockaddr_un address;

    int r = listener_address(path, &address);
    if (r < 0)
        return r;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    r = listener_wrap(server, fd, &listener);
    if (r < 0)
        return r;
    (void)TAKE_FD(fd);
    r = listener_bind(listener->fd, &address);
    if (r < 0)
        return r;
    r = listener_open(listener, path, mode, gid);
    if (r < 0) {
        unlink(path); /* bound a moment ago, so it is ours */
        return r;
    }
    listener->path = strdup(path);
    if (listener->path == NULL) {
        unlink(path);
        return -ENOMEM;
    }
    *ret = TAKE_PTR(listener);
    return 0;
}

static int listener_check_fd(int fd)
{
    int domain = 0, type = 0, accepting = 0;
    socklen_t size = sizeof(int);

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &size) < 0)
        return errno == ENOTSOCK ? -EINVAL : -errno;
    if (domain != AF_UNIX || type != SOCK_STREAM || !accepting)
        return -EINVAL;

    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    return 0;
}

int listener_new_fd(Server *server, int fd, Listener **ret)
{
    int r = listener_check_fd(fd);
    return r < 0 ? r : listener_wrap(server, fd, ret);
}

static void listener_remove_name(const Listener *listener)
{
    struct stat status;

    if (listener->path == NULL || lstat(listener->path, &status) < 0)
        return;
    if (status.st_dev == listener->device && status.st_ino == listener->inode)
        unlink(listener->path);
}

Listener *listener_free(Listener *listener)
{
    if (listener == NULL)
        return NULL;
    event_del(&listener->event);
    listener_remove_name(listener);
    close(listener->fd);
    free(listener->path);
    free(listener);
    return NULL;
}

int listener_start(Listener *listener)
{
    errno = 0;
    if (event_add(&listener->event, NULL) == 0)
        return 0;
    return errno > 0 ? -errno : -EIO;
}

void listener_pause(Listener *listener)
{
    event_del(&listener->event);
}
