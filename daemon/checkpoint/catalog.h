/* What checkpoints there are: the images in images/ and the last failed or cancelled attempts.
 * Decides which images may go. Knows names and tables, never touches an image's blocks. */
#pragma once

#include <limits.h>

#include "checkpoint/image-read.h"

typedef enum CheckpointState {
    CHECKPOINT_RUNNING,
    CHECKPOINT_COMPLETE,
    CHECKPOINT_FAILED,
    CHECKPOINT_CANCELLED,
} CheckpointState;

#define CHECKPOINT_REASON_MAX 256

/* One checkpoint, as the interface shows it. */
typedef struct Checkpoint {
    ImageSpec spec;
    ImageSummary summary;
    CheckpointState state;
    ImageArena *arenas; /* the image's table */
    size_t arena_count;
    pid_t pid; /* 0: none */
    uint64_t pages_done;
    uint64_t image_bytes;
    char reason[CHECKPOINT_REASON_MAX]; /* of a failure; else empty */
    unsigned pinned; /* users (a verification, the command after it): not deleted meanwhile */
} Checkpoint;

/* Whether the image is to hold the arena's pages. */
bool checkpoint_holds(const Checkpoint *checkpoint, const Identity *identity);

typedef struct Catalog Catalog;
typedef struct Housekeeper Housekeeper;

/* Reads the directory of images: tables and summaries of all, oldest first; temporary files that
 * are left over (.*.tmp) are removed; what is damaged is renamed to *.damaged and logged. What
 * cannot be read now, is of another version or has not its id for a name is left alone, logged, and
 * not listed. directory_fd: still the caller's, outlives the catalog. housekeeper: unlinks and
 * renames, NULL: done at once. Fails only where the directory cannot be read. */
int catalog_new(int directory_fd, const char *path, Housekeeper *housekeeper, Catalog **ret);
Catalog *catalog_free(Catalog *catalog);

size_t catalog_count(const Catalog *catalog);
/* In the order of their cuts, oldest first; complete ones and the last 16 failed and cancelled. */
Checkpoint *catalog_at(const Catalog *catalog, size_t index);
/* NULL: none of that id. */
Checkpoint *catalog_find(const Catalog *catalog, const char *id);
/* The newest complete one; NULL: none. */
Checkpoint *catalog_newest(const Catalog *catalog);
/* An image that is there and not listed. */
typedef struct PassedImage {
    char name[NAME_MAX + 1]; /* of the file */
    int error; /* -EPROTONOSUPPORT: of a version, or with a flag, that is not known here; else why
                  it could not be read at the start */
    uint32_t version; /* these two: -EPROTONOSUPPORT */
    uint64_t flags;
} PassedImage;

/* True where there was one at the start, and none that is listed was cut after it: it may hold what
 * nothing else does. */
bool catalog_passed_over(const Catalog *catalog, PassedImage *ret);
/* The newest complete one that holds the arena and whose index, in *ret_index, is below before
 * (catalog_count at first, then the index found: the one before it); NULL: none. */
Checkpoint *catalog_newest_of(const Catalog *catalog, const Identity *identity, size_t before,
                              size_t *ret_index);

/* A name for a checkpoint cut now that no file has. The time in it is raised by a second until it
 * is unused. */
void catalog_make_id(const Catalog *catalog, uint64_t revision, uint64_t now_usec,
                     char ret_id[HOLDFAST_IMAGE_ID_MAX + 1]);
/* Takes over a checkpoint that ended (by malloc; its arenas too; either may be freed at once when
 * it is dropped: look it up again). Drops failed ones but the last 16. A failed one without an id
 * sorts by its revision and time. */
void catalog_add(Catalog *catalog, Checkpoint *checkpoint);
/* The name of a file begins with the revision of a cut, as that of an image does. */
bool catalog_names_cut(const char *name);
/* Path of the image; into path. */
void catalog_path(const Catalog *catalog, const Checkpoint *checkpoint, char *path, size_t size);

/* Whether recovery would need it: it is the newest that holds some arena of live (identities of
 * existing arenas), or the newest of all. */
bool catalog_needed(const Catalog *catalog, const Checkpoint *checkpoint, const Identity *live,
                    size_t count);
/* Unlinks the image (in the housekeeper's thread), or nothing for a failed one, and forgets it.
 * Whether it is pinned or needed is the caller's to ask. */
void catalog_remove(Catalog *catalog, Checkpoint *checkpoint);
/* Renames to *.damaged and forgets it; logs where and why. */
void catalog_damaged(Catalog *catalog, Checkpoint *checkpoint, const char *where, const char *why);
/* Retention: the newest keep complete ones (at least 1) stay; an older one goes when every live
 * arena that it holds has a newer kept one that holds it too. Pinned ones stay. Returns how many
 * went. */
size_t catalog_retire(Catalog *catalog, unsigned keep, const Identity *live, size_t count);
/* The revision of the oldest cut that a kept image of the arena has; 0 where none holds it. For the
 * journal. */
uint64_t catalog_oldest_cut(const Catalog *catalog, const Identity *identity);
