/* See command-run.h. What can go wrong: memory, and whatever posix_spawn(3) says, the exec's
 * failures among it. */
#include "service/command-run.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>

CommandRun *command_run_free(CommandRun *run)
{
    if (run == NULL)
        return NULL;
    for (size_t i = 0; i < COMMAND_VARIABLES; i++)
        free(run->variables[i]);
    free(run->words);
    free(run);
    return NULL;
}

static void command_run_freep(CommandRun **run)
{
    command_run_free(*run);
}

int command_run_new(Command *command, const CommandImage *image, CommandRun **ret)
{
    _cleanup_(command_run_freep) CommandRun *run = calloc(1, sizeof(*run));
    char revision[24];
    const char *const pairs[COMMAND_VARIABLES][2] = {
        {"HOLDFAST_CHECKPOINT_ID", image->checkpoint},
        {"HOLDFAST_IMAGE", image->path},
        {"HOLDFAST_REVISION", revision},
        {"HOLDFAST_LABEL", image->label},
    };

    if (run == NULL)
        return -ENOMEM;
    snprintf(revision, sizeof(revision), "%llu", (unsigned long long)image->revision);
    snprintf(run->checkpoint, sizeof(run->checkpoint), "%s", image->checkpoint);
    run->command = command;
    for (size_t i = 0; i < COMMAND_VARIABLES; i++)
        if (asprintf(&run->variables[i], "%s=%s", pairs[i][0], pairs[i][1]) < 0) {
            run->variables[i] = NULL;
            return -ENOMEM;
        }
    *ret = TAKE_PTR(run);
    return 0;
}

static int set_up(posix_spawnattr_t *attributes, posix_spawn_file_actions_t *files)
{
    sigset_t all, none;
    int r;

    sigfillset(&all);
    sigemptyset(&none);
    r = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK |
                                                 POSIX_SPAWN_SETPGROUP);
    if (r == 0)
        r = posix_spawnattr_setsigdefault(attributes, &all);
    if (r == 0)
        r = posix_spawnattr_setsigmask(attributes, &none);
    if (r == 0)
        r = posix_spawnattr_setpgroup(attributes, 0);
    if (r == 0)
        r = posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (r == 0)
        r = posix_spawn_file_actions_addopen(files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (r == 0)
        r = posix_spawn_file_actions_addclosefrom_np(files, STDERR_FILENO + 1);
    return r;
}

void command_run_spawn(HousekeeperTask *task)
{
    CommandRun *run = CONTAINER_OF(task, CommandRun, task);
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    int r = posix_spawnattr_init(&attributes);

    if (r == 0) {
        r = posix_spawn_file_actions_init(&files);
        if (r == 0) {
            r = set_up(&attributes, &files);
            if (r == 0)
                r = posix_spawn(&run->pid, run->words[0], &files, &attributes, run->words,
                                run->variables);
            posix_spawn_file_actions_destroy(&files);
        }
        posix_spawnattr_destroy(&attributes);
    }
    run->result = -r;
}
