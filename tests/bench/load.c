/* A load for holdfast and for Redis with the same code around both. One thread, so at most one
 * core: the server has the others.
 *
 *     load --protocol=holdfast|redis --socket=PATH --command=put|get|apply [OPTION]...
 *
 *     --connections=N     1 if left out
 *     --pipelined=N       calls sent together on each connection, 1 if left out
 *     --batch=N           entries of an apply, 100 if left out
 *     --keys=N            keys are drawn from so many, 100000 if left out
 *     --value-bytes=N     100 if left out
 *     --seconds=TIME      how long (3, 500ms); until stdin ends if left out
 *     --fill              no drawing: puts every key once, in order, and ends
 *     --rate=N            open loop: calls are due so many times a second, whatever becomes of
 * those before, and the time of a call counts from when it was due
 *     --seed=N            of what is drawn, 1 if left out
 *     --series=FILE       writes the course of the latencies
 *
 * Each line on stdin begins a new phase of that name (without --seconds). Prints JSON: of each
 * phase operations, rate, and percentiles of latency. Closed loop: a client sends anew when all
 * that it sent is answered, and a call's time is from the send to the last reply. */
#include <getopt.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/parse.h"
#include "load-client.h"
#include "load-result.h"

#define ROOM (256 * KIB)
#define POOL_BYTES (1 * MIB)
#define DRAIN_NSEC UINT64_C(60000000000) /* how long an open loop waits for its last replies */
#define STDIN_EVENT UINT32_MAX

typedef struct Load {
    const LoadProtocol *protocol;
    const char *socket;
    const char *series;
    LoadCommand command;
    uint64_t connections, pipelined, batch, keys, value_bytes, usec, rate, seed;
    bool fill;

    LoadTemplate call;
    LoadClient *clients;
    int epoll;
    char *buffer; /* for what comes in */
    char *pool;   /* random text: values are cut out of it */
    uint64_t random;
    uint64_t begin_nsec, now_nsec, end_nsec; /* end 0: not known yet */
    uint64_t issued;                         /* calls, or batches of them in a closed loop */
    uint64_t next_key;                       /* of a fill */
    uint64_t waiting;                        /* of those issued */
    LoadResult result;
} Load;

static uint64_t now_nsec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* xorshift64*: keys and values. */
static uint64_t next_random(Load *load)
{
    load->random ^= load->random >> 12;
    load->random ^= load->random << 25;
    load->random ^= load->random >> 27;
    return load->random * UINT64_C(2685821657736338717);
}

/* Letters that neither protocol escapes; six bits of each are random, so that nothing compresses
 * them to much less. */
static void fill_pool(Load *load)
{
    static const char letters[] =
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

    for (size_t i = 0; i < POOL_BYTES; i++)
        load->pool[i] = letters[next_random(load) >> 58];
}

static int watch(const Load *load, int operation, int fd, uint32_t events, uint32_t number)
{
    struct epoll_event event = {.events = events, .data.u32 = number};

    return epoll_ctl(load->epoll, operation, fd, &event) < 0 ? -errno : 0;
}

/* --- sending */

static void write_call(Load *load, char *at)
{
    const LoadTemplate *call = &load->call;

    memcpy(at, call->text, call->size);
    for (unsigned i = 0; i < call->operations; i++) {
        uint64_t key = load->fill ? load->next_key++ : next_random(load);

        load_write_key(at + call->keys[i], key % load->keys);
        if (call->value_bytes > 0)
            memcpy(at + call->values[i],
                   load->pool + next_random(load) % (POOL_BYTES - call->value_bytes),
                   call->value_bytes);
    }
}

/* Sends what the socket takes, and has the loop say when it takes more. */
static int flush(Load *load, LoadClient *client)
{
    uint32_t number = (uint32_t)(client - load->clients);
    int r = load_client_send(client);

    if (r >= 0 && client->blocked != (r == 1)) {
        client->blocked = r == 1;
        r = watch(load, EPOLL_CTL_MOD, client->fd, EPOLLIN | (client->blocked ? EPOLLOUT : 0),
                  number);
    }
    return MIN(r, 0);
}

/* So many calls on a connection, due together and told together. */
static int issue(Load *load, LoadClient *client, unsigned calls, uint64_t due_nsec)
{
    size_t size = calls * load->call.size;
    char *at = load_client_room(client, size);
    LoadCall waiting = {
        .due_nsec = due_nsec,
        .replies = calls * load->call.replies,
        .operations = calls * load->call.operations,
        .phase = load->result.phase_count - 1,
    };
    int r;

    if (!at)
        return -ENOMEM;
    for (unsigned i = 0; i < calls; i++)
        write_call(load, at + i * load->call.size);
    r = load_client_queue(client, size, &waiting);
    if (r < 0)
        return r;
    load->issued++;
    load->waiting++;
    return flush(load, client);
}

static bool wants_more(const Load *load)
{
    if (load->fill)
        return load->next_key < load->keys;
    return load->end_nsec == 0 || load->now_nsec < load->end_nsec;
}

static uint64_t next_due(const Load *load)
{
    return load->begin_nsec + (uint64_t)((double)load->issued * 1e9 / (double)load->rate);
}

/* Open loop: all that is due by now, connection by connection in turn. */
static int issue_due(Load *load)
{
    uint64_t due;
    int r = 0;

    while (r == 0 && (due = next_due(load)) <= load->now_nsec &&
           (load->end_nsec == 0 || due < load->end_nsec))
        r = issue(load, &load->clients[load->issued % load->connections], 1, due);
    return r;
}

/* --- receiving */

static void answered(void *data, const LoadCall *call)
{
    Load *load = data;

    load->waiting--;
    load_result_add(&load->result, call->phase, call->operations, call->due_nsec, load->now_nsec);
}

static int ready(Load *load, LoadClient *client)
{
    int r;

    load->now_nsec = now_nsec();
    r = load_client_receive(client, load->buffer, ROOM, answered, load);
    if (r == 0 && client->blocked)
        r = flush(load, client);
    if (r == 0 && load->rate == 0 && client->calls_count == 0 && wants_more(load))
        r = issue(load, client, (unsigned)load->pipelined, load->now_nsec);
    return r;
}

/* Lines of stdin: names of phases. Its end is the end of the load. */
static int read_phases(Load *load)
{
    char text[256], *rest = NULL;
    ssize_t n = read(STDIN_FILENO, text, sizeof(text) - 1);
    int r = 0;

    load->now_nsec = now_nsec();
    if (n <= 0) {
        load->end_nsec = load->now_nsec;
        return epoll_ctl(load->epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL) < 0 ? -errno : 0;
    }
    text[n] = '\0';
    for (char *name = strtok_r(text, "\n", &rest); name && r == 0;
         name = strtok_r(NULL, "\n", &rest))
        r = load_result_phase(&load->result, name, load->now_nsec);
    return r;
}

/* --- the loop */

static struct timespec wait_time(const Load *load)
{
    uint64_t until = load->now_nsec + 100000000u, wait;

    if (load->rate > 0 && wants_more(load))
        until = MIN(until, next_due(load));
    wait = until > load->now_nsec ? until - load->now_nsec : 0;
    return (struct timespec){.tv_sec = 0, .tv_nsec = (long)wait};
}

static int turn(Load *load)
{
    struct epoll_event events[64];
    struct timespec wait;
    int count, r = 0;

    load->now_nsec = now_nsec();
    if (load->rate > 0)
        r = issue_due(load);
    wait = wait_time(load);
    count = epoll_pwait2(load->epoll, events, ARRAY_SIZE(events), &wait, NULL);
    if (count < 0 && errno != EINTR)
        return -errno;
    for (int i = 0; i < count && r == 0; i++)
        r = events[i].data.u32 == STDIN_EVENT ? read_phases(load)
                                              : ready(load, &load->clients[events[i].data.u32]);
    return r;
}

static int run(Load *load)
{
    int r = 0;

    for (uint64_t i = 0; load->rate == 0 && i < load->connections && r == 0 && wants_more(load);
         i++)
        r = issue(load, &load->clients[i], (unsigned)load->pipelined, now_nsec());
    while (r == 0 && wants_more(load))
        r = turn(load);
    if (load->end_nsec == 0)
        load->end_nsec = now_nsec();
    /* A closed loop's last calls are not in the time. */
    while (r == 0 && (load->rate > 0 || load->fill) && load->waiting > 0 &&
           load->now_nsec < load->end_nsec + DRAIN_NSEC)
        r = turn(load);
    if (load->fill)
        load->end_nsec = load->now_nsec;
    return r;
}

static int prepare(Load *load)
{
    int r =
        load->protocol->make(load->command, (unsigned)load->batch, load->value_bytes, &load->call);

    if (r < 0)
        return r;
    (void)prctl(PR_SET_TIMERSLACK, 1);
    load->buffer = malloc(ROOM);
    load->pool = malloc(POOL_BYTES);
    load->clients = calloc(load->connections, sizeof(*load->clients));
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!load->buffer || !load->pool || !load->clients || load->epoll < 0)
        return -ENOMEM;
    load->random = load->seed * UINT64_C(88172645463325252) | 1;
    fill_pool(load);
    for (uint64_t i = 0; i < load->connections && r == 0; i++) {
        r = load_client_init(&load->clients[i], load->protocol, load->socket);
        if (r == 0)
            r = watch(load, EPOLL_CTL_ADD, load->clients[i].fd, EPOLLIN, (uint32_t)i);
    }
    if (r == 0 && load->usec == 0 && !load->fill)
        r = watch(load, EPOLL_CTL_ADD, STDIN_FILENO, EPOLLIN, STDIN_EVENT);
    load->begin_nsec = load->now_nsec = now_nsec();
    load->end_nsec = load->usec > 0 ? load->begin_nsec + load->usec * 1000u : 0;
    return r < 0 ? r : load_result_init(&load->result, load->begin_nsec, load->series != NULL);
}

static void clean_up(Load *load)
{
    for (uint64_t i = 0; load->clients && i < load->connections; i++)
        load_client_deinit(&load->clients[i]);
    load_template_deinit(&load->call);
    load_result_deinit(&load->result);
    closep(&load->epoll);
    free(load->clients);
    free(load->buffer);
    free(load->pool);
}

/* --- options */

static bool parse_command(const char *text, LoadCommand *ret)
{
    static const char *const names[] = {"put", "get", "apply"};

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(text, names[i]) == 0)
            return *ret = (LoadCommand)i, true;
    return false;
}

static bool parse_options(Load *load, int argc, char **argv)
{
    uint64_t *const numbers[] = {&load->connections, &load->pipelined, &load->batch, &load->keys,
                                 &load->value_bytes, &load->rate,      &load->seed};
    static const struct option options[] = {
        {"connections", 1, NULL, 0}, {"pipelined", 1, NULL, 1},   {"batch", 1, NULL, 2},
        {"keys", 1, NULL, 3},        {"value-bytes", 1, NULL, 4}, {"seconds", 1, NULL, 't'},
        {"rate", 1, NULL, 5},        {"seed", 1, NULL, 6},        {"protocol", 1, NULL, 'p'},
        {"socket", 1, NULL, 'u'},    {"command", 1, NULL, 'c'},   {"series", 1, NULL, 's'},
        {"fill", 0, NULL, 'f'},      {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        bool good = option != '?';

        if (option == 'p')
            good = (load->protocol = load_protocol(optarg)) != NULL;
        else if (option == 'c')
            good = parse_command(optarg, &load->command);
        else if (option == 'u')
            load->socket = optarg;
        else if (option == 's')
            load->series = optarg;
        else if (option == 'f')
            load->fill = true;
        else if (option == 't')
            good = parse_duration(optarg, &load->usec) == 0;
        else if (good)
            good = parse_unsigned(optarg, numbers[option]) == 0;
        if (!good)
            return false;
    }
    return load->protocol && load->socket && optind == argc && load->keys > 0 &&
           load->pipelined > 0 && load->pipelined <= 65536 && load->connections > 0 &&
           load->connections < STDIN_EVENT && load->value_bytes > 0 &&
           load->value_bytes < POOL_BYTES;
}

int main(int argc, char **argv)
{
    Load load = {.epoll = -1,
                 .connections = 1,
                 .pipelined = 1,
                 .batch = 100,
                 .keys = 100000,
                 .value_bytes = 100,
                 .seed = 1};
    int r;

    if (!parse_options(&load, argc, argv))
        return fprintf(stderr, "load: the options are at the beginning of load.c; a protocol may "
                               "not be built in\n"),
               64;
    r = prepare(&load);
    if (r == 0)
        r = run(&load);
    if (r == 0) {
        load_result_print(&load.result, load.end_nsec);
        r = load.series ? load_result_write_windows(&load.result, load.series) : 0;
    }
    clean_up(&load);
    if (r < 0)
        fprintf(stderr, "load: %s: %s\n", load.socket, strerror(-r));
    return r < 0;
}
