/* What the machine, or the control group we were put into, has to offer. */
#pragma once

#include "base/common.h"

/* Bytes of memory that this process may hope for: RAM, or the least memory limit of its control
 * group (version 2) and of the groups above it, whichever is less. */
uint64_t machine_memory(void);

/* The least limit, UINT64_MAX where there is none. membership: the text of /proc/self/cgroup; root:
 * where the hierarchy is mounted. For machine_memory and for tests. */
uint64_t machine_cgroup_limit(const char *membership, const char *root);
