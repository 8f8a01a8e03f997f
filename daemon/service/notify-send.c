/* Sending to $NOTIFY_SOCKET, a datagram socket with a path or an abstract name (sd_notify(3)). The
 * kernel tells the receiver who sends.
 *
 * libsystemd's functions send blocking: where the service manager hangs, its queue fills with what
 * all services have to say, and then each of them would hang in its next message. */
#include "service/notify-send.h"

#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"

/* Connected to the service manager; 0: nobody listens. */
static int notify_connect(int *ret_fd)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_(closep) int fd = -1;
    size_t length;

    if (path == NULL || path[0] == '\0')
        return 0;
    length = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || length >= sizeof(address.sun_path))
        return -EINVAL;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0'; /* an abstract name has no NUL at its end */
    else
        length++;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&address,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 1;
}

static int notify_send_once(int socket_fd, const char *text, int fd)
{
    struct iovec bytes = {.iov_base = (char *)text, .iov_len = strlen(text)};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};

    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
    }
    return sendmsg(socket_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 1;
}

int notify_send(const char *text, int fd, int wait_msec)
{
    _cleanup_(closep) int socket_fd = -1;
    uint64_t deadline = clock_monotonic() + (uint64_t)wait_msec * USEC_PER_MSEC;
    int r = notify_connect(&socket_fd);

    while (r > 0) {
        struct pollfd room = {.fd = socket_fd, .events = POLLOUT};
        uint64_t now;

        r = notify_send_once(socket_fd, text, fd);
        if (r != -EAGAIN && r != -EINTR)
            return r;
        now = clock_monotonic();
        if (now >= deadline)
            return -EAGAIN;
        (void)poll(&room, 1, (int)((deadline - now) / USEC_PER_MSEC) + 1);
        r = 1;
    }
    return r;
}
