/* The journal: every update is a record here before it is in an arena and before it is answered.
 *
 * A turn of the loop:
 *
 *   for each update    journal_writer, record_begin ... record_end, journal_append_end
 *   once, at its end   journal_commit; replies up to journal_replied_revision leave
 *
 * and when journal_fd rings: journal_reap, after which more replies may leave, and a commit
 * follows.
 *
 * Nothing here waits for the disk: batches are written to the page cache in one pwrite, synced by a
 * thread of its own; segments are made ahead by the housekeeper. All functions belong to the loop's
 * thread. */
#pragma once

#include "base/histogram.h"
#include "base/housekeeper.h"
#include "journal/control.h"
#include "journal/record.h"
#include "journal/replay.h"
#include "journal/sync.h"

typedef struct Journal Journal;

/* When a written batch is made durable (Sync= of the configuration; the same order as its enum). */
typedef enum JournalPolicy {
    JOURNAL_ALWAYS,   /* each batch, before its updates are answered */
    JOURNAL_INTERVAL, /* at most sync_interval_usec after it was written */
    JOURNAL_NEVER,    /* where a checkpoint or a change of segments asks for it */
} JournalPolicy;

typedef enum JournalState {
    JOURNAL_OK,
    /* The batch could not be written: it stays and goes to a fresh segment as soon as one can be
     * made. The writer is closed (-ENOSPC): updates wait. Heals by itself. */
    JOURNAL_NO_ROOM,
    /* A sync failed: what was written since the last good one may never reach the disk, whatever
     * later syncs say. The writer is closed; updates are to be refused until a checkpoint is
     * durable and journal_heal was called. */
    JOURNAL_CONDEMNED,
} JournalState;

typedef struct JournalOptions {
    int directory_fd; /* journal/; stays the caller's and stays open */
    JournalPolicy policy;
    uint64_t sync_interval_usec;
    uint64_t segment_bytes_max; /* soft: the batch that passes it is its last */
    /* Where revisions are counted from: the first record has a higher one. At least the position's.
     * Durable once journal_open returned, so that no number is given twice however often this
     * process dies. */
    uint64_t base_revision;
    Housekeeper *housekeeper;
    const SyncOperations *sync_operations; /* NULL: fdatasync(2) */
    /* The state changed; error: the errno that did it (0 when it is OK again). May be NULL. Called
     * from journal_open, journal_commit, journal_reap. */
    void (*changed)(void *context, JournalState state, int error);
    void *context;
} JournalOptions;

/* Goes on where replay ended, in a fresh segment that names that place; segments behind it are
 * removed, what was replayed is synced. Slow; for the start. control: stays the caller's, who frees
 * it after the journal; its halves are emptied (control_write_out and replay come before). -ESTALE:
 * it is of another lineage. The state may be JOURNAL_CONDEMNED from the beginning. */
int journal_open(const JournalOptions *options, Control *control, const JournalPosition *position,
                 Journal **ret);
/* Writes and syncs what is there, waiting for it, and frees the journal, in any case. clean: leaves
 * the note that this stop was clean. An error means that not everything is durable. NULL is fine.
 */
int journal_close(Journal *journal, bool clean);

/* For a reload; all take effect from the next batch on. */
void journal_set_policy(Journal *journal, JournalPolicy policy, uint64_t sync_interval_usec,
                        uint64_t segment_bytes_max);

/* --- updates */

/* Where the next record goes. Good until the next call of another function here. */
RecordWriter *journal_writer(Journal *journal);
/* After record_end: the record is in the batch (and would survive this process where the control
 * memfd is kept). From here on it cannot be taken back. */
void journal_append_end(Journal *journal);
/* Keeps the control memfd's table of arenas. Created: before journal_append_end of the record that
 * says so. Dropped: after the arena's header says so. */
void journal_arena_created(Journal *journal, const Identity *identity);
void journal_arena_dropped(Journal *journal, const Identity *identity);
/* True where a record of that many bytes can be appended now. What waited after -ENOSPC asks this
 * after each commit. */
bool journal_has_room(const Journal *journal, size_t bytes);

/* At the end of a turn: writes the batch, unless one is being synced (policy always: that is when
 * it gathers), starts syncs and upkeep that are due. Cheap when there is nothing to do. */
void journal_commit(Journal *journal);
/* When journal_commit wants to be called next if nothing else happens (CLOCK_MONOTONIC,
 * microseconds); UINT64_MAX: never. */
uint64_t journal_deadline(const Journal *journal);

/* Rings with each result of the sync thread: see sync_fd. */
int journal_fd(const Journal *journal);
/* Takes the results. */
void journal_reap(Journal *journal);

/* Of the last record appended; base_revision before the first. */
uint64_t journal_revision(const Journal *journal);
/* Updates up to this one may be answered: durable under JOURNAL_ALWAYS, written else. */
uint64_t journal_replied_revision(const Journal *journal);
/* Known to be on stable storage. */
uint64_t journal_durable_revision(const Journal *journal);

JournalState journal_state(const Journal *journal);
/* The errno behind a state that is not OK; 0 else. Stays until it is OK again. */
int journal_error(const Journal *journal);
/* Updates in (journal_durable_revision, this] did not become durable, though they are applied:
 * NotDurable. 0: none. Known once the state is JOURNAL_CONDEMNED, and kept until the next
 * journal_heal takes effect. */
uint64_t journal_failed_revision(const Journal *journal);
/* True where an image cut at revision may be published: all before it is durable, or the journal
 * has begun anew behind it (while condemned, it does so by itself, in a fresh segment), so that
 * whatever becomes of the image the journal fits. */
bool journal_covers(const Journal *journal, uint64_t revision);
/* A checkpoint of all arenas cut at revision (at least journal_failed_revision) was published: the
 * state is OK again. -EAGAIN: not journal_covers. Nothing to do when not condemned: 0. */
int journal_heal(Journal *journal, uint64_t revision);

/* What was measured since the start; times in microseconds. */
typedef struct JournalStatistics {
    Histogram write; /* of a batch, into the page cache */
    Histogram sync;  /* fdatasync, those that succeeded */
    uint64_t written_bytes;
} JournalStatistics;
const JournalStatistics *journal_statistics(const Journal *journal);

/* --- segments */

/* Nothing is unwritten and a next segment stands ready (or cannot be had): the moment for a cut.
 * Right after journal_commit there is such a moment in every round of syncing. */
bool journal_cut_ready(const Journal *journal);
/* At a cut: goes on in the next segment; false where none is ready: then the current one goes on.
 * The one left is synced, whatever the policy (journal_durable_revision tells when). */
bool journal_switch(Journal *journal);
/* Has all that is written synced, whatever the policy. */
void journal_sync(Journal *journal);
/* Segments that hold nothing above revision go, in the housekeeper's thread. */
void journal_retire(Journal *journal, uint64_t revision);
/* Bytes of the segments that hold records above revision. */
uint64_t journal_bytes_behind(const Journal *journal, uint64_t revision);
/* Segments there are, the ready one not counted. */
size_t journal_segments(const Journal *journal);
