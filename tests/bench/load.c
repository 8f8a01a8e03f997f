/* A load for holdfast and for Redis with the same code around both: so many connections, each with
 * so many calls under way, random keys, for so many seconds; closed loop. Prints calls a second and
 * percentiles of the time from a batch's send to its last reply, in microseconds:
 *
 *     load holdfast|redis SOCKET put|get CONNECTIONS PIPELINED VALUE_BYTES KEYS SECONDS
 *
 * One thread: it takes one core, the server has the others. */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/histogram.h"

#define ROOM (1 << 20)

typedef struct Protocol {
    const char *name;
    /* Appends one call; returns its length. */
    size_t (*call)(char *out, bool put, uint64_t key, const char *value);
    /* How many replies end within the bytes. rest: state between calls, zero at first. */
    unsigned (*replies)(const char *data, size_t size, bool put, long *rest);
    const char *error; /* a reply that contains this is an error */
} Protocol;

typedef struct Client {
    int fd;
    unsigned waiting;
    uint64_t sent_usec;
    long rest;
} Client;

static size_t holdfast_call(char *out, bool put, uint64_t key, const char *value)
{
    int n = put ? sprintf(out,
                          "{\"method\":\"io.holdfast.Put\",\"parameters\":{\"arena\":\"a\",\"key\":"
                          "\"key:%012llu\","
                          "\"value\":\"%s\"}}",
                          (unsigned long long)key, value)
                : sprintf(out,
                          "{\"method\":\"io.holdfast.Get\",\"parameters\":{\"arena\":\"a\",\"key\":"
                          "\"key:%012llu\"}}",
                          (unsigned long long)key);

    return (size_t)n + 1; /* ends in its NUL */
}

static unsigned holdfast_replies(const char *data, size_t size, bool put, long *rest)
{
    unsigned count = 0;

    (void)put;
    (void)rest;
    for (const char *at = data; (at = memchr(at, 0, size - (size_t)(at - data))) != NULL; at++)
        count++;
    return count;
}

static size_t redis_call(char *out, bool put, uint64_t key, const char *value)
{
    if (put)
        return (size_t)sprintf(out, "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012llu\r\n$%zu\r\n%s\r\n",
                               (unsigned long long)key, strlen(value), value);
    return (size_t)sprintf(out, "*2\r\n$3\r\nGET\r\n$16\r\nkey:%012llu\r\n",
                           (unsigned long long)key);
}

/* +OK\r\n, or $100\r\n...\r\n, or $-1\r\n: values hold no line feed, so a value is the second line
 * of its reply. */
static unsigned redis_replies(const char *data, size_t size, bool put, long *rest)
{
    unsigned count = 0;

    for (size_t i = 0; i < size; i++) {
        if (*rest == 0) {
            *rest = data[i] == '$' ? 2 : 1; /* lines of this reply */
            if (data[i] == '$' && i + 1 < size && data[i + 1] == '-')
                *rest = 1;
        }
        if (data[i] == '\n' && --*rest == 0)
            count++;
    }
    (void)put;
    return count;
}

static const Protocol protocols[] = {
    {"holdfast", holdfast_call, holdfast_replies, "\"error\""},
    {"redis", redis_call, redis_replies, "-ERR"},
};

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
        return -1;
    strcpy(address.sun_path, path);
    return connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -1 : fd;
}

/* xorshift64*: keys. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

typedef struct Run {
    const Protocol *protocol;
    bool put;
    unsigned pipelined;
    uint64_t keys;
    const char *value;
    char *buffer;
    uint64_t random;
    uint64_t done;
    Histogram times;
} Run;

static bool send_batch(Run *run, Client *client)
{
    size_t size = 0;

    for (unsigned i = 0; i < run->pipelined; i++)
        size += run->protocol->call(run->buffer + size, run->put,
                                    next_random(&run->random) % run->keys, run->value);
    client->sent_usec = clock_monotonic();
    client->waiting = run->pipelined;
    for (size_t sent = 0; sent < size;) {
        ssize_t n = send(client->fd, run->buffer + sent, size - sent, MSG_NOSIGNAL);

        if (n < 0)
            return false;
        sent += (size_t)n;
    }
    return true;
}

static bool receive(Run *run, Client *client)
{
    ssize_t n = recv(client->fd, run->buffer, ROOM, 0);
    unsigned replies;

    if (n <= 0)
        return false;
    if (memmem(run->buffer, (size_t)n, run->protocol->error, strlen(run->protocol->error))) {
        fprintf(stderr, "load: %.*s\n", (int)MIN(n, 300), run->buffer);
        return false;
    }
    replies = run->protocol->replies(run->buffer, (size_t)n, run->put, &client->rest);
    client->waiting -= MIN(replies, client->waiting);
    run->done += replies;
    if (client->waiting == 0)
        histogram_add(&run->times, clock_monotonic() - client->sent_usec);
    return true;
}

static bool turn(Run *run, Client *clients, struct pollfd *polls, unsigned count)
{
    if (poll(polls, count, 1000) < 0 && errno != EINTR)
        return false;
    for (unsigned i = 0; i < count; i++)
        if (polls[i].revents && (!receive(run, &clients[i]) ||
                                 (clients[i].waiting == 0 && !send_batch(run, &clients[i]))))
            return false;
    return true;
}

int main(int argc, char **argv)
{
    static char value[64 * 1024];
    Run run = {.random = 88172645463325252ULL, .value = value};
    unsigned count;
    uint64_t begin, end, took;
    struct pollfd *polls;
    Client *clients;

    if (argc != 9)
        return fprintf(stderr, "usage: load holdfast|redis SOCKET put|get CONNECTIONS PIPELINED "
                               "VALUE_BYTES KEYS SECONDS\n"),
               64;
    for (size_t i = 0; i < ARRAY_SIZE(protocols); i++)
        if (strcmp(protocols[i].name, argv[1]) == 0)
            run.protocol = &protocols[i];
    run.put = strcmp(argv[3], "put") == 0;
    count = (unsigned)atoi(argv[4]);
    run.pipelined = (unsigned)atoi(argv[5]);
    memset(value, 'x', MIN((size_t)atoi(argv[6]), sizeof(value) - 1));
    run.keys = strtoull(argv[7], NULL, 10);
    run.buffer = malloc(MAX((size_t)ROOM, run.pipelined * (strlen(value) + 200)));
    clients = calloc(count, sizeof(*clients));
    polls = calloc(count, sizeof(*polls));
    if (!run.protocol || !run.buffer || !clients || !polls || run.keys == 0 || run.pipelined == 0)
        return 64;
    begin = clock_monotonic();
    end = begin + strtoull(argv[8], NULL, 10) * USEC_PER_SEC;
    for (unsigned i = 0; i < count; i++) {
        clients[i].fd = connect_to(argv[2]);
        polls[i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
        if (clients[i].fd < 0 || !send_batch(&run, &clients[i]))
            return perror("load"), 1;
    }
    while (clock_monotonic() < end)
        if (!turn(&run, clients, polls, count))
            return fprintf(stderr, "load: the connection failed\n"), 1;
    took = clock_monotonic() - begin;
    printf("%.0f %llu %llu %llu\n", (double)run.done * (double)USEC_PER_SEC / (double)took,
           (unsigned long long)histogram_percentile(&run.times, 0.5),
           (unsigned long long)histogram_percentile(&run.times, 0.99),
           (unsigned long long)run.times.max);
    return 0;
}
