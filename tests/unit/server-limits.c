/* Unit tests of daemon/server: limits, deadlines, the listening socket, rights of peers. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/log.h"
#include "lib/serving.h"
#include "server/limits.h"
#include "server/peer.h"

#define ECHO "{\"method\":\"Echo\"}"
#define ECHOED "{\"parameters\":{}}"

/* --- messages and buffers */

static void send_message_of(Client *client, size_t size)
{
    static const char head[] = "{\"method\":\"Echo\",\"parameters\":{\"a\":\"", tail[] = "\"}}";
    char *text = malloc(size + 1);

    memset(text, 'a', size);
    memcpy(text, head, strlen(head));
    memcpy(text + size - strlen(tail), tail, sizeof(tail));
    client_send(client, text, size + 1);
    free(text);
}

Test(server_limits, a_message_may_be_as_long_as_the_limit_and_no_longer)
{
    ServerLimits limits = serving_limits;
    limits.message_bytes_max = 1 * MIB;
    Serving *serving = serving_new(&limits);
    Client client = client_new(serving);

    send_message_of(&client, 1 * MIB);
    client_expect(&client, 1, '\0');
    buffer_clear(&client.text);
    client_call(&client, ECHO);
    client_expect_text(&client, ECHOED, '\0');
    send_message_of(&client, 1 * MIB + 1);
    client_expect_text(&client, "limit message 1048576", '\0');
    client_expect_end(&client);
    client_free(&client);
    serving_free(serving);
}

Test(server_limits, a_message_is_refused_before_it_is_complete)
{
    ServerLimits limits = serving_limits;
    limits.message_bytes_max = 100;
    Serving *serving = serving_new(&limits);
    Client client = client_new(serving);
    char text[101];

    memset(text, ' ', sizeof(text));
    text[0] = '{';
    client_send(&client, text, 100);
    client_expect_silence(&client);
    client_send(&client, text + 100, 1);
    client_expect_text(&client, "limit message 100", '\0');
    client_expect_end(&client);
    client_free(&client);
    serving_free(serving);
}

Test(server_limits, one_user_gets_a_quarter_of_the_buffers)
{
    ServerLimits limits = serving_limits;
    limits.buffer_bytes_max = 4 * MIB;
    Serving *serving = serving_new(&limits);
    Client client = client_new(serving), small = client_new(serving);
    char *half = calloc(1, 2 * MIB);

    memset(half, ' ', 2 * MIB);
    memcpy(half, "{\"a\":", 5);
    client_send(&client, half, 700 * KIB);
    serving_turns(serving, 20);
    cr_expect(le(u64, server_buffer_bytes(serving->server), 1 * MIB));
    client_call(&small, ECHO);
    client_expect(&small, 1, '\0');
    client_send(&client, half + 700 * KIB, 600 * KIB);
    client_expect_text(&client, "limit buffers 1048576", '\0');
    client_expect_end(&client);
    cr_expect(eq(u64, server_buffer_bytes(serving->server), 0));
    free(half);
    client_free(&client);
    client_free(&small);
    serving_free(serving);
}

/* {"":"xxx...","a":{"0000":1,"0001":1,...: filler bytes, then many short names, each of its own. By
 * malloc, *ret_size bytes. */
static char *many_names(size_t filler, size_t count, size_t *ret_size)
{
    static const char head[] = "{\"\":\"", middle[] = "\",\"a\":{";
    char *text = malloc(sizeof(head) + filler + sizeof(middle) + count * 9);
    char *at = stpcpy(text, head);

    memset(at, 'x', filler);
    at = stpcpy(at + filler, middle);
    for (size_t i = 0; i < count; i++) {
        char name[] = {(char)('0' + i / 64 / 64 / 64), (char)('0' + i / 64 / 64 % 64),
                       (char)('0' + i / 64 % 64), (char)('0' + i % 64)};

        for (size_t j = 0; j < sizeof(name); j++)
            name[j] = name[j] == '\\' ? '!' : name[j];
        at[0] = '"';
        memcpy(at + 1, name, sizeof(name));
        memcpy(at + 5, "\":1,", 4);
        at += 9;
    }
    *ret_size = (size_t)(at - text);
    return text;
}

static void expect_names_refused(size_t filler, size_t count)
{
    ServerLimits limits = serving_limits;
    limits.buffer_bytes_max = 4 * MIB;
    Serving *serving = serving_new(&limits);
    Client client = client_new(serving), other = client_new(serving);
    uint64_t before = pool_bytes_taken(serving->pool);
    size_t size;
    char *text = many_names(filler, count, &size);

    client_send(&client, text, size);
    serving_turns(serving, 20);
    /* What is added within one turn, before it is noticed, comes on top. */
    cr_expect(le(u64, pool_bytes_taken(serving->pool) - before, 2 * MIB));
    client_expect_text(&client, "limit buffers 1048576", '\0');
    client_expect_end(&client);
    client_call(&other, ECHO);
    client_expect(&other, 1, '\0');
    cr_expect(eq(u64, server_buffer_bytes(serving->server), 0));
    free(text);
    client_free(&client);
    client_free(&other);
    serving_free(serving);
}

Test(server_limits, what_the_scan_of_half_a_message_takes_counts_among_the_buffers)
{
    expect_names_refused(0, 60000);
    /* The bytes have their room before the first of the names is there. */
    expect_names_refused(600 * 1000, 44000);
}

Test(server_limits, a_message_may_take_all_that_its_user_has)
{
    ServerLimits limits = serving_limits;
    limits.buffer_bytes_max = 4 * MIB;
    Serving *serving = serving_new(&limits);
    Client client = client_new(serving);
    char *text = malloc(600 * KIB);

    memset(text, ' ', 600 * KIB);
    memcpy(text, "{\"method\":\"Echo\"", 16);
    client_send(&client, text, 600 * KIB);
    serving_turns(serving, 40);
    cr_expect(eq(u64, server_buffer_bytes(serving->server), 1 * MIB));
    client_send(&client, "}", 2);
    client_expect_text(&client, "{\"parameters\":{}}", '\0');
    free(text);
    client_free(&client);
    serving_free(serving);
}

Test(server_limits, buffers_used_up_by_replies_nobody_reads_stop_that_user)
{
    ServerLimits limits = serving_limits;
    limits.buffer_bytes_max = 4 * MIB;
    Serving *serving = serving_new(&limits);
    Client lazy = client_new(serving), client = client_new(serving);

    for (unsigned i = 0; i < 100; i++)
        client_call(&lazy, "{\"method\":\"Big\",\"parameters\":{\"size\":900000}}");
    serving_turns(serving, 20);
    cr_expect(le(u64, server_buffer_bytes(serving->server), 4 * MIB));
    client_call(&client, ECHO);
    client_expect_text(&client, "limit buffers 1048576", '\0');
    client_expect_end(&client);
    client_free(&client);
    client_expect(&lazy, 100, '\0');
    client_free(&lazy);
    serving_free(serving);
}

/* --- time */

Test(server_limits, a_message_that_takes_too_long_is_told_so)
{
    ServerLimits limits = serving_limits;
    limits.message_usec_max = 100 * USEC_PER_MSEC;
    Serving *serving = serving_new(&limits);
    Client idle = client_new(serving), slow = client_new(serving), later = client_new(serving);

    client_call(&idle, ECHO);
    client_expect_text(&idle, ECHOED, '\0');
    uint64_t start = clock_monotonic();
    client_send_text(&slow, ECHO "\n{");
    serving_until(serving, clock_monotonic() >= start + 50 * USEC_PER_MSEC);
    client_send_text(&later, "{\"method\":");
    client_expect_text(&slow, ECHOED, '\n');
    client_expect_text(&slow, "bad the message took too long", '\n');
    cr_expect(ge(u64, clock_monotonic() - start, 100 * USEC_PER_MSEC));
    client_expect_end(&slow);
    client_expect_text(&later, "bad the message took too long", '\0');
    cr_expect(ge(u64, clock_monotonic() - start, 150 * USEC_PER_MSEC));
    client_call(&idle, ECHO);
    client_expect_text(&idle, ECHOED, '\0');
    client_free(&idle);
    client_free(&slow);
    client_free(&later);
    serving_free(serving);
}

Test(server_limits, each_message_has_its_own_time)
{
    ServerLimits limits = serving_limits;
    limits.message_usec_max = 200 * USEC_PER_MSEC;
    Serving *serving = serving_new(&limits);
    Client client = client_new(serving);

    for (unsigned i = 0; i < 5; i++) {
        uint64_t start = clock_monotonic();
        client_send_text(&client, "{\"method\":\"Echo\"");
        serving_until(serving, clock_monotonic() >= start + 70 * USEC_PER_MSEC);
        client_send(&client, "}", 2);
        client_expect_text(&client, ECHOED, '\0');
    }
    client_free(&client);
    serving_free(serving);
}

/* --- connections */

static void expect_refused(const ServerLimits *limits, const char *expected)
{
    Serving *serving = serving_new(limits);
    Client first = client_new(serving), second = client_new(serving), third = client_new(serving);

    client_expect_text(&third, expected, '\0');
    client_expect_end(&third);
    cr_expect(eq(uint, server_connections(serving->server), 2));
    client_call(&second, ECHO);
    client_expect_text(&second, ECHOED, '\0');
    client_free(&first);
    serving_until(serving, server_connections(serving->server) == 1);
    Client fourth = client_new(serving);
    client_call(&fourth, ECHO);
    client_expect_text(&fourth, ECHOED, '\0');
    client_free(&second);
    client_free(&third);
    client_free(&fourth);
    serving_free(serving);
}

Test(server_limits, connections_above_a_limit_are_told_which)
{
    ServerLimits all = serving_limits, user = serving_limits;

    all.connections_max = 2;
    user.connections_per_user_max = 2;
    expect_refused(&all, "limit connections 2");
    expect_refused(&user, "limit connectionsPerUser 2");
}

Test(server_limits, users_have_accounts_of_their_own)
{
    Limits limits = {.max = serving_limits};
    User *users[300];

    limits.max.connections_max = 301;
    limits.max.connections_per_user_max = 1;
    limits.max.buffer_bytes_max = 4000;
    for (unsigned i = 0; i < ARRAY_SIZE(users); i++) {
        User *again;
        cr_assert(eq(int, limits_enter(&limits, i, &users[i]), LIMIT_NONE));
        cr_assert(eq(int, limits_enter(&limits, i, &again), LIMIT_CONNECTIONS_PER_USER));
    }
    limits_account(&limits, users[7], 0, 900);
    cr_expect(eq(u64, limits_room(&limits, users[7]), 100));
    cr_expect(eq(u64, limits_room(&limits, users[71]), 1000), "another user in the same chain");
    limits_account(&limits, users[8], 0, 2500);
    cr_expect(eq(u64, limits_room(&limits, users[8]), 0));
    cr_expect(eq(u64, limits_room(&limits, users[71]), 600), "no more than is left of all");
    limits_account(&limits, users[8], 2500, 0);
    limits_account(&limits, users[7], 900, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(users); i++)
        limits_leave(&limits, users[i]);
    cr_expect(eq(uint, limits.connections, 0));
    for (unsigned i = 0; i < LIMITS_BUCKETS; i++)
        cr_expect(eq(ptr, limits.users[i], NULL));
}

/* Leaves room for count more descriptors. */
static void limit_descriptors(unsigned count)
{
    struct rlimit limit;
    rlim_t end = 0;

    for (count++; count > 0; end++)
        count -= fcntl((int)end, F_GETFD) < 0;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = end - 1;
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &limit), 0));
}

Test(server_limits, want_of_descriptors_pauses_accepting_and_passes)
{
    Serving *serving = serving_new(NULL);
    struct rlimit limit;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    Client clients[4];

    log_set_level(LOG_ERR);
    strcpy(address.sun_path, serving->path);
    clients[0] = client_new(serving);
    for (unsigned i = 1; i < ARRAY_SIZE(clients); i++) {
        clients[i] = clients[0];
        buffer_init(&clients[i].text, serving->pool);
        clients[i].fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    }
    getrlimit(RLIMIT_NOFILE, &limit);
    limit_descriptors(1); /* for one of three */
    for (unsigned i = 1; i < ARRAY_SIZE(clients); i++)
        cr_assert(eq(int, connect(clients[i].fd, (struct sockaddr *)&address, sizeof(address)), 0));
    serving_turns(serving, 10);
    cr_expect(eq(uint, server_connections(serving->server), 2));
    client_call(&clients[0], ECHO);
    client_expect_text(&clients[0], ECHOED, '\0');

    /* One that goes makes room for one, well before the timer. */
    uint64_t start = clock_monotonic();
    client_free(&clients[0]);
    int plug =
        dup(STDERR_FILENO); /* not through the client's own descriptor, which is free as well */
    serving_turns(serving, 10);
    cr_expect(lt(u64, clock_monotonic() - start, 90 * USEC_PER_MSEC));
    cr_expect(eq(uint, server_connections(serving->server), 2));
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &limit), 0));
    serving_until(serving, server_connections(serving->server) == 3);
    close(plug);
    for (unsigned i = 1; i < ARRAY_SIZE(clients); i++) {
        client_call(&clients[i], ECHO);
        client_expect_text(&clients[i], ECHOED, '\0');
        client_free(&clients[i]);
    }
    serving_free(serving);
}

/* The kernel may refuse to watch a descriptor (epoll_ctl(2): ENOMEM, ENOSPC). A file that cannot be
 * watched stands in for that. */
Test(server_limits, a_listener_that_cannot_be_watched_is_tried_again_and_holds_up_no_other)
{
    Serving *serving = serving_new(NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct rlimit limit;

    log_set_level(LOG_ERR);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s-2", serving->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    cr_assert(eq(int, bind(fd, (struct sockaddr *)&address, sizeof(address)), 0));
    cr_assert(eq(int, listen(fd, 16), 0));
    cr_assert(eq(int, server_listen_fd(serving->server, fd), 0));
    int kept = dup(fd), null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int second = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    getrlimit(RLIMIT_NOFILE, &limit);
    limit_descriptors(0);
    cr_assert(eq(int, connect(second, (struct sockaddr *)&address, sizeof(address)), 0));
    serving_turns(serving, 10);
    cr_assert(eq(uint, server_connections(serving->server), 0));
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &limit), 0));
    cr_assert(eq(int, dup2(null, fd), fd));
    Client client = client_new(serving);
    client_call(&client, ECHO);
    client_expect_text(&client, ECHOED, '\0');
    cr_assert(eq(uint, server_connections(serving->server), 1));
    cr_assert(eq(int, dup2(kept, fd), fd));
    serving_until(serving, server_connections(serving->server) == 2);
    client_free(&client);
    close(second);
    close(kept);
    close(null);
    unlink(address.sun_path);
    serving_free(serving);
}

/* --- the socket's name */

static int listen_at(Serving *serving, const char *path)
{
    return server_listen(serving->server, path, 0640, getegid());
}

Test(server_limits, a_stale_socket_is_replaced_and_nothing_else)
{
    Serving *serving = serving_new(NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat status;
    char *stale = temporary_path(serving->directory, "stale");
    char *file = temporary_path(serving->directory, "file");
    char *missing = temporary_path(serving->directory, "missing/socket");
    mode_t mask = umask(0);

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strcpy(address.sun_path, stale);
    cr_assert(eq(int, bind(fd, (struct sockaddr *)&address, sizeof(address)), 0));
    close(fd);
    cr_expect(eq(int, listen_at(serving, stale), 0));
    cr_assert(eq(int, stat(stale, &status), 0));
    cr_expect(eq(uint, status.st_mode & 07777, 0640));
    cr_expect(eq(int, listen_at(serving, stale), -EADDRINUSE), "somebody listens");
    cr_expect(eq(int, listen_at(serving, serving->path), -EADDRINUSE));
    temporary_write(serving->directory, "file", "precious");
    cr_expect(eq(int, listen_at(serving, file), -EADDRINUSE));
    cr_expect(eq(int, access(file, F_OK), 0));
    cr_expect(eq(int, listen_at(serving, missing), -ENOENT));
    umask(mask);
    serving_free(serving);
    free(stale);
    free(file);
    free(missing);
}

Test(server_limits, a_name_that_another_one_has_taken_since_is_not_removed)
{
    Serving *serving = serving_new(NULL);
    char *other = temporary_path(serving->directory, "other");

    cr_assert(eq(int, server_listen(serving->server, other, 0600, (gid_t)-1), 0));
    unlink(other);
    temporary_write(serving->directory, "other", "new");
    server_free(serving->server);
    serving->server = NULL;
    cr_expect(eq(int, access(other, F_OK), 0));
    free(other);
    serving_free(serving);
}

Test(server_limits, a_listening_socket_can_be_handed_in)
{
    Serving *serving = serving_new(NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *path = temporary_path(serving->directory, "given");
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    cr_expect(eq(int, server_listen_fd(serving->server, fd), -EINVAL), "does not listen");
    strcpy(address.sun_path, path);
    cr_assert(eq(int, bind(fd, (struct sockaddr *)&address, sizeof(address)), 0));
    cr_assert(eq(int, listen(fd, 10), 0));
    cr_assert(eq(int, server_listen_fd(serving->server, fd), 0));
    cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    char *own = serving->path;
    serving->path = path;
    Client client = client_new(serving);
    serving->path = own;
    client_call(&client, ECHO);
    client_expect_text(&client, ECHOED, '\0');
    client_free(&client);
    serving_free(serving);
    free(path);
}

/* --- peers */

Test(server_limits, the_first_class_that_fits_decides_what_a_peer_may)
{
    gid_t groups[] = {2000, 2001};
    Peer peer = {.uid = 1234567, .gid = 1000, .groups = groups, .group_count = 2};
    unsigned both = PEER_READ | PEER_WRITE;

    cr_expect(peer_may(&peer, 1234567, 5, 0600, both));
    cr_expect(not(peer_may(&peer, 1234567, 1000, 0066, PEER_READ)),
              "the owner's class, though others may");
    cr_expect(peer_may(&peer, 6, 1000, 0040, PEER_READ));
    cr_expect(peer_may(&peer, 6, 2001, 0060, both));
    cr_expect(not(peer_may(&peer, 6, 2001, 0606, PEER_READ)));
    cr_expect(not(peer_may(&peer, 6, 2002, 0660, PEER_READ)));
    cr_expect(peer_may(&peer, 6, 2002, 0004, PEER_READ));
    cr_expect(not(peer_may(&peer, 6, 2002, 0004, both)));
    cr_expect(not(peer_is_administrator(&peer)));
    peer.uid = 0;
    cr_expect(peer_may(&peer, 6, 6, 0, both));
    peer.uid = geteuid();
    cr_expect(peer_is_administrator(&peer));
}

Test(server_limits, a_peer_is_who_connected)
{
    int fds[2];
    Peer peer;

    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0));
    cr_assert(eq(int, peer_init(&peer, fds[0]), 0));
    cr_expect(eq(uint, peer.uid, geteuid()));
    cr_expect(eq(uint, peer.gid, getegid()));
    cr_expect(eq(int, peer.pid, getpid()));
    cr_expect(eq(sz, peer.group_count, (size_t)getgroups(0, NULL)));
    peer_deinit(&peer);
    close(fds[0]);
    close(fds[1]);
    cr_expect(lt(int, peer_init(&peer, -1), 0));
}
