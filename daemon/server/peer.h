/* Who is on the other end: credentials of the socket (SO_PEERCRED, SO_PEERGROUPS), as of connect.
 */
#pragma once

#include <sys/types.h>

#include "base/common.h"

typedef struct Peer {
    uid_t uid;
    gid_t gid;
    pid_t pid;
    gid_t *groups; /* supplementary */
    size_t group_count;
} Peer;

/* 0 or a negative errno; then there is nothing to deinit. */
int peer_init(Peer *peer, int socket_fd);
void peer_deinit(Peer *peer);

/* Root, or the daemon's own user. */
bool peer_is_administrator(const Peer *peer);
bool peer_in_group(const Peer *peer, gid_t gid);

typedef enum PeerRight {
    PEER_READ = 4,
    PEER_WRITE = 2,
} PeerRight;

/* As for a file of that owner, group and mode: the first class that fits decides. rights:
 * PEER_READ, PEER_WRITE or both. Administrators may everything. */
bool peer_may(const Peer *peer, uint32_t uid, uint32_t gid, uint32_t mode, unsigned rights);
