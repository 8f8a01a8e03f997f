/* The control memfd: making it, taking over what an earlier process left, writing out what its
 * halves hold.
 *
 * The order of stores is what makes it good after a SIGKILL at any instruction: a half's `used` is
 * raised only when the record below it is whole, its state becomes SEALED only when the place it
 * belongs at is noted, `written` moves on only when the write returned. A killed process has done
 * its stores in the order of its program, so it is enough to keep the compiler from moving them:
 * each of the three control_set functions is a release store. A position has several fields: it is
 * made beside the one that holds, then one store makes it the one that holds. */
#include "journal/control.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "base/file.h"
#include "journal/batch.h"

#define CONTROL_PAGE 4096u
#define CONTROL_TABLE_OFFSET (CONTROL_PAGE + 2 * CONTROL_HALF_BYTES)
#define CONTROL_BYTES (CONTROL_TABLE_OFFSET + CONTROL_ARENAS_MAX * sizeof(Identity))

static int control_map(int fd, uint64_t size, Control **ret)
{
    _cleanup_(freep) Control *control = calloc(1, sizeof(*control));

    if (control == NULL)
        return -ENOMEM;
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    /* Neither a checkpoint's child nor a core file has use for it; without the advice it only
     * costs. */
    (void)madvise(map, size, MADV_DONTFORK);
    (void)madvise(map, size, MADV_DONTDUMP);
    *control = (Control){.fd = -1, .size = size, .header = map};
    *ret = TAKE_PTR(control);
    return 0;
}

int control_new(const Lineage *lineage, Control **ret)
{
    _cleanup_(closep) int fd = -1;
    Control *control;

    int r = file_memfd(CONTROL_NAME, CONTROL_BYTES, &fd);
    if (r < 0)
        return r;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return -errno;
    r = control_map(fd, CONTROL_BYTES, &control);
    if (r < 0)
        return r;
    *control->header = (ControlHeader){
        .magic = CONTROL_MAGIC,
        .version = CONTROL_VERSION,
        .half_bytes = CONTROL_HALF_BYTES,
        .lineage = *lineage,
    };
    control->fd = TAKE_FD(fd);
    *ret = control;
    return 0;
}

void control_set_position(Control *control, const ControlPosition *position)
{
    ControlHeader *header = control->header;
    uint32_t next = (header->current & 1) ^ 1;

    header->position[next] = *position;
    __atomic_store_n(&header->current, next, __ATOMIC_RELEASE);
}

BatchHeader control_next_batch(const ControlPosition *position)
{
    const JournalMark *written = &position->written;
    BatchHeader batch = {
        .offset = written->offset,
        .chain = position->chain,
        .previous_revision = written->revision,
        .base_revision = written->revision,
        .mark = position->durable,
    };

    /* The first of a segment names the place that it follows. */
    if (written->offset == SEGMENT_BATCHES_OFFSET) {
        batch.flags = BATCH_FIRST;
        batch.previous_segment = position->left.segment;
        batch.previous_end = position->left.offset;
        batch.previous_revision = position->left.revision;
    }
    return batch;
}

void control_set_used(Control *control, unsigned half, uint64_t used)
{
    __atomic_store_n(&control->header->half[half].used, used, __ATOMIC_RELEASE);
}

void control_set_state(Control *control, unsigned half, ControlHalfState state)
{
    __atomic_store_n(&control->header->half[half].state, (uint32_t)state, __ATOMIC_RELEASE);
}

static bool half_valid(const ControlHalf *half, uint64_t half_bytes)
{
    switch (half->state) {
    case CONTROL_EMPTY:
        return true;
    case CONTROL_FILLING:
    case CONTROL_SEALED:
        break;
    default:
        return false;
    }
    if (half->used < sizeof(BatchHeader) || half->used % 8 != 0 ||
        half->used > half_bytes - SEGMENT_SECTOR)
        return false;
    return half->state == CONTROL_FILLING ||
           (half->segment > 0 && half->segment <= SEGMENT_SEQUENCE_MAX &&
            half->offset >= SEGMENT_BATCHES_OFFSET && half->offset % SEGMENT_SECTOR == 0 &&
            half->offset <= INT64_MAX - half_bytes);
}

static int control_check(const ControlHeader *header, uint64_t size)
{
    if (memcmp(header->magic, CONTROL_MAGIC, sizeof(header->magic)) != 0)
        return -EBADMSG;
    if (header->version != CONTROL_VERSION)
        return -EPROTONOSUPPORT;
    /* The halves must hold the largest record of this program too. */
    if (header->half_bytes != CONTROL_HALF_BYTES || size != CONTROL_BYTES)
        return -EBADMSG;
    if (!half_valid(&header->half[0], header->half_bytes) ||
        !half_valid(&header->half[1], header->half_bytes))
        return -EBADMSG;
    if (header->half[0].state == CONTROL_FILLING && header->half[1].state == CONTROL_FILLING)
        return -EBADMSG;
    if (header->current > 1 || header->arenas > CONTROL_ARENAS_MAX)
        return -EBADMSG;
    const JournalMark *written = &header->position[header->current].written;
    if (written->segment > SEGMENT_SEQUENCE_MAX || written->offset % SEGMENT_SECTOR != 0 ||
        written->offset > INT64_MAX - header->half_bytes)
        return -EBADMSG;
    return 0;
}

int control_adopt(int fd, Control **ret)
{
    Control *control;
    uint64_t size = 0;

    int r = file_check_memfd(fd, &size);
    if (r == 0 && size != CONTROL_BYTES)
        r = -EBADMSG;
    if (r < 0)
        return r;
    r = control_map(fd, size, &control);
    if (r < 0)
        return r;
    r = control_check(control->header, size);
    if (r < 0) {
        control_free(control);
        return r;
    }
    control->fd = fd;
    *ret = control;
    return 0;
}

Control *control_free(Control *control)
{
    if (control == NULL)
        return NULL;
    munmap(control->header, control->size);
    closep(&control->fd);
    free(control);
    return NULL;
}

/* --- the table of arenas */

static Identity *control_row(const Control *control, uint32_t index)
{
    return (Identity *)(void *)((uint8_t *)control->header + CONTROL_TABLE_OFFSET) + index;
}

bool control_arena(const Control *control, uint32_t index, Identity *ret)
{
    static const Identity none;

    *ret = *control_row(control, index);
    return !identity_equal(ret, &none);
}

/* Its row, or the first one that is empty; the number of rows: neither. */
static uint32_t control_find_row(const Control *control, const Identity *identity)
{
    uint32_t index = 0;

    while (index < control->header->arenas &&
           !identity_equal(control_row(control, index), identity))
        index++;
    return index;
}

void control_add_arena(Control *control, const Identity *identity)
{
    static const Identity none;
    ControlHeader *header = control->header;
    uint32_t row = control_find_row(control, &none);

    if (row == CONTROL_ARENAS_MAX) {
        header->arenas_lost = 1;
        return;
    }
    *control_row(control, row) = *identity;
    __atomic_store_n(&header->arenas, MAX(header->arenas, row + 1), __ATOMIC_RELEASE);
}

void control_remove_arena(Control *control, const Identity *identity)
{
    uint32_t row = control_find_row(control, identity);

    /* What was stored before (the header that says dropped) is there for whoever finds this. */
    __atomic_signal_fence(__ATOMIC_RELEASE);
    if (row < control->header->arenas)
        *control_row(control, row) = (Identity){0};
}

void control_clear_arenas(Control *control)
{
    __atomic_store_n(&control->header->arenas_lost, 1, __ATOMIC_RELEASE);
    memset(control_row(control, 0), 0, control->header->arenas * sizeof(Identity));
    control->header->arenas = 0;
}

void control_arenas_complete(Control *control)
{
    __atomic_store_n(&control->header->arenas_lost, 0, __ATOMIC_RELEASE);
}

/* --- what the halves hold */

static bool half_pending(const ControlHalf *half)
{
    return half->state == CONTROL_SEALED ||
           (half->state == CONTROL_FILLING && half->used > sizeof(BatchHeader));
}

static int control_open_segment(int directory_fd, uint64_t sequence, const Lineage *lineage,
                                SegmentHeader *ret_header)
{
    _cleanup_(closep) int fd = -1;
    char name[SEGMENT_NAME_MAX];

    fd = openat(directory_fd, segment_name(sequence, name), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    int r = segment_read_header(fd, sequence, ret_header);
    if (r < 0)
        return r;
    if (!lineage_equal(&ret_header->lineage, lineage))
        return -ESTALE;
    return TAKE_FD(fd);
}

/* Seals what was sealed before once more (its header is there; that it was whole is not taken on
 * trust) or for the first time, and writes it. */
static int control_write_half(Control *control, unsigned index, int directory_fd,
                              const BatchHeader *fields, uint64_t sequence)
{
    _cleanup_(closep) int fd = -1;
    const ControlHeader *header = control->header;
    const ControlHalf *half = &header->half[index];
    uint8_t *data = control_half(control, index);
    SegmentHeader segment;

    fd = control_open_segment(directory_fd, sequence, &header->lineage, &segment);
    if (fd < 0)
        return fd;
    int64_t padded = batch_seal(data, half->used, fields, segment.salt);
    if (padded < 0)
        return (int)padded;
    return file_write_at(fd, data, (size_t)padded, fields->offset);
}

/* The next place after a batch that was written. */
static void control_advance(Control *control, const BatchHeader *batch, uint64_t sequence)
{
    ControlPosition position = *control_position(control);

    position.chain = batch->checksum;
    position.last = batch->offset;
    position.written = (JournalMark){
        .segment = sequence,
        .offset = batch->offset + batch_padded(batch->bytes),
        .revision = batch->last_revision,
    };
    control_set_position(control, &position);
}

static int control_write_sealed(Control *control, unsigned index, int directory_fd)
{
    const ControlHalf *half = &control->header->half[index];
    JournalMark place = {.segment = half->segment, .offset = half->offset};
    BatchHeader fields;

    memcpy(&fields, control_half(control, index), sizeof(fields));
    if (fields.offset != half->offset)
        return -EBADMSG;
    int r = control_write_half(control, index, directory_fd, &fields, half->segment);
    if (r < 0)
        return r;
    memcpy(&fields, control_half(control, index), sizeof(fields));
    /* Else it had been written and counted. */
    if (journal_mark_compare(&place, &control_position(control)->written) >= 0)
        control_advance(control, &fields, half->segment);
    return 0;
}

/* The last batch that counts is this half, sealed: whoever wrote it out was stopped before it could
 * say that the half is empty. (COUNTED in tests/crash/models/publish.pml.) */
static bool control_counted(Control *control, unsigned index)
{
    const ControlPosition *position = control_position(control);
    BatchHeader batch;

    memcpy(&batch, control_half(control, index), sizeof(batch));
    return position->chain != 0 && batch.checksum == position->chain &&
           batch.offset == position->last && batch.bytes == control->header->half[index].used;
}

static int control_write_filling(Control *control, unsigned index, int directory_fd)
{
    uint64_t segment = control_position(control)->written.segment;
    BatchHeader batch = control_next_batch(control_position(control));

    if (control_counted(control, index))
        return 0;
    int r = control_write_half(control, index, directory_fd, &batch, segment);
    if (r < 0)
        return r;
    memcpy(&batch, control_half(control, index), sizeof(batch));
    control_advance(control, &batch, segment);
    return 0;
}

static int control_write_all(Control *control, ControlHalfState state, int directory_fd)
{
    for (unsigned i = 0; i < 2; i++) {
        const ControlHalf *half = &control->header->half[i];
        if (half->state != state || !half_pending(half))
            continue;
        int r = state == CONTROL_SEALED ? control_write_sealed(control, i, directory_fd)
                                        : control_write_filling(control, i, directory_fd);
        if (r < 0)
            return r;
        control_set_state(control, i, CONTROL_EMPTY);
    }
    return 0;
}

int control_write_out(Control *control, int journal_directory_fd, const Lineage *lineage)
{
    if (!lineage_equal(&control->header->lineage, lineage))
        return -ESTALE;
    /* The sealed one comes first: the other was filled while it was under way. */
    int r = control_write_all(control, CONTROL_SEALED, journal_directory_fd);
    if (r < 0)
        return r;
    return control_write_all(control, CONTROL_FILLING, journal_directory_fd);
}
