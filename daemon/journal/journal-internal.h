/* What journal.c (appending, committing), durability.c (syncs, their failure, healing) and
 * journal-open.c (the beginning and the end) share; nobody else includes it. */
#pragma once

#include "journal/batch.h"
#include "journal/journal.h"
#include "journal/rotation.h"

/* Of the page cache. */
#define JOURNAL_PAGE_BYTES 4096u

/* What a request to the sync thread was for. */
typedef struct SyncNote {
    int fd;
    uint64_t salt;
    JournalMark mark; /* durable when it succeeded */
    bool restart;     /* the beginning anew behind a condemned segment */
    bool behind;      /* nothing is durable by it; but it can fail */
    bool close_fd;    /* the segment was left: nobody else has its descriptor */
} SyncNote;

struct Journal {
    JournalOptions options;
    Control *control;
    Rotation rotation;
    Sync *sync;

    RecordWriter writer; /* over the half that is filling; capacity 0: closed */
    unsigned filling;
    uint64_t revision; /* of the last record appended */

    ControlPosition position; /* as in the control memfd */
    JournalMark submitted;    /* handed to the sync thread up to here */
    JournalMark sealed;       /* end of the batch in the half that is not filling */
    SyncNote notes[SYNC_QUEUE_MAX];
    unsigned notes_begin; /* index of the oldest, counted modulo */
    unsigned notes_end;
    bool want_sync;             /* whatever the policy */
    uint64_t interval_deadline; /* UINT64_MAX: nothing waits for it */
    bool unmarked;              /* the durable mark is newer than the mark sector */
    uint64_t mark_deadline;     /* when the sector gets it; UINT64_MAX: not known yet */

    JournalStatistics statistics;

    JournalState state;
    int error;
    uint64_t room_retry; /* without room: not before */
    uint64_t failed_revision;
    bool restart_pending; /* the fresh segment is being synced */
    bool restart_durable; /* it is: the journal goes on there once it is healed */
    bool restart_failed;  /* the current segment was to be the fresh one */
    uint64_t restart_retry;
};

/* --- journal.c */

void journal_change(Journal *journal, JournalState state, int error);
void journal_open_writer(Journal *journal);
void journal_close_writer(Journal *journal);
static inline bool journal_gathered(const Journal *journal)
{
    return journal->writer.used > sizeof(BatchHeader);
}
/* The current segment holds no batch yet. */
static inline bool journal_fresh(const Journal *journal)
{
    return journal->rotation.current.fd >= 0 &&
           journal->rotation.current.offset == SEGMENT_BATCHES_OFFSET;
}
static inline bool journal_unsynced(const Journal *journal)
{
    return journal_mark_compare(&journal->position.written, &journal->submitted) > 0;
}
/* Changes to the ready segment: -EAGAIN where there is none or too many syncs are under way,
 * -ENOMEM. */
int journal_next_segment(Journal *journal);
/* The same without having the one that is left synced. */
int journal_leave_segment(Journal *journal);
/* Writes a batch without records to the current segment, not through the control memfd. */
int journal_write_empty(Journal *journal, uint32_t flags);
/* The batch lies in the file: moves the place on. */
void journal_advance(Journal *journal, const BatchHeader *batch);

/* --- durability.c */

/* Hands what is written to the sync thread; false: nothing to do, or the queue is full (then
 * want_sync is set). */
bool journal_submit(Journal *journal);
/* Without a policy that syncs each batch: has what was written sent to the disk, so that the sync
 * that comes at last has no burst of pages to write, which takes processors from everybody. */
void journal_write_behind(Journal *journal);
/* The descriptor of a segment that was left: closed now, or when its syncs are done. */
void journal_release(Journal *journal, int fd);
void journal_condemn(Journal *journal, int fd, uint64_t salt, int error);
/* While condemned: begins anew in a fresh segment as soon as there is one. */
void journal_restart_turn(Journal *journal, uint64_t now);
/* Writes the durable mark to its sector. */
void journal_write_mark(Journal *journal);
/* The same where it is due. Before anything else is written in a turn. */
void journal_mark_turn(Journal *journal, uint64_t now);
