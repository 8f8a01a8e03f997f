/* Output of a connection: a buffer, and notes about places in it.
 *
 * The handler appends to data, output_commit closes the reply, output_send gives to the socket what
 * comes before the first reply that is still held. Revisions grow along the output, so the holds
 * are a queue and only its head is looked at.
 *
 * What can go wrong: want of memory (output_commit takes the reply out, its connection cannot go
 * on), and what send(2) says. */
#include "server/output.h"

#include <sys/socket.h>

void output_init(Output *output, Pool *pool)
{
    *output = (Output){0};
    buffer_init(&output->data, pool);
    buffer_init(&output->holds, pool);
    buffer_init(&output->files, pool);
}

static OutputHold *output_first_hold(const Output *output)
{
    return buffer_size(&output->holds) > 0 ? (OutputHold *)buffer_begin(&output->holds) : NULL;
}

static OutputFile *output_first_file(const Output *output)
{
    return buffer_size(&output->files) > 0 ? (OutputFile *)buffer_begin(&output->files) : NULL;
}

void output_deinit(Output *output)
{
    OutputFile *file = output_first_file(output);
    for (size_t i = 0; i < output_files(output); i++)
        close(file[i].fd);
    buffer_clear(&output->data);
    buffer_clear(&output->holds);
    buffer_clear(&output->files);
}

void output_discard(Output *output)
{
    buffer_truncate(&output->data, output->committed - output->base);
    output->data.failed = false;

    size_t count = output_files(output);
    OutputFile *files = output_first_file(output);
    while (count > 0 && files[count - 1].place >= output->committed)
        close(files[--count].fd);
    buffer_truncate(&output->files, count * sizeof(OutputFile));
}

int output_commit(Output *output, uint64_t revision)
{
    uint64_t end = output->base + buffer_size(&output->data);
    OutputHold hold = {.begin = output->committed, .end = end, .revision = revision};

    if (output->data.failed) {
        output_discard(output);
        return -ENOMEM;
    }
    if (revision > 0 && hold.end > hold.begin) {
        buffer_append(&output->holds, &hold, sizeof(hold));
        if (output->holds.failed) {
            output->holds.failed = false;
            output_discard(output);
            return -ENOMEM;
        }
    }
    if (_unlikely_(hold.end == hold.begin))
        output_discard(output); /* descriptors need a byte to go with */
    output->committed = end;
    return 0;
}

int output_attach(Output *output, int fd)
{
    OutputFile file = {.place = output->committed, .fd = fd};
    const OutputFile *files = output_first_file(output);
    size_t count = output_files(output);

    if (count >= OUTPUT_FILES_A_REPLY && files[count - OUTPUT_FILES_A_REPLY].place == file.place) {
        close(fd);
        return -E2BIG;
    }
    buffer_append(&output->files, &file, sizeof(file));
    if (output->files.failed) {
        output->files.failed = false;
        close(fd);
        return -ENOMEM;
    }
    return 0;
}

static void output_release(Output *output, uint64_t durable)
{
    OutputHold *hold;
    while ((hold = output_first_hold(output)) != NULL && hold->revision <= durable)
        buffer_consume(&output->holds, sizeof(OutputHold));
}

/* Bytes that may leave with one call: up to what is held, and up to the next descriptor that does
 * not belong to the first of them. ret_files: how many descriptors do. */
static size_t output_piece(const Output *output, size_t *ret_files)
{
    const OutputHold *hold = output_first_hold(output);
    const OutputFile *files = output_first_file(output);
    uint64_t end = hold != NULL ? MIN(hold->begin, output->committed) : output->committed;
    size_t mine = 0;

    for (size_t i = 0; i < output_files(output); i++) {
        if (files[i].place == output->base) {
            mine++;
            continue;
        }
        end = MIN(end, files[i].place);
        break;
    }
    *ret_files = mine;
    return end - output->base;
}

static ssize_t output_send_files(Output *output, int socket_fd, size_t size, size_t count)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(OUTPUT_FILES_A_REPLY * sizeof(int))];
    } control = {0};
    struct iovec bytes = {.iov_base = buffer_begin(&output->data), .iov_len = size};
    struct msghdr message = {
        .msg_iov = &bytes,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = CMSG_SPACE(count * sizeof(int)),
    };
    const OutputFile *files = output_first_file(output);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    for (size_t i = 0; i < count; i++)
        memcpy(CMSG_DATA(header) + i * sizeof(int), &files[i].fd, sizeof(int));

    ssize_t n = sendmsg(socket_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return -errno;
    for (size_t i = 0; i < count; i++)
        close(files[i].fd);
    buffer_consume(&output->files, count * sizeof(OutputFile));
    return n;
}

static ssize_t output_send_piece(Output *output, int socket_fd, size_t size, size_t files)
{
    ssize_t n;

    if (_unlikely_(files > 0)) {
        n = output_send_files(output, socket_fd, size, files);
    } else {
        n = send(socket_fd, buffer_begin(&output->data), size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0)
            n = -errno;
    }
    if (n > 0) {
        buffer_consume(&output->data, (size_t)n);
        output->base += (uint64_t)n;
    }
    return n;
}

int output_send(Output *output, int socket_fd, uint64_t durable)
{
    size_t size, files;

    output_release(output, durable);
    while ((size = output_piece(output, &files)) > 0) {
        ssize_t n = output_send_piece(output, socket_fd, size, files);
        if (n == -EAGAIN || n == -ENOBUFS || n == -EINTR)
            return OUTPUT_STUCK;
        if (n < 0)
            return (int)n;
        if ((size_t)n < size)
            return OUTPUT_STUCK;
    }
    if (output_unsent(output) == 0) {
        buffer_clear(&output->data);
        buffer_clear(&output->holds);
        buffer_clear(&output->files);
    }
    return OUTPUT_SENT;
}

/* Writing the output anew, with some replies replaced. */
typedef struct Rewrite {
    const Output *old;
    Output new;
    uint64_t at; /* place in the old data up to which all is written */
    size_t file; /* first descriptor that is not moved yet */
} Rewrite;

static uint64_t rewrite_place(const Rewrite *rewrite)
{
    return rewrite->new.base + buffer_size(&rewrite->new.data);
}

/* Descriptors of what lies before upto stay as far behind the last byte that was written as they
 * were. */
static void rewrite_files(Rewrite *rewrite, uint64_t upto)
{
    const OutputFile *files = output_first_file(rewrite->old);

    for (; rewrite->file < output_files(rewrite->old); rewrite->file++) {
        OutputFile moved = files[rewrite->file];
        if (moved.place >= upto)
            return;
        moved.place = rewrite_place(rewrite) + (moved.place - rewrite->at);
        buffer_append(&rewrite->new.files, &moved, sizeof(moved));
    }
}

static void rewrite_copy(Rewrite *rewrite, uint64_t upto)
{
    const Output *old = rewrite->old;

    if (upto == rewrite->at)
        return;
    rewrite_files(rewrite, upto);
    buffer_append(&rewrite->new.data, buffer_begin(&old->data) + (rewrite->at - old->base),
                  upto - rewrite->at);
    rewrite->at = upto;
}

static void rewrite_held(Rewrite *rewrite, const OutputHold *hold)
{
    OutputHold moved = {.revision = hold->revision};

    moved.begin = rewrite_place(rewrite);
    rewrite_copy(rewrite, hold->end);
    moved.end = rewrite_place(rewrite);
    buffer_append(&rewrite->new.holds, &moved, sizeof(moved));
}

static int rewrite_finish(Rewrite *rewrite, Output *output)
{
    Output *new = &rewrite->new;

    rewrite_copy(rewrite, output->committed);
    new->committed = rewrite_place(rewrite);
    rewrite_copy(rewrite, output->base + buffer_size(&output->data));
    rewrite_files(rewrite, UINT64_MAX); /* of a reply that is not begun */

    /* The descriptors belong to whichever of the two stays. */
    bool failed = new->data.failed || new->holds.failed || new->files.failed;
    Output *gone = failed ? new : output;
    buffer_truncate(&gone->files, 0);
    output_deinit(gone);
    if (failed)
        return -ENOMEM;
    *output = *new;
    return 0;
}

int output_fail(Output *output, uint64_t durable, uint64_t failed_to, OutputReplace replace,
                void *context)
{
    Rewrite rewrite = {.old = output, .at = output->base};

    output_release(output, durable);
    const OutputHold *holds = output_first_hold(output);
    size_t count = buffer_size(&output->holds) / sizeof(OutputHold);
    if (count == 0 || holds[0].revision > failed_to)
        return 0;

    output_init(&rewrite.new, output->data.pool);
    rewrite.new.base = output->base;
    for (size_t i = 0; i < count; i++) {
        rewrite_copy(&rewrite, holds[i].begin);
        if (holds[i].revision > failed_to) {
            rewrite_held(&rewrite, &holds[i]);
            continue;
        }
        rewrite_files(&rewrite, holds[i].end);
        replace(context, &rewrite.new.data, holds[i].revision);
        rewrite.at = holds[i].end;
    }
    return rewrite_finish(&rewrite, output);
}

size_t output_capacity(const Output *output)
{
    return output->data.capacity + output->holds.capacity + output->files.capacity;
}
