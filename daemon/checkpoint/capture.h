/* The before-image ring: how an image stays the state of the cut though the daemon goes on writing.
 *
 * Parent (the only writer of arenas): before a page changes for the first time since the cut, its
 * barrier puts the page as it was into the ring. Child: drains the ring, scans the arenas page by
 * page. Ring and marks lie in memfds that both map; all else of the cut is frozen in the child's
 * private memory. See capture.c for the orders of the stores. */
#pragma once

#include "arena/arena.h"
#include "base/common.h"

typedef struct Capture Capture;
typedef struct CaptureMarks CaptureMarks;
typedef struct Housekeeper Housekeeper;

/* Arenas that one checkpoint can save. */
#define CAPTURE_ARENAS_MAX 65536

/* ring_bytes: CaptureBytesMax (the configuration wants 64 KiB or more; here one page and its slot
 * will do, else -EINVAL). Memory of the slots is taken as they are used, and kept. */
int capture_new(uint64_t ring_bytes, Capture **ret);
/* All marks must have been freed. NULL is fine. */
Capture *capture_free(Capture *capture);
/* Who unmaps the marks of dropped arenas, since that can take long; must outlive them. NULL, as at
 * first: at once. */
void capture_set_housekeeper(Capture *capture, Housekeeper *housekeeper);

/* The marks of one arena: for each page the epoch in which it was captured and the one in which it
 * was last changed. Sparse; room for capacity_pages. */
int capture_marks_new(Capture *capture, uint64_t capacity_pages, CaptureMarks **ret);
/* While armed too (the arena is dropped): the child has marks and arena in its own hands. NULL is
 * fine. */
CaptureMarks *capture_marks_free(CaptureMarks *marks);
/* Before the arena's maxBytes grows: room for more pages; while armed too. Less than there is room
 * for changes nothing. */
int capture_marks_resize(CaptureMarks *marks, uint64_t capacity_pages);
/* Whose pages they are; must be called before the first capture_arm. Marks go after the arena's
 * last change, which arena_drop is. */
void capture_marks_attach(CaptureMarks *marks, const Arena *arena);
/* The barrier to give to arena_set_barrier. */
ArenaBarrier capture_barrier(CaptureMarks *marks);

/* --- parent, around a checkpoint */

/* One arena of the cut. */
typedef struct CaptureCut {
    CaptureMarks *marks;
    uint64_t pages; /* high-water mark at the cut */
} CaptureCut;

/* Arms the capture of the given arenas: a new epoch for each, O(1) an arena. -EBUSY while armed, or
 * before capture_release; -E2BIG for more than CAPTURE_ARENAS_MAX arenas or 2^32 pages; -ENOMEM. */
int capture_arm(Capture *capture, const CaptureCut *cuts, size_t count);
/* Nothing is captured from now on. The ring is used again only after the child is gone:
 * capture_disarm comes at the child's end, or before (StallSec), capture_release when it was
 * reaped. */
void capture_disarm(Capture *capture);
void capture_release(Capture *capture);
bool capture_armed(const Capture *capture);

/* Set after a barrier said -EAGAIN, so that the child tells (through its pipe) when it freed slots:
 * a quarter of the ring, so that not every slot costs a wakeup. */
bool capture_wanted(const Capture *capture);
/* Slots freed by the child so far, since arm: to see whether it makes progress. */
uint64_t capture_slots_freed(const Capture *capture);
/* A free slot, or the scan being through: an update may be tried again. */
bool capture_has_room(const Capture *capture);
/* Before-images put into the ring since arm. */
uint64_t capture_pages_captured(const Capture *capture);

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
/* After pages [first, first + count) of the arena were copied: sets bit i of captured for each page
 * that may have changed before the copy was complete, whose before-image is or will be in the ring.
 */
void capture_child_check(Capture *capture, uint32_t arena, uint64_t first, uint32_t count,
                         uint64_t *captured);
/* Everything of this arena below page is saved; whoever sees it need not capture there. */
void capture_child_scanned(Capture *capture, uint32_t arena, uint64_t page);
/* The scan of all arenas is through: nothing more is captured. The ring must be drained once more
 * after it. */
void capture_child_scan_done(Capture *capture);
/* True where the parent wants to be told about freed slots, and there are a quarter of the ring or
 * more; clears the wish. */
bool capture_child_wanted(Capture *capture);
/* More than a quarter of the ring waits to be taken out. */
bool capture_child_crowded(const Capture *capture);
/* Before the child ends: gives the ring's mapping back, step by step, which the kernel would do in
 * one go of milliseconds. Nothing of the above may be called any more. */
void capture_child_leave(Capture *capture);
