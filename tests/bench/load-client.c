/* A connection of the load. The output buffer holds what the socket does not take, so that an open
 * loop goes on counting while a server stands still; the ring of calls holds when each was due. */
#include "load-client.h"

#include <sys/socket.h>
#include <sys/un.h>

int load_client_init(LoadClient *client, const LoadProtocol *protocol, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int r;

    *client = (LoadClient){.protocol = protocol, .fd = -1};
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    strcpy(address.sun_path, path);
    r = protocol->reader_init(&client->reader);
    if (r < 0)
        return r;
    client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    return 0;
}

void load_client_deinit(LoadClient *client)
{
    if (client->protocol)
        client->protocol->reader_deinit(&client->reader);
    if (client->protocol)
        closep(&client->fd);
    free(client->out);
    free(client->calls);
    *client = (LoadClient){.fd = -1};
}

/* Moves what is left to the front only where that frees at least as much as it moves. */
static void compact(LoadClient *client)
{
    if (client->out_begin < client->out_end - client->out_begin)
        return;
    client->out_end -= client->out_begin;
    memmove(client->out, client->out + client->out_begin, client->out_end);
    client->out_begin = 0;
}

char *load_client_room(LoadClient *client, size_t size)
{
    size_t room = MAX(client->out_room, (size_t)(64 * KIB));
    char *out;

    if (client->out_end + size > client->out_room && client->out_begin > 0)
        compact(client);
    while (room < client->out_end + size)
        room *= 2;
    if (room > client->out_room) {
        out = realloc(client->out, room);
        if (!out)
            return NULL;
        client->out = out;
        client->out_room = room;
    }
    return client->out + client->out_end;
}

static int grow_calls(LoadClient *client)
{
    size_t room = client->calls_room > 0 ? client->calls_room * 2 : 64;
    LoadCall *calls = calloc(room, sizeof(*calls));

    if (!calls)
        return -ENOMEM;
    for (size_t i = 0; i < client->calls_count; i++)
        calls[i] = client->calls[(client->calls_first + i) & (client->calls_room - 1)];
    free(client->calls);
    client->calls = calls;
    client->calls_first = 0;
    client->calls_room = room;
    return 0;
}

int load_client_queue(LoadClient *client, size_t size, const LoadCall *call)
{
    if (client->calls_count == client->calls_room) {
        int r = grow_calls(client);

        if (r < 0)
            return r;
    }
    client->calls[(client->calls_first + client->calls_count) & (client->calls_room - 1)] = *call;
    client->calls_count++;
    client->out_end += size;
    return 0;
}

int load_client_send(LoadClient *client)
{
    while (client->out_begin < client->out_end) {
        ssize_t n = send(client->fd, client->out + client->out_begin,
                         client->out_end - client->out_begin, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 1;
        if (n < 0)
            return -errno;
        client->out_begin += (size_t)n;
    }
    client->out_begin = client->out_end = 0;
    return 0;
}

/* Gives replies to the calls in their order. */
static int answer(LoadClient *client, unsigned replies, LoadDone done, void *data)
{
    while (replies > 0) {
        LoadCall *call = &client->calls[client->calls_first];
        unsigned taken;

        if (client->calls_count == 0)
            return -EBADMSG;
        taken = MIN(replies, call->replies);
        replies -= taken;
        call->replies -= taken;
        if (call->replies > 0)
            continue;
        done(data, call);
        client->calls_first = (client->calls_first + 1) & (client->calls_room - 1);
        client->calls_count--;
    }
    return 0;
}

int load_client_receive(LoadClient *client, char *buffer, size_t size, LoadDone done, void *data)
{
    ssize_t n = recv(client->fd, buffer, size, MSG_DONTWAIT);
    int r;

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (n == 0)
        return -ECONNRESET;
    r = client->protocol->replies(&client->reader, buffer, (size_t)n);
    if (r < 0)
        return r;
    if (client->reader.failed)
        return -EREMOTEIO;
    return answer(client, (unsigned)r, done, data);
}
