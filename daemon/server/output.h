/* What a connection is to be sent: replies in the order of its calls, which of them must wait for a
 * revision to be durable, and descriptors that go with one.
 *
 * Places are counted from the first byte that was ever written, so that sending moves none of them.
 * Behind `committed` lies what the current call has written so far; it does not leave before
 * output_commit. */
#pragma once

#include "base/buffer.h"
#include "base/common.h"

typedef struct OutputHold {
    uint64_t begin;
    uint64_t end;
    uint64_t revision;
} OutputHold;

typedef struct OutputFile {
    uint64_t place; /* leaves with the byte here */
    int fd;
} OutputFile;

typedef struct Output {
    Buffer data;
    Buffer holds;  /* OutputHold, in the order of their places */
    Buffer files;  /* OutputFile, likewise */
    uint64_t base; /* place of the first byte in data */
    uint64_t committed;
} Output;

typedef enum OutputResult {
    OUTPUT_SENT = 0, /* all that may leave has left */
    OUTPUT_STUCK,    /* the socket takes no more for now */
} OutputResult;

void output_init(Output *output, Pool *pool);
void output_deinit(Output *output);

/* The reply written since the last commit is whole. revision: it waits until that is durable; 0: it
 * does not wait. -ENOMEM where it could not be written or noted whole: it is taken out again. */
int output_commit(Output *output, uint64_t revision);
/* Takes out what was written since the last commit. */
void output_discard(Output *output);
#define OUTPUT_FILES_A_REPLY 8
/* Sends fd with the first byte written since the last commit. Takes fd, also on error: -ENOMEM, or
 * -E2BIG above OUTPUT_FILES_A_REPLY. */
int output_attach(Output *output, int fd);

/* Sends what may leave when all up to durable is: one system call, and one more for each
 * descriptor. An OutputResult or a negative errno. */
int output_send(Output *output, int socket_fd, uint64_t durable);

/* Writes another reply in place of one held for that revision. */
typedef void (*OutputReplace)(void *context, Buffer *out, uint64_t revision);
/* Replaces the replies that are held for a revision above durable and up to failed_to. 0 or
 * -ENOMEM, then nothing has changed. */
int output_fail(Output *output, uint64_t durable, uint64_t failed_to, OutputReplace replace,
                void *context);

/* Bytes of memory that it takes. */
size_t output_capacity(const Output *output);

static inline size_t output_unsent(const Output *output)
{
    return buffer_size(&output->data);
}

/* The revision that the last of the held replies waits for, and all that follows with it; 0: none
 * is held. */
static inline uint64_t output_last_hold(const Output *output)
{
    size_t size = buffer_size(&output->holds);

    return size > 0 ? ((const OutputHold *)(buffer_begin(&output->holds) + size))[-1].revision : 0;
}

static inline size_t output_files(const Output *output)
{
    return buffer_size(&output->files) / sizeof(OutputFile);
}
