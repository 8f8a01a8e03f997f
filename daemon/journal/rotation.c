/* The row of segments. Normal way: rotation_turn finds no ready segment and has one made; the
 * journal changes to it at a cut or when the current one is full; the one left behind stays in the
 * list until a checkpoint makes it needless.
 *
 * Under Sync=always segments are filled with zeros ahead, so that an fdatasync finds nothing but
 * the batch to write. Filling holds the lock of the file, which a batch would wait for: it is the
 * ready segment that is filled, never the current one, which is as long as it was when it became
 * current. The ready one is kept twice as long as what the current one has used, so little use
 * takes little room. Where the batches are faster than that, the current one goes on without zeros.
 * A queued fill is called off with one compare-and-swap; while one is writing zeros, which takes a
 * millisecond, the ready segment cannot become current. */
#include "journal/rotation.h"

#include <fcntl.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"

#define FIRST_FILL (64 * KIB)

typedef struct RemoveTask {
    HousekeeperTask task;
    int directory_fd;
    int result;
    size_t removed;
    uint64_t spare_bytes_max;
    uint64_t condemned;
    size_t count;
    uint64_t sequences[];
} RemoveTask;

int rotation_salt(uint64_t *ret)
{
    uint64_t salt;
    ssize_t n = getrandom(&salt, sizeof(salt), 0);
    if (n < 0)
        return -errno;
    *ret = salt;
    return 0;
}

static void make_run(HousekeeperTask *task)
{
    MakeTask *make = (MakeTask *)task;
    make->result = segment_make(&make->spec, &make->fd, &make->filled);
}

static void make_done(HousekeeperTask *task)
{
    MakeTask *make = (MakeTask *)task;
    Rotation *rotation = CONTAINER_OF(make, Rotation, make);

    make->under_way = false;
    if (make->result < 0) {
        rotation->make_retry = clock_monotonic() + ROTATION_RETRY_USEC;
        return;
    }
    rotation->ready = (OpenSegment){
        .fd = make->fd,
        .sequence = make->spec.sequence,
        .salt = make->spec.salt,
        .offset = SEGMENT_BATCHES_OFFSET,
        .filled = make->filled,
    };
    rotation->next_sequence = make->spec.sequence + 1;
}

static void fill_run(HousekeeperTask *task)
{
    FillTask *fill = (FillTask *)task;
    _cleanup_(closep) int fd = -1;
    char name[SEGMENT_NAME_MAX];
    int expected = FILL_QUEUED;

    if (!atomic_compare_exchange_strong(&fill->state, &expected, FILL_RUNNING))
        return;
    fd = openat(fill->directory_fd, segment_name(fill->sequence, name),
                O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    fill->result = fd < 0 ? -errno : segment_fill(fd, fill->from, fill->to);
    atomic_store_explicit(&fill->state, FILL_FILLED, memory_order_release);
    /* So that the batches' fdatasync finds neither zeros nor a new length to write. That it failed
     * is nothing to act on: zeros are lost at worst, and what is written over them later is synced
     * and checked for itself. */
    if (fill->result == 0)
        (void)fdatasync(fd);
}

/* Takes the zeros that are there into account. */
static void fill_take(Rotation *rotation)
{
    FillTask *fill = &rotation->fill;

    if (fill->result == 0 && rotation->ready.fd >= 0 && rotation->ready.sequence == fill->sequence)
        rotation->ready.filled = MAX(rotation->ready.filled, fill->to);
}

static void fill_done(HousekeeperTask *task)
{
    FillTask *fill = (FillTask *)task;
    Rotation *rotation = CONTAINER_OF(fill, Rotation, fill);

    if (atomic_load(&fill->state) == FILL_FILLED) {
        if (fill->result < 0)
            rotation->fill_retry = clock_monotonic() + ROTATION_RETRY_USEC;
        fill_take(rotation);
    }
    atomic_store(&fill->state, FILL_IDLE);
}

void rotation_init(Rotation *rotation, int directory_fd, Housekeeper *housekeeper,
                   const Lineage *lineage, uint64_t segment_bytes_max, uint64_t next_sequence,
                   ReplaySegment *left, size_t left_count)
{
    *rotation = (Rotation){
        .directory_fd = directory_fd,
        .housekeeper = housekeeper,
        .lineage = *lineage,
        .segment_bytes_max = segment_bytes_max,
        .next_sequence = next_sequence,
        .current.fd = -1,
        .ready.fd = -1,
        .make.task = {.run = make_run, .done = make_done},
        .fill.task = {.run = fill_run, .done = fill_done},
        .left = left,
        .left_count = left_count,
        .left_room = left_count,
    };
}

void rotation_deinit(Rotation *rotation)
{
    while (rotation->make.under_way || atomic_load(&rotation->fill.state) != FILL_IDLE)
        housekeeper_drain(rotation->housekeeper);
    closep(&rotation->current.fd);
    closep(&rotation->ready.fd);
    free(rotation->left);
}

/* How long the ready segment shall be by now: in whole steps, since each costs a sync. */
static uint64_t rotation_wanted(const Rotation *rotation)
{
    uint64_t most = ALIGN_UP(rotation->segment_bytes_max, 4 * KIB);
    uint64_t wanted = ALIGN_UP(2 * rotation->current.offset, SEGMENT_FILL_STEP);

    return MIN(MAX(SEGMENT_FILL_STEP, wanted), most);
}

/* How far a segment is filled when it is made. */
static uint64_t rotation_fill_first(const Rotation *rotation, bool ahead)
{
    return MIN(ahead ? SEGMENT_FILL_STEP : FIRST_FILL, rotation_wanted(rotation));
}

static SegmentSpec rotation_spec(const Rotation *rotation, uint64_t salt, uint64_t fill)
{
    return (SegmentSpec){
        .directory_fd = rotation->directory_fd,
        .lineage = rotation->lineage,
        .sequence = rotation->next_sequence,
        .salt = salt,
        .fill = fill,
    };
}

int rotation_begin(Rotation *rotation, uint64_t salt, const void *first, size_t first_bytes)
{
    /* Little, to start quickly; the ready one will be longer. */
    SegmentSpec spec = rotation_spec(rotation, salt, rotation_fill_first(rotation, false));
    int fd;
    uint64_t filled;

    spec.first = first;
    spec.first_bytes = first_bytes;
    int r = segment_make(&spec, &fd, &filled);
    if (r < 0)
        return r;
    rotation->current = (OpenSegment){
        .fd = fd,
        .sequence = spec.sequence,
        .salt = spec.salt,
        .offset = SEGMENT_BATCHES_OFFSET + first_bytes,
        .filled = filled,
    };
    rotation->next_sequence++;
    return 0;
}

static void rotation_make(Rotation *rotation, uint64_t now)
{
    MakeTask *make = &rotation->make;
    uint64_t salt = 0;

    if (rotation->next_sequence > SEGMENT_SEQUENCE_MAX || rotation_salt(&salt) < 0) {
        rotation->make_retry = now + ROTATION_RETRY_USEC;
        return;
    }
    make->spec = rotation_spec(rotation, salt, rotation_fill_first(rotation, rotation->ahead));
    make->under_way = true;
    housekeeper_submit(rotation->housekeeper, &make->task);
}

static bool rotation_wants_fill(const Rotation *rotation)
{
    return rotation->ahead && rotation->ready.fd >= 0 &&
           rotation->ready.filled < rotation_wanted(rotation);
}

static void rotation_fill(Rotation *rotation)
{
    FillTask *fill = &rotation->fill;

    fill->directory_fd = rotation->directory_fd;
    fill->sequence = rotation->ready.sequence;
    fill->from = rotation->ready.filled;
    fill->to = MIN(fill->from + SEGMENT_FILL_STEP, rotation_wanted(rotation));
    fill->result = 0;
    atomic_store(&fill->state, FILL_QUEUED);
    housekeeper_submit(rotation->housekeeper, &fill->task);
}

void rotation_turn(Rotation *rotation, uint64_t now)
{
    if (rotation_wants_fill(rotation) && atomic_load(&rotation->fill.state) == FILL_IDLE &&
        now >= rotation->fill_retry)
        rotation_fill(rotation);
    if (rotation->ready.fd < 0 && !rotation->make.under_way && now >= rotation->make_retry)
        rotation_make(rotation, now);
}

uint64_t rotation_deadline(const Rotation *rotation)
{
    if (rotation->ready.fd < 0 && !rotation->make.under_way)
        return rotation->make_retry;
    return UINT64_MAX;
}

bool rotation_full(const Rotation *rotation, uint64_t bytes)
{
    const OpenSegment *current = &rotation->current;

    if (current->offset == SEGMENT_BATCHES_OFFSET)
        return false;
    return current->offset >= rotation->segment_bytes_max ||
           (rotation->ahead && current->offset + bytes > current->filled);
}

/* No fill of the ready segment is under way, nor will one begin that was submitted. */
static bool rotation_call_off_fill(Rotation *rotation)
{
    int state = FILL_QUEUED;

    if (atomic_compare_exchange_strong(&rotation->fill.state, &state, FILL_CANCELLED))
        return true;
    if (state == FILL_FILLED)
        fill_take(rotation);
    return state != FILL_RUNNING;
}

int rotation_next(Rotation *rotation, uint64_t last_revision, int *ret_fd)
{
    if (!rotation_call_off_fill(rotation))
        return -EAGAIN;
    if (rotation->left_count == rotation->left_room) {
        size_t room = MAX(rotation->left_room * 2, 16);
        ReplaySegment *more = reallocarray(rotation->left, room, sizeof(*more));
        if (more == NULL)
            return -ENOMEM;
        rotation->left = more;
        rotation->left_room = room;
    }
    if (rotation->current.fd >= 0)
        rotation->left[rotation->left_count++] = (ReplaySegment){
            .sequence = rotation->current.sequence,
            .last_revision = last_revision,
            .bytes = rotation->current.offset,
        };
    *ret_fd = rotation->current.fd;
    rotation->current = rotation->ready;
    rotation->ready = (OpenSegment){.fd = -1};
    rotation->make_retry = 0;
    return 0;
}

static void remove_run(HousekeeperTask *task)
{
    RemoveTask *remove = (RemoveTask *)task;

    /* Oldest first, and no further after a failure: there may never be a hole in the row. */
    for (; remove->removed < remove->count; remove->removed++) {
        uint64_t sequence = remove->sequences[remove->removed];
        uint64_t spare = sequence <= remove->condemned ? 0 : remove->spare_bytes_max;
        remove->result = segment_remove(remove->directory_fd, sequence, spare);
        if (remove->result < 0)
            return;
    }
}

static void remove_done(HousekeeperTask *task)
{
    RemoveTask *remove = (RemoveTask *)task;
    char name[SEGMENT_NAME_MAX];

    if (remove->result < 0)
        log_warning("journal: cannot remove %s, it stays until the next start: %s",
                    segment_name(remove->sequences[remove->removed], name),
                    log_errno(remove->result));
    free(remove);
}

void rotation_retire(Rotation *rotation, uint64_t revision, uint64_t before)
{
    size_t count = 0;

    while (count < rotation->left_count && rotation->left[count].last_revision <= revision &&
           rotation->left[count].sequence < before)
        count++;
    if (count == 0)
        return;
    RemoveTask *remove = malloc(sizeof(*remove) + count * sizeof(remove->sequences[0]));
    if (remove == NULL)
        return; /* with the next checkpoint */
    *remove = (RemoveTask){
        .task = {.run = remove_run, .done = remove_done},
        .directory_fd = rotation->directory_fd,
        .spare_bytes_max = rotation->segment_bytes_max + SEGMENT_FILL_STEP,
        .condemned = rotation->condemned,
        .count = count,
    };
    for (size_t i = 0; i < count; i++)
        remove->sequences[i] = rotation->left[i].sequence;
    rotation->left_count -= count;
    memmove(rotation->left, rotation->left + count,
            rotation->left_count * sizeof(rotation->left[0]));
    /* In the same lane as the images' names: one that was dropped is gone from the disk before the
     * segments that it would need. */
    housekeeper_submit(rotation->housekeeper, &remove->task);
}

uint64_t rotation_bytes_behind(const Rotation *rotation, uint64_t revision)
{
    uint64_t bytes = 0;

    for (size_t i = rotation->left_count; i > 0; i--) {
        if (rotation->left[i - 1].last_revision <= revision)
            break;
        bytes += rotation->left[i - 1].bytes;
    }
    return bytes + (rotation->current.fd >= 0 ? rotation->current.offset : 0);
}
