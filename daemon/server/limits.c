/* The accounts of connections: a total and one entry a user, in a small hash of chains. A
 * connection keeps a pointer to its user, so only its coming looks anything up.
 *
 * The amounts may stand above a limit: replies are counted after they were written, and limits may
 * be lowered. Then there is no room, and whoever asks for some is refused. */
#include "server/limits.h"

/* Of what all buffers may hold, the part for one user. */
#define USER_PART 4

static const char *const limit_names[] = {
    [LIMIT_CONNECTIONS] = "connections",
    [LIMIT_CONNECTIONS_PER_USER] = "connectionsPerUser",
    [LIMIT_MESSAGE] = "message",
    [LIMIT_BUFFERS] = "buffers",
};

static User **limits_find(Limits *limits, uid_t uid)
{
    User **at = &limits->users[uid % LIMITS_BUCKETS];
    while (*at != NULL && (*at)->uid != uid)
        at = &(*at)->next;
    return at;
}

int limits_enter(Limits *limits, uid_t uid, User **ret)
{
    if (limits->connections >= limits->max.connections_max)
        return LIMIT_CONNECTIONS;

    User **at = limits_find(limits, uid);
    unsigned held = *at != NULL ? (*at)->connections : 0;
    if (held >= limits->max.connections_per_user_max)
        return LIMIT_CONNECTIONS_PER_USER;
    if (*at == NULL) {
        *at = calloc(1, sizeof(User));
        if (*at == NULL)
            return -ENOMEM;
        (*at)->uid = uid;
    }

    (*at)->connections++;
    limits->connections++;
    *ret = *at;
    return LIMIT_NONE;
}

void limits_leave(Limits *limits, User *user)
{
    limits->connections--;
    if (--user->connections > 0)
        return;

    User **at = limits_find(limits, user->uid);
    *at = user->next;
    free(user);
}

void limits_account(Limits *limits, User *user, uint64_t before, uint64_t now)
{
    limits->buffer_bytes += now - before;
    if (user != NULL)
        user->buffer_bytes += now - before;
}

uint64_t limits_room(const Limits *limits, const User *user)
{
    uint64_t all = limits->max.buffer_bytes_max;
    uint64_t part = limits_maximum(limits, LIMIT_BUFFERS);
    uint64_t taken = user != NULL ? user->buffer_bytes : 0;

    uint64_t room = all > limits->buffer_bytes ? all - limits->buffer_bytes : 0;
    uint64_t user_room = part > taken ? part - taken : 0;
    return MIN(room, user_room);
}

bool limits_exceeded(const Limits *limits, const User *user)
{
    return limits->buffer_bytes > limits->max.buffer_bytes_max ||
           (user != NULL && user->buffer_bytes > limits_maximum(limits, LIMIT_BUFFERS));
}

const char *limits_name(Limit limit)
{
    return limit_names[limit];
}

uint64_t limits_maximum(const Limits *limits, Limit limit)
{
    switch (limit) {
    case LIMIT_CONNECTIONS:
        return limits->max.connections_max;
    case LIMIT_CONNECTIONS_PER_USER:
        return limits->max.connections_per_user_max;
    case LIMIT_MESSAGE:
        return limits->max.message_bytes_max;
    case LIMIT_BUFFERS:
        return limits->max.buffer_bytes_max / USER_PART;
    case LIMIT_NONE:
        break;
    }
    return 0;
}
