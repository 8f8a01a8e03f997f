/* Credentials of the other end and what they allow. The kernel notes them at connect(2), so a
 * process that changes its user later keeps the rights it connected with, as with an open file.
 *
 * What can go wrong: want of memory for the groups. A kernel before 4.13 has no SO_PEERGROUPS; the
 * peer then counts as being in its primary group alone, which can only take rights away. */
#include "server/peer.h"

#include <sys/socket.h>

#define GROUPS_FIRST 32 /* most users are in fewer, so that one call is enough */

static int peer_read_groups(Peer *peer, int socket_fd)
{
    socklen_t size = GROUPS_FIRST * sizeof(gid_t);

    /* The kernel says how much it needs; the list can only differ from one call to the next for
     * another socket. */
    for (int tries = 0; tries < 2; tries++) {
        _cleanup_(freep) gid_t *groups = malloc(size);
        if (groups == NULL)
            return -ENOMEM;
        if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0) {
            peer->group_count = size / sizeof(gid_t);
            if (peer->group_count > 0)
                peer->groups = TAKE_PTR(groups);
            return 0;
        }
        if (errno == ENOPROTOOPT || errno == ENODATA)
            return 0;
        if (errno != ERANGE)
            return -errno;
    }
    return -ERANGE;
}

int peer_init(Peer *peer, int socket_fd)
{
    struct ucred credentials;
    socklen_t size = sizeof(credentials);

    *peer = (Peer){0};
    if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
        return -errno;
    peer->uid = credentials.uid;
    peer->gid = credentials.gid;
    peer->pid = credentials.pid;
    return peer_read_groups(peer, socket_fd);
}

void peer_deinit(Peer *peer)
{
    free(peer->groups);
    peer->groups = NULL;
    peer->group_count = 0;
}

bool peer_is_administrator(const Peer *peer)
{
    return peer->uid == 0 || peer->uid == geteuid();
}

bool peer_in_group(const Peer *peer, gid_t gid)
{
    if (peer->gid == gid)
        return true;
    for (size_t i = 0; i < peer->group_count; i++)
        if (peer->groups[i] == gid)
            return true;
    return false;
}

bool peer_may(const Peer *peer, uint32_t uid, uint32_t gid, uint32_t mode, unsigned rights)
{
    unsigned granted;

    if (peer_is_administrator(peer))
        return true;
    if (peer->uid == uid)
        granted = mode >> 6;
    else if (peer_in_group(peer, gid))
        granted = mode >> 3;
    else
        granted = mode;
    return (granted & rights) == rights;
}
