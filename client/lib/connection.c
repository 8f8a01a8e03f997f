/* The two directions of a connection: out goes what hf_call_end gathered, in come replies.
 *
 * While sending is stuck, what arrives is taken in: the daemon stops reading from a client that
 * does not read, and two that wait for each other would wait for ever. Where nothing limits the
 * time and nothing is left to send, recv(2) blocks, which saves a poll(2) a call.
 *
 * What can go wrong: the daemon goes away (also in the middle of a message), says more than a
 * message may hold, or does not read. A broken connection stays broken; but what it had said
 * before, as why it hung up, is still handed out. */
#include "connection.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RECEIVE_BYTES (64u << 10)
#define KEEP_BYTES (4u << 20) /* more than a page of a listing takes */

void holdfast_set_timeout(HoldfastConnection *connection, uint64_t timeout_usec)
{
    connection->timeout_usec = timeout_usec;
}

size_t holdfast_outstanding(const HoldfastConnection *connection)
{
    return connection->outstanding - connection->unwanted;
}

int hf_kill(HoldfastConnection *connection, int error)
{
    if (connection->dead == 0)
        connection->dead = error;
    return connection->dead;
}

void hf_forget_error(HoldfastConnection *connection)
{
    connection->error_name = "";
    connection->error_parameters = "{}";
}

int hf_check_idle(const HoldfastConnection *connection)
{
    if (connection->dead < 0)
        return connection->dead;
    return connection->outstanding > connection->unwanted ? -EBUSY : 0;
}

void hf_give_up(HoldfastConnection *connection)
{
    connection->unwanted++;
}

uint64_t hf_now_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t hf_deadline(const HoldfastConnection *connection)
{
    uint64_t now, deadline;

    if (connection->timeout_usec == HF_FOR_EVER)
        return HF_FOR_EVER;
    now = hf_now_usec();
    return __builtin_add_overflow(now, connection->timeout_usec, &deadline) ? HF_FOR_EVER
                                                                            : deadline;
}

/* Waits until one of the events is there: their number, or -ETIMEDOUT. */
static int wait_for(HoldfastConnection *connection, short events, uint64_t deadline)
{
    struct pollfd wait = {.fd = connection->fd, .events = events};

    for (;;) {
        struct timespec left, *limit = NULL;
        if (deadline != HF_FOR_EVER) {
            uint64_t now = hf_now_usec();
            uint64_t usec = deadline > now ? deadline - now : 0;
            left = (struct timespec){.tv_sec = (time_t)(usec / 1000000),
                                     .tv_nsec = (long)(usec % 1000000 * 1000)};
            limit = &left;
        }
        int n = ppoll(&wait, 1, limit, NULL);
        if (n > 0)
            return wait.revents;
        if (n == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return hf_kill(connection, -errno);
    }
}

/* Makes room for at least size bytes behind in_end; what was given up makes room first. */
static int make_room(HoldfastConnection *connection, size_t size)
{
    size_t kept = connection->in_begin;

    if (connection->in_capacity - connection->in_end >= size)
        return 0;
    /* Moving is worth it where it frees at least what it moves. */
    if (kept >= connection->in_end - kept && kept > 0) {
        memmove(connection->in, connection->in + kept, connection->in_end - kept);
        connection->in_begin = 0;
        connection->in_end -= kept;
        connection->in_scanned -= kept;
        connection->message_end -= kept;
        if (connection->in_capacity - connection->in_end >= size)
            return 0;
    }
    size_t capacity = connection->in_capacity == 0 ? RECEIVE_BYTES : connection->in_capacity * 2;
    while (capacity - connection->in_end < size)
        capacity *= 2;
    char *in = realloc(connection->in, capacity);
    if (in == NULL)
        return hf_kill(connection, -ENOMEM);
    connection->in = in;
    connection->in_capacity = capacity;
    return 0;
}

/* Keeps the last of the descriptors that came, closes the others. */
static void take_fds(HoldfastConnection *connection, struct msghdr *message)
{
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            if (connection->passed_fd >= 0)
                close(connection->passed_fd);
            memcpy(&connection->passed_fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
        }
    }
}

/* recvmsg(2) where descriptors are awaited; what comes with a plain recv(2) is closed. */
static ssize_t receive_bytes(HoldfastConnection *connection, void *data, size_t size, int flags)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(8 * sizeof(int))];
    } control;
    struct iovec bytes = {.iov_base = data, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &bytes,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };

    if (!connection->takes_fds)
        return recv(connection->fd, data, size, flags);
    ssize_t n = recvmsg(connection->fd, &message, flags | MSG_CMSG_CLOEXEC);
    if (n >= 0)
        take_fds(connection, &message);
    return n;
}

/* Receives what there is, at most as much as there is room for. flags: for recv(2). 1: something
 * came; 0: would block. */
static int receive_some(HoldfastConnection *connection, int flags)
{
    int r = make_room(connection, RECEIVE_BYTES / 2);

    if (r < 0)
        return r;
    for (;;) {
        ssize_t n = receive_bytes(connection, connection->in + connection->in_end,
                                  connection->in_capacity - connection->in_end, flags);
        if (n > 0) {
            connection->in_end += (size_t)n;
            return 1;
        }
        if (n == 0)
            return hf_kill(connection,
                           connection->write_error < 0 ? connection->write_error : -ECONNRESET);
        if (errno == EAGAIN)
            return 0;
        if (errno != EINTR)
            return hf_kill(connection, -errno);
    }
}

/* 1: all was sent; 0: would block. A connection that takes no more is not dead before it was read
 * to its end. */
static int send_some(HoldfastConnection *connection)
{
    HfOutput *out = &connection->out;

    while (hf_output_size(out) > 0 && connection->write_error == 0) {
        ssize_t n = send(connection->fd, out->data + out->begin, hf_output_size(out),
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            hf_output_consume(out, (size_t)n);
        else if (errno == EAGAIN)
            return 0;
        else if (errno != EINTR)
            connection->write_error = -errno;
    }
    if (connection->write_error < 0)
        hf_output_consume(out, hf_output_size(out));
    return 1;
}

int hf_flush(HoldfastConnection *connection, uint64_t deadline)
{
    if (connection->dead < 0)
        return connection->dead;
    for (;;) {
        int r = send_some(connection);
        if (r != 0)
            return 0;
        if (connection->in_end - connection->in_begin >= HF_BUFFERED_MAX)
            return -ENOBUFS;
        r = wait_for(connection, POLLIN | POLLOUT, deadline);
        if (r < 0)
            return r;
        if ((r & ~POLLOUT) != 0) {
            r = receive_some(connection, MSG_DONTWAIT);
            if (r < 0)
                return r;
        }
    }
}

int holdfast_flush(HoldfastConnection *connection)
{
    hf_forget_error(connection);
    return hf_flush(connection, hf_deadline(connection));
}

/* Gives up the message that was handed out. */
static void release_message(HoldfastConnection *connection)
{
    hf_forget_error(connection);
    connection->in_begin = connection->message_end;
    if (connection->in_begin < connection->in_end)
        return;
    connection->in_begin = connection->in_end = connection->in_scanned = connection->message_end =
        0;
    if (connection->in_capacity > KEEP_BYTES) {
        free(connection->in);
        connection->in = NULL;
        connection->in_capacity = 0;
    }
}

/* Looks for the end of the first message. 1: message_end is behind its NUL; 0: it is not complete.
 */
static int find_message(HoldfastConnection *connection)
{
    size_t unseen = connection->in_end - connection->in_scanned;
    char *nul = unseen > 0 ? memchr(connection->in + connection->in_scanned, '\0', unseen) : NULL;

    if (nul != NULL) {
        connection->message_end = connection->in_scanned = (size_t)(nul - connection->in) + 1;
        return 1;
    }
    connection->in_scanned = connection->in_end;
    if (connection->in_end - connection->in_begin > HOLDFAST_MESSAGE_MAX + HF_MESSAGE_SLACK)
        return hf_kill(connection, -EMSGSIZE);
    return 0;
}

/* Has the next message in the buffer, [in_begin, message_end) with its NUL. */
static int next_message(HoldfastConnection *connection, uint64_t deadline)
{
    for (;;) {
        int r = find_message(connection);
        if (r != 0)
            return r < 0 ? r : 0;
        if (connection->dead < 0)
            return connection->dead;
        bool block = deadline == HF_FOR_EVER;
        if (!block) {
            r = wait_for(connection, POLLIN, deadline);
            if (r < 0)
                return r;
        }
        r = receive_some(connection, block ? 0 : MSG_DONTWAIT);
        if (r < 0)
            return r;
    }
}

/* The outermost members of a reply. */
typedef struct Envelope {
    HoldfastText parameters;
    HoldfastText error;
    bool continues;
} Envelope;

static int parse_envelope(HoldfastText message, Envelope *ret)
{
    HoldfastText root, name, value;
    HfTextWalk walk;
    int r;

    if (!hf_text_whole(message, &root) || hf_text_type(root) != HF_TEXT_OBJECT ||
        !hf_text_walk(root, &walk))
        return -EBADMSG;
    while ((r = hf_text_next(&walk, &name, &value)) > 0) {
        if (hf_text_is(name, "parameters") && hf_text_type(value) == HF_TEXT_OBJECT)
            ret->parameters = value;
        else if (hf_text_is(name, "error") && hf_text_type(value) == HF_TEXT_STRING)
            ret->error = value;
        else if (hf_text_is(name, "continues") && hf_text_type(value) == HF_TEXT_WORD)
            ret->continues = value.data[0] == 't';
        else if (hf_text_type(value) != HF_TEXT_WORD || value.data[0] != 'n')
            return -EBADMSG;
    }
    return r;
}

/* Takes the message in the buffer apart; in place: the texts handed out end in a NUL that took
 * their next byte. */
static int parse_reply(HoldfastConnection *connection, HfReply *ret)
{
    char *message = connection->in + connection->in_begin;
    size_t size = connection->message_end - connection->in_begin - 1;
    Envelope envelope = {.parameters = {"{}", 2}};
    int r = parse_envelope((HoldfastText){message, size}, &envelope);

    if (r < 0)
        return r;
    if (envelope.parameters.size <= 2)
        envelope.parameters.data = "{}";
    else
        message[envelope.parameters.data - message + (ptrdiff_t)envelope.parameters.size] = '\0';
    *ret = (HfReply){.parameters = envelope.parameters, .continues = envelope.continues};
    if (envelope.error.data == NULL)
        return 0;
    if (hf_unquote(&envelope.error) < 0 || envelope.continues)
        return -EBADMSG;
    connection->error_name = envelope.error.data;
    connection->error_parameters = envelope.parameters.data;
    return HOLDFAST_ERROR_REMOTE;
}

int hf_receive(HoldfastConnection *connection, uint64_t deadline, HfReply *ret)
{
    HfReply reply;
    int r;

    for (;;) {
        release_message(connection);
        if (connection->outstanding == connection->unwanted)
            return connection->dead < 0 ? connection->dead : -ENODATA;
        if (connection->dead == 0) {
            r = hf_flush(connection, deadline);
            if (r < 0 && r != -ENOBUFS && connection->dead == 0)
                return r;
        }
        r = next_message(connection, deadline);
        if (r < 0)
            return r;
        r = parse_reply(connection, &reply);
        if (r < 0)
            return hf_kill(connection, r);
        bool wanted = connection->unwanted == 0;
        if (!reply.continues) {
            connection->outstanding--;
            if (!wanted)
                connection->unwanted--;
        }
        if (!wanted)
            continue;
        *ret = reply;
        return r;
    }
}

int hf_wait(HoldfastConnection *connection, HfReply *ret)
{
    int r = hf_receive(connection, hf_deadline(connection), ret);

    if (r < 0 && connection->dead == 0)
        hf_give_up(connection);
    return r;
}
