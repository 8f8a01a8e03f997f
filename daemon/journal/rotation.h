/* Which segment is written to, the next one that is made ready ahead, and the ones left behind. The
 * slow part (making, filling, removing) is the housekeeper's; all functions belong to the loop's
 * thread and none waits. */
#pragma once

#include <stdatomic.h>

#include "base/common.h"
#include "base/housekeeper.h"
#include "journal/replay.h"
#include "journal/segment.h"

/* How long to wait before what failed (want of room, mostly) is tried again. */
#define ROTATION_RETRY_USEC (500 * USEC_PER_MSEC)

/* A segment that can be written to. */
typedef struct OpenSegment {
    int fd; /* -1: none */
    uint64_t sequence;
    uint64_t salt;
    uint64_t offset; /* where the next batch goes */
    uint64_t behind; /* up to here writing to the disk was begun */
    uint64_t filled; /* up to here there are zeros (or old contents) to write over */
} OpenSegment;

typedef struct MakeTask {
    HousekeeperTask task;
    SegmentSpec spec;
    bool under_way;
    int result;
    int fd;
    uint64_t filled;
} MakeTask;

typedef enum FillState {
    FILL_IDLE,
    FILL_QUEUED,
    FILL_CANCELLED, /* queued, and the segment has become current */
    FILL_RUNNING,   /* zeros are being written: it cannot become current */
    FILL_FILLED,    /* the zeros are there; they are being written to the disk */
} FillState;

/* Fills the ready segment further. Has a file description of its own: an error that the kernel
 * reports to it must still be reported to the sync thread. */
typedef struct FillTask {
    HousekeeperTask task;
    _Atomic int state;
    int directory_fd;
    uint64_t sequence;
    uint64_t from;
    uint64_t to;
    int result;
} FillTask;

typedef struct Rotation {
    int directory_fd;
    Housekeeper *housekeeper;
    Lineage lineage;
    uint64_t segment_bytes_max;
    bool ahead;             /* segments are filled with zeros ahead of the batches */
    uint64_t next_sequence; /* of the segment made next */
    OpenSegment current;
    OpenSegment ready;
    MakeTask make;
    uint64_t make_retry;
    FillTask fill;
    uint64_t fill_retry;
    ReplaySegment *left; /* in order, oldest first */
    size_t left_count;
    size_t left_room;
    uint64_t condemned; /* files of segments up to this one are not used again: a sync had failed */
} Rotation;

/* next_sequence: for the first segment made. left: taken over (by malloc). */
void rotation_init(Rotation *rotation, int directory_fd, Housekeeper *housekeeper,
                   const Lineage *lineage, uint64_t segment_bytes_max, uint64_t next_sequence,
                   ReplaySegment *left, size_t left_count);
/* Waits for the housekeeper. */
void rotation_deinit(Rotation *rotation);

/* Makes the first segment itself, with a first batch in it that is sealed with this salt. Slow;
 * before the loop. */
int rotation_begin(Rotation *rotation, uint64_t salt, const void *first, size_t first_bytes);
/* Submits what is due: a segment to be made ready, the ready one to be filled further. now:
 * CLOCK_MONOTONIC. */
void rotation_turn(Rotation *rotation, uint64_t now);
/* When rotation_turn wants to be called next; UINT64_MAX: never. */
uint64_t rotation_deadline(const Rotation *rotation);

static inline bool rotation_filling(const Rotation *rotation)
{
    return atomic_load(&rotation->fill.state) == FILL_RUNNING;
}

/* Whether rotation_next can be expected to succeed. */
static inline bool rotation_has_ready(const Rotation *rotation)
{
    return rotation->ready.fd >= 0 && !rotation_filling(rotation);
}

/* True while there is hope for a ready segment soon: one is being made, or filled. */
static inline bool rotation_making(const Rotation *rotation)
{
    return rotation->make.under_way || rotation_filling(rotation);
}

/* The next segment is to be changed to before bytes more are written, if it is ready. */
bool rotation_full(const Rotation *rotation, uint64_t bytes);
/* Goes on in the ready segment (there must be one); the current one, if any, is left behind with
 * last_revision as its last. Its descriptor is now the caller's, in ret_fd. -EAGAIN (it is just
 * being filled), -ENOMEM: nothing changed. */
int rotation_next(Rotation *rotation, uint64_t last_revision, int *ret_fd);

/* Submits the removal of segments whose records are all up to revision and which come before the
 * segment before. */
void rotation_retire(Rotation *rotation, uint64_t revision, uint64_t before);
/* Bytes of the segments that hold records above revision. */
uint64_t rotation_bytes_behind(const Rotation *rotation, uint64_t revision);

/* A random number for a salt. */
int rotation_salt(uint64_t *ret);
