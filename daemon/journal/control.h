/* The control memfd ("holdfast-control"): what a process that adopts this one's arenas must know,
 * and where batches are gathered. It is in shared memory so that it outlives a SIGKILL: an arena is
 * never ahead of what can be written out.
 *
 * Page 0 is the ControlHeader, then come two halves for batches: one is filling while the other is
 * written and synced. Halves are used from their beginning each time, so that few pages are ever
 * touched. Behind them is the table of the arenas that exist: with it an adopting process knows
 * that it has them all, and need not read the journal. */
#pragma once

#include "arena/arena.h"
#include "base/common.h"
#include "journal/batch.h"
#include "journal/record.h"
#include "journal/segment.h"

#define CONTROL_MAGIC "HFCONTR" /* 8 bytes with its NUL */
#define CONTROL_VERSION 1
#define CONTROL_NAME "holdfast-control"
/* Rows of the table of arenas. */
#define CONTROL_ARENAS_MAX 65536u
/* One half: the largest record and what goes around it. */
#define CONTROL_HALF_BYTES (RECORD_BYTES_MAX + MIB)

typedef enum ControlHalfState {
    CONTROL_EMPTY,   /* nothing that anybody needs */
    CONTROL_FILLING, /* records up to used are whole, not sealed */
    CONTROL_SEALED,  /* a sealed batch; belongs at segment, offset; may be written there in part, or
                        altogether */
} ControlHalfState;

typedef struct ControlHalf {
    uint32_t state;
    uint32_t reserved;
    uint64_t used;    /* bytes, batch header included, padding not */
    uint64_t segment; /* sealed: where it belongs */
    uint64_t offset;
} ControlHalf;

typedef struct ControlPosition {
    JournalMark written; /* where the next batch goes, and the last revision before it */
    JournalMark left;    /* where the segment before that one ended */
    JournalMark durable;
    uint64_t chain; /* of the batch before written; 0: none in this segment */
    uint64_t last;  /* offset of that batch */
    uint64_t salt;  /* of the segment of written; 0: not known */
} ControlPosition;

typedef struct ControlHeader {
    char magic[8];
    uint32_t version;
    uint32_t reserved;
    uint64_t half_bytes;
    Lineage lineage;
    uint32_t adoptions;  /* without a minute of service between them; counted by whoever adopts */
    uint32_t clean_stop; /* the last process stopped as it should */
    uint32_t condemned;  /* the sync of the segment written to had failed */
    uint32_t current;    /* which of the positions holds: the other one is being made */
    ControlPosition position[2];
    ControlHalf half[2];
    uint32_t arenas;      /* rows of the table in use; empty ones between them are zero */
    uint32_t arenas_lost; /* there were more than rows, or the table is being made */
} ControlHeader;
static_assert(sizeof(ControlHeader) <= 4096, "page 0");

typedef struct Control {
    int fd;
    uint64_t size;
    ControlHeader *header; /* mapped shared, MADV_DONTFORK, MADV_DONTDUMP */
} Control;

/* A fresh one for the lineage. */
int control_new(const Lineage *lineage, Control **ret);
/* Takes over what an earlier process left. Everything in it is checked: ours (file_check_memfd),
 * magic, version, sizes, states, offsets. -EBADMSG where it is none of ours, -EPROTONOSUPPORT for
 * another version. The lineage is compared by control_write_out and journal_open. Owns fd on
 * success only. */
int control_adopt(int fd, Control **ret);
/* Unmaps and closes. NULL is fine. */
Control *control_free(Control *control);

static inline uint8_t *control_half(Control *control, unsigned half)
{
    return (uint8_t *)control->header + 4096 + half * control->header->half_bytes;
}

/* Where the journal is. */
static inline const ControlPosition *control_position(const Control *control)
{
    return &control->header->position[control->header->current & 1];
}

/* Replaces the position in one store, so that no process ever finds half of one. */
void control_set_position(Control *control, const ControlPosition *position);

/* What a batch that is written next says of its place: for batch_seal. */
BatchHeader control_next_batch(const ControlPosition *position);

/* How many bytes of records the half that is filling holds, or that it is something else now. A
 * record or a place that was stored before is there for whoever finds this. */
void control_set_used(Control *control, unsigned half, uint64_t used);
void control_set_state(Control *control, unsigned half, ControlHalfState state);

/* The table of arenas. The order that makes it good after a SIGKILL: an arena is in it before the
 * record of its creation is in a half, and until its header says that it was dropped. */
void control_add_arena(Control *control, const Identity *identity);
void control_remove_arena(Control *control, const Identity *identity);
void control_clear_arenas(Control *control);
/* The table is as it should be again. */
void control_arenas_complete(Control *control);
/* Row by row: index < control->header->arenas; false: an empty row. */
bool control_arena(const Control *control, uint32_t index, Identity *ret);

/* Writes what the halves hold to its place in the journal, before journal_replay reads it; writing
 * it again does no harm. -ESTALE: another lineage, nothing was written. -ENOENT: the segment is not
 * there. Not synced (journal_open does). */
int control_write_out(Control *control, int journal_directory_fd, const Lineage *lineage);
