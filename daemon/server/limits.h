/* What connections may take: how many there may be and how much their buffers may hold, in all and
 * by user. */
#pragma once

#include <sys/types.h>

#include "server/server.h"

typedef enum Limit {
    LIMIT_NONE,
    LIMIT_CONNECTIONS,
    LIMIT_CONNECTIONS_PER_USER,
    LIMIT_MESSAGE,
    LIMIT_BUFFERS,
} Limit;

/* What one user's connections take together; lives as long as there is one. */
typedef struct User {
    uid_t uid;
    unsigned connections;
    uint64_t buffer_bytes;
    struct User *next;
} User;

#define LIMITS_BUCKETS 64

typedef struct Limits {
    ServerLimits max;
    unsigned connections;
    uint64_t buffer_bytes;
    User *users[LIMITS_BUCKETS]; /* chains, by uid */
} Limits;

/* Counts a connection of that user. LIMIT_NONE with its user in ret, or the limit that forbids it
 * (nothing is counted then), or -ENOMEM. */
int limits_enter(Limits *limits, uid_t uid, User **ret);
/* Takes a connection back; its buffers are given back before. The user may be gone afterwards. */
void limits_leave(Limits *limits, User *user);

/* A connection's buffers grew or shrank from before to now bytes. */
void limits_account(Limits *limits, User *user, uint64_t before, uint64_t now);
/* Bytes by which buffers of that user may grow. */
uint64_t limits_room(const Limits *limits, const User *user);
/* They are larger than they may be. */
bool limits_exceeded(const Limits *limits, const User *user);

/* The limit as clients know it, and its value. */
const char *limits_name(Limit limit);
uint64_t limits_maximum(const Limits *limits, Limit limit);
