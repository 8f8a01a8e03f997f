/* What a connection sent and what is not worked off yet: bytes, framing, and the scan of the
 * message in front.
 *
 * Nearly always what was read in a turn is also worked off in it. So bytes are read into a block
 * that all connections share, and only what is left at the end of the turn moves into memory of the
 * connection's own: an idle connection holds none. */
#pragma once

#include <sys/types.h>

#include "base/buffer.h"
#include "base/common.h"
#include "protocol/scan.h"

#define INPUT_SPARE_SCANS 32

/* What the inputs of a server share. */
typedef struct InputShared {
    Pool *pool;
    char *block; /* of SERVER_READ_BYTES at least */
    size_t block_size;
    Scan *spare[INPUT_SPARE_SCANS];
    unsigned spare_count;
} InputShared;

typedef struct Input {
    Buffer own;
    const char *data; /* what is not worked off, in own or (borrowed) in the shared block */
    size_t size;
    size_t message_size; /* of the message in front, once it is complete */
    size_t fed;          /* how much of it the scan was given */
    Scan *scan; /* of the message in front; between messages kept until the end of the turn */
    bool borrowed;
    bool begun;      /* the message in front is being scanned */
    bool complete;   /* up to its closing brace */
    bool framed;     /* the first message has shown how messages end */
    char terminator; /* '\0' until then */
} Input;

typedef enum InputResult {
    INPUT_NONE,     /* no complete message */
    INPUT_LATER,    /* not known yet: call again in another turn */
    INPUT_MESSAGE,  /* a message; stays in front until input_consume */
    INPUT_BAD,      /* no JSON object, or not ended as it must be */
    INPUT_TOO_LONG, /* longer than allowed */
    INPUT_NO_MEMORY,
} InputResult;

int input_shared_init(InputShared *shared, Pool *pool);
void input_shared_deinit(InputShared *shared);

void input_init(Input *input, Pool *pool);
/* Forgets everything and gives all memory back; the input stays usable. */
void input_clear(Input *input, InputShared *shared);

/* Reads once, at most SERVER_READ_BYTES. room: how much the own buffer may grow. Bytes read; 0 at
 * the end of the stream; -EAGAIN; -ENOBUFS where room does not do, -ENOMEM; other errors of
 * recv(2). */
ssize_t input_receive(Input *input, InputShared *shared, int fd, uint64_t room);
/* The message in front. Goes on with its scan where the last call stopped. ret_reason: for
 * INPUT_BAD. */
InputResult input_next(Input *input, InputShared *shared, uint64_t bytes_max, Bytes *ret_message,
                       const char **ret_reason);
/* The message in front and its terminator are done with. */
void input_consume(Input *input);
/* End of a turn: the shared block is about to be used by others. 0, -ENOBUFS or -ENOMEM; the input
 * is to be cleared then. */
int input_keep(Input *input, InputShared *shared, uint64_t room);

/* What it takes over the turn: its bytes, and what the scan of the message in front keeps of them.
 */
static inline size_t input_memory(const Input *input)
{
    return input->own.capacity + (input->scan != NULL ? scan_memory(input->scan) : 0);
}

/* A message has begun, and its end is not there yet. Known after input_next said INPUT_NONE. */
static inline bool input_partial(const Input *input)
{
    return input->begun && !(input->complete && input->size > input->message_size);
}
