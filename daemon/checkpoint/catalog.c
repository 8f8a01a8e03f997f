/* The list of checkpoints: read from the directory at the start, then kept in memory, in the order
 * of the cuts.
 *
 * At the start each image is opened, which checks its table and index; its blocks are looked at
 * only by a restore or a verification. An image that fails a check is set aside as *.damaged, so
 * that it neither comes back nor is lost to an inspection. One that cannot be read now (I/O,
 * memory), that another version wrote, or whose name is not its id is left as it is, logged, and
 * not listed; the newest of these is remembered, since it may hold what nothing else does. The
 * directory belongs to this process; changes of names go through catalog-files. */
#include "checkpoint/catalog.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "base/log.h"
#include "base/message-ids.h"
#include "checkpoint/catalog-files.h"

#define IMAGE_SUFFIX ".image"
#define IMAGE_NAME_MAX (HOLDFAST_IMAGE_ID_MAX + sizeof(IMAGE_SUFFIX))
#define FAILURES_MAX 16

struct Catalog {
    int directory_fd;
    char *path;
    Housekeeper *housekeeper;
    Checkpoint **checkpoints; /* in the order of their keys */
    size_t count;
    size_t capacity;
    PassedImage passed; /* the newest that is not listed, by its name; empty: none */
};

static Checkpoint *checkpoint_free(Checkpoint *checkpoint)
{
    if (checkpoint != NULL)
        free(checkpoint->arenas);
    free(checkpoint);
    return NULL;
}

static void checkpoint_freep(Checkpoint **checkpoint)
{
    checkpoint_free(*checkpoint);
}

/* --- ids and names */

static void format_id(uint64_t revision, uint64_t usec, char id[HOLDFAST_IMAGE_ID_MAX + 1])
{
    time_t seconds = (time_t)(usec / USEC_PER_SEC);
    char text[32] = "";
    struct tm tm;

    if (gmtime_r(&seconds, &tm) != NULL)
        (void)strftime(text, sizeof(text), "%Y%m%dT%H%M%SZ", &tm);
    (void)snprintf(id, HOLDFAST_IMAGE_ID_MAX + 1, "%020llu-%s", (unsigned long long)revision, text);
}

/* What it is sorted by: the id; where it failed before it got one, the id it might have had. */
static const char *sort_key(const Checkpoint *checkpoint, char key[HOLDFAST_IMAGE_ID_MAX + 1])
{
    if (checkpoint->spec.id[0] != '\0')
        return checkpoint->spec.id;
    format_id(checkpoint->spec.revision, checkpoint->spec.started_usec, key);
    return key;
}

static void image_name(const char *id, char name[IMAGE_NAME_MAX])
{
    (void)snprintf(name, IMAGE_NAME_MAX, "%s" IMAGE_SUFFIX, id);
}

bool catalog_names_cut(const char *name)
{
    enum { DIGITS = 20 };

    return strspn(name, "0123456789") == DIGITS && name[DIGITS] == '-';
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text);
    size_t end_length = strlen(end);

    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* Whether an image of this name exists, listed or not, or existed and was set aside. */
static bool id_is_taken(const Catalog *catalog, const char *id)
{
    static const char *const suffixes[] = {IMAGE_SUFFIX, IMAGE_SUFFIX ".damaged"};
    char name[NAME_MAX + 1];

    if (catalog_find(catalog, id) != NULL)
        return true;
    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        (void)snprintf(name, sizeof(name), "%s%s", id, suffixes[i]);
        if (faccessat(catalog->directory_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            return true;
    }
    return false;
}

void catalog_make_id(const Catalog *catalog, uint64_t revision, uint64_t now_usec,
                     char ret_id[HOLDFAST_IMAGE_ID_MAX + 1])
{
    /* Ends at the latest when there are more seconds than files. */
    format_id(revision, now_usec, ret_id);
    while (id_is_taken(catalog, ret_id)) {
        now_usec += USEC_PER_SEC;
        format_id(revision, now_usec, ret_id);
    }
}

void catalog_path(const Catalog *catalog, const Checkpoint *checkpoint, char *path, size_t size)
{
    (void)snprintf(path, size, "%s/%s" IMAGE_SUFFIX, catalog->path, checkpoint->spec.id);
}

/* --- the list */

/* Takes the checkpoint over on success only. */
static int insert(Catalog *catalog, Checkpoint *checkpoint)
{
    char key[HOLDFAST_IMAGE_ID_MAX + 1];
    char other[HOLDFAST_IMAGE_ID_MAX + 1];
    const char *sorted_by = sort_key(checkpoint, key);
    size_t at = catalog->count;

    if (catalog->count == catalog->capacity) {
        size_t capacity = MAX(2 * catalog->capacity, 32u);
        Checkpoint **grown = reallocarray(catalog->checkpoints, capacity, sizeof(Checkpoint *));

        if (grown == NULL)
            return -ENOMEM;
        catalog->checkpoints = grown;
        catalog->capacity = capacity;
    }
    while (at > 0 && strcmp(sort_key(catalog->checkpoints[at - 1], other), sorted_by) > 0) {
        catalog->checkpoints[at] = catalog->checkpoints[at - 1];
        at--;
    }
    catalog->checkpoints[at] = checkpoint;
    catalog->count++;
    return 0;
}

static void forget(Catalog *catalog, size_t index)
{
    checkpoint_free(catalog->checkpoints[index]);
    catalog->count--;
    memmove(&catalog->checkpoints[index], &catalog->checkpoints[index + 1],
            (catalog->count - index) * sizeof(Checkpoint *));
}

static size_t index_of(const Catalog *catalog, const Checkpoint *checkpoint)
{
    size_t index = 0;

    while (index < catalog->count && catalog->checkpoints[index] != checkpoint)
        index++;
    return index;
}

/* Takes it out of the list and out of memory; its file is not touched. */
static void forget_checkpoint(Catalog *catalog, const Checkpoint *checkpoint)
{
    size_t index = index_of(catalog, checkpoint);

    if (index < catalog->count)
        forget(catalog, index);
}

static bool is_failure(const Checkpoint *checkpoint)
{
    return checkpoint->state != CHECKPOINT_COMPLETE;
}

static void drop_old_failures(Catalog *catalog)
{
    size_t failures = 0;

    for (size_t i = catalog->count; i-- > 0;)
        if (is_failure(catalog->checkpoints[i]) && ++failures > FAILURES_MAX)
            forget(catalog, i);
}

void catalog_add(Catalog *catalog, Checkpoint *checkpoint)
{
    if (insert(catalog, checkpoint) < 0) {
        log_error("checkpoint %s: no memory to list it; it is not shown until the next start",
                  checkpoint->spec.id);
        checkpoint_free(checkpoint);
        return;
    }
    drop_old_failures(catalog);
}

size_t catalog_count(const Catalog *catalog)
{
    return catalog->count;
}

Checkpoint *catalog_at(const Catalog *catalog, size_t index)
{
    return catalog->checkpoints[index];
}

Checkpoint *catalog_find(const Catalog *catalog, const char *id)
{
    for (size_t i = 0; i < catalog->count && id[0] != '\0'; i++)
        if (strcmp(catalog->checkpoints[i]->spec.id, id) == 0)
            return catalog->checkpoints[i];
    return NULL;
}

bool catalog_passed_over(const Catalog *catalog, PassedImage *ret)
{
    const Checkpoint *newest = catalog_newest(catalog);

    if (catalog->passed.name[0] == '\0' ||
        (newest != NULL && strcmp(catalog->passed.name, newest->spec.id) < 0))
        return false;
    *ret = catalog->passed;
    return true;
}

/* --- what an image holds */

bool checkpoint_holds(const Checkpoint *checkpoint, const Identity *identity)
{
    for (size_t i = 0; i < checkpoint->arena_count; i++)
        if (checkpoint->arenas[i].held && identity_equal(&checkpoint->arenas[i].identity, identity))
            return true;
    return false;
}

static bool holds(const Checkpoint *checkpoint, const Identity *identity)
{
    return checkpoint->state == CHECKPOINT_COMPLETE && checkpoint_holds(checkpoint, identity);
}

Checkpoint *catalog_newest(const Catalog *catalog)
{
    for (size_t i = catalog->count; i-- > 0;)
        if (catalog->checkpoints[i]->state == CHECKPOINT_COMPLETE)
            return catalog->checkpoints[i];
    return NULL;
}

Checkpoint *catalog_newest_of(const Catalog *catalog, const Identity *identity, size_t before,
                              size_t *ret_index)
{
    for (size_t i = MIN(before, catalog->count); i-- > 0;)
        if (holds(catalog->checkpoints[i], identity)) {
            *ret_index = i;
            return catalog->checkpoints[i];
        }
    return NULL;
}

uint64_t catalog_oldest_cut(const Catalog *catalog, const Identity *identity)
{
    for (size_t i = 0; i < catalog->count; i++)
        if (holds(catalog->checkpoints[i], identity))
            return catalog->checkpoints[i]->spec.revision;
    return 0;
}

/* Whether it is the newest to hold some live arena. */
static bool is_newest_of_some(const Catalog *catalog, const Checkpoint *checkpoint,
                              const Identity *live, size_t count)
{
    size_t index;

    for (size_t i = 0; i < count; i++)
        if (holds(checkpoint, &live[i]) &&
            catalog_newest_of(catalog, &live[i], catalog->count, &index) == checkpoint)
            return true;
    return false;
}

bool catalog_needed(const Catalog *catalog, const Checkpoint *checkpoint, const Identity *live,
                    size_t count)
{
    return catalog_newest(catalog) == checkpoint ||
           is_newest_of_some(catalog, checkpoint, live, count);
}

/* --- images that go */

void catalog_remove(Catalog *catalog, Checkpoint *checkpoint)
{
    char name[IMAGE_NAME_MAX];

    if (checkpoint->state == CHECKPOINT_COMPLETE) {
        image_name(checkpoint->spec.id, name);
        catalog_files_remove(catalog->directory_fd, catalog->housekeeper, name);
    }
    forget_checkpoint(catalog, checkpoint);
}

/* From the newest to the oldest, so that what is newer than the one looked at is what stays. An
 * arena that no image holds keeps none: the journal has all of it. */
size_t catalog_retire(Catalog *catalog, unsigned keep, const Identity *live, size_t count)
{
    size_t complete = 0;
    size_t gone = 0;

    for (size_t i = catalog->count; i-- > 0;) {
        Checkpoint *checkpoint = catalog->checkpoints[i];

        if (checkpoint->state != CHECKPOINT_COMPLETE || ++complete <= MAX(keep, 1u) ||
            checkpoint->pinned > 0 || is_newest_of_some(catalog, checkpoint, live, count))
            continue;
        catalog_remove(catalog, checkpoint);
        gone++;
    }
    return gone;
}

static void set_aside(Catalog *catalog, const char *name, const char *where, const char *why)
{
    char id[HOLDFAST_IMAGE_ID_MAX + 1];
    const LogField fields[] = {
        {"CHECKPOINT_ID", id}, {"WHERE", where}, {"REASON", why}, {NULL, NULL}};

    (void)snprintf(id, sizeof(id), "%.*s", (int)strcspn(name, "."), name);

    log_event(LOG_ERR, MESSAGE_ID_IMAGE_DAMAGED, fields,
              "image %s is damaged: %s: %s; it is renamed to %s.damaged", name, where, why, name);
    catalog_files_set_aside(catalog->directory_fd, catalog->housekeeper, name);
}

void catalog_damaged(Catalog *catalog, Checkpoint *checkpoint, const char *where, const char *why)
{
    char name[IMAGE_NAME_MAX];

    image_name(checkpoint->spec.id, name);
    set_aside(catalog, name, where, why);
    forget_checkpoint(catalog, checkpoint);
}

/* --- the start */

static int checkpoint_from_image(const ImageReader *reader, Checkpoint **ret)
{
    _cleanup_(checkpoint_freep) Checkpoint *checkpoint = calloc(1, sizeof(*checkpoint));

    if (checkpoint == NULL)
        return -ENOMEM;
    checkpoint->spec = *image_reader_spec(reader);
    checkpoint->summary = *image_reader_summary(reader);
    checkpoint->state = CHECKPOINT_COMPLETE;
    checkpoint->pages_done = checkpoint->summary.pages_total;
    checkpoint->image_bytes = image_reader_bytes(reader);
    checkpoint->arena_count = image_reader_arenas(reader);
    checkpoint->arenas = calloc(checkpoint->arena_count + 1, sizeof(ImageArena));
    if (checkpoint->arenas == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < checkpoint->arena_count; i++)
        checkpoint->arenas[i] = *image_reader_arena(reader, i);
    *ret = TAKE_PTR(checkpoint);
    return 0;
}

static void pass_over(Catalog *catalog, const PassedImage *image)
{
    if (catalog_names_cut(image->name) && strcmp(image->name, catalog->passed.name) > 0)
        catalog->passed = *image;
}

/* -EPROTONOSUPPORT, or why not even that can be read. */
static int pass_foreign(Catalog *catalog, int fd, const char *name)
{
    PassedImage image = {.error = -EPROTONOSUPPORT};
    int r = image_read_version(fd, &image.version, &image.flags);

    if (r < 0)
        return r;
    log_warning("image %s: it is of version %u (flags %#llx), this program reads version %u; it is "
                "left alone",
                name, image.version, (unsigned long long)image.flags, HOLDFAST_IMAGE_VERSION);
    (void)snprintf(image.name, sizeof(image.name), "%s", name);
    pass_over(catalog, &image);
    return -EPROTONOSUPPORT;
}

static void pass_unreadable(Catalog *catalog, const char *name, int error)
{
    PassedImage image = {.error = error};

    log_warning("image %s: cannot be read: %s; it is left alone", name, log_errno(error));
    (void)snprintf(image.name, sizeof(image.name), "%s", name);
    pass_over(catalog, &image);
}

/* Opens the image; where a check failed, *ret_where and *ret_why tell. -EPROTONOSUPPORT was logged.
 */
static int read_image(Catalog *catalog, const char *name, Checkpoint **ret, const char **ret_where,
                      const char **ret_why)
{
    _cleanup_(closep) int fd = -1;
    ImageReader *reader;
    struct stat status;
    int r;

    /* O_NONBLOCK: a FIFO of that name would hold up the start. */
    fd = openat(catalog->directory_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return -EINVAL;
    r = image_open(fd, &reader, ret_where, ret_why);
    if (r == -EPROTONOSUPPORT)
        return pass_foreign(catalog, fd, name);
    if (r < 0)
        return r;
    r = checkpoint_from_image(reader, ret);
    image_reader_free(reader);
    return r;
}

static bool has_name(const Checkpoint *checkpoint, const char *name)
{
    char expected[IMAGE_NAME_MAX];

    image_name(checkpoint->spec.id, expected);
    return strcmp(expected, name) == 0;
}

static void load_image(Catalog *catalog, const char *name)
{
    _cleanup_(checkpoint_freep) Checkpoint *checkpoint = NULL;
    const char *where;
    const char *why;
    int r = read_image(catalog, name, &checkpoint, &where, &why);

    if (r == -EBADMSG) {
        set_aside(catalog, name, where, why);
        return;
    }
    if (r == -EPROTONOSUPPORT)
        return;
    if (r >= 0 && !has_name(checkpoint, name)) {
        log_warning("image %s: it is that of checkpoint %s under another name, and left alone",
                    name, checkpoint->spec.id);
        return;
    }
    if (r >= 0)
        r = insert(catalog, checkpoint);
    if (r < 0) {
        pass_unreadable(catalog, name, r);
        return;
    }
    TAKE_PTR(checkpoint);
}

static void load_entry(Catalog *catalog, const char *name)
{
    if (name[0] == '.' && ends_with(name, ".tmp"))
        catalog_files_remove(catalog->directory_fd, catalog->housekeeper, name);
    else if (name[0] != '.' && ends_with(name, IMAGE_SUFFIX))
        load_image(catalog, name);
}

static int load(Catalog *catalog)
{
    int fd = openat(catalog->directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct dirent *entry;
    DIR *directory;
    int r = 0;

    if (fd < 0)
        return -errno;
    directory = fdopendir(fd);
    if (directory == NULL) {
        r = -errno;
        close(fd);
        return r;
    }
    for (;;) {
        errno = 0;
        entry = readdir(directory);
        if (entry == NULL)
            break;
        load_entry(catalog, entry->d_name);
    }
    r = -errno;
    closedir(directory);
    return r;
}

int catalog_new(int directory_fd, const char *path, Housekeeper *housekeeper, Catalog **ret)
{
    Catalog *catalog = calloc(1, sizeof(*catalog));
    int r;

    if (catalog == NULL)
        return -ENOMEM;
    catalog->directory_fd = directory_fd;
    catalog->housekeeper = housekeeper;
    catalog->path = strdup(path);
    r = catalog->path == NULL ? -ENOMEM : load(catalog);
    if (r < 0) {
        catalog_free(catalog);
        return r;
    }
    *ret = catalog;
    return 0;
}

Catalog *catalog_free(Catalog *catalog)
{
    if (catalog == NULL)
        return NULL;
    for (size_t i = 0; i < catalog->count; i++)
        checkpoint_free(catalog->checkpoints[i]);
    free(catalog->checkpoints);
    free(catalog->path);
    free(catalog);
    return NULL;
}
