/* Reads the blocks of an image: to restore an arena from them, or only to check them.
 *
 * Each block is read into a buffer that is used again, checked there, unpacked if need be, and its
 * runs are written to the arena's memfd. Nothing is mapped: a first touch of a page of a fresh
 * mapping costs more than reading and writing it. Blocks do not depend on each other, so a large
 * arena is filled by two threads, each with buffers of its own, that take the next block from a
 * common count; the caller's thread is one of them and the only one to tell progress.
 *
 * A block that fails its check ends the pass with -EBADMSG and the place in reader->fault; the
 * memfd is closed. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <zstd.h>

#include "base/file.h"
#include "checkpoint/image-reader.h"

/* Below this many pages a second thread does not pay. */
#define SECOND_THREAD_PAGES ((64 * MIB) / HOLDFAST_PAGE_BYTES)

/* One way through the blocks. */
typedef struct Pass {
    const ImageReader *reader;
    bool all;       /* all blocks, and the padding before them */
    uint32_t arena; /* else: the blocks of this one */
    int memfd;      /* where their pages go; -1: nowhere */
    uint64_t pages_total;

    ImageProgress progress;
    void *context;

    atomic_uint_fast64_t next_block;
    atomic_uint_fast64_t pages_done;
    atomic_bool ended; /* something went wrong: take no more blocks */
    pthread_mutex_t lock;
    int result; /* under lock, as is fault: of what went wrong first */
    ImageFault fault;
} Pass;

/* What one thread needs. */
typedef struct Worker {
    Pass *pass;
    char *stored; /* padding and a block as it is in the file */
    char *pages;  /* a block unpacked */
    ZSTD_DCtx *zstd;
} Worker;

static int worker_init(Worker *worker, Pass *pass)
{
    *worker = (Worker){.pass = pass};
    worker->stored = malloc(HOLDFAST_RAW_ALIGNMENT + IMAGE_BLOCK_BYTES);
    if (worker->stored == NULL)
        return -ENOMEM;
    if (!pass->reader->spec.zstd)
        return 0;
    worker->pages = malloc(IMAGE_BLOCK_BYTES);
    worker->zstd = ZSTD_createDCtx();
    return worker->pages == NULL || worker->zstd == NULL ? -ENOMEM : 0;
}

static void worker_deinit(Worker *worker)
{
    free(worker->stored);
    free(worker->pages);
    ZSTD_freeDCtx(worker->zstd);
}

/* --- one block */

static int block_damaged(ImageFault *fault, uint64_t number, const HoldfastImageBlock *block,
                         const char *why)
{
    (void)snprintf(fault->where, sizeof(fault->where), "block %llu at offset %llu",
                   (unsigned long long)number, (unsigned long long)block->offset);
    fault->why = why;
    return -EBADMSG;
}

static bool is_zero(const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (data[i] != 0)
            return false;
    return true;
}

/* Where the block before this one ends, or the head before the first. */
static uint64_t end_before(const ImageReader *reader, uint64_t number)
{
    const HoldfastImageBlock *before;

    if (number == 0)
        return reader->footer.head_bytes;
    before = &reader->blocks[number - 1];
    return before->offset + before->stored_bytes;
}

/* Reads a block and checks it. ret_data: its pages, in memory of the worker. */
static int read_block(Worker *worker, uint64_t number, const char **ret_data, ImageFault *fault)
{
    const ImageReader *reader = worker->pass->reader;
    const HoldfastImageBlock *block = &reader->blocks[number];
    size_t bytes = (size_t)block->pages * HOLDFAST_PAGE_BYTES;
    size_t padding = worker->pass->all ? block->offset - end_before(reader, number) : 0;
    const char *data = worker->stored + padding;
    int r;

    r = file_read_at(reader->fd, worker->stored, padding + block->stored_bytes,
                     block->offset - padding);
    if (r == -ENODATA)
        return block_damaged(fault, number, block, "the file ends in it");
    if (r < 0)
        return r;
    if (!is_zero(worker->stored, padding))
        return block_damaged(fault, number, block, "the padding before it is not zero");
    if (image_block_checksum(reader->footer.head_checksum, block, data) != block->checksum)
        return block_damaged(fault, number, block, "checksum does not match");
    if (block->encoding == HOLDFAST_BLOCK_ZSTD) {
        if (ZSTD_decompressDCtx(worker->zstd, worker->pages, bytes, data, block->stored_bytes) !=
            bytes)
            return block_damaged(fault, number, block, "it does not unpack to its pages");
        data = worker->pages;
    }
    *ret_data = data;
    return 0;
}

static int write_runs(const Pass *pass, const HoldfastImageBlock *block, const char *data)
{
    const HoldfastImageRun *run = &pass->reader->runs[block->first_run];

    for (uint32_t i = 0; i < block->runs; i++, run++) {
        size_t bytes = (size_t)run->count * HOLDFAST_PAGE_BYTES;
        int r = file_write_at(pass->memfd, data, bytes, (uint64_t)run->first * HOLDFAST_PAGE_BYTES);

        if (r < 0)
            return r;
        data += bytes;
    }
    return 0;
}

static int take_block(Worker *worker, uint64_t number, ImageFault *fault)
{
    Pass *pass = worker->pass;
    const HoldfastImageBlock *block = &pass->reader->blocks[number];
    const char *data;
    int r = read_block(worker, number, &data, fault);

    if (r < 0)
        return r;
    if (pass->memfd >= 0) {
        r = write_runs(pass, block, data);
        if (r < 0)
            return r;
    }
    atomic_fetch_add(&pass->pages_done, block->pages);
    return 0;
}

/* --- a pass */

static void pass_fail(Pass *pass, int result, const ImageFault *fault)
{
    pthread_mutex_lock(&pass->lock);
    if (pass->result == 0) {
        pass->result = result;
        if (result == -EBADMSG)
            pass->fault = *fault;
    }
    pthread_mutex_unlock(&pass->lock);
    atomic_store(&pass->ended, true);
}

/* Takes blocks until there are no more. telling: this thread tells progress. */
static void work(Worker *worker, bool telling)
{
    Pass *pass = worker->pass;
    ImageFault fault = {.why = ""};

    while (!atomic_load(&pass->ended)) {
        uint64_t number = atomic_fetch_add(&pass->next_block, 1);
        int r;

        if (number >= pass->reader->footer.blocks)
            return;
        if (!pass->all && pass->reader->blocks[number].arena != pass->arena)
            continue;
        r = take_block(worker, number, &fault);
        if (r >= 0 && telling && pass->progress != NULL &&
            !pass->progress(pass->context, atomic_load(&pass->pages_done), pass->pages_total))
            r = -ECANCELED;
        if (r < 0)
            pass_fail(pass, r, &fault);
    }
}

static void *second_thread(void *context)
{
    work(context, false);
    return NULL;
}

/* Signals are the loop's: none is taken by the new thread. */
static int start_thread(pthread_t *thread, Worker *worker)
{
    sigset_t all;
    sigset_t before;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(thread, NULL, second_thread, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -r;
}

/* Without a second thread, or without memory for it, the first does all. */
static int work_together(Pass *pass)
{
    Worker first;
    Worker second = {};
    pthread_t thread;
    bool helped;
    int r = worker_init(&first, pass);

    if (r < 0) {
        worker_deinit(&first);
        return r;
    }
    helped = pass->memfd >= 0 && pass->pages_total >= SECOND_THREAD_PAGES &&
             worker_init(&second, pass) >= 0 && start_thread(&thread, &second) >= 0;
    work(&first, true);
    if (helped)
        pthread_join(thread, NULL);
    worker_deinit(&first);
    worker_deinit(&second);
    return pass->result;
}

static uint64_t count_pages(const Pass *pass)
{
    const ImageReader *reader = pass->reader;
    uint64_t pages = 0;

    for (uint64_t i = 0; i < reader->footer.blocks; i++)
        if (pass->all || reader->blocks[i].arena == pass->arena)
            pages += reader->blocks[i].pages;
    return pages;
}

static int pass_run(Pass *pass, ImageReader *reader)
{
    int r;

    pass->reader = reader;
    pass->pages_total = count_pages(pass);
    r = pthread_mutex_init(&pass->lock, NULL);
    if (r != 0)
        return -r;
    r = work_together(pass);
    pthread_mutex_destroy(&pass->lock);
    if (r == -EBADMSG)
        reader->fault = pass->fault;
    if (r >= 0 && pass->progress != NULL &&
        !pass->progress(pass->context, pass->pages_total, pass->pages_total))
        r = -ECANCELED;
    return r;
}

int image_reader_restore(ImageReader *reader, size_t index, ImageProgress progress, void *context,
                         int *ret_fd)
{
    _cleanup_(closep) int memfd = -1;
    Pass pass = {.arena = (uint32_t)index, .progress = progress, .context = context};
    int r;

    if (index >= reader->arena_count || !reader->arenas[index].held)
        return -EINVAL;
    r = file_memfd(reader->arenas[index].name, reader->arenas[index].pages * HOLDFAST_PAGE_BYTES,
                   &memfd);
    if (r < 0)
        return r;
    pass.memfd = memfd;
    r = pass_run(&pass, reader);
    if (r < 0)
        return r;
    *ret_fd = TAKE_FD(memfd);
    return 0;
}

/* The padding between the last block and the index, which is before no block. */
static int verify_last_padding(ImageReader *reader)
{
    char padding[HOLDFAST_PACKED_ALIGNMENT];
    uint64_t end = end_before(reader, reader->footer.blocks);
    size_t size = reader->footer.index_offset - end;
    int r = file_read_at(reader->fd, padding, size, end);

    if (r < 0 && r != -ENODATA)
        return r;
    if (r >= 0 && is_zero(padding, size))
        return 0;
    (void)snprintf(reader->fault.where, sizeof(reader->fault.where), "offset %llu",
                   (unsigned long long)end);
    reader->fault.why = "the padding before the index is not zero";
    return -EBADMSG;
}

int image_reader_verify(ImageReader *reader, ImageProgress progress, void *context)
{
    Pass pass = {.all = true, .memfd = -1, .progress = progress, .context = context};
    int r = pass_run(&pass, reader);

    return r < 0 ? r : verify_last_padding(reader);
}
