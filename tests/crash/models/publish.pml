/* The order in which journal, image and names reach the disk, and what a start finds there. Claim: whenever the
 * power fails or the daemon is killed, also during a start, the newest image that checks out and the journal
 * behind it reach every update that was answered, and every revision that an image proves (else the start is
 * refused as damaged). With KEEP of 2 the newest image may be damaged. The arena and control memfd that a service
 * manager kept over a kill are adopted only where the journal is where they left it, and has all that they have; the
 * next process may also be one that is handed nothing, and the store may come back later. A start that adopts may be
 * killed between any two of its steps: while it writes out what the control memfd holds, and after it gave up
 * memory that it does not use and before the store has what replaces it. What the service manager was told of it
 * may have been done or not.
 *
 * A record is a revision; it lies in the page cache of its segment and may lie on the disk, and what is not
 * synced survives a power cut or not, each record and each change of a name for itself. Everything that a
 * process knows is in globals, so that a death can take it away; each step is atomic, named after the function
 * that does it, and any order of steps of the loop, the sync thread, the housekeeper and the child is tried.
 *
 * Broken on purpose, each must be refuted: RETIRE_BEFORE_DIRECTORY_SYNC, SYNC_OUT_OF_ORDER,
 * PUBLISH_BEFORE_IMAGE_SYNC, PUBLISH_BEFORE_JOURNAL, NO_SYNC_AT_START, RETIRE_TO_NEWEST,
 * RETIRE_SEGMENT_OF_MARK, ADOPT_ANY, ADOPT_WITHOUT_SALT, ADOPT_BEFORE_WRITE_OUT, WRITE_OUT_COUNTED,
 * ADOPT_GIVEN_UP, SERVE_BEFORE_DISCARD.
 * WITNESS claims that a start never needed both an image and a journal of two segments. */

#ifndef KEEP
#define KEEP 1
#endif
#ifndef REVISIONS
#define REVISIONS 3
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#define SEGMENTS 6 /* numbers 1 to 5: one a start, one a cut */
#define IMAGES 4   /* numbers 1 to KEEP + 1 */

mtype = { STOPPED, TAKEN, WRITTEN, ADVANCED, READ, OPEN, SERVING };

/* --- the disk. cached: as processes see it; disk: what is certain to be there after a power cut */
typedef Segment {
    bool cached, disk;             /* the name */
    bool first_cached, first_disk; /* the first batch */
    byte previous;                 /* the last revision before it, says its first batch */
    byte salt;                     /* which process made it */
};
typedef Image {
    bool cached, disk; /* the name */
    bool synced;       /* the contents */
    byte revision;
};
Segment segment[SEGMENTS];
Image image[IMAGES];
byte segment_of[REVISIONS + 1]; /* 0: written nowhere */
bool cached[REVISIONS + 1], disk[REVISIONS + 1];

/* --- the daemon */
mtype state = STOPPED;
byte last, batch;      /* given last; in the control memfd, not written yet */
byte written, current; /* journal position */
byte durable, durable_segment; /* position.durable */
byte queue_segment[2], queue_revision[2], queued;
byte images, child, done, renamed; /* numbers of images: cut last, being written, to be published, to be synced */
bool retiring, images_unsynced, segments_unsynced;

/* --- what a service manager holds: a control memfd, and the memory of the arena, at rest, with every record up to this
 * one. What it holds of a process that serves, and was handed what was there, is told when that one is killed. */
#define GIVEN_UP (REVISIONS + 1) /* its header says dropped */
#define NO_MEMORY (REVISIONS + 2)
bool stored;
byte stored_written, stored_batch, stored_segment, stored_salt;
byte memory = NO_MEMORY;
bool handed;            /* the process that runs was handed what is there, and puts its own there */
bool adopted, in_place; /* it goes on with that control memfd, with that memory */

/* --- the world */
byte acknowledged, deaths;

byte i, at, from, reached, kept, oldest; /* used within a step; at: also between READ and SERVING */
bool on;

inline submit(revision)
{
    queue_segment[queued] = current;
    queue_revision[queued] = revision;
    queued++
}

#define UNSYNCED (written > durable && (queued == 0 || queue_revision[queued - 1] < written))
#ifdef PUBLISH_BEFORE_JOURNAL
#define COVERED true
#else
#define COVERED (durable >= image[done].revision)
#endif
/* What the last process does no start looks at. */
#define UP (state == SERVING && deaths < DEATHS)

/* --- the loop's thread */
active proctype Loop()
{
end:
    do
    /* store: record into the batch, then applied; in the control memfd and the arenas both outlive a kill */
    :: atomic { UP && batch == 0 && last < REVISIONS -> last++; batch = last }
    /* journal_commit */
    :: atomic { UP && batch != 0 ->
        segment_of[batch] = current; cached[batch] = true;
        segment[current].first_cached = true;
        written = batch; batch = 0 }
    /* journal_submit */
    :: atomic { UP && UNSYNCED && queued < 2 -> submit(written) }
    /* job_cut, host_cut: journal_switch, where a segment is ready; the one that is left is synced first */
    :: atomic { UP && batch == 0 && child == 0 && done == 0 && renamed == 0 && !retiring && images < KEEP + 1 &&
                (!UNSYNCED || queued < 2) ->
        images++; child = images; image[images].revision = written;
        if
        :: UNSYNCED -> submit(written)
        :: else
        fi;
        if
        :: segment[current].first_cached && current + 1 < SEGMENTS - DEATHS + deaths ->
            current++;
            segment[current].cached = true; segment[current].disk = true; /* segment_make, ahead */
            segment[current].first_cached = false; segment[current].first_disk = false;
            segment[current].previous = written; segment[current].salt = deaths
        :: true /* none was ready */
        fi }
    od
}

/* --- sync_work: in the order of the queue */
active proctype SyncThread()
{
    byte entry;
end:
    do
    :: atomic { UP && queued > 0 ->
        entry = 0;
#ifdef SYNC_OUT_OF_ORDER
        if
        :: queued > 1 -> entry = 1
        :: true
        fi;
#endif
        i = 1;
        do
        :: i <= REVISIONS ->
            if
            :: segment_of[i] == queue_segment[entry] && cached[i] -> disk[i] = true
            :: else
            fi;
            i++
        :: else -> break
        od;
        segment[queue_segment[entry]].first_disk = segment[queue_segment[entry]].first_cached;
        /* journal_synced, and the answers */
        if
        :: queue_revision[entry] > durable -> durable = queue_revision[entry]; durable_segment = queue_segment[entry]
        :: else
        fi;
        acknowledged = durable;
        if
        :: entry == 0 -> queue_segment[0] = queue_segment[1]; queue_revision[0] = queue_revision[1]
        :: else
        fi;
        queued--; queue_segment[queued] = 0; queue_revision[queued] = 0;
        i = 0; entry = 0 }
    od
}

/* --- the child: writer, and its last step */
active proctype Child()
{
end:
    do
    :: atomic { UP && child != 0 ->
#ifndef PUBLISH_BEFORE_IMAGE_SYNC
        image[child].synced = true;
#endif
        done = child; child = 0 }
    od
}

/* Number of the oldest image that stays when KEEP are kept; 0: there is none. */
inline find_oldest()
{
    i = IMAGES - 1; kept = 0; oldest = 0;
    do
    :: i > 0 ->
        if
        :: image[i].cached && kept < KEEP -> kept++; oldest = i
        :: else
        fi;
        i--
    :: else -> break
    od
}

/* journal_retire: the segment of the durable mark stays, the one behind it may have no batch yet. */
#ifdef RETIRE_SEGMENT_OF_MARK
#define MAY_GO(number) (number < current)
#else
#define MAY_GO(number) (number < durable_segment)
#endif

/* The oldest segment there is; 0: none. */
inline find_first_segment()
{
    i = 1;
    do
    :: i < SEGMENTS && !segment[i].cached -> i++
    :: else -> break
    od
}

inline sync_images()
{
    i = 1;
    do
    :: i < IMAGES -> image[i].disk = image[i].cached; i++
    :: else -> break
    od;
    i = 0; images_unsynced = false
}

inline sync_segments()
{
    i = 1;
    do
    :: i < SEGMENTS -> segment[i].disk = segment[i].cached; i++
    :: else -> break
    od;
    i = 0; segments_unsynced = false
}

/* --- the housekeeper: one task after the other */
active proctype Housekeeper()
{
end:
    do
    /* job_turn, publish_rename. host_durable: not before the journal covers the cut */
    :: atomic { UP && done != 0 && COVERED -> image[done].cached = true; renamed = done; done = 0;
#ifdef RETIRE_BEFORE_DIRECTORY_SYNC
        retiring = true
#endif
        }
    /* run_image: the sync of the directory; then on_published, job_retire */
    :: atomic { UP && renamed != 0 ->
        sync_images(); renamed = 0; retiring = true }
    /* catalog_retire and triggers_retire_journal: images, the directory synced for each, then segments, oldest
     * first, the directory synced for each */
    :: atomic { UP && retiring && images_unsynced -> sync_images() }
    :: atomic { UP && retiring && segments_unsynced -> sync_segments() }
    :: atomic { UP && retiring && !images_unsynced && !segments_unsynced ->
        find_oldest();
        i = 1;
        do
        :: i < oldest && !image[i].cached -> i++
        :: else -> break
        od;
        if
        :: i < oldest -> image[i].cached = false; images_unsynced = true
        :: else ->
#ifdef RETIRE_TO_NEWEST
            oldest = images;
#endif
            find_first_segment();
            if
            :: MAY_GO(i) && segment[i + 1].previous <= image[oldest].revision ->
                segment[i].cached = false; segments_unsynced = true
            :: else -> retiring = false
            fi
        fi;
        i = 0; kept = 0; oldest = 0 }
    od
}

/* --- a start */

inline lose_stored()
{
    stored = false; stored_written = 0; stored_batch = 0; stored_segment = 0; stored_salt = 0;
    memory = NO_MEMORY
}

/* recovery: the newest image that checks out. With KEEP of 2 it may be damaged, where there is another. */
inline choose_image()
{
    i = IMAGES - 1; from = 0; kept = 0; oldest = 0;
    do
    :: i > 0 ->
        if
        :: image[i].cached && image[i].synced -> kept++; oldest = (oldest == 0 -> i : oldest); from = (kept <= KEEP -> i : from)
        :: else
        fi;
        i--
    :: else -> break
    od;
    if
    :: from = image[oldest].revision
    :: from != 0 && from != oldest -> from = image[from].revision
    fi;
    kept = 0; oldest = 0
}

/* survey_start: the last segment that nothing needed lies before. */
inline choose_segment()
{
    i = SEGMENTS - 1; at = 0;
    do
    :: i > 0 && !(segment[i].cached && segment[i].first_cached && segment[i].previous <= from) -> i--
    :: else -> break
    od;
    at = i;
    reached = (at == 0 -> 0 : segment[at].previous)
}

/* replay: the next segment's word about the end comes before what lies there. */
inline replay()
{
    on = (at != 0);
    do
    :: on && at + 1 < SEGMENTS && segment[at + 1].cached && segment[at + 1].first_cached &&
       segment[at + 1].previous == reached -> at++
    :: on && !(at + 1 < SEGMENTS && segment[at + 1].cached && segment[at + 1].first_cached &&
       segment[at + 1].previous == reached) ->
        i = reached + 1;
        do
        :: i <= REVISIONS && segment_of[i] != at -> i++
        :: else -> break
        od;
        if
        :: i <= REVISIONS && cached[i] -> reached = i
        :: else -> on = false
        fi
    :: !on -> break
    od
}

inline judge()
{
    assert(reached >= acknowledged);
    i = 1;
    do
    :: i < IMAGES -> assert(!image[i].cached || reached >= image[i].revision); i++
    :: else -> break
    od;
#ifdef WITNESS
    assert(!(from > 0 && reached > from && at > 1 && !segment[1].cached && deaths == DEATHS));
#endif
    i = 0
}

/* journal_adopt_check */
#define BEGUN(number) (stored_segment < number && segment[number].cached && segment[number].first_cached)
#ifdef ADOPT_WITHOUT_SALT
#define SAME_SEGMENT segment[stored_segment].cached
#else
#define SAME_SEGMENT (segment[stored_segment].cached && segment[stored_segment].salt == stored_salt)
#endif
#ifdef ADOPT_ANY
#define FITS true
#else
#define FITS (SAME_SEGMENT && !BEGUN(2) && !BEGUN(3) && !BEGUN(4) && !BEGUN(5))
#endif

/* control_counted; the place, where the half was sealed */
#ifdef WRITE_OUT_COUNTED
#define COUNTED false
#else
#define COUNTED (stored_batch == stored_written)
#endif
#ifdef ADOPT_BEFORE_WRITE_OUT
#define WRITTEN_OUT true
#else
#define WRITTEN_OUT (stored_batch == 0)
#endif

/* open_control: of a control memfd that was adopted */
#define OPENED (state == OPEN && (!adopted || stored_segment == current))
#ifdef SERVE_BEFORE_DISCARD
#define TO_DISCARD false
#else
#define TO_DISCARD (handed && !in_place && memory < GIVEN_UP)
#endif

active proctype Start()
{
    byte arena;
end:
    do
    :: atomic { state == STOPPED -> choose_image(); choose_segment(); replay(); judge(); from = 0;
        if
        :: handed = true /* nothing fits, or nothing was kept: its own goes there when it serves */
        :: true          /* started by hand: what is kept stays there */
        fi;
        state = READ }
    /* adoption_begin, then control_write_out: into its place, the position moves on, the half is empty */
    :: atomic { state == STOPPED && stored && FITS -> handed = true; adopted = true; state = TAKEN }
    :: atomic { state == TAKEN && stored_batch != 0 && !COUNTED ->
        assert(stored_batch > stored_written); /* batch_seal: records that rise */
        segment_of[stored_batch] = stored_segment; cached[stored_batch] = true;
        segment[stored_segment].first_cached = true;
        state = WRITTEN }
    :: atomic { state == WRITTEN -> stored_written = stored_batch; state = ADVANCED }
    :: atomic { state == ADVANCED || (state == TAKEN && stored_batch != 0 && COUNTED) ->
        stored_batch = 0; state = TAKEN }
    /* adoption_take; where that is not all (adoption_complete), read_rest, journal_adopt_agrees */
    :: atomic { state == TAKEN && WRITTEN_OUT ->
        choose_image(); choose_segment(); replay(); judge(); from = 0;
        assert(reached == stored_written);
        if
        :: memory < GIVEN_UP -> in_place = true; arena = memory
        :: arena = reached /* made anew: caught in an update, of another layout, given up, not there */
#ifdef ADOPT_GIVEN_UP
        :: memory == GIVEN_UP -> arena = 0 /* nothing serves for it */
#endif
        fi;
        assert(arena == reached);
        arena = 0; state = READ }
    /* open_remove_rest (newest first, each durable: one step here), open_sync_replayed, open_begin */
    :: atomic { state == READ && at + 1 < SEGMENTS ->
        i = 1;
        do
        :: i <= REVISIONS ->
            if
            :: segment_of[i] > at -> segment_of[i] = 0; cached[i] = false; disk[i] = false
#ifndef NO_SYNC_AT_START
            :: segment_of[i] <= at && cached[i] -> disk[i] = true
#endif
            :: else
            fi;
            i++
        :: else -> break
        od;
        i = 1;
        do
        :: i < SEGMENTS ->
            if
            :: i > at -> segment[i].cached = false; segment[i].disk = false;
                segment[i].first_cached = false; segment[i].first_disk = false; segment[i].previous = 0;
                segment[i].salt = 0
#ifndef NO_SYNC_AT_START
            :: i <= at -> segment[i].first_disk = segment[i].first_cached
#endif
            :: else
            fi;
            i++
        :: else -> break
        od;
        current = at + 1;
        segment[current].previous = reached; segment[current].salt = deaths;
        segment[current].cached = true; segment[current].disk = true;
        segment[current].first_cached = true; segment[current].first_disk = true;
        written = reached; durable = reached; durable_segment = current;
        batch = 0;
        at = 0; reached = 0; i = 0;
        state = OPEN }
    :: atomic { state == OPEN && !OPENED ->
        stored_written = written; stored_segment = current; stored_salt = segment[current].salt }
    /* stored_settle: adoption_discard, before anything that replaces it can be in the store */
    :: atomic { OPENED && TO_DISCARD -> memory = GIVEN_UP }
    :: atomic { OPENED && !TO_DISCARD ->
        if
        :: handed ->
            i = (!in_place && memory < GIVEN_UP -> memory : NO_MEMORY);
            lose_stored(); memory = i; i = 0; adopted = false; in_place = false
        :: else
        fi;
        state = SERVING }
    od
}

/* --- fate */

inline forget()
{
    deaths++; state = STOPPED;
    written = 0; current = 0; durable = 0; durable_segment = 0; queued = 0;
    queue_segment[0] = 0; queue_segment[1] = 0; queue_revision[0] = 0; queue_revision[1] = 0;
    child = 0; done = 0; renamed = 0; retiring = false; batch = 0;
    at = 0; reached = 0; handed = false; adopted = false; in_place = false
}

/* journal_write_gathered may have been under way: in its place, and the position moved on, but the half not empty. */
inline keep_control()
{
    stored = true; stored_written = written; stored_batch = batch; stored_segment = current;
    stored_salt = segment[current].salt;
    if
    :: batch != 0 ->
        segment_of[batch] = current; cached[batch] = true; segment[current].first_cached = true;
        if
        :: stored_written = batch
        :: true
        fi
    :: true
    fi
}

active proctype Fate()
{
end:
    do
    /* SIGKILL: the page cache stays, and what the service manager holds, unless it lets go of it */
    :: atomic { deaths < DEATHS && state != STOPPED ->
        if
        :: UP && handed ->
            /* remove_unused and put_missing may have been done or not: what was given up may be there still. */
            if
            :: memory = (batch != 0 -> batch : written)
            :: memory = GIVEN_UP
            :: true
            fi;
            keep_control()
        :: lose_stored()
        :: !(UP && handed) /* what it found is still there */
        fi;
        forget() }
    /* power cut: of what was not synced, anything may be there */
    :: atomic { deaths < DEATHS && state != STOPPED ->
        lose_stored(); forget(); images_unsynced = false; segments_unsynced = false;
        i = 1;
        do
        :: i <= REVISIONS ->
            if
            :: cached[i] && !disk[i] -> cached[i] = false
            :: cached[i] -> disk[i] = true
            :: !cached[i]
            fi;
            i++
        :: else -> break
        od;
        i = 1;
        do
        :: i < SEGMENTS ->
            if
            :: segment[i].cached != segment[i].disk -> segment[i].cached = segment[i].disk
            :: segment[i].disk = segment[i].cached
            fi;
            if
            :: segment[i].first_cached && !segment[i].first_disk -> segment[i].first_cached = false
            :: segment[i].first_disk = segment[i].first_cached
            fi;
            i++
        :: else -> break
        od;
        i = 1;
        do
        :: i < IMAGES ->
            if
            :: image[i].cached != image[i].disk -> image[i].cached = image[i].disk
            :: image[i].disk = image[i].cached
            fi;
            i++
        :: else -> break
        od;
        i = 0 }
    od
}
