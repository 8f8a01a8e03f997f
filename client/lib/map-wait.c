/* Waiting for an arena to change, without asking again and again: on the low half of its change
 * counter, which is a futex that the daemon wakes once a turn in which the arena changed. Every
 * HF_MAP_CHECK_MSEC the wait ends for a look at the socket: a daemon that was killed wakes nobody.
 *
 * What can go wrong: as with every use of a map. */
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "map.h"

/* The arena's revision, where it is at rest. */
static bool read_revision(const HoldfastMap *map, uint64_t *ret_changes, uint64_t *ret)
{
    *ret_changes = HF_MAP_CHANGES(map);
    *ret = HF_MAP_COUNTER(map, revision);
    hf_map_fence();
    return hf_map_still(map, *ret_changes);
}

/* Until the low half is another than that of changes, or usec are over. It may end early. */
static void wait_on_counter(const HoldfastMap *map, uint64_t changes, uint64_t usec)
{
    struct timespec wait = {
        .tv_sec = (time_t)(usec / 1000000),
        .tv_nsec = (long)(usec % 1000000 * 1000),
    };
    (void)syscall(SYS_futex, map->base + offsetof(HoldfastHeader, change_counter), FUTEX_WAIT,
                  (uint32_t)changes, &wait, NULL, 0);
}

int holdfast_map_wait(HoldfastMap *map, uint64_t revision, uint64_t timeout_usec,
                      uint64_t *ret_revision)
{
    uint64_t begin = hf_now_usec();

    for (;;) {
        uint64_t changes, now;
        int r = hf_map_ready(map);
        if (r < 0)
            return r;
        if (read_revision(map, &changes, &now) && now != revision) {
            if (ret_revision != NULL)
                *ret_revision = now;
            return 0;
        }
        uint64_t passed = hf_now_usec() - begin;
        if (passed >= timeout_usec)
            return -ETIMEDOUT;
        uint64_t left = timeout_usec - passed;
        wait_on_counter(map, changes,
                        left < HF_MAP_CHECK_MSEC * 1000 ? left : HF_MAP_CHECK_MSEC * 1000);
    }
}
