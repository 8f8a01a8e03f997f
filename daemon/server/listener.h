/* Listening sockets. */
#pragma once

#include <sys/queue.h>
#include <sys/stat.h>

#include <event2/event_struct.h>

#include "base/common.h"

typedef struct Server Server;

typedef struct Listener {
    Server *server;
    int fd;
    char *path; /* NULL: the socket was given to us, its name is not ours to remove */
    dev_t device;
    ino_t inode; /* of the socket's name, to remove no other one's */
    struct event event;
    LIST_ENTRY(Listener) link;
} Listener;
LIST_HEAD(ListenerList, Listener);
typedef struct ListenerList ListenerList;

/* Makes, binds and listens; see server_listen. */
int listener_new(Server *server, const char *path, mode_t mode, gid_t gid, Listener **ret);
/* Takes a listening Unix stream socket; -EINVAL where fd is none (it is not closed then). */
int listener_new_fd(Server *server, int fd, Listener **ret);
Listener *listener_free(Listener *listener);

int listener_start(Listener *listener);
void listener_pause(Listener *listener);
/* Accepting is tried again in a moment; tells why. 0 or -ENOMEM. */
int listeners_retry(Server *server, int error);
