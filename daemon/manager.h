/* Owns every object and the event loop; the order of start and stop. */
#pragma once

#include "config.h"

typedef struct ManagerOptions {
    Config config; /* owned by the manager from manager_run on */
    const char *state_directory;
    const char *socket; /* resolved path */
    bool recover_cut;   /* --recover=cut */
    /* For Reload: the sources of the configuration, read again in this order. */
    const char *config_path;
    bool config_required;
    const char *const *overrides; /* --option=..., ended by NULL */
} ManagerOptions;

/* Runs until it is told to stop. Returns the exit status: 0 or one of sysexits.h (65, 71, 74, 78).
 */
int manager_run(ManagerOptions *options);
