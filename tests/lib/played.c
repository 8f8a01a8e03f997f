/* The daemon's end of a connection, played by a test. */

#include "lib/played.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

Fixture fixture_make(void)
{
    Fixture fixture;
    int pair[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    cr_assert_eq(holdfast_connect_fd(pair[0], &fixture.connection), 0);
    fixture.peer = pair[1];
    return fixture;
}

void fixture_end(Fixture *fixture)
{
    holdfast_disconnect(fixture->connection);
    if (fixture->peer >= 0)
        close(fixture->peer);
}

void say_bytes(Fixture *fixture, const char *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = send(fixture->peer, bytes + done, size - done, MSG_NOSIGNAL);
        if (n < 0)
            return; /* the library hung up, as it may */
        done += (size_t)n;
    }
}

void say(Fixture *fixture, const char *text)
{
    say_bytes(fixture, text, strlen(text) + 1);
}

char *heard(Fixture *fixture)
{
    size_t capacity = 64 * 1024, size = 0;
    char *text = malloc(capacity);

    for (;;) {
        ssize_t n = recv(fixture->peer, text + size, 1, 0);
        cr_assert_eq(n, 1, "the library sent no whole message");
        if (text[size++] == '\0')
            return text;
        if (size == capacity)
            text = realloc(text, capacity *= 2);
    }
}

void expect_heard(Fixture *fixture, const char *expected)
{
    char *text = heard(fixture);

    cr_assert_str_eq(text, expected);
    free(text);
}

bool nothing_heard(Fixture *fixture)
{
    struct pollfd wait = {.fd = fixture->peer, .events = POLLIN};

    return poll(&wait, 1, 0) == 0;
}
