/* The fake handler, the loop and the clients of the server's tests. */
#include "lib/serving.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "protocol/reply.h"

#define STREAM_FILL (64 * KIB)

const ServerLimits serving_limits = {
    .connections_max = 256,
    .connections_per_user_max = 256,
    .message_bytes_max = 16 * MIB,
    .buffer_bytes_max = 1 * GIB,
    .message_usec_max = 30 * USEC_PER_SEC,
};

/* --- the handler */

static Bytes call_text(const Call *call)
{
    const ScanMember *members;

    scan_members(call->scan, &members);
    if (call->parameters < 0)
        return BYTES_OF("{}");
    ScanSpan span = members[call->parameters].value;
    return BYTES(call->text + span.begin, span.end - span.begin);
}

static int64_t call_number(const Call *call, const char *name)
{
    JsonWalk walk = json_walk(call_text(call));
    Bytes found, value;
    int64_t number = 0;

    while (json_next(&walk, &found, &value))
        if (bytes_equal(found, bytes_of_text(name)))
            json_to_int(value, &number);
    return number;
}

static void reply_number(Connection *connection, const char *name, uint64_t value, uint64_t fill,
                         bool continues)
{
    JsonWriter writer = reply_begin(connection_output(connection));

    json_name(&writer, name);
    json_int(&writer, (int64_t)value);
    if (fill > 0) {
        char *room;
        json_name(&writer, "fill");
        buffer_append(writer.out, "\"", 1);
        room = buffer_reserve(writer.out, fill);
        memset(room, 'x', fill);
        writer.out->end += fill;
        buffer_append(writer.out, "\"", 1);
    }
    reply_end(&writer, continues, connection_terminator(connection));
}

static CallResult run_echo(Serving *serving, Connection *connection, const Call *call)
{
    Buffer *out = connection_output(connection);
    char terminator = connection_terminator(connection);

    (void)serving;
    buffer_append_text(out, "{\"parameters\":");
    buffer_append_bytes(out, call_text(call));
    buffer_append_text(out, "}");
    buffer_append(out, &terminator, 1);
    return CALL_DONE;
}

static CallResult run_big(Serving *serving, Connection *connection, const Call *call)
{
    (void)serving;
    reply_number(connection, "big", 1, (uint64_t)call_number(call, "size"), false);
    return CALL_DONE;
}

static CallResult run_put(Serving *serving, Connection *connection, const Call *call)
{
    (void)call;
    reply_number(connection, "revision", ++serving->revision, 0, false);
    connection_hold(connection, serving->revision);
    return CALL_DONE;
}

static CallResult run_park(Serving *serving, Connection *connection, const Call *call)
{
    (void)call;
    serving->park_calls++;
    if (serving->parking)
        return CALL_PARKED;
    reply_number(connection, "order", ++serving->park_order, 0, false);
    return CALL_DONE;
}

static CallResult run_wait(Serving *serving, Connection *connection, const Call *call)
{
    (void)call;
    cr_assert(lt(uint, serving->waiting_count, ARRAY_SIZE(serving->waiting)));
    serving->waiting[serving->waiting_count++] = connection;
    return CALL_WAITING;
}

typedef struct Stream {
    Serving *serving;
    uint64_t index;
} Stream;

static void stream_release(void *state)
{
    Stream *stream = state;

    stream->serving->released++;
    free(stream);
}

static CallResult run_stream(Serving *serving, Connection *connection, const Call *call)
{
    Stream *stream = connection_state(connection);

    if (stream == NULL) {
        stream = calloc(1, sizeof(*stream));
        stream->serving = serving;
        connection_set_state(connection, stream, stream_release);
    }
    cr_assert(connection_has_room(connection), "a stream goes on only where there is room");
    if (stream->index == (uint64_t)call_number(call, "size")) {
        reply_number(connection, "index", stream->index, 0, false);
        return CALL_DONE;
    }
    reply_number(connection, "index", stream->index++, STREAM_FILL, true);
    return CALL_AGAIN;
}

static CallResult run_file(Serving *serving, Connection *connection, const Call *call)
{
    char text[16];
    int fd = memfd_create("test", MFD_CLOEXEC);

    (void)call;
    snprintf(text, sizeof(text), "%u", ++serving->files);
    cr_assert(ge(int, fd, 0));
    cr_assert(eq(int, (int)write(fd, text, strlen(text)), (int)strlen(text)));
    cr_assert(eq(int, connection_attach(connection, fd), 0));
    reply_number(connection, "file", serving->files, 0, false);
    return CALL_DONE;
}

typedef struct Method {
    const char *name;
    CallResult (*run)(Serving *serving, Connection *connection, const Call *call);
} Method;

static const Method methods[] = {
    {"Echo", run_echo}, {"Big", run_big},   {"Put", run_put},       {"Park", run_park},
    {"Wait", run_wait}, {"File", run_file}, {"Stream", run_stream},
};

static CallResult on_call(void *context, Connection *connection, const Call *call)
{
    Serving *serving = context;

    serving->calls++;
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
        if (bytes_equal(call->method, bytes_of_text(methods[i].name)))
            return methods[i].run(serving, connection, call);
    reply_method_not_found(connection_output(connection), call->method,
                           connection_terminator(connection));
    return CALL_DONE;
}

static void on_bad(void *context, Buffer *out, char terminator, const char *reason,
                   const char *limit, uint64_t maximum)
{
    (void)context;
    buffer_append_format(out, limit != NULL ? "limit %s %llu" : "bad %s",
                         limit != NULL ? limit : reason, (unsigned long long)maximum);
    buffer_append(out, &terminator, 1);
}

static void on_not_durable(void *context, Buffer *out, char terminator, uint64_t revision)
{
    (void)context;
    buffer_append_format(out, "revision %llu is not durable, sorry for that",
                         (unsigned long long)revision);
    buffer_append(out, &terminator, 1);
}

/* --- the loop */

Serving *serving_new(const ServerLimits *limits)
{
    Serving *serving = calloc(1, sizeof(*serving));
    ServerHandler handler = {
        .context = serving,
        .call = on_call,
        .bad = on_bad,
        .not_durable = on_not_durable,
    };

    cr_assert(ne(ptr, serving, NULL));
    serving->directory = temporary_new();
    serving->path = temporary_path(serving->directory, "socket");
    serving->base = event_base_new();
    cr_assert(eq(int, pool_new(NULL, &serving->pool), 0));
    cr_assert(eq(int,
                 server_new(serving->base, serving->pool, &handler,
                            limits != NULL ? limits : &serving_limits, &serving->server),
                 0));
    cr_assert(eq(int, server_listen(serving->server, serving->path, 0600, (gid_t)-1), 0));
    cr_assert(eq(int, server_accept(serving->server), 0));
    return serving;
}

void serving_free(Serving *serving)
{
    server_free(serving->server);
    cr_expect(ne(int, access(serving->path, F_OK), 0), "the socket's name is removed");
    cr_expect(eq(u64, pool_bytes_taken(serving->pool), 0));
    pool_free(serving->pool);
    event_base_free(serving->base);
    free(serving->path);
    temporary_free(serving->directory);
    free(serving);
}

void serving_turn(Serving *serving)
{
    /* EVLOOP_NONBLOCK alone goes on as long as anything is active: for ever, with a socket that can
     * be written to and a flush that comes afterwards. */
    event_base_loop(serving->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    server_flush(serving->server, serving->hold ? serving->durable : UINT64_MAX);
}

void serving_turns(Serving *serving, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        serving_turn(serving);
}

/* --- clients */

Client client_new(Serving *serving)
{
    Client client = {.serving = serving};
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    strcpy(address.sun_path, serving->path);
    client.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    cr_assert(ge(int, client.fd, 0));
    cr_assert(eq(int, connect(client.fd, (struct sockaddr *)&address, sizeof(address)), 0));
    buffer_init(&client.text, serving->pool);
    serving_turns(serving, 2);
    return client;
}

void client_free(Client *client)
{
    for (unsigned i = 0; i < client->passed_count; i++)
        close(client->passed[i]);
    buffer_clear(&client->text);
    closep(&client->fd);
}

void client_send(Client *client, const void *data, size_t size)
{
    const char *at = data;

    while (size > 0) {
        ssize_t n = send(client->fd, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            cr_assert(eq(int, errno, EAGAIN));
            serving_turn(client->serving);
            client_read(client);
            continue;
        }
        at += n;
        size -= (size_t)n;
    }
}

void client_send_text(Client *client, const char *text)
{
    client_send(client, text, strlen(text));
}

void client_call(Client *client, const char *text)
{
    client_send(client, text, strlen(text) + 1);
}

static void client_take_files(Client *client, struct msghdr *message)
{
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
         header = CMSG_NXTHDR(message, header)) {
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        cr_assert(le(sz, client->passed_count + count, ARRAY_SIZE(client->passed)));
        memcpy(client->passed + client->passed_count, CMSG_DATA(header), count * sizeof(int));
        client->passed_count += (unsigned)count;
    }
}

bool client_read(Client *client)
{
    char control[256];
    struct iovec bytes = {.iov_len = 256 * KIB};
    struct msghdr message = {.msg_iov = &bytes,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};

    bytes.iov_base = buffer_reserve(&client->text, bytes.iov_len);
    cr_assert(ne(ptr, bytes.iov_base, NULL));
    ssize_t n = recvmsg(client->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n < 0)
        client->error = errno;
    if (n <= 0) {
        client->end = true;
        return true;
    }
    client->text.end += (size_t)n;
    client_take_files(client, &message);
    return true;
}

void client_expect(Client *client, unsigned count, char terminator)
{
    uint64_t deadline = clock_monotonic() + 10 * USEC_PER_SEC;
    size_t seen = 0;
    unsigned found = 0;

    for (;;) {
        const char *text = buffer_begin(&client->text);
        for (; seen < buffer_size(&client->text); seen++)
            found += text[seen] == terminator;
        if (found >= count)
            return;
        cr_assert(not(client->end), "the stream ended after %u of %u messages", found, count);
        cr_assert(clock_monotonic() < deadline, "%u of %u messages in time", found, count);
        serving_turn(client->serving);
        client_read(client);
    }
}

char *client_take(Client *client, char terminator)
{
    const char *text = buffer_begin(&client->text);
    const char *end = memchr(text, terminator, buffer_size(&client->text));

    cr_assert(ne(ptr, (void *)end, NULL));
    char *message = strndup(text, (size_t)(end - text));
    buffer_consume(&client->text, (size_t)(end - text) + 1);
    return message;
}

void client_expect_text(Client *client, const char *expected, char terminator)
{
    client_expect(client, 1, terminator);
    char *message = client_take(client, terminator);
    cr_assert(eq(str, message, (char *)expected));
    free(message);
}

void client_expect_end(Client *client)
{
    serving_until(client->serving, (client_read(client), client->end));
    cr_assert(eq(int, client->error, 0));
}

void client_expect_silence(Client *client)
{
    size_t before = buffer_size(&client->text);

    for (unsigned i = 0; i < 8; i++) {
        serving_turn(client->serving);
        client_read(client);
    }
    cr_assert(eq(sz, buffer_size(&client->text), before));
    cr_assert(not(client->end));
}
