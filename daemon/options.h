/* The command line, and where things lie when it does not say. */
#pragma once

#include <sys/types.h>

#include "base/common.h"

typedef struct Options {
    /* Owned. Given on the command line, else NULL until they are completed, below. */
    char *config_path;
    char *state_directory;
    char *socket;
    bool config_required; /* --config: the file must be there */
    bool recover_cut;
    bool check_config;
    const char **overrides; /* of --option, ended by NULL; the texts are argv's */
    size_t overrides_count;
} Options;

typedef enum OptionsOutcome {
    OPTIONS_RUN,   /* go on */
    OPTIONS_DONE,  /* --help, --version: everything is said, exit with 0 */
    OPTIONS_USAGE, /* a mistake was named on stderr: exit with EX_USAGE */
} OptionsOutcome;

/* Parses the command line. Returns an OptionsOutcome, or -ENOMEM. To be deinited in any case. */
int options_parse(Options *options, int argc, char **argv);
void options_deinit(Options *options);

/* Fills in paths that were not given. uid: whose defaults; 0 has the system's, others those of the
 * XDG base directory specification. $CONFIGURATION_DIRECTORY and $STATE_DIRECTORY (systemd.exec(5))
 * come first. Returns 0, -ENOMEM, or -ENOENT where a user has no home directory. */
int options_complete_paths(Options *options, uid_t uid);
/* The socket: --socket, else what is configured (may be NULL), else the default. To be called after
 * options_complete_paths. Returns 0 or -ENOMEM. */
int options_complete_socket(Options *options, uid_t uid, const char *configured);
