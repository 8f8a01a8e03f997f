/* A directory for one test. A helper that cannot do its part ends the test's process with a
 * message: a test that went on without its directory would only say something misleading. */
#include "temporary.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"

static _Noreturn void give_up(const char *what, const char *name, int error)
{
    fprintf(stderr, "temporary directory: %s %s: %s\n", what, name, strerror(error));
    abort();
}

Temporary *temporary_new(void)
{
    const char *base = getenv("TMPDIR");
    Temporary *temporary = malloc(sizeof(*temporary));

    if (temporary == NULL ||
        asprintf(&temporary->path, "%s/holdfast-test-XXXXXX", base != NULL ? base : "/tmp") < 0)
        give_up("name", "", ENOMEM);
    if (mkdtemp(temporary->path) == NULL)
        give_up("make", temporary->path, errno);
    temporary->fd = open(temporary->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (temporary->fd < 0)
        give_up("open", temporary->path, errno);
    return temporary;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    (void)remove(path);
    return 0;
}

Temporary *temporary_free(Temporary *temporary)
{
    if (temporary == NULL)
        return NULL;
    (void)nftw(temporary->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    close(temporary->fd);
    free(temporary->path);
    free(temporary);
    return NULL;
}

char *temporary_path(const Temporary *temporary, const char *name)
{
    char *path;

    if (asprintf(&path, "%s/%s", temporary->path, name) < 0)
        give_up("name", name, ENOMEM);
    return path;
}

void temporary_write(const Temporary *temporary, const char *name, const char *text)
{
    int fd = openat(temporary->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int r;

    if (fd < 0)
        give_up("open", name, errno);
    r = file_write(fd, text, strlen(text));
    if (r < 0)
        give_up("write", name, -r);
    close(fd);
}

char *temporary_read(const Temporary *temporary, const char *name, size_t *ret_size)
{
    int fd = openat(temporary->fd, name, O_RDONLY | O_CLOEXEC);
    uint64_t size;
    char *text;
    int r;

    if (fd < 0)
        give_up("open", name, errno);
    r = file_size(fd, &size);
    text = r < 0 ? NULL : malloc(size + 1);
    if (text == NULL)
        give_up("read", name, r < 0 ? -r : ENOMEM);
    r = file_read_at(fd, text, size, 0);
    if (r < 0)
        give_up("read", name, -r);
    close(fd);
    text[size] = '\0';
    if (ret_size != NULL)
        *ret_size = size;
    return text;
}
