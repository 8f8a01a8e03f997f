/* The sync thread. Requests lie in a ring of SYNC_QUEUE_MAX slots. The loop's thread fills the slot
 * at `submitted` and then counts it up; the sync thread works at `done` and counts that up; the
 * loop's thread takes results at `taken`. Each counter has one writer, a slot belongs to whoever
 * the counters say, so there is no lock. Two eventfds wake the other side: they hold no state that
 * a fork could split. */
#include "journal/sync.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "base/clock.h"

typedef struct SyncSlot {
    int fd;
    int result;
    uint64_t from; /* of what is written behind */
    uint64_t to;   /* 0: the whole file, durably */
    uint64_t took_usec;
} SyncSlot;

struct Sync {
    SyncOperations operations;
    pthread_t thread;
    int work_fd;   /* the sync thread reads it, blocking */
    int result_fd; /* the loop's thread */
    _Atomic uint64_t submitted;
    _Atomic uint64_t done;
    uint64_t taken;
    atomic_bool failed;
    atomic_bool stop;
    SyncSlot slots[SYNC_QUEUE_MAX];
};

static int sync_datasync(void *context, int fd)
{
    (void)context;
    return fdatasync(fd) < 0 ? -errno : 0;
}

/* Pages that the file system found no place for may be gone, and no later fdatasync tells of them.
 * A file system that does not know the call has lost nothing. */
static int sync_begin_writing(void *context, int fd, uint64_t from, uint64_t to)
{
    (void)context;
    if (sync_file_range(fd, (off_t)from, (off_t)(to - from), SYNC_FILE_RANGE_WRITE) == 0)
        return 0;
    return errno == EIO || errno == ENOSPC || errno == EDQUOT ? -errno : 0;
}

static const SyncOperations default_operations = {
    .datasync = sync_datasync,
    .behind = sync_begin_writing,
};

static void sync_slot(Sync *sync, SyncSlot *slot)
{
    const SyncOperations *operations = &sync->operations;
    uint64_t begin = clock_monotonic();

    if (slot->to > 0)
        slot->result = operations->behind(operations->context, slot->fd, slot->from, slot->to);
    else
        slot->result = operations->datasync(operations->context, slot->fd);
    slot->took_usec = clock_monotonic() - begin;
}

static void sync_work(Sync *sync)
{
    uint64_t done = atomic_load_explicit(&sync->done, memory_order_relaxed);

    while (done != atomic_load_explicit(&sync->submitted, memory_order_acquire)) {
        SyncSlot *slot = &sync->slots[done % SYNC_QUEUE_MAX];
        if (atomic_load_explicit(&sync->failed, memory_order_relaxed))
            slot->result = -ECANCELED;
        else
            sync_slot(sync, slot);
        if (slot->result < 0)
            atomic_store_explicit(&sync->failed, true, memory_order_relaxed);
        atomic_store_explicit(&sync->done, ++done, memory_order_release);
        (void)eventfd_write(sync->result_fd, 1);
    }
}

static void *sync_main(void *context)
{
    Sync *sync = context;
    eventfd_t count;

    while (!atomic_load_explicit(&sync->stop, memory_order_acquire)) {
        sync_work(sync);
        /* EINTR cannot be: signals are blocked here. Should it, the ring is looked at again. */
        (void)eventfd_read(sync->work_fd, &count);
    }
    sync_work(sync);
    return NULL;
}

static int sync_start(Sync *sync)
{
    sigset_t all, before;

    sigfillset(&all);
    int r = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (r != 0)
        return -r;
    r = pthread_create(&sync->thread, NULL, sync_main, sync);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0)
        return -r;
    pthread_setname_np(sync->thread, "journal-sync");
    return 0;
}

int sync_new(const SyncOperations *operations, Sync **ret)
{
    _cleanup_(closep) int work_fd = -1, result_fd = -1;
    _cleanup_(freep) Sync *sync = calloc(1, sizeof(*sync));

    if (sync == NULL)
        return -ENOMEM;
    work_fd = eventfd(0, EFD_CLOEXEC);
    if (work_fd < 0)
        return -errno;
    result_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (result_fd < 0)
        return -errno;
    sync->work_fd = work_fd;
    sync->result_fd = result_fd;
    sync->operations = operations != NULL ? *operations : default_operations;
    int r = sync_start(sync);
    if (r < 0)
        return r;
    TAKE_FD(work_fd);
    TAKE_FD(result_fd);
    *ret = TAKE_PTR(sync);
    return 0;
}

Sync *sync_free(Sync *sync)
{
    if (sync == NULL)
        return NULL;
    atomic_store_explicit(&sync->stop, true, memory_order_release);
    (void)eventfd_write(sync->work_fd, 1);
    pthread_join(sync->thread, NULL);
    close(sync->work_fd);
    close(sync->result_fd);
    free(sync);
    return NULL;
}

static int sync_submit_slot(Sync *sync, const SyncSlot *slot)
{
    uint64_t submitted = atomic_load_explicit(&sync->submitted, memory_order_relaxed);

    if (submitted - sync->taken >= SYNC_QUEUE_MAX)
        return -EAGAIN;
    sync->slots[submitted % SYNC_QUEUE_MAX] = *slot;
    atomic_store_explicit(&sync->submitted, submitted + 1, memory_order_release);
    (void)eventfd_write(sync->work_fd, 1);
    return 0;
}

int sync_submit(Sync *sync, int fd)
{
    return sync_submit_slot(sync, &(SyncSlot){.fd = fd});
}

int sync_submit_behind(Sync *sync, int fd, uint64_t from, uint64_t to)
{
    return sync_submit_slot(sync, &(SyncSlot){.fd = fd, .from = from, .to = to});
}

int sync_fd(const Sync *sync)
{
    return sync->result_fd;
}

bool sync_take(Sync *sync, int *ret_result)
{
    /* A result that comes after this look rings again. */
    if (sync->taken == atomic_load_explicit(&sync->done, memory_order_acquire))
        return false;
    *ret_result = sync->slots[sync->taken % SYNC_QUEUE_MAX].result;
    sync->taken++;
    return true;
}

uint64_t sync_took_usec(const Sync *sync)
{
    return sync->slots[(sync->taken - 1) % SYNC_QUEUE_MAX].took_usec;
}

void sync_wait(Sync *sync)
{
    struct pollfd poll_fd = {.fd = sync->result_fd, .events = POLLIN};
    eventfd_t count;

    while (atomic_load_explicit(&sync->done, memory_order_acquire) !=
           atomic_load_explicit(&sync->submitted, memory_order_relaxed)) {
        (void)poll(&poll_fd, 1, -1);
        (void)eventfd_read(sync->result_fd, &count);
    }
    /* What was read here may have been the ring of a result that nobody took. */
    if (sync_pending(sync) > 0)
        (void)eventfd_write(sync->result_fd, 1);
}

unsigned sync_pending(const Sync *sync)
{
    return (unsigned)(atomic_load_explicit(&sync->submitted, memory_order_relaxed) - sync->taken);
}

void sync_reset(Sync *sync)
{
    atomic_store_explicit(&sync->failed, false, memory_order_relaxed);
}
