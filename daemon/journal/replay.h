/* Reading the journal back: what recovery uses.
 *
 * Segments are read in their order, batch by batch, record by record, until something does not
 * check out. The durable mark (the highest that any segment or batch holds) decides what that
 * means: behind the mark it is the end of the log, since nobody was promised what follows; before
 * it, it is damage. Nothing that is read is trusted. */
#pragma once

#include "base/common.h"
#include "journal/record.h"
#include "journal/segment.h"

/* What replay says of a segment; for retiring. */
typedef struct ReplaySegment {
    uint64_t sequence;
    uint64_t last_revision;
    uint64_t bytes;
} ReplaySegment;

/* Where and why the journal is damaged. */
typedef struct ReplayDamage {
    char file[SEGMENT_NAME_MAX]; /* name in the journal directory; a missing one too */
    uint64_t offset;
    uint64_t last_revision; /* the last good one */
    char reason[160];
} ReplayDamage;

typedef struct ReplayOptions {
    /* Every arena comes from an image that was cut at this revision or later: records up to it are
     * not needed and may be missing. 0: all are needed. */
    uint64_t from_revision;
    /* The highest revision that an image or its name proves: a journal that ends before is damaged.
     */
    uint64_t required_revision;
    /* --recover=cut: damage ends the log. What is cut off is kept beside it as *.damaged. */
    bool cut;
    /* Called for each record with a revision above from_revision, in order. Whether it is news for
     * its arena is for the callee to tell. A negative value ends the replay with it. The record is
     * good until it returns. */
    int (*record)(void *context, Record *record);
    /* Now and then, at least once in 16 MiB; may be NULL. */
    void (*progress)(void *context, uint64_t bytes_done, uint64_t bytes_total, uint64_t records);
    void *context;
} ReplayOptions;

/* What was found; for journal_open. */
typedef struct JournalPosition {
    Lineage lineage;  /* random where there was no journal */
    uint64_t segment; /* sequence of the last segment that holds a batch; 0: there is none */
    uint64_t end;     /* where its records end; what follows is cut off */
    /* The last one that counts; required_revision where there is no journal. */
    uint64_t revision;
    uint64_t highest; /* the highest that anything proves to have been given, cut off or not: to
                         count from */
    JournalMark durable;
    bool clean;     /* the last stop was clean */
    bool condemned; /* a sync had failed and nothing healed it: read-only until a checkpoint */
    /* Something behind the mark was cut off: worth a notice. */
    bool cut_off;
    uint64_t cut_off_bytes;  /* up to the last byte that is not zero, at most */
    uint64_t unused_damaged; /* sequence of a segment that was made ready, never used, and is
                                damaged; journal_open puts it aside; 0: there is none */
    uint64_t records;        /* read in all */
    ReplaySegment *segments; /* by malloc, in order */
    size_t segment_count;
} JournalPosition;

/* Reads the journal. directory_fd: journal/, stays the caller's.
 * 0: *ret is filled. -EBADMSG: damage, *damage is filled. -EPROTONOSUPPORT: of another version,
 * named in *damage. Other negative values: could not read (EIO, ENOMEM, ...), which proves nothing,
 * or what the callback returned. */
int journal_replay(int directory_fd, const ReplayOptions *options, JournalPosition *ret,
                   ReplayDamage *damage);
void journal_position_deinit(JournalPosition *position);
