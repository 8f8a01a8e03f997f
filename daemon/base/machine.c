/* Memory of the machine. A limit of a control group holds for all groups below it, so the whole way
 * up is looked at. In a container the path is relative to the container's own root
 * (cgroup_namespaces(7)), which is where the hierarchy is mounted there. What cannot be read is no
 * limit. */
#include "base/machine.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "base/parse.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

/* Reads a small file of /proc or /sys, of which neither has a size. Returns its text, cut to what
 * fits. */
static int read_text(const char *path, char *text, size_t size)
{
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t length = 0;
    ssize_t n;

    if (fd < 0)
        return -errno;
    while (length < size - 1) {
        n = read(fd, text + length, size - 1 - length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        length += (size_t)n;
    }
    text[length] = '\0';
    return 0;
}

static uint64_t limit_of(const char *root, const char *group)
{
    char path[PATH_MAX], text[64];
    uint64_t limit;

    if (snprintf(path, sizeof(path), "%s%s/memory.max", root, group) >= (int)sizeof(path) ||
        read_text(path, text, sizeof(text)) < 0)
        return UINT64_MAX;
    text[strcspn(text, "\n")] = '\0';
    /* "max" is no number. */
    return parse_unsigned(text, &limit) == 0 ? limit : UINT64_MAX;
}

uint64_t machine_cgroup_limit(const char *membership, const char *root)
{
    char group[PATH_MAX];
    const char *line = membership;
    uint64_t least = UINT64_MAX, limit;
    size_t length;

    /* The line of version 2 has hierarchy 0 and no controllers. */
    while (line != NULL && strncmp(line, "0::", 3) != 0) {
        line = strchr(line, '\n');
        if (line != NULL)
            line++;
    }
    if (line == NULL)
        return UINT64_MAX;
    length = strcspn(line + 3, "\n");
    if (length >= sizeof(group))
        return UINT64_MAX;
    memcpy(group, line + 3, length);
    group[length] = '\0';

    for (char *slash; (slash = strrchr(group, '/')) != NULL; *slash = '\0') {
        limit = limit_of(root, group);
        least = MIN(least, limit);
    }
    limit = limit_of(root, "");
    return MIN(least, limit);
}

uint64_t machine_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page_size = sysconf(_SC_PAGESIZE);
    uint64_t ram = pages > 0 && page_size > 0 ? (uint64_t)pages * (uint64_t)page_size : UINT64_MAX;
    char membership[2 * PATH_MAX];
    uint64_t limit = UINT64_MAX;

    if (read_text("/proc/self/cgroup", membership, sizeof(membership)) == 0)
        limit = machine_cgroup_limit(membership, CGROUP_ROOT);
    return MIN(ram, limit);
}
