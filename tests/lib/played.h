/* A daemon that is played by the test: the other end of a socket pair with the client library.
 * Where a reply fits into the socket's buffer it is laid there before the call. Failures end the
 * running Criterion test. */
#pragma once

#include <holdfast.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct Fixture {
    HoldfastConnection *connection;
    int peer; /* -1: closed by the test */
} Fixture;

Fixture fixture_make(void);
void fixture_end(Fixture *fixture);

/* Sends to the library; what it does not take because it hung up is dropped. */
void say_bytes(Fixture *fixture, const char *bytes, size_t size);
/* A message, with its NUL. */
void say(Fixture *fixture, const char *text);
/* The next message that the library sent; to be freed. */
char *heard(Fixture *fixture);
void expect_heard(Fixture *fixture, const char *expected);
bool nothing_heard(Fixture *fixture);
