/* The life of a map: opening an arena's memory, following it, letting it go.
 *
 * Normal way through: a connection of its own to the daemon, OpenArena, the descriptor's seals and
 * header looked at, mapped. From then on the socket is looked at every HF_MAP_CHECK_MSEC, by the
 * first use after that. Where the daemon has gone, or the header says that the arena was dropped or
 * that another process has taken it over, the arena is opened again: that may give the same memory
 * (it was adopted), another one (it was rebuilt, or made anew), or none.
 *
 * What can go wrong: no daemon (-ENOTCONN), no such arena (any more) or no right to read it
 * (-ESTALE, -EACCES), memory that is not sealed as it must be (-EPROTO: somebody could shrink it
 * under our feet), of another layout (-EPROTONOSUPPORT), no memory or address space. Then there is
 * nothing to read, and it is tried again at most every HF_MAP_CHECK_MSEC. */
#include "map.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_SEAL)

/* --- a mapping */

static void unmap(HoldfastMap *map)
{
    if (map->base != NULL)
        (void)munmap((void *)(uintptr_t)map->base, map->mapped);
    if (map->fd >= 0)
        close(map->fd);
    map->base = NULL;
    map->mapped = map->readable = 0;
    map->fd = -1;
}

/* Maps the whole of what the arena may become, so that it can grow in place; where there is not so
 * much address space, what it is now. */
static int map_memory(int fd, uint64_t size, uint64_t most, const uint8_t **ret, uint64_t *ret_size)
{
    uint64_t wanted[] = {most > size ? most : size, size};

    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        void *base = mmap(NULL, wanted[i], PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
        if (base == MAP_FAILED)
            continue;
        (void)madvise(base, wanted[i], MADV_DONTDUMP);
        *ret = base;
        *ret_size = wanted[i];
        return 0;
    }
    return -errno;
}

/* Bytes that the memfd has, down to whole pages: only they are read. It can't shrink. */
static int memory_size(int fd, struct stat *ret_status, uint64_t *ret)
{
    struct stat status;

    if (fstat(fd, &status) < 0)
        return -errno;
    if (status.st_size < (off_t)HOLDFAST_PAGE_BYTES ||
        (uint64_t)status.st_size > HOLDFAST_PAGES_MAX * HOLDFAST_PAGE_BYTES)
        return -EPROTO;
    *ret = (uint64_t)status.st_size / HOLDFAST_PAGE_BYTES * HOLDFAST_PAGE_BYTES;
    if (ret_status != NULL)
        *ret_status = status;
    return 0;
}

bool hf_map_grow(HoldfastMap *map)
{
    const uint8_t *base;
    uint64_t size = 0, mapped;

    if (memory_size(map->fd, NULL, &size) < 0 || size <= map->readable)
        return false;
    if (size > map->mapped) {
        if (map_memory(map->fd, size, size + size / 2, &base, &mapped) < 0)
            return false;
        (void)munmap((void *)(uintptr_t)map->base, map->mapped);
        map->base = base;
        map->mapped = mapped;
    }
    map->readable = size;
    return true;
}

/* What every layout begins with. */
static int check_header(const HoldfastMap *map)
{
    if (memcmp(map->base, HOLDFAST_ARENA_MAGIC, sizeof(HOLDFAST_ARENA_MAGIC)) != 0)
        return -EPROTO;
    if (hf_map_u32(map, offsetof(HoldfastHeader, layout_version)) != HOLDFAST_LAYOUT_VERSION ||
        hf_map_u64(map, offsetof(HoldfastHeader, incompatible_flags)) != 0)
        return -EPROTONOSUPPORT;
    return hf_map_live(map) ? 0 : -ESTALE;
}

static int map_fd(HoldfastMap *map, int fd)
{
    HoldfastMap new = *map;
    struct stat status = {0};
    int seals = fcntl(fd, F_GET_SEALS);
    int r;

    if (seals < 0 || (seals & SEALS) != SEALS)
        return -EPROTO;
    r = memory_size(fd, &status, &new.readable);
    if (r < 0)
        return r;
    new.fd = fd;
    r = map_memory(fd, HOLDFAST_PAGE_BYTES, 0, &new.base, &new.mapped);
    if (r < 0)
        return r;
    uint64_t most = HF_MAP_COUNTER(&new, capacity_pages) % (HOLDFAST_PAGES_MAX + 1);
    (void)munmap((void *)(uintptr_t) new.base, new.mapped);
    r = map_memory(fd, new.readable, most * HOLDFAST_PAGE_BYTES, &new.base, &new.mapped);
    if (r < 0)
        return r;
    r = check_header(&new);
    if (r < 0) {
        (void)munmap((void *)(uintptr_t) new.base, new.mapped);
        return r;
    }
    new.hash_seed = hf_map_u64(&new, offsetof(HoldfastHeader, hash_seed));
    new.generation = hf_map_u64(&new, offsetof(HoldfastHeader, generation));
    new.device = status.st_dev;
    new.inode = status.st_ino;
    unmap(map);
    *map = new;
    return 0;
}

/* Takes what OpenArena gave; owns fd. Memory that is mapped already stays where it is. */
static int take_fd(HoldfastMap *map, int fd)
{
    struct stat status;
    int r = fstat(fd, &status) < 0 ? -errno : 0;

    if (r == 0 && map->base != NULL && status.st_dev == map->device &&
        status.st_ino == map->inode && hf_map_live(map)) {
        map->generation = hf_map_u64(map, offsetof(HoldfastHeader, generation));
        close(fd);
        return 0;
    }
    if (r == 0)
        r = map_fd(map, fd);
    if (r < 0)
        close(fd);
    return r;
}

/* --- the daemon */

/* The daemon's errors that a reader meets. */
static const struct {
    const char *name;
    int error;
} remote_errors[] = {
    {"NoSuchKey", -ENOENT},
    {"NoSuchArena", -ESTALE},
    {"ArenaDamaged", -EBADMSG},
    {"org.varlink.service.PermissionDenied", -EACCES},
};

int hf_map_remote(HoldfastMap *map, int r)
{
    if (r == HOLDFAST_ERROR_REMOTE) {
        for (size_t i = 0; i < sizeof(remote_errors) / sizeof(remote_errors[0]); i++)
            if (holdfast_error_is(map->connection, remote_errors[i].name))
                return remote_errors[i].error;
        return -EREMOTEIO;
    }
    if (map->connection->dead == 0)
        return r;
    holdfast_disconnect(map->connection);
    map->connection = NULL;
    map->checked_msec = 0; /* the next use looks at once */
    map->error = -ENOTCONN;
    return r == -EBADMSG || r == -ENOMEM ? r : -ENOTCONN;
}

/* Is the daemon that we speak to still there? */
static bool connected(const HoldfastMap *map)
{
    struct pollfd look = {.events = POLLRDHUP};

    if (map->connection == NULL || map->connection->dead < 0)
        return false;
    look.fd = map->connection->fd;
    return poll(&look, 1, 0) == 0;
}

static int connect_again(HoldfastMap *map)
{
    int r;

    holdfast_disconnect(map->connection);
    map->connection = NULL;
    r = holdfast_connect(map->path, &map->connection);
    if (r == 0)
        holdfast_set_timeout(map->connection, map->timeout_usec);
    return r == 0 || r == -EACCES || r == -ENOMEM ? r : -ENOTCONN;
}

static int open_again(HoldfastMap *map)
{
    int fd;
    int r = connected(map) ? 0 : connect_again(map);

    if (r < 0)
        return r;
    r = holdfast_open_arena(map->connection, map->name, &fd, NULL);
    if (r != 0)
        return hf_map_remote(map, r);
    return take_fd(map, fd);
}

int hf_map_check(HoldfastMap *map, uint64_t now_msec)
{
    bool due = map->checked_msec == 0 || now_msec - map->checked_msec >= HF_MAP_CHECK_MSEC;
    int r = 0;

    if (map->path == NULL) {
        map->checked_msec = now_msec;
        return hf_map_live(map) ? 0 : -ESTALE;
    }
    if (!due && map->error < 0)
        return map->error;
    if (map->error < 0 || !hf_map_live(map) || !connected(map) ||
        hf_map_u64(map, offsetof(HoldfastHeader, generation)) != map->generation)
        r = open_again(map);
    /* What was dropped is let go of; what has only lost its daemon may come back. */
    if (r == -ESTALE || r == -EACCES)
        unmap(map);
    map->error = r;
    map->checked_msec = hf_map_now_msec();
    return r;
}

/* --- opening and closing */

static HoldfastMap *map_alloc(void)
{
    HoldfastMap *map = calloc(1, sizeof(*map));

    if (map != NULL)
        map->fd = -1;
    return map;
}

int hf_map_new(int fd, HoldfastMap **ret)
{
    HoldfastMap *map = map_alloc();
    int r = map == NULL ? -ENOMEM : map_fd(map, fd);

    if (r < 0) {
        holdfast_map_close(map);
        return r;
    }
    *ret = map;
    return 0;
}

int holdfast_map_open(HoldfastConnection *connection, const char *arena, HoldfastMap **ret)
{
    HoldfastMap *map = map_alloc();
    int r = map == NULL ? -ENOMEM : hf_path(connection, &map->path);

    if (r == 0) {
        map->timeout_usec = connection->timeout_usec;
        map->name = strdup(arena);
        r = map->name != NULL ? connect_again(map) : -ENOMEM;
    }
    if (r == 0)
        r = open_again(map);
    if (r < 0) {
        holdfast_map_close(map);
        return r;
    }
    map->checked_msec = hf_map_now_msec();
    *ret = map;
    return 0;
}

void holdfast_map_close(HoldfastMap *map)
{
    if (map == NULL)
        return;
    unmap(map);
    holdfast_disconnect(map->connection);
    free(map->path);
    free(map->name);
    free(map->buffer);
    free(map);
}
