/* What other processes get of an arena: a descriptor to read it by, and a call when it has changed.
 *
 * The descriptor is a new description, opened read-only: one that was duplicated would share the
 * daemon's own, which may write. The memfd has mode 0600 and belongs to the daemon, so that another
 * user can't open it again for writing through /proc, nor change its mode.
 *
 * Readers that wait do so on the change counter's low half (FUTEX_WAIT works on a mapping that is
 * read-only). They can't say that they do, so an arena that was handed out once costs one
 * FUTEX_WAKE, 1.2 us, in each turn in which it changed.
 *
 * What can go wrong: no descriptor left, no /proc. The caller is told. */
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "arena/internal.h"

int arena_share(Arena *arena, int *ret_fd)
{
    char path[sizeof("/proc/self/fd/") + 3 * sizeof(int)];

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", arena->fd);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    arena_set_shared(arena);
    *ret_fd = fd;
    return 0;
}

void arena_set_shared(Arena *arena)
{
    arena->shared = true;
}

void arena_wake(Arena *arena)
{
    const HoldfastHeader *header = arena_header(arena);

    if (_likely_(!arena->shared || header->change_counter == arena->woken_counter))
        return;
    arena->woken_counter = header->change_counter;
    // Little-endian: the low half is the first. Not FUTEX_PRIVATE_FLAG: they are other processes.
    (void)syscall(SYS_futex, (const uint32_t *)&header->change_counter, FUTEX_WAKE, INT_MAX, NULL,
                  NULL, 0);
}
