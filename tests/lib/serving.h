/* A server with a fake handler, and clients of it, all in one thread: waiting for something means
 * turning the server's loop until it is there, with a deadline. Functions abort the test where the
 * system refuses.
 *
 * Methods that the handler knows; each reply has what it says in parameters:
 *
 *   Echo {...}         the parameters
 *   Big {"size":N}     {"fill":"xxx..."} of N bytes
 *   Put                {"revision":R}, held until R is durable
 *   Park               PARKED while serving->parking, then {"order":N}, N counting the calls that
 *                      got through
 *   Wait               WAITING: the test finishes it through serving->waiting
 *   Stream {"size":N}  N replies {"index":I,"fill":"xxx..."} of 64 KiB, then {"index":N}
 *   File               {"file":N} with a memfd that holds the text N */
#pragma once

#include <event2/event.h>

#include "lib/temporary.h"
#include "server/server.h"

typedef struct Serving {
    struct event_base *base;
    Pool *pool;
    Server *server;
    Temporary *directory;
    char *path; /* of the socket */

    uint64_t revision; /* of the last Put */
    uint64_t durable;
    bool hold; /* durable is the test's; else all is durable at once */
    bool parking;
    unsigned park_calls; /* calls of Park, parked again or not */
    unsigned park_order;
    Connection *waiting[8];
    unsigned waiting_count;
    unsigned calls;
    unsigned released; /* states of streams */
    unsigned files;
} Serving;

/* limits NULL: ones that no test meets by chance. */
Serving *serving_new(const ServerLimits *limits);
/* Also checks that all memory came back to the pool. */
void serving_free(Serving *serving);
extern const ServerLimits serving_limits;

/* One turn: what is due now, then a flush. */
void serving_turn(Serving *serving);
void serving_turns(Serving *serving, unsigned count);
/* Turns until the condition holds; fails the test after ten seconds. */
#define serving_until(serving, condition)                                                          \
    do {                                                                                           \
        uint64_t deadline_ = clock_monotonic() + 10 * USEC_PER_SEC;                                \
        while (!(condition)) {                                                                     \
            cr_assert(clock_monotonic() < deadline_, "not in time: %s", #condition);               \
            serving_turn(serving);                                                                 \
        }                                                                                          \
    } while (0)

/* A client; its replies gather in text. */
typedef struct Client {
    Serving *serving;
    int fd;
    Buffer text;
    bool end;      /* of the stream was read */
    int error;     /* errno of a failed read */
    int passed[8]; /* descriptors, in order */
    unsigned passed_count;
} Client;

/* Connected, and accepted unless nobody accepts. */
Client client_new(Serving *serving);
void client_free(Client *client);
/* Sends all of it, turning the server's loop where the socket is full. */
void client_send(Client *client, const void *data, size_t size);
void client_send_text(Client *client, const char *text); /* without its NUL */
void client_call(Client *client, const char *text);      /* with its NUL */
/* Reads what is there, without waiting; true if anything was, or the end. */
bool client_read(Client *client);
/* Reads until count messages ended by terminator are in text; turns the loop meanwhile. */
void client_expect(Client *client, unsigned count, char terminator);
/* Takes the first message out of text: without its terminator, as a string that the caller frees.
 * There is one. */
char *client_take(Client *client, char terminator);
/* The next message, waited for, is this. */
void client_expect_text(Client *client, const char *expected, char terminator);
/* Reads until the end of the stream. */
void client_expect_end(Client *client);
/* Nothing arrives in a few turns. */
void client_expect_silence(Client *client);
