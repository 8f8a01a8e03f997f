/* The capture protocol: how a child saves the pages as they were at the cut while the parent goes on
 * changing them. The steps have the names that they have in daemon/checkpoint/capture.c (P1 to P5, the
 * parent) and daemon/checkpoint/sweep.c (C1 to C5, the child).
 *
 * Claims: an image that is completed equals the memory at the cut (an assertion in Child), whatever
 * came between: an update over several pages that finds the ring full and is undone, a child that is
 * killed and followed by another, the death of either side at any moment (to die is never to be
 * scheduled again, and SPIN tries that at each step; that the parent sees a child's death is modelled).
 * And nobody waits for ever: the only waiting is for room in the ring, and SPIN reports an end in which
 * somebody still does.
 *
 * A page is two halves, so that a torn copy can be seen. The contents of a half are a number: that of
 * the update that wrote it. SPIN assumes sequential consistency: this is the protocol, not the
 * fences; the comment in capture.c derives those.
 *
 * Sizes: PAGES, SLOTS of the ring, RUN pages a run of the scan, UPDATES, CUTS. Broken on purpose, each must be
 * refuted: MARK_AFTER_CHANGE, NO_LAST_DRAIN, NO_CHECK_AFTER_COPY, POSITION_BEFORE_COPY,
 * RING_NEVER_FULL, ARM_BEFORE_REAPED. WITNESS claims that what the model is about never happens, and
 * must be refuted too. */

#ifndef PAGES
#define PAGES 2
#endif
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef RUN
#define RUN 1
#endif
#ifndef UPDATES
#define UPDATES 3
#endif
#ifndef CUTS
#define CUTS 2
#endif

mtype = { NONE, RUNNING, COMPLETE, DEAD };

/* The arena, and what it was at the cut. */
byte low[PAGES], high[PAGES];
byte cut[PAGES];

/* CaptureMark, CaptureSlot and CaptureControl. */
byte captured[PAGES], changed[PAGES];
byte slot_page[SLOTS], slot_epoch[SLOTS], slot_low[SLOTS], slot_high[SLOTS];
byte head, tail, position;
bool scan_done;

/* The parent's. */
byte epoch;
bool armed;
mtype child = NONE;

bool kill_child;

/* For WITNESS: an image was completed with pages that came through the ring and pages that came both
 * ways, after a child had been killed, and an update had been parked. */
#ifdef WITNESS
bool came_captured, came_twice, was_killed, was_parked;
#define SEEN(what) what = true
#else
#define SEEN(what) skip
#endif

#define IN_RING (head - tail)
/* capture_has_room */
#define HAS_ROOM (!armed || IN_RING < SLOTS || scan_done)

/* --- parent: capture_page, marks_change and the update around them */

byte old_low[PAGES], old_high[PAGES]; /* the undo log */
byte update_number;

/* marks_change for one page; no_room: the answer is -EAGAIN. */
inline barrier(page, no_room)
{
    no_room = false;
    if
    :: changed[page] == epoch -> skip
    :: else ->
        if
        :: armed && page >= position -> /* must_capture; loads the scan position */
#ifndef RING_NEVER_FULL
            if
            :: IN_RING >= SLOTS -> no_room = true /* ring_is_full */
            :: else ->
#endif
                /* The parent alone writes pages, so copying one is one step. */
                d_step { /* P1 */
                    slot_page[head % SLOTS] = page;
                    slot_epoch[head % SLOTS] = epoch;
                    slot_low[head % SLOTS] = low[page];
                    slot_high[head % SLOTS] = high[page]
                }
                head++; /* P2 */
#ifndef MARK_AFTER_CHANGE
                captured[page] = epoch /* P3, P4 */
#endif
#ifndef RING_NEVER_FULL
            fi
#endif
        :: else -> skip
        fi;
        if
        :: no_room -> skip
        :: else -> changed[page] = epoch /* the parent alone looks at it */
        fi
    fi
}

/* P5, and the undo log's note of what was there. */
inline change(page)
{
    d_step { old_low[page] = low[page]; old_high[page] = high[page]; low[page] = update_number }
    high[page] = update_number;
#ifdef MARK_AFTER_CHANGE
    captured[page] = epoch
#endif
}

/* job_cancel and the stall timer: capture_disarm before the signal. Else somebody else has killed it. */
inline child_ends()
{
    if
    :: armed = false
    :: skip
    fi;
    kill_child = true
}

/* An update of the pages first to last - 1, in any state of the ring: whole, or undone and parked. */
inline update(first, last)
{
    update_number++;
    parked = true;
    do
    :: parked ->
        parked = false;
        page = first;
        do
        :: page < last && !parked ->
            barrier(page, parked);
            if
            :: parked -> skip
            :: else -> change(page); page++
            fi
        :: else -> break
        od;
        if
        :: parked ->
            /* arena_abort: the old bytes again, the last page first. */
            do
            :: page > first ->
                page--;
                high[page] = old_high[page];
                low[page] = old_low[page]
            :: else -> break
            od;
            SEEN(was_parked);
            if
            :: HAS_ROOM || child != RUNNING -> skip /* the next turn of the loop, or job_child_over */
            :: child == RUNNING && armed && child_may_die -> child_ends()
            fi;
            /* Reaped while parked: what is armed is disarmed. */
            if
            :: child == DEAD -> armed = false
            :: else -> skip
            fi
        :: else -> skip
        fi
    :: else -> break
    od;
    skip; /* SPIN lets nobody jump into a d_step */
    d_step { /* nothing is left that tells one update from another */
        page = 0;
        do
        :: page < PAGES -> old_low[page] = 0; old_high[page] = 0; page++
        :: else -> break
        od;
        page = 0
    }
}

/* capture_arm, and the fork: the cut. */
inline arm()
{
    d_step {
        epoch++;
        head = 0; tail = 0; position = 0;
        scan_done = false;
        armed = true;
        kill_child = false;
        page = 0;
        do
        :: page < PAGES -> cut[page] = low[page]; page++
        :: else -> break
        od;
        page = 0;
        child = RUNNING
    }
    run Child(epoch)
}

active proctype Parent()
{
    byte page, cuts;
    bool parked, child_may_die;

    /* Where it does not, the child alone lets a parked update go on. */
    if
    :: child_may_die = true
    :: child_may_die = false
    fi;
    do
    :: cuts < CUTS && child == NONE -> cuts++; arm()
    :: update_number < UPDATES ->
        if
        :: update(0, 1)
        :: update(PAGES - 1, PAGES)
        :: update(0, PAGES)
        fi
    :: child == RUNNING && armed && child_may_die -> child_ends()
    /* reaped: capture_release. What a killed child completed is thrown away. */
    :: child == COMPLETE || child == DEAD -> armed = false; child = NONE
#ifdef ARM_BEFORE_REAPED
    :: child == RUNNING && !armed -> child = NONE
#endif
    :: cuts == CUTS && child == NONE && update_number == UPDATES -> break
    od
}

/* --- child: sweep_run */

/* sweep_drain, with capture_child_next and capture_child_release */
inline drain()
{
    do
    :: tail != head ->
        if
        :: slot_epoch[tail % SLOTS] == my_epoch && !saved[slot_page[tail % SLOTS]] ->
            /* The slot is the child's until the tail is stored; half by half, should it not be. */
            image_low[slot_page[tail % SLOTS]] = slot_low[tail % SLOTS];
            atomic {
                image_high[slot_page[tail % SLOTS]] = slot_high[tail % SLOTS];
                saved[slot_page[tail % SLOTS]] = true;
                SEEN(came_captured)
            }
        :: else -> SEEN(came_twice)
        fi;
        tail++
    :: else -> break
    od
}

/* sweep_read_piece: the pages begin to end - 1 */
inline scan_piece()
{
#ifdef POSITION_BEFORE_COPY
    position = end;
#endif
    i = begin;
    do /* C1, a half at a time */
    :: i < end -> copy_low[i] = low[i]; atomic { copy_high[i] = high[i]; i++ }
    :: else -> break
    od;
    i = begin;
    do /* C2, C3: capture_child_check */
    :: i < end ->
        atomic {
#ifndef NO_CHECK_AFTER_COPY
            skip_page[i] = (captured[i] == my_epoch);
#endif
            i++
        }
    :: else -> break
    od;
    position = end; /* C4 */
    /* what is kept; private memory, so one step */
    d_step {
        i = begin;
        do
        :: i < end ->
            if
            :: !skip_page[i] && !saved[i] ->
                image_low[i] = copy_low[i];
                image_high[i] = copy_high[i];
                saved[i] = true
            :: else -> skip
            fi;
            copy_low[i] = 0; copy_high[i] = 0; skip_page[i] = false;
            i++
        :: else -> break
        od;
        i = 0
    }
}

inline complete()
{
    d_step {
        i = 0;
        do
        :: i < PAGES ->
            /* What was disarmed is no image any more: the parent throws it away. */
            assert(!armed || my_epoch != epoch ||
                   (saved[i] && image_low[i] == cut[i] && image_high[i] == cut[i]));
            i++
        :: else -> break
        od;
#ifdef WITNESS
        assert(!(armed && came_captured && came_twice && was_killed && was_parked));
#endif
        child = COMPLETE
    }
}

proctype Child(byte my_epoch)
{
    byte image_low[PAGES], image_high[PAGES], copy_low[PAGES], copy_high[PAGES];
    bool saved[PAGES], skip_page[PAGES];
    byte begin, end, i;

    {
        do
        :: begin < PAGES ->
            /* Between the pieces of a run it does not. */
            if
            :: drain()
            :: skip
            fi;
            end = (begin + RUN < PAGES -> begin + RUN : PAGES);
            scan_piece();
            begin = end
        :: else -> break
        od;
        scan_done = true; /* C5 */
#ifndef NO_LAST_DRAIN
        drain();
#endif
        complete()
    } unless { atomic { kill_child -> child = DEAD; SEEN(was_killed) } }
}
