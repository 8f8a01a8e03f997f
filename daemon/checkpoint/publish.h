/* What happens to the temporary file of a checkpoint at its end, in the housekeeper's thread: it
 * gets its name, durably, or it goes. */
#pragma once

#include <holdfast/image.h>

#include "base/common.h"
#include "base/housekeeper.h"

#define PUBLISH_NAME_MAX 64

typedef struct Publish Publish;

/* Embedded in its user, who keeps it until done was called. */
struct Publish {
    HousekeeperTask task;
    int directory_fd;
    char temporary[PUBLISH_NAME_MAX];
    char name[PUBLISH_NAME_MAX]; /* what publish_image renames it to */
    /* In the loop's thread. */
    void (*done)(Publish *publish);
    int result; /* 0 or a negative errno; then neither of the two names is there, if possible */
    const char *step; /* what failed */
};

/* Renames temporary to name where no file has it, and syncs the directory. */
void publish_image(Publish *publish, Housekeeper *housekeeper);
/* Unlinks the temporary file. */
void publish_discard(Publish *publish, Housekeeper *housekeeper);
