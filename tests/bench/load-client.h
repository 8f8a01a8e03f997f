/* One connection of the load: calls are queued with the time they were due, sent as far as the
 * socket takes them, and each is told when its last reply has come. Nothing blocks. */
#pragma once

#include "load-protocol.h"

/* A call, or several sent together, on its way. */
typedef struct LoadCall {
    uint64_t due_nsec;
    unsigned replies; /* still to come */
    unsigned operations;
    unsigned phase;
} LoadCall;

typedef struct LoadClient {
    const LoadProtocol *protocol;
    int fd;
    bool blocked; /* the socket took less than there was */
    LoadReader reader;
    char *out; /* not sent yet: out_begin to out_end */
    size_t out_begin;
    size_t out_end;
    size_t out_room;
    LoadCall *calls; /* a ring; room: a power of two */
    size_t calls_first;
    size_t calls_count;
    size_t calls_room;
} LoadClient;

typedef void (*LoadDone)(void *data, const LoadCall *call);

/* Connects; negative errno. To be deinitialised in any case. */
int load_client_init(LoadClient *client, const LoadProtocol *protocol, const char *path);
void load_client_deinit(LoadClient *client);

/* Room for size bytes behind what is not sent yet; NULL: no memory. */
char *load_client_room(LoadClient *client, size_t size);
/* The bytes written there belong to the call. -ENOMEM. */
int load_client_queue(LoadClient *client, size_t size, const LoadCall *call);
/* Sends what the socket takes. 0: all of it is sent; 1: not yet; negative errno. */
int load_client_send(LoadClient *client);
/* Takes what has come, into the buffer, and tells each call that is answered. -ECONNRESET: closed
 * by the other side; -EBADMSG: not what the protocol allows; -EREMOTEIO: an error was answered. */
int load_client_receive(LoadClient *client, char *buffer, size_t size, LoadDone done, void *data);
