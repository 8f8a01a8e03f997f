/* What recovery's files share. Private to this folder. */
#pragma once

#include "store/adoption.h"
#include "store/recovery.h"

/* Revisions are integers of JSON, with 64 bits signed; this leaves room to count on. */
#define RECOVERY_REVISION_MAX (UINT64_C(1) << 62)

/* Where an arena came from: records up to this revision are in it already. */
typedef struct Origin {
    Identity identity;
    uint64_t revision;
} Origin;

typedef struct Run {
    const RecoveryOptions *options;
    Recovery *recovery;
    Adoption *adoption; /* NULL: nothing is adopted */
    bool cut;           /* --recover=cut, where nothing is adopted */
    Origin *origins;
    size_t adopted; /* the first so many: theirs is everything that is in the journal */
    size_t origin_count;
    size_t origin_capacity;
    Identity *wanted; /* in the table, but in no image: the journal must have them from their
                         creation on */
    size_t wanted_count;
    uint64_t from_revision;   /* up to here no record is needed */
    uint64_t table_revision;  /* cut of the image whose table was used; 0: there is none */
    uint64_t proven_revision; /* the highest that an image's name proves */
    size_t last; /* origin of the last record, where the next one is looked for first */
    StoreArena *last_arena;
} Run;

/* "Records behind this revision are news for it": an arena that is known. */
int recovery_add_origin(Run *run, const Identity *identity, uint64_t revision);
/* NULL: not known. Good until the next recovery_add_origin. */
Origin *recovery_find_origin(Run *run, const Identity *identity);
/* Arenas and origins go, but for the adopted ones. */
void recovery_forget(Run *run);

/* --- recovery-images.c */

/* Arenas out of images, but for those that have an origin already. */
int recovery_restore_images(Run *run);
/* Where what is left is not whole (error) and the newest image could not be read: that is why.
 * Returns the image's error, and tells of it; else error. */
int recovery_blame_unreadable(Run *run, int error);
/* The highest revision that an image's name proves, damaged ones included. 0 or a negative errno: a
 * directory that cannot be read proves nothing, and nothing may be made of that. */
int recovery_proven_revision(int images_directory_fd, uint64_t *ret);

/* --- adoption.c */

/* Takes over what is at rest; gives it origins. Not in the store's table yet: an arena that was
 * dropped may have had the same name. */
int adoption_take(Adoption *adoption, Run *run);
/* True where the journal has nothing that is not in what was taken. */
bool adoption_complete(const Adoption *adoption);
/* What was taken goes into the store's table. */
int adoption_insert(Adoption *adoption, Store *store);
/* Nothing is taken after all. */
void adoption_give_up(Adoption *adoption);
