/* The command that is run after each published image (AfterCommand=). One at a time: of the images
 * published meanwhile the newest waits. What becomes of it is logged, kept for the status, and
 * harms nothing. Everything here belongs to the loop's thread, which never waits for the command.
 */
#pragma once

#include "base/housekeeper.h"

struct event_base;

typedef struct Command Command;

/* What it is run for; all texts are the caller's. */
typedef struct CommandImage {
    const char *checkpoint; /* id, at most COMMAND_CHECKPOINT_MAX bytes */
    const char *path;       /* absolute */
    uint64_t revision;
    const char *label; /* empty: none */
} CommandImage;

#define COMMAND_CHECKPOINT_MAX 63

typedef struct CommandState {
    char checkpoint[COMMAND_CHECKPOINT_MAX + 1];
    pid_t pid;             /* 0: it is about to start, or has ended */
    uint64_t started_usec; /* since the Unix epoch */
    bool ended;
    uint64_t duration_usec; /* so far, unless it has ended */
    int exit_status;        /* -1: it did not exit */
    int signal;             /* 0: none killed it */
} CommandState;

typedef struct CommandHost {
    void *context;
    /* The image is needed no more for the command: it ran, or will not run for it. */
    void (*released)(void *context, const char *checkpoint);
} CommandHost;

int command_new(struct event_base *base, Housekeeper *housekeeper, const CommandHost *host,
                Command **ret);
/* Ends what runs, with SIGKILL after two seconds, and waits for it. The housekeeper must still be
 * there. NULL is fine. */
Command *command_free(Command *command);

/* line: of words (base/words.h), the first of them an absolute path; NULL or empty: none. From the
 * next run on. 0 or -ENOMEM, then nothing has changed. */
int command_set(Command *command, const char *line, uint64_t timeout_usec);
/* False: there is none, nothing is to be run. */
bool command_is_set(const Command *command);

/* Runs it for that image, or has it wait in place of an older one. 0 or -ENOMEM. */
int command_run(Command *command, const CommandImage *image);
/* Asks what runs to end (SIGTERM to its process group), and runs nothing any more. */
void command_stop(Command *command);

/* Of what runs or ran last; false: nothing yet. */
bool command_state(const Command *command, CommandState *ret);
