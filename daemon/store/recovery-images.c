/* Arenas out of images.
 *
 * The newest good image's table says which arenas existed at its cut. Each is restored from the
 * newest good image that holds it; where one turns out damaged it is renamed, and where that was
 * the image whose table is used, all begins anew with the one before it. */

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "base/log.h"
#include "store/recovery-private.h"

static bool image_progress(void *context, uint64_t pages_done, uint64_t pages_total)
{
    const Run *run = context;

    if (run->options->progress)
        run->options->progress(run->options->progress_context, "images", pages_done, pages_total);
    return true;
}

static void tell_layout(const Run *run, const Checkpoint *image, const ImageReader *reader)
{
    snprintf(run->recovery->message, sizeof(run->recovery->message),
             "the arenas in the image %s are of layout version %u, which this program does not "
             "know (its own is %u)",
             image->spec.id, image_reader_layout_version(reader), arena_layout_own());
}

/* The arena's memory, out of an image that is open. -EBADMSG: the reader tells where and why. */
static int restore_memory(Run *run, ImageReader *reader, const Identity *identity, int *ret_fd)
{
    size_t index = 0;

    if (!arena_layout_known(image_reader_layout_version(reader)))
        return -EPROTONOSUPPORT;
    while (index < image_reader_arenas(reader) &&
           !identity_equal(&image_reader_arena(reader, index)->identity, identity))
        index++;
    return index < image_reader_arenas(reader)
               ? image_reader_restore(reader, index, image_progress, run, ret_fd)
               : -EBADMSG;
}

/* Restores one arena out of one image. -EBADMSG: the image is damaged; it was renamed. */
static int restore_from(Run *run, Checkpoint *image, const Identity *identity, Arena **ret)
{
    _cleanup_(closep) int fd = -1, memory = -1;
    const char *where = "", *why = "";
    char name[HOLDFAST_IMAGE_ID_MAX + 8];
    ImageReader *reader = NULL;
    int r;

    snprintf(name, sizeof(name), "%s.image", image->spec.id);
    fd = openat(run->options->images_directory_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    r = image_open(fd, &reader, &where, &why);
    if (r == 0) {
        r = restore_memory(run, reader, identity, &memory);
        where = image_reader_where(reader);
        why = image_reader_why(reader);
    }
    if (r == 0) {
        r = arena_open_any(&run->options->context, memory, ret);
        if (r == 0) {
            TAKE_FD(memory);
        } else if (r == -EBADMSG || r == -EBUSY) {
            r = -EBADMSG;
            where = "arena header";
            why = "the memory it holds is no arena at rest";
        }
    }
    if (r == -EPROTONOSUPPORT && reader)
        tell_layout(run, image, reader);
    if (r == -EBADMSG)
        catalog_damaged(run->options->catalog, image, where, why);
    image_reader_free(reader);
    return r;
}

/* Restores an arena from the newest image that holds it and checks out. *ret NULL: no image holds
 * it. -EAGAIN: the image whose table is used turned out damaged. */
static int restore_arena(Run *run, const Identity *identity, const char *table_id, Arena **ret,
                         uint64_t *ret_revision)
{
    Catalog *catalog = run->options->catalog;

    *ret = NULL;
    for (;;) {
        size_t index;
        Checkpoint *image = catalog_newest_of(catalog, identity, catalog_count(catalog), &index);
        bool is_table;
        uint64_t revision;
        int r;

        if (!image)
            return 0;
        is_table = strcmp(image->spec.id, table_id) == 0;
        revision = image->spec.revision;
        r = restore_from(run, image, identity, ret);
        if (r == 0)
            *ret_revision = revision;
        if (r != -EBADMSG)
            return r;
        if (is_table)
            return -EAGAIN;
    }
}

/* One arena of the table, which has this id; created: the revision that created it. One that no
 * image holds comes from the journal. */
static int restore_row(Run *run, const Identity *identity, uint64_t created, const char *table_id)
{
    uint64_t revision = 0;
    Arena *arena;
    int r;

    if (recovery_find_origin(run, identity))
        return 0; /* adopted */
    r = restore_arena(run, identity, table_id, &arena, &revision);
    if (r < 0)
        return r;
    if (!arena) {
        run->wanted[run->wanted_count++] = *identity;
        run->from_revision = MIN(run->from_revision, MAX(created, UINT64_C(1)) - 1);
        return 0;
    }
    r = store_insert(run->options->store, arena);
    if (r < 0) {
        arena_free(arena);
        return r;
    }
    run->from_revision = MIN(run->from_revision, revision);
    return recovery_add_origin(run, identity, revision);
}

/* All arenas of one image's table. */
static int restore_table(Run *run, const Checkpoint *table)
{
    char id[HOLDFAST_IMAGE_ID_MAX + 1];
    size_t count = table->arena_count;
    _cleanup_(freep) Identity *identities = calloc(count + 1, sizeof(*identities));
    _cleanup_(freep) uint64_t *created = calloc(count + 1, sizeof(*created));
    int r = 0;

    free(run->wanted);
    run->wanted = calloc(count + 1, sizeof(*run->wanted));
    run->wanted_count = 0;
    if (!identities || !created || !run->wanted)
        return -ENOMEM;
    memcpy(id, table->spec.id, sizeof(id));
    run->from_revision = run->table_revision = table->spec.revision;
    /* The table may be freed below, when its image turns out damaged. */
    for (size_t i = 0; i < count; i++) {
        identities[i] = table->arenas[i].identity;
        created[i] = table->arenas[i].created_revision;
    }
    for (size_t i = 0; i < count && r == 0; i++)
        r = restore_row(run, &identities[i], created[i], id);
    return r;
}

/* An image that is newer than all that are listed may hold what nothing else does. One of another
 * version is not to be passed over; one that cannot be read now may be, where the rest suffices and
 * nothing is given up. */
static int check_passed_over(Run *run)
{
    Recovery *recovery = run->recovery;
    PassedImage image;

    if (!catalog_passed_over(run->options->catalog, &image))
        return 0;
    if (image.error == -EPROTONOSUPPORT) {
        snprintf(recovery->message, sizeof(recovery->message),
                 "another version wrote the newest image: images/%s is of image version %u (flags "
                 "%#llx), this program reads version %u. Start the version that wrote it; or move "
                 "the image away, to go on from older images and the journal where these suffice",
                 image.name, image.version, (unsigned long long)image.flags,
                 HOLDFAST_IMAGE_VERSION);
        return image.error;
    }
    return run->cut ? recovery_blame_unreadable(run, 0) : 0;
}

int recovery_blame_unreadable(Run *run, int error)
{
    PassedImage image;

    if (!catalog_passed_over(run->options->catalog, &image))
        return error;
    snprintf(run->recovery->message, sizeof(run->recovery->message),
             "the newest image, images/%s, cannot be read: %s. That is no damage, and without it "
             "the state is not whole: start again when it can be read, or move it away to do "
             "without it",
             image.name, log_errno(image.error));
    return image.error;
}

int recovery_restore_images(Run *run)
{
    for (;;) {
        const Checkpoint *newest = catalog_newest(run->options->catalog);
        int r = check_passed_over(run);

        if (r < 0 || !newest)
            return r;
        r = restore_table(run, newest);
        if (r != -EAGAIN) {
            if (r < 0 && run->recovery->message[0] == '\0')
                snprintf(run->recovery->message, sizeof(run->recovery->message),
                         "cannot restore from the image %s: %s", newest->spec.id, log_errno(r));
            return r;
        }
        /* What it promised to hold must come from elsewhere now. */
        recovery_forget(run);
        run->table_revision = 0;
        run->from_revision = 0;
        run->wanted_count = 0;
    }
}

/* The revision that a name in images/ proves: it was given, and durable; 0: none. */
static uint64_t proven_by(const char *name)
{
    uint64_t revision;

    if (!catalog_names_cut(name) || !strstr(name, ".image"))
        return 0;
    revision = strtoull(name, NULL, 10);
    /* What is beyond was never given: counting on from there would come round to numbers that were.
     */
    return revision <= RECOVERY_REVISION_MAX ? revision : 0;
}

int recovery_proven_revision(int images_directory_fd, uint64_t *ret)
{
    int fd = openat(images_directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct dirent *entry;
    uint64_t highest = 0;
    DIR *directory;
    int r;

    if (fd < 0)
        return -errno;
    directory = fdopendir(fd);
    if (!directory) {
        r = -errno;
        closep(&fd);
        return r;
    }
    errno = 0;
    while ((entry = readdir(directory)) != NULL) {
        highest = MAX(highest, proven_by(entry->d_name));
        errno = 0;
    }
    r = -errno;
    closedir(directory);
    if (r == 0)
        *ret = highest;
    return r;
}
