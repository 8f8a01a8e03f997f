/* Rename, then sync of the directory: from then on the image is there whatever happens (rename(2),
 * fsync(2)). What can go wrong: the name is taken, or the directory cannot be synced; then the file
 * goes, since nobody may be told that an image is there which a power cut could take away. The
 * order of it all is in tests/crash/models/publish.pml (Housekeeper). */
#include "checkpoint/publish.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"

static Publish *publish_of(HousekeeperTask *task)
{
    return CONTAINER_OF(task, Publish, task);
}

static void publish_done(HousekeeperTask *task)
{
    Publish *publish = publish_of(task);

    publish->done(publish);
}

static int publish_rename(const Publish *publish)
{
    int fd = publish->directory_fd;

    if (renameat2(fd, publish->temporary, fd, publish->name, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL)
        return -errno;
    /* Not every file system knows the flag; a second name is refused as well where there is one
     * already. */
    if (linkat(fd, publish->temporary, fd, publish->name, 0) < 0)
        return -errno;
    (void)unlinkat(fd, publish->temporary, 0);
    return 0;
}

static void run_image(HousekeeperTask *task)
{
    Publish *publish = publish_of(task);
    const char *left = publish->temporary;

    publish->step = "rename";
    publish->result = publish_rename(publish);
    if (publish->result == 0) {
        left = publish->name;
        publish->step = "fsync of the directory";
        publish->result = file_sync_directory(publish->directory_fd);
    }
    if (publish->result < 0)
        (void)unlinkat(publish->directory_fd, left, 0);
}

static void run_discard(HousekeeperTask *task)
{
    Publish *publish = publish_of(task);

    publish->step = "unlink";
    publish->result = unlinkat(publish->directory_fd, publish->temporary, 0) < 0 ? -errno : 0;
}

void publish_image(Publish *publish, Housekeeper *housekeeper)
{
    publish->task = (HousekeeperTask){.run = run_image, .done = publish_done};
    housekeeper_submit(housekeeper, &publish->task);
}

void publish_discard(Publish *publish, Housekeeper *housekeeper)
{
    publish->task = (HousekeeperTask){.run = run_discard, .done = publish_done};
    housekeeper_submit(housekeeper, &publish->task);
}
