/* Input of a connection: reading, framing, scanning.
 *
 * A turn: input_receive, then input_next and input_consume for each message, then input_keep. The
 * scan object is taken when a message begins, serves all messages of the turn, and goes back to the
 * spares at its end unless a message is still in front (incomplete, parked, or streaming its
 * replies). A message ends behind its closing brace; the byte behind the first one, NUL or newline,
 * is what ends every message of that connection.
 *
 * What can go wrong: the text is no JSON object or its end is another byte (INPUT_BAD), it gets too
 * long, memory. */
#include "server/input.h"

#include <sys/socket.h>

#include "base/clock.h"
#include "server/server.h"

#define READ_FIRST                                                                                 \
    (16 * KIB) /* room for the first read into an own buffer; doubles with what has gathered */
#define READ_ON (16 * KIB)   /* of a message that has begun, before others have their turn */
#define READ_LEAST (4 * KIB) /* less room than this is not worth a system call */
#define FEED_BYTES (4 * KIB) /* between two looks at the clock */
#define FEED_USEC 50         /* of scanning, before others have their turn */

int input_shared_init(InputShared *shared, Pool *pool)
{
    *shared = (InputShared){.pool = pool};
    shared->block = pool_take(pool, SERVER_READ_BYTES, &shared->block_size);
    return shared->block != NULL ? 0 : -ENOMEM;
}

void input_shared_deinit(InputShared *shared)
{
    while (shared->spare_count > 0)
        scan_free(shared->spare[--shared->spare_count]);
    pool_give(shared->pool, shared->block, shared->block_size);
    shared->block = NULL;
}

static Scan *input_take_scan(InputShared *shared)
{
    Scan *scan = NULL;
    if (shared->spare_count > 0)
        return shared->spare[--shared->spare_count];
    return scan_new(shared->pool, &scan) < 0 ? NULL : scan;
}

static void input_give_scan(Input *input, InputShared *shared)
{
    Scan *scan = TAKE_PTR(input->scan);
    if (scan == NULL)
        return;
    if (shared->spare_count < INPUT_SPARE_SCANS)
        shared->spare[shared->spare_count++] = scan;
    else
        scan_free(scan);
}

void input_init(Input *input, Pool *pool)
{
    *input = (Input){0};
    buffer_init(&input->own, pool);
}

void input_clear(Input *input, InputShared *shared)
{
    input_give_scan(input, shared);
    buffer_clear(&input->own);
    input->data = NULL;
    input->size = 0;
    input->begun = false;
    input->complete = false;
    input->borrowed = false;
}

static void input_look_at_own(Input *input)
{
    input->borrowed = false;
    input->size = buffer_size(&input->own);
    input->data = input->size > 0 ? buffer_begin(&input->own) : NULL;
}

/* Makes room for size more bytes in the own buffer, if it need not grow by more than room. */
static int input_reserve(Input *input, size_t size, uint64_t room)
{
    Buffer *own = &input->own;
    size_t needed = POOL_BLOCK_MIN;

    /* The pool's blocks are powers of two. */
    while (needed < buffer_size(own) + size)
        needed *= 2;
    if (needed > own->capacity && needed - own->capacity > room)
        return -ENOBUFS;
    if (buffer_reserve(own, size) == NULL) {
        own->failed = false;
        return -ENOMEM;
    }
    return 0;
}

static ssize_t input_receive_own(Input *input, int fd, uint64_t room)
{
    Buffer *own = &input->own;

    /* A message that just fits into the block it has gathered in should not double it for its last
     * bytes. */
    if (own->capacity - own->end < READ_LEAST) {
        size_t more = MIN(MAX(buffer_size(own), READ_FIRST), SERVER_READ_BYTES);
        int r = input_reserve(input, more, room);
        if (r < 0)
            return r;
    }

    ssize_t n = recv(fd, own->data + own->end, MIN(own->capacity - own->end, READ_ON), 0);
    if (n < 0)
        n = -errno;
    else
        own->end += (size_t)n;
    input_look_at_own(input);
    return n;
}

ssize_t input_receive(Input *input, InputShared *shared, int fd, uint64_t room)
{
    if (input->size > 0)
        return input_receive_own(input, fd, room);

    ssize_t n = recv(fd, shared->block, SERVER_READ_BYTES, 0);
    if (n < 0)
        return -errno;
    input->data = shared->block;
    input->size = (size_t)n;
    input->borrowed = true;
    return n;
}

static void input_drop(Input *input, size_t size)
{
    if (!input->borrowed) {
        buffer_consume(&input->own, size);
        input_look_at_own(input);
        return;
    }
    input->data += size;
    input->size -= size;
}

static bool is_space(char byte)
{
    return byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r';
}

/* White space before a message says nothing yet: empty lines, or somebody at a terminal who pressed
 * return. */
static InputResult input_begin(Input *input, InputShared *shared, const char **ret_reason)
{
    size_t spaces = 0;
    while (spaces < input->size && is_space(input->data[spaces]))
        spaces++;
    if (spaces > 0)
        input_drop(input, spaces);
    if (input->size == 0)
        return INPUT_NONE;
    if (input->data[0] != '{') {
        *ret_reason = "the message is no JSON object";
        return INPUT_BAD;
    }

    if (input->scan == NULL)
        input->scan = input_take_scan(shared);
    if (input->scan == NULL)
        return INPUT_NO_MEMORY;
    scan_start(input->scan, 2, SCAN_DEPTH_MAX);
    input->begun = true;
    input->fed = 0;
    return INPUT_MESSAGE;
}

/* As much as takes about FEED_USEC; text of short tokens takes ten times as long as one long
 * string. */
static int input_feed(Input *input)
{
    uint64_t end = 0, now = 0;
    int r;

    do {
        size_t left = input->size - input->fed;

        input->fed += MIN(left, FEED_BYTES);
        r = scan_feed(input->scan, input->data, input->fed);
        if (r != SCAN_MORE || left <= FEED_BYTES)
            break;
        now = clock_monotonic();
        if (end == 0)
            end = now + FEED_USEC;
    } while (now < end);
    return r;
}

static InputResult input_scan(Input *input, InputShared *shared, uint64_t bytes_max,
                              const char **ret_reason)
{
    if (!input->begun) {
        InputResult result = input_begin(input, shared, ret_reason);
        if (result != INPUT_MESSAGE)
            return result;
    }
    switch (input_feed(input)) {
    case SCAN_MORE:
        if (input->fed < input->size)
            return INPUT_LATER;
        return input->size > bytes_max ? INPUT_TOO_LONG : INPUT_NONE;
    case SCAN_DONE:
        input->message_size = scan_end(input->scan);
        input->complete = true;
        return input->message_size > bytes_max ? INPUT_TOO_LONG : INPUT_MESSAGE;
    default:
        *ret_reason = scan_reason(input->scan);
        return INPUT_BAD;
    }
}

InputResult input_next(Input *input, InputShared *shared, uint64_t bytes_max, Bytes *ret_message,
                       const char **ret_reason)
{
    if (!input->complete) {
        InputResult result = input_scan(input, shared, bytes_max, ret_reason);
        if (result != INPUT_MESSAGE)
            return result;
    }
    if (input->size == input->message_size)
        return INPUT_NONE;

    char behind = input->data[input->message_size];
    if (!input->framed && behind == '\n')
        input->terminator = '\n';
    if (behind != input->terminator) {
        *ret_reason = input->terminator == '\0' ? "the message is not followed by a NUL byte"
                                                : "the message is not followed by a newline";
        return INPUT_BAD;
    }
    input->framed = true;
    *ret_message = BYTES(input->data, input->message_size);
    return INPUT_MESSAGE;
}

void input_consume(Input *input)
{
    input_drop(input, input->message_size + 1);
    input->begun = false;
    input->complete = false;
}

int input_keep(Input *input, InputShared *shared, uint64_t room)
{
    if (!input->begun)
        input_give_scan(input, shared);
    if (input->size == 0) {
        buffer_clear(&input->own);
        input_look_at_own(input);
        return 0;
    }
    if (!input->borrowed)
        return 0;

    int r = input_reserve(input, input->size, room);
    if (r < 0)
        return r;
    buffer_append(&input->own, input->data, input->size);
    input_look_at_own(input);
    return 0;
}
