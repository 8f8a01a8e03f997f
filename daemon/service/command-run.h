/* One run of the command after an image: what it is for, and how it is spawned. */
#pragma once

#include "service/command.h"

enum { COMMAND_VARIABLES = 4 };

typedef struct CommandRun {
    char checkpoint[COMMAND_CHECKPOINT_MAX + 1];
    char *variables[COMMAND_VARIABLES + 1]; /* its environment */
    char **words;                           /* its arguments; set by whoever starts it, owned */

    HousekeeperTask task;
    Command *command; /* whose it is */
    pid_t pid;        /* of what was spawned */
    int result;       /* of spawning: 0 or a negative errno */
} CommandRun;

/* 0 or -ENOMEM. The image's texts are copied. */
int command_run_new(Command *command, const CommandImage *image, CommandRun **ret);
CommandRun *command_run_free(CommandRun *run);

/* A task of the housekeeper: spawns it (posix_spawn(3) suspends its caller until the exec, which
 * may wait for a disk). It gets nothing of ours but stderr: /dev/null for stdin and stdout, its
 * variables, default signals, and a process group of its own, so that what it started can be ended
 * with it. */
void command_run_spawn(HousekeeperTask *task);
