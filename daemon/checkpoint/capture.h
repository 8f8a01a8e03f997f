/* The before-image ring: how an image stays the state of the cut though the daemon goes on writing.
 *
 * Parent (the only writer of arenas): before a page changes for the first time since the cut, its barrier puts the page
 * as it was into the ring. Child: drains the ring, scans the arenas page by page. Ring and marks lie in memfds that both
 * map; all else of the cut is frozen in the child's private memory. See capture.c for the orders of the stores. */
#pragma once

#include "arena/arena.h"
#include "base/common.h"

typedef struct Capture Capture;
typedef struct CaptureMarks CaptureMarks;

/* ring_bytes: CaptureBytesMax, at least 64 KiB; slots are allocated (populated) lazily and reused. */
int capture_new(uint64_t ring_bytes, Capture **ret);
Capture *capture_free(Capture *capture);

/* The marks of one arena: for each page the epoch in which it was captured and the one in which it was last changed.
 * Sparse; room for capacity_pages. */
int capture_marks_new(Capture *capture, uint64_t capacity_pages, CaptureMarks **ret);
CaptureMarks *capture_marks_free(CaptureMarks *marks);
/* After the arena's maxBytes changed; never while armed: -EBUSY. */
int capture_marks_resize(CaptureMarks *marks, uint64_t capacity_pages);
/* The barrier to give to arena_set_barrier. */
ArenaBarrier capture_barrier(CaptureMarks *marks);

/* --- parent, around a checkpoint */

/* One arena of the cut. */
typedef struct CaptureCut {
    CaptureMarks *marks;
    uint64_t pages; /* high-water mark at the cut */
} CaptureCut;

/* Arms the capture of the given arenas: a new epoch for each, O(1) an arena. Not while armed. */
int capture_arm(Capture *capture, const CaptureCut *cuts, size_t count);
/* Nothing is captured from now on. The ring is used again only after the child is gone: capture_disarm comes at the
 * child's end, or before (StallSec), capture_release when it was reaped. */
void capture_disarm(Capture *capture);
void capture_release(Capture *capture);
bool capture_armed(const Capture *capture);

/* Set after a barrier said -EAGAIN, so that the child tells (through its pipe) when it freed slots. */
bool capture_wanted(const Capture *capture);
/* Slots freed by the child so far, since arm: to see whether it makes progress. */
uint64_t capture_slots_freed(const Capture *capture);
/* A free slot, or the scan being through: an update may be tried again. */
bool capture_has_room(const Capture *capture);
/* How the pages were saved, so far. */
uint64_t capture_pages_captured(const Capture *capture);

/* Memory of the ring and the marks in bytes, for the status. */
uint64_t capture_memory_bytes(const Capture *capture);

/* --- child (checkpoint/writer.c); arenas are named by their index in cuts */

/* A captured page. data is good until capture_child_release. */
typedef struct CapturedPage {
    uint32_t arena;
    uint32_t page;
    const void *data;
} CapturedPage;

/* The oldest page in the ring, of this epoch. False: the ring is empty. */
bool capture_child_next(Capture *capture, CapturedPage *ret);
/* Frees the slot of the last capture_child_next. */
void capture_child_release(Capture *capture);
/* After pages [first, first + count) of the arena were copied: sets bit i of captured for each page that may have
 * changed before the copy was complete, whose before-image is or will be in the ring. */
void capture_child_check(Capture *capture, uint32_t arena, uint64_t first, uint32_t count, uint64_t *captured);
/* Everything of this arena below page is saved; whoever sees it need not capture there. */
void capture_child_scanned(Capture *capture, uint32_t arena, uint64_t page);
/* The scan of all arenas is through: nothing more is captured. The ring must be drained once more after it. */
void capture_child_scan_done(Capture *capture);
/* True where the parent wants to be told about freed slots; clears the wish. */
bool capture_child_wanted(Capture *capture);
