/* Unit tests of the catalogue: what it lists, what it leaves alone, what retention may take. */
#include "checkpoint/catalog.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/housekeeper.h"
#include "lib/damage.h"
#include "lib/images.h"
#include "lib/temporary.h"

#define TIME "20240229T235959Z"
#define TIME_USEC (UINT64_C(1709251199) * USEC_PER_SEC)

/* A directory of images, and the arenas a, b and c, of which each image holds some. */
typedef struct Shelf {
    Temporary *directory;
    Catalog *catalog;
    Identity a, b, c;
} Shelf;

static Identity identity_of(unsigned seed)
{
    Identity identity;

    memset(identity.bytes, (int)seed, sizeof(identity.bytes));
    return identity;
}

static Shelf shelf_new(void)
{
    return (Shelf){.directory = temporary_new(),
                   .a = identity_of(1),
                   .b = identity_of(2),
                   .c = identity_of(3)};
}

static void shelf_clear(Shelf *shelf)
{
    catalog_free(shelf->catalog);
    temporary_free(shelf->directory);
}

static void image_file(uint64_t revision, const char *time, char name[80])
{
    snprintf(name, 80, "%020llu-%s.image", (unsigned long long)revision, time);
}

static const char *const all_names[] = {"a", "b", "c"};

/* Writes an image of that cut; held: letters of the arenas that it holds. */
static void shelf_put_at(Shelf *shelf, uint64_t revision, const char *time, const char *held)
{
    ImageSpec spec = test_spec(revision, time, false);
    TestArena arenas[3];
    char name[80];
    int fd;

    image_file(revision, time, name);
    fd = openat(shelf->directory->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    cr_assert(ge(int, fd, 0));
    for (unsigned i = 0; i < 3; i++)
        arenas[i] = test_arena_new(all_names[i], 3, strstr(held, all_names[i]) != NULL, i + 1);
    cr_assert(eq(int, test_image_write(fd, &spec, arenas, 3, 256), 0));
    for (unsigned i = 0; i < 3; i++)
        test_arena_clear(&arenas[i]);
    close(fd);
}

static void shelf_put(Shelf *shelf, uint64_t revision, const char *held)
{
    shelf_put_at(shelf, revision, TIME, held);
}

static void shelf_open(Shelf *shelf, Housekeeper *housekeeper)
{
    cr_assert(
        eq(int,
           catalog_new(shelf->directory->fd, shelf->directory->path, housekeeper, &shelf->catalog),
           0));
}

static bool shelf_has(const Shelf *shelf, const char *name)
{
    return faccessat(shelf->directory->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool shelf_has_cut(const Shelf *shelf, uint64_t revision)
{
    char name[80];

    image_file(revision, TIME, name);
    return shelf_has(shelf, name);
}

/* The cuts that are listed, as "10 20 30". */
static const char *shelf_cuts(const Shelf *shelf)
{
    static char text[1024];
    size_t length = 0;

    text[0] = '\0';
    for (size_t i = 0; i < catalog_count(shelf->catalog); i++)
        length +=
            (size_t)snprintf(text + length, sizeof(text) - length, "%s%llu", i > 0 ? " " : "",
                             (unsigned long long)catalog_at(shelf->catalog, i)->spec.revision);
    return text;
}

static Checkpoint *shelf_at_cut(const Shelf *shelf, uint64_t revision)
{
    ImageSpec spec = test_spec(revision, TIME, false);

    return catalog_find(shelf->catalog, spec.id);
}

static Checkpoint *ended(CheckpointState state, uint64_t revision, const char *id)
{
    Checkpoint *checkpoint = calloc(1, sizeof(*checkpoint));

    checkpoint->state = state;
    checkpoint->spec.revision = revision;
    snprintf(checkpoint->spec.id, sizeof(checkpoint->spec.id), "%s", id);
    return checkpoint;
}

/* --- the start */

Test(catalog, empty_directory_is_an_empty_list)
{
    Shelf shelf = shelf_new();
    size_t index;

    shelf_open(&shelf, NULL);
    cr_assert(eq(sz, catalog_count(shelf.catalog), 0));
    cr_assert(eq(ptr, catalog_newest(shelf.catalog), NULL));
    cr_assert(eq(ptr, catalog_newest_of(shelf.catalog, &shelf.a, 0, &index), NULL));
    cr_assert(eq(ptr, catalog_find(shelf.catalog, ""), NULL));
    cr_assert(eq(u64, catalog_oldest_cut(shelf.catalog, &shelf.a), 0));
    shelf_clear(&shelf);
}

Test(catalog, directory_that_cannot_be_read_is_an_error)
{
    Catalog *catalog;

    cr_assert(eq(int, catalog_new(-1, "/nowhere", NULL, &catalog), -EBADF));
}

Test(catalog, images_are_listed_by_their_cuts)
{
    Shelf shelf = shelf_new();
    const Checkpoint *checkpoint;
    char path[256], expected[256];

    shelf_put(&shelf, 20, "ab");
    shelf_put(&shelf, 100, "c");
    shelf_put(&shelf, 3, "abc");
    shelf_open(&shelf, NULL);
    cr_assert(eq(str, (char *)shelf_cuts(&shelf), "3 20 100"));
    checkpoint = shelf_at_cut(&shelf, 20);
    cr_assert(ne(ptr, (void *)checkpoint, NULL));
    cr_assert(eq(int, checkpoint->state, CHECKPOINT_COMPLETE));
    cr_assert(eq(str, (char *)checkpoint->spec.label, "a label"));
    cr_assert(eq(u64, checkpoint->summary.pause_usec, 1));
    cr_assert(eq(sz, checkpoint->arena_count, 3));
    cr_assert(eq(str, (char *)checkpoint->arenas[2].name, "c"));
    cr_assert(eq(int, checkpoint->arenas[2].held, false));
    cr_assert(gt(u64, checkpoint->image_bytes, 0));
    catalog_path(shelf.catalog, checkpoint, path, sizeof(path));
    snprintf(expected, sizeof(expected), "%s/%s.image", shelf.directory->path, checkpoint->spec.id);
    cr_assert(eq(str, path, expected));
    shelf_clear(&shelf);
}

Test(catalog, newest_of_an_arena_is_found_from_any_place)
{
    Shelf shelf = shelf_new();
    size_t index = 99;

    shelf_put(&shelf, 10, "ab");
    shelf_put(&shelf, 20, "a");
    shelf_put(&shelf, 30, "c");
    shelf_open(&shelf, NULL);
    cr_assert(eq(u64, catalog_newest(shelf.catalog)->spec.revision, 30));
    cr_assert(eq(u64, catalog_newest_of(shelf.catalog, &shelf.a, 3, &index)->spec.revision, 20));
    cr_assert(eq(sz, index, 1));
    cr_assert(
        eq(u64, catalog_newest_of(shelf.catalog, &shelf.a, index, &index)->spec.revision, 10));
    cr_assert(eq(sz, index, 0));
    cr_assert(eq(ptr, catalog_newest_of(shelf.catalog, &shelf.a, index, &index), NULL));
    cr_assert(eq(u64, catalog_oldest_cut(shelf.catalog, &shelf.a), 10));
    cr_assert(eq(u64, catalog_oldest_cut(shelf.catalog, &shelf.c), 30));
    cr_assert(eq(u64, catalog_oldest_cut(shelf.catalog, &(Identity){}), 0));
    shelf_clear(&shelf);
}

Test(catalog, leftover_temporary_files_go_and_others_stay)
{
    static const char *const stay[] = {"notes",           ".hidden",    "x.tmp",
                                       "x.image.damaged", ".x.tmp.old", ".y.image"};
    Shelf shelf = shelf_new();

    temporary_write(shelf.directory, ".00000000000000000007.tmp", "half an image");
    for (size_t i = 0; i < ARRAY_SIZE(stay); i++)
        temporary_write(shelf.directory, stay[i], "x");
    shelf_open(&shelf, NULL);
    cr_assert(not(shelf_has(&shelf, ".00000000000000000007.tmp")));
    for (size_t i = 0; i < ARRAY_SIZE(stay); i++)
        cr_assert(eq(int, shelf_has(&shelf, stay[i]), true), "%s", stay[i]);
    cr_assert(eq(sz, catalog_count(shelf.catalog), 0));
    shelf_clear(&shelf);
}

Test(catalog, damaged_image_is_set_aside)
{
    Shelf shelf = shelf_new();
    _cleanup_(freep) char *path = NULL;
    char name[80], aside[96];

    shelf_put(&shelf, 10, "a");
    shelf_put(&shelf, 20, "a");
    image_file(20, TIME, name);
    path = temporary_path(shelf.directory, name);
    cr_assert(eq(int, damage_flip(path, -200, 1), 0));
    shelf_open(&shelf, NULL);
    cr_assert(eq(str, (char *)shelf_cuts(&shelf), "10"));
    snprintf(aside, sizeof(aside), "%s.damaged", name);
    cr_assert(eq(int, shelf_has(&shelf, name), false));
    cr_assert(eq(int, shelf_has(&shelf, aside), true));
    shelf_clear(&shelf);
}

Test(catalog, damage_is_set_aside_but_never_over_another_file)
{
    Shelf shelf = shelf_new();
    char name[80], aside[96];
    _cleanup_(freep) char *before = NULL;

    shelf_put(&shelf, 10, "a");
    shelf_put(&shelf, 20, "a");
    image_file(20, TIME, name);
    snprintf(aside, sizeof(aside), "%s.damaged", name);
    temporary_write(shelf.directory, aside, "the first one");
    shelf_open(&shelf, NULL);
    catalog_damaged(shelf.catalog, shelf_at_cut(&shelf, 20), "block 1 at offset 4096",
                    "checksum does not match");
    cr_assert(eq(str, (char *)shelf_cuts(&shelf), "10"));
    before = temporary_read(shelf.directory, aside, NULL);
    cr_assert(eq(str, before, "the first one"));
    cr_assert(eq(int, shelf_has(&shelf, name), true));
    catalog_damaged(shelf.catalog, shelf_at_cut(&shelf, 10), "block 0 at offset 4096",
                    "checksum does not match");
    cr_assert(eq(sz, catalog_count(shelf.catalog), 0));
    cr_assert(eq(int, shelf_has_cut(&shelf, 10), false));
    shelf_clear(&shelf);
}

/* Makes an image one of another version, with all checksums in order. */
static void shelf_make_foreign(Shelf *shelf, uint64_t revision, uint32_t version)
{
    _cleanup_(freep) char *image = NULL;
    char name[80];
    size_t size;
    int fd;

    image_file(revision, TIME, name);
    image = temporary_read(shelf->directory, name, &size);
    memcpy(image + offsetof(HoldfastImageHeader, version), &version, sizeof(version));
    test_image_reseal((uint8_t *)image, size);
    fd = openat(shelf->directory->fd, name, O_WRONLY | O_CLOEXEC);
    cr_assert(eq(int, file_write_at(fd, image, size, 0), 0));
    close(fd);
}

Test(catalog, other_versions_are_left_alone_and_the_newest_is_named)
{
    Shelf shelf = shelf_new();
    PassedImage passed;
    char name[80];

    shelf_put(&shelf, 10, "a");
    shelf_put(&shelf, 15, "a");
    shelf_put(&shelf, 20, "a");
    shelf_make_foreign(&shelf, 15, 3);
    shelf_make_foreign(&shelf, 20, 2);
    image_file(20, TIME, name);
    shelf_open(&shelf, NULL);
    cr_assert(eq(str, (char *)shelf_cuts(&shelf), "10"));
    cr_assert(eq(int, shelf_has(&shelf, name), true));
    cr_assert(eq(int, catalog_passed_over(shelf.catalog, &passed), true));
    cr_assert(eq(str, passed.name, name));
    cr_assert(eq(int, passed.error, -EPROTONOSUPPORT));
    cr_assert(eq(u32, passed.version, 2));
    shelf_clear(&shelf);
}

Test(catalog, another_version_that_is_older_than_what_can_be_read_is_no_obstacle)
{
    Shelf shelf = shelf_new();
    PassedImage passed;

    shelf_put(&shelf, 10, "a");
    shelf_put(&shelf, 20, "a");
    shelf_make_foreign(&shelf, 10, 2);
    shelf_open(&shelf, NULL);
    cr_assert(eq(int, catalog_passed_over(shelf.catalog, &passed), false));
    shelf_clear(&shelf);
}

Test(catalog, what_is_no_file_or_has_another_name_is_left_alone)
{
    Shelf shelf = shelf_new();
    char name[80];

    shelf_put(&shelf, 10, "a");
    image_file(10, TIME, name);
    cr_assert(eq(int, renameat(shelf.directory->fd, name, shelf.directory->fd, "copy.image"), 0));
    cr_assert(eq(int, mkfifoat(shelf.directory->fd, "fifo.image", 0600), 0));
    cr_assert(eq(int, mkdirat(shelf.directory->fd, "directory.image", 0700), 0));
    cr_assert(eq(int, symlinkat("nothing", shelf.directory->fd, "dangling.image"), 0));
    shelf_open(&shelf, NULL);
    cr_assert(eq(sz, catalog_count(shelf.catalog), 0));
    cr_assert(eq(int, shelf_has(&shelf, "copy.image"), true));
    cr_assert(eq(int, shelf_has(&shelf, "fifo.image"), true));
    cr_assert(eq(int, shelf_has(&shelf, "directory.image"), true));
    cr_assert(eq(int, shelf_has(&shelf, "dangling.image"), true));
    shelf_clear(&shelf);
}

/* --- ids */

Test(catalog, id_is_cut_and_time)
{
    Shelf shelf = shelf_new();
    char id[HOLDFAST_IMAGE_ID_MAX + 1];

    shelf_open(&shelf, NULL);
    catalog_make_id(shelf.catalog, 42, TIME_USEC + 999999, id);
    cr_assert(eq(str, id, "00000000000000000042-20240229T235959Z"));
    catalog_make_id(shelf.catalog, UINT64_MAX, 0, id);
    cr_assert(eq(str, id, "18446744073709551615-19700101T000000Z"));
    shelf_clear(&shelf);
}

Test(catalog, id_is_raised_by_a_second_until_it_is_unused)
{
    Shelf shelf = shelf_new();
    char id[HOLDFAST_IMAGE_ID_MAX + 1];

    shelf_put(&shelf, 42, "a");
    shelf_open(&shelf, NULL);
    catalog_make_id(shelf.catalog, 42, TIME_USEC, id);
    cr_assert(eq(str, id, "00000000000000000042-20240301T000000Z"));
    /* A failed one of that id, a file that is not listed, and one that was set aside. */
    catalog_add(shelf.catalog, ended(CHECKPOINT_FAILED, 42, id));
    temporary_write(shelf.directory, "00000000000000000042-20240301T000001Z.image", "x");
    temporary_write(shelf.directory, "00000000000000000042-20240301T000002Z.image.damaged", "x");
    catalog_make_id(shelf.catalog, 42, TIME_USEC, id);
    cr_assert(eq(str, id, "00000000000000000042-20240301T000003Z"));
    catalog_make_id(shelf.catalog, 43, TIME_USEC, id);
    cr_assert(eq(str, id, "00000000000000000043-20240229T235959Z"));
    shelf_clear(&shelf);
}

/* --- failures */

Test(catalog, last_16_failures_are_listed_among_the_images)
{
    Shelf shelf = shelf_new();
    Identity live[] = {shelf.a};

    shelf_put(&shelf, 10, "a");
    shelf_put(&shelf, 105, "a");
    shelf_open(&shelf, NULL);
    for (uint64_t i = 0; i < 20; i++) {
        ImageSpec spec = test_spec(100 + i, "20250101T000000Z", false);

        /* Every other one failed before it had an id. */
        catalog_add(shelf.catalog, ended(i % 3 == 0 ? CHECKPOINT_CANCELLED : CHECKPOINT_FAILED,
                                         100 + i, i % 2 == 0 ? spec.id : ""));
    }
    cr_assert(eq(str, (char *)shelf_cuts(&shelf),
                 "10 104 105 105 106 107 108 109 110 111 112 113 114 115 116 117 118 119"));
    /* They hold nothing and are no image. */
    cr_assert(eq(u64, catalog_newest(shelf.catalog)->spec.revision, 105));
    cr_assert(eq(sz, catalog_retire(shelf.catalog, 1, live, 1), 1));
    cr_assert(eq(sz, catalog_count(shelf.catalog), 17));
    shelf_clear(&shelf);
}

Test(catalog, removing_a_failure_touches_no_file)
{
    Shelf shelf = shelf_new();
    ImageSpec spec = test_spec(10, "20250101T000000Z", false);
    char name[80];

    shelf_open(&shelf, NULL);
    catalog_add(shelf.catalog, ended(CHECKPOINT_FAILED, 10, spec.id));
    image_file(10, "20250101T000000Z", name);
    temporary_write(shelf.directory, name, "another's");
    catalog_remove(shelf.catalog, catalog_find(shelf.catalog, spec.id));
    cr_assert(eq(sz, catalog_count(shelf.catalog), 0));
    cr_assert(eq(int, shelf_has(&shelf, name), true));
    shelf_clear(&shelf);
}

/* --- retention */

Test(catalog, newest_ones_stay_and_older_ones_go)
{
    Shelf shelf = shelf_new();
    Identity live[] = {shelf.a, shelf.b};

    for (uint64_t cut = 10; cut <= 60; cut += 10)
        shelf_put(&shelf, cut, "ab");
    shelf_open(&shelf, NULL);
    cr_assert(eq(sz, catalog_retire(shelf.catalog, 4, live, 2), 2));
    cr_assert(eq(str, (char *)shelf_cuts(&shelf), "30 40 50 60"));
    cr_assert(eq(int, shelf_has_cut(&shelf, 20), false));
    cr_assert(eq(int, shelf_has_cut(&shelf, 30), true));
    cr_assert(eq(sz, catalog_retire(shelf.catalog, 4, live, 2), 0));
    cr_assert(eq(sz, catalog_retire(shelf.catalog, 0, live, 2), 3));
    cr_assert(eq(str, (char *)shelf_cuts(&shelf), "60"));
    shelf_clear(&shelf);
}

Test(catalog, old_image_stays_while_it_alone_holds_a_live_arena)
{
    Shelf shelf = shelf_new();
    Identity live[] = {shelf.a, shelf.b, shelf.c};

    shelf_put(&shelf, 10, "ab");
    shelf_put(&shelf, 20, "abc");
    shelf_put(&shelf, 30, "b");
    shelf_put(&shelf, 40, "a");
    shelf_put(&shelf, 50, "a");
    shelf_open(&shelf, NULL);
    /* 20 alone has c, 30 the newest b; what 10 has, newer ones have. */
    cr_assert(eq(sz, catalog_retire(shelf.catalog, 2, live, 3), 1));
    cr_assert(eq(str, (char *)shelf_cuts(&shelf), "20 30 40 50"));
    /* c was dropped. */
    cr_assert(eq(sz, catalog_retire(shelf.catalog, 2, live, 2), 1));
    cr_assert(eq(str, (char *)shelf_cuts(&shelf), "30 40 50"));
    shelf_clear(&shelf);
}

Test(catalog, arena_that_no_image_holds_keeps_none)
{
    Shelf shelf = shelf_new();
    Identity live[] = {shelf.a, shelf.c};

    shelf_put(&shelf, 10, "a");
    shelf_put(&shelf, 20, "a");
    shelf_put(&shelf, 30, "a");
    shelf_open(&shelf, NULL);
    cr_assert(eq(sz, catalog_retire(shelf.catalog, 1, live, 2), 2));
    cr_assert(eq(str, (char *)shelf_cuts(&shelf), "30"));
    shelf_clear(&shelf);
}

Test(catalog, pinned_image_stays)
{
    Shelf shelf = shelf_new();
    Identity live[] = {shelf.a};

    shelf_put(&shelf, 10, "a");
    shelf_put(&shelf, 20, "a");
    shelf_put(&shelf, 30, "a");
    shelf_open(&shelf, NULL);
    shelf_at_cut(&shelf, 10)->pinned++;
    cr_assert(eq(sz, catalog_retire(shelf.catalog, 1, live, 1), 1));
    cr_assert(eq(str, (char *)shelf_cuts(&shelf), "10 30"));
    shelf_at_cut(&shelf, 10)->pinned--;
    cr_assert(eq(sz, catalog_retire(shelf.catalog, 1, live, 1), 1));
    cr_assert(eq(str, (char *)shelf_cuts(&shelf), "30"));
    shelf_clear(&shelf);
}

Test(catalog, what_recovery_would_need_is_told)
{
    Shelf shelf = shelf_new();
    Identity live[] = {shelf.a, shelf.b};

    shelf_put(&shelf, 10, "ab");
    shelf_put(&shelf, 20, "b");
    shelf_put(&shelf, 30, "b");
    shelf_put(&shelf, 40, "c");
    shelf_open(&shelf, NULL);
    cr_assert(eq(int, catalog_needed(shelf.catalog, shelf_at_cut(&shelf, 10), live, 2), true));
    cr_assert(eq(int, catalog_needed(shelf.catalog, shelf_at_cut(&shelf, 20), live, 2), false));
    cr_assert(eq(int, catalog_needed(shelf.catalog, shelf_at_cut(&shelf, 30), live, 2), true));
    /* It holds no live arena, but tells which there are. */
    cr_assert(eq(int, catalog_needed(shelf.catalog, shelf_at_cut(&shelf, 40), live, 2), true));
    cr_assert(eq(int, catalog_needed(shelf.catalog, shelf_at_cut(&shelf, 10), &shelf.b, 1), false));
    shelf_clear(&shelf);
}

/* --- the housekeeper */

Test(catalog, housekeeper_unlinks_even_when_the_catalogue_is_gone)
{
    Shelf shelf = shelf_new();
    Housekeeper *housekeeper;

    cr_assert(eq(int, housekeeper_new(&housekeeper), 0));
    temporary_write(shelf.directory, ".left.tmp", "x");
    shelf_put(&shelf, 10, "a");
    shelf_put(&shelf, 20, "a");
    shelf_put(&shelf, 30, "a");
    shelf_open(&shelf, housekeeper);
    catalog_remove(shelf.catalog, shelf_at_cut(&shelf, 10));
    catalog_damaged(shelf.catalog, shelf_at_cut(&shelf, 20), "block 0 at offset 4096",
                    "checksum does not match");
    cr_assert(eq(str, (char *)shelf_cuts(&shelf), "30"));
    shelf.catalog = catalog_free(shelf.catalog);
    housekeeper_free(housekeeper);
    cr_assert(eq(int, shelf_has(&shelf, ".left.tmp"), false));
    cr_assert(eq(int, shelf_has_cut(&shelf, 10), false));
    cr_assert(eq(int, shelf_has_cut(&shelf, 20), false));
    cr_assert(eq(int, shelf_has_cut(&shelf, 30), true));
    cr_assert(eq(int, shelf_has(&shelf, "00000000000000000020-" TIME ".image.damaged"), true));
    shelf_clear(&shelf);
}
