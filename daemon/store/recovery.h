/* What start does: arenas that an earlier process left are adopted; for each other one the newest
 * image that holds it and checks out, then the journal behind it.
 *
 * Which arenas exist is told by the newest good image's table and the journal. A damaged image is
 * renamed and the one before it used; an I/O error or want of memory never marks one damaged. */
#pragma once

#include "checkpoint/catalog.h"
#include "journal/replay.h"
#include "store/adoption.h"
#include "store/store.h"

typedef enum RecoveryKind {
    RECOVERY_EMPTY,
    RECOVERY_IMAGE,
    RECOVERY_JOURNAL,
    RECOVERY_ADOPTED,
} RecoveryKind;

typedef struct RecoveryOptions {
    Store *store; /* empty; filled */
    Catalog *catalog;
    ArenaContext context;
    Adoption *adoption; /* what an earlier process left; NULL: nothing */
    int images_directory_fd;
    int journal_directory_fd;
    bool cut; /* --recover=cut */
    /* Called now and then; phase: "images" or "journal". May be NULL. */
    void (*progress)(void *context, const char *phase, uint64_t done, uint64_t total);
    void *progress_context;
} RecoveryOptions;

typedef struct Recovery {
    RecoveryKind kind;
    JournalPosition position; /* for journal_open; recovery_deinit frees it */
    uint64_t base_revision;   /* revisions go on from here */
    uint64_t records;         /* applied */
    size_t adopted;           /* arenas */
    /* After a failure: what is to be told, whole sentences. */
    char message[768];
} Recovery;

/* 0, -EBADMSG where state is damaged or missing (exit 65), -EPROTONOSUPPORT where it was written by
 * an unknown version (exit 65), other negative errnos for what could not be read (exit 74) or had
 * no memory. recovery->message is filled then. */
int recovery_run(const RecoveryOptions *options, Recovery *recovery);
void recovery_deinit(Recovery *recovery);
