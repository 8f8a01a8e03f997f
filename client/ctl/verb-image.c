/* image verify, info, export: an image as a file, without a daemon. It is read as the daemon reads
 * it at its start; an arena that the image holds is restored into memory, one at a time. */
#include <fcntl.h>

#include "arena/arena.h"
#include "base/file.h"
#include "base/parse.h"
#include "base/pool.h"
#include "checkpoint/image-format.h"
#include "checkpoint/image-read.h"
#include "print.h"

#define WALK_SLOTS 10000

typedef struct Image {
    Ctl *ctl;
    const char *path;
    int fd;
    ImageReader *reader;
    Pool *pool;
    Progress progress;
} Image;

static bool has_magic(const Image *image, const char *magic, uint64_t offset)
{
    char found[sizeof(HOLDFAST_IMAGE_MAGIC)];

    return file_read_at(image->fd, found, sizeof(found), offset) == 0 &&
           memcmp(found, magic, sizeof(found)) == 0;
}

/* Begins or ends as one: what does neither was never an image. */
static bool is_image(const Image *image)
{
    uint64_t size;

    static_assert(sizeof(HOLDFAST_IMAGE_MAGIC) == sizeof(HOLDFAST_IMAGE_END_MAGIC), "8 bytes each");
    return has_magic(image, HOLDFAST_IMAGE_MAGIC, 0) ||
           (file_size(image->fd, &size) == 0 && size >= sizeof(HoldfastImageFooter) &&
            has_magic(image, HOLDFAST_IMAGE_END_MAGIC, size - sizeof(HoldfastImageFooter)));
}

static int image_foreign(const Image *image)
{
    uint64_t flags = 0;
    uint32_t version = 0;

    (void)image_read_version(image->fd, &version, &flags);
    return failure(STATUS_FAILED,
                   "%s is of image version %u (flags %#llx), this program reads version %u",
                   image->path, version, (unsigned long long)flags, HOLDFAST_IMAGE_VERSION);
}

static int image_failed(const Image *image, int r, const char *where, const char *why)
{
    if (r == -EBADMSG && !is_image(image))
        return failure(STATUS_FAILED, "%s is no image of holdfast", image->path);
    if (r == -EBADMSG)
        return failure(STATUS_FAILED, "%s is damaged at %s: %s", image->path, where, why);
    if (r == -EPROTONOSUPPORT)
        return image_foreign(image);
    return failure(STATUS_FAILED, "cannot read %s: %s", image->path, strerror(-r));
}

static int reader_failed(const Image *image, int r)
{
    return image_failed(image, r, image_reader_where(image->reader),
                        image_reader_why(image->reader));
}

static bool show_progress(void *context, uint64_t done, uint64_t total)
{
    Image *image = context;
    char rate[FORMAT_BYTES_MAX], detail[64];
    uint64_t elapsed = MAX(progress_elapsed(&image->progress), 1);

    if (!progress_due(&image->progress))
        return true;
    format_bytes(rate,
                 (uint64_t)((double)done * HOLDFAST_PAGE_BYTES * USEC_PER_SEC / (double)elapsed));
    snprintf(detail, sizeof(detail), "%s/s", rate);
    progress_update(&image->progress, done, total, detail);
    return true;
}

/* The arena in the table's place index, out of the image. Returns an exit status. */
static int restore_arena(Image *image, size_t index, Arena **ret)
{
    const ImageArena *held = image_reader_arena(image->reader, index);
    ArenaContext context = {.pool = image->pool};
    int fd;
    int r = image_reader_restore(image->reader, index, show_progress, image, &fd);

    progress_end(&image->progress);
    if (r < 0)
        return reader_failed(image, r);
    r = arena_open_any(&context, fd, ret);
    if (r < 0) {
        close(fd);
        return failure(STATUS_FAILED, "%s: arena '%s' cannot be opened: %s", image->path,
                       held->name, strerror(-r));
    }
    return STATUS_OK;
}

/* --- verify */

static int check_arena(Image *image, size_t index)
{
    const ImageArena *held = image_reader_arena(image->reader, index);
    char entries[FORMAT_NUMBER_MAX], bytes[FORMAT_BYTES_MAX];
    ArenaReport report;
    Arena *arena;
    int status = restore_arena(image, index, &arena);
    int r;

    if (status != STATUS_OK)
        return status;
    r = arena_check(arena, &report);
    if (r < 0)
        status = failure(STATUS_FAILED, "%s: arena '%s' is damaged: %s", image->path, held->name,
                         report.where);
    else if (report.entries != held->entries)
        status = failure(STATUS_FAILED, "%s: arena '%s' holds %llu entries, its table says %llu",
                         image->path, held->name, (unsigned long long)report.entries,
                         (unsigned long long)held->entries);
    else if (!image->ctl->options.quiet)
        printf("arena %s: good, %s %s, %s\n", held->name, format_number(entries, report.entries),
               print_plural(report.entries, "entry", "entries"),
               format_bytes(bytes, report.live_bytes));
    arena_free(arena);
    return status;
}

static int image_verify(Image *image)
{
    char bytes[FORMAT_BYTES_MAX];
    int status = STATUS_OK;
    int r;

    progress_begin(&image->progress, image->ctl, "verify");
    r = image_reader_verify(image->reader, show_progress, image);
    progress_end(&image->progress);
    if (r < 0)
        return reader_failed(image, r);
    if (!image->ctl->options.quiet)
        printf("image %s: good, %s\n", image_reader_spec(image->reader)->id,
               format_bytes(bytes, image_reader_bytes(image->reader)));
    for (size_t i = 0; i < image_reader_arenas(image->reader) && status == STATUS_OK; i++)
        if (image_reader_arena(image->reader, i)->held)
            status = check_arena(image, i);
    return status;
}

/* --- info */

enum { INFO_ARENA, INFO_HELD, INFO_ENTRIES, INFO_USED, INFO_MAX, INFO_REVISION, INFO_MODE };

static const Column info_columns[] = {
    [INFO_ARENA] = {.name = "ARENA"},
    [INFO_HELD] = {.name = "HELD"},
    [INFO_ENTRIES] = {.name = "ENTRIES", .right = true},
    [INFO_USED] = {.name = "USED", .right = true},
    [INFO_MAX] = {.name = "MAX", .right = true},
    [INFO_REVISION] = {.name = "REVISION", .right = true},
    [INFO_MODE] = {.name = "MODE"},
};

static void add_arena(Table *table, const ImageArena *arena)
{
    char number[FORMAT_NUMBER_MAX], bytes[FORMAT_BYTES_MAX];

    table_row(table);
    table_set(table, INFO_ARENA, arena->name);
    table_set(table, INFO_HELD, arena->held ? "yes" : "no");
    table_set(table, INFO_ENTRIES, format_number(number, arena->entries));
    table_set(table, INFO_USED, format_bytes(bytes, arena->used_bytes));
    table_set(table, INFO_MAX, format_bytes(bytes, arena->attributes.max_bytes));
    table_set(table, INFO_REVISION, format_number(number, arena->revision));
    snprintf(number, sizeof(number), "%04o", arena->attributes.mode);
    table_set(table, INFO_MODE, number);
}

static void print_facts(const Image *image)
{
    const ImageSpec *spec = image_reader_spec(image->reader);
    const ImageSummary *summary = image_reader_summary(image->reader);
    char time[PRINT_TIME_MAX], bytes[FORMAT_BYTES_MAX], number[FORMAT_NUMBER_MAX],
        duration[FORMAT_DURATION_MAX];

    printf("         ID: %s\n", spec->id);
    if (spec->label[0] != '\0')
        printf("      Label: %s\n", spec->label);
    printf("   Revision: %s\n", format_number(number, spec->revision));
    printf("        Cut: %s\n", print_time(time, spec->started_usec));
    printf("       Size: %s", format_bytes(bytes, image_reader_bytes(image->reader)));
    printf(" for %s of state%s\n", format_bytes(bytes, summary->state_bytes),
           spec->zstd ? ", zstd" : "");
    printf("      Pages: %s", format_number(number, summary->pages_total));
    printf(", %s captured\n", format_number(number, summary->pages_captured));
    printf("      Pause: %s\n", format_duration(duration, summary->pause_usec));
    printf("   Duration: %s\n", format_duration(duration, summary->duration_usec));
    printf("     Layout: %u\n\n", image_reader_layout_version(image->reader));
}

static void print_arena_json(const ImageArena *arena)
{
    printf("{\"name\":");
    print_string(stdout, arena->name, strlen(arena->name));
    printf(",\"held\":%s,\"entries\":%llu,\"usedBytes\":%llu,\"maxBytes\":%llu,\"revision\":%llu,"
           "\"uid\":%u,\"gid\":%u,"
           "\"mode\":%u,\"createdUSec\":%llu}",
           arena->held ? "true" : "false", (unsigned long long)arena->entries,
           (unsigned long long)arena->used_bytes, (unsigned long long)arena->attributes.max_bytes,
           (unsigned long long)arena->revision, arena->attributes.uid, arena->attributes.gid,
           arena->attributes.mode, (unsigned long long)arena->created_usec);
}

static void print_facts_json(const Image *image)
{
    const ImageSpec *spec = image_reader_spec(image->reader);
    const ImageSummary *summary = image_reader_summary(image->reader);

    printf("{\"id\":");
    print_string(stdout, spec->id, strlen(spec->id));
    if (spec->label[0] != '\0') {
        printf(",\"label\":");
        print_string(stdout, spec->label, strlen(spec->label));
    }
    printf(",\"revision\":%llu,\"startedUSec\":%llu,\"imageBytes\":%llu,\"stateBytes\":%llu,"
           "\"pagesTotal\":%llu,"
           "\"pagesCaptured\":%llu,\"pauseUSec\":%llu,\"heldUSec\":%llu,\"durationUSec\":%llu,"
           "\"zstd\":%s,\"arenas\":[",
           (unsigned long long)spec->revision, (unsigned long long)spec->started_usec,
           (unsigned long long)image_reader_bytes(image->reader),
           (unsigned long long)summary->state_bytes, (unsigned long long)summary->pages_total,
           (unsigned long long)summary->pages_captured, (unsigned long long)summary->pause_usec,
           (unsigned long long)summary->held_usec, (unsigned long long)summary->duration_usec,
           spec->zstd ? "true" : "false");
    for (size_t i = 0; i < image_reader_arenas(image->reader); i++) {
        if (i > 0)
            putchar(',');
        print_arena_json(image_reader_arena(image->reader, i));
    }
    printf("]}\n");
}

static int image_info(Image *image)
{
    Table *table;
    int r;

    if (image->ctl->options.json != JSON_OFF) {
        print_facts_json(image);
        return STATUS_OK;
    }
    print_facts(image);
    r = table_new(image->ctl, info_columns, ARRAY_SIZE(info_columns), &table);
    if (r < 0)
        return failure_call(image->ctl, r);
    for (size_t i = 0; i < image_reader_arenas(image->reader); i++)
        add_arena(table, image_reader_arena(image->reader, i));
    r = table_finish(table);
    return r < 0 ? failure_call(image->ctl, r) : STATUS_OK;
}

/* --- export */

static bool export_entry(void *context, const ArenaEntry *entry)
{
    const HoldfastItem item = {
        .key = entry->key.data,
        .key_length = entry->key.size,
        .json = entry->value.data,
        .json_length = entry->value.size,
    };

    print_entry(context, &item, false);
    return !ferror(stdout);
}

/* named: each line tells its arena, as there may be several. */
static int export_arena(Image *image, size_t index, bool named)
{
    const ImageArena *held = image_reader_arena(image->reader, index);
    char *name = named ? (char *)(uintptr_t)held->name : NULL;
    uint64_t position = 0;
    Arena *arena;
    int status = restore_arena(image, index, &arena);
    int r = 0;

    if (status != STATUS_OK)
        return status;
    while (r == 0 && print_check() == 0)
        r = arena_walk(arena, &position, WALK_SLOTS, export_entry, name);
    if (r < 0)
        status = failure(STATUS_FAILED, "%s: arena '%s' is damaged: %s", image->path, held->name,
                         arena_damage(arena) != NULL ? arena_damage(arena) : strerror(-r));
    arena_free(arena);
    return status;
}

static int image_export(Image *image)
{
    const char *name = image->ctl->options.arena;
    int status = STATUS_OK;
    bool found = false;

    progress_begin(&image->progress, image->ctl, "read");
    for (size_t i = 0; i < image_reader_arenas(image->reader) && status == STATUS_OK; i++) {
        const ImageArena *arena = image_reader_arena(image->reader, i);
        if (!arena->held || (name != NULL && strcmp(name, arena->name) != 0))
            continue;
        found = true;
        status = export_arena(image, i, name == NULL);
    }
    if (!found && name != NULL)
        return failure(STATUS_FAILED, "%s does not hold an arena '%s'", image->path, name);
    return status;
}

/* --- the three of them */

static const struct {
    const char *name;
    int (*run)(Image *image);
} actions[] = {
    {"verify", image_verify},
    {"info", image_info},
    {"export", image_export},
};

static int run_action(Image *image, int (*run)(Image *image))
{
    const char *where = "", *why = "";
    int status;
    int r = pool_new(NULL, &image->pool);

    if (r < 0)
        return failure_call(image->ctl, r);
    r = image_open(image->fd, &image->reader, &where, &why);
    status = r < 0 ? image_failed(image, r, where, why) : run(image);
    image_reader_free(image->reader);
    pool_free(image->pool);
    return status;
}

int verb_image(Ctl *ctl, int count, char **arguments)
{
    Image image = {.ctl = ctl, .path = arguments[1]};
    _cleanup_(closep) int fd = -1;

    (void)count;
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
        if (strcmp(actions[i].name, arguments[0]) != 0)
            continue;
        fd = open(image.path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return failure(errno == EACCES ? STATUS_DENIED : STATUS_FAILED, "cannot open %s: %s",
                           image.path, strerror(errno));
        image.fd = fd;
        return run_action(&image, actions[i].run);
    }
    return failure(STATUS_USAGE, "image takes verify, info or export, not '%s'", arguments[0]);
}
