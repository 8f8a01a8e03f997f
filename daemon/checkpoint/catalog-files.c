/* Making a name's change durable takes a disk's answer, and giving back the room of a large image
 * takes a second: the housekeeper does both, the latter in its slow lane. A task owns all that it
 * needs (a duplicate of the directory's descriptor, the name), so the catalog may be gone when it
 * runs. Where there is no memory or no descriptor for a task, the caller's thread does the work:
 * late is worse than slow. What fails is logged; the file stays, and the next start meets it again.
 */
#include "checkpoint/catalog-files.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "base/file.h"
#include "base/log.h"

#define DAMAGED_SUFFIX ".damaged"

/* One change of a name: 0 or a negative errno. ret_left: as of file_unlink, if anything. */
typedef int (*Change)(int directory_fd, const char *name, int *ret_left);

typedef struct FileTask {
    HousekeeperTask task;
    Housekeeper *housekeeper;
    int directory_fd;
    int left;
    Change change;
    const char *verb; /* for the log */
    int result;
    char name[NAME_MAX + 1];
} FileTask;

static int change_remove(int directory_fd, const char *name, int *ret_left)
{
    int r = file_unlink(directory_fd, name, ret_left);

    return r == -ENOENT ? file_sync_directory(directory_fd) : r;
}

static int change_set_aside(int directory_fd, const char *name, int *ret_left)
{
    char aside[NAME_MAX + 1];
    int length = snprintf(aside, sizeof(aside), "%s" DAMAGED_SUFFIX, name);

    (void)ret_left;
    if (length < 0 || (size_t)length >= sizeof(aside))
        return -ENAMETOOLONG;
    if (renameat2(directory_fd, name, directory_fd, aside, RENAME_NOREPLACE) < 0)
        return -errno;
    return file_sync_directory(directory_fd);
}

static void log_failure(const char *verb, const char *name, int result)
{
    if (result < 0)
        log_warning("%s: cannot be %s: %s; it stays for the next start", name, verb,
                    log_errno(result));
}

static void task_run(HousekeeperTask *task)
{
    FileTask *file = (FileTask *)task;

    file->result = file->change(file->directory_fd, file->name, &file->left);
}

static void give_back_run(HousekeeperTask *task)
{
    FileTask *file = (FileTask *)task;

    file_give_back(file->left);
    free(file);
}

static void task_done(HousekeeperTask *task)
{
    FileTask *file = (FileTask *)task;

    log_failure(file->verb, file->name, file->result);
    close(file->directory_fd);
    if (file->left < 0) {
        free(file);
        return;
    }
    file->task = (HousekeeperTask){.run = give_back_run};
    housekeeper_submit_slow(file->housekeeper, &file->task);
}

/* False: there is no housekeeper, or nothing to make a task of. */
static bool submit(int directory_fd, Housekeeper *housekeeper, const char *name, Change change,
                   const char *verb)
{
    FileTask *file;
    size_t length = strlen(name);

    if (housekeeper == NULL || length > NAME_MAX)
        return false;
    file = malloc(sizeof(*file));
    if (file == NULL)
        return false;
    *file = (FileTask){
        .task = {.run = task_run, .done = task_done},
        .housekeeper = housekeeper,
        .left = -1,
        .directory_fd = fcntl(directory_fd, F_DUPFD_CLOEXEC, 0),
        .change = change,
        .verb = verb,
    };
    if (file->directory_fd < 0) {
        free(file);
        return false;
    }
    memcpy(file->name, name, length + 1);
    housekeeper_submit(housekeeper, &file->task);
    return true;
}

static void change_name(int directory_fd, Housekeeper *housekeeper, const char *name, Change change,
                        const char *verb)
{
    int left = -1;

    if (submit(directory_fd, housekeeper, name, change, verb))
        return;
    log_failure(verb, name, change(directory_fd, name, &left));
    file_give_back(left);
}

void catalog_files_remove(int directory_fd, Housekeeper *housekeeper, const char *name)
{
    change_name(directory_fd, housekeeper, name, change_remove, "removed");
}

void catalog_files_set_aside(int directory_fd, Housekeeper *housekeeper, const char *name)
{
    change_name(directory_fd, housekeeper, name, change_set_aside, "renamed to *" DAMAGED_SUFFIX);
}
