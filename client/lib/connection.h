/* The inside of a connection: bytes out, messages in, and the account of which replies are still to
 * come.
 *
 * A call is appended to `out` as one message (hf_call_begin, its parameters, hf_call_end) and
 * leaves with the next flush or receive. What arrives lies in `in`, one message after the other; a
 * reply is handed out as a place in there and given up when the next one is asked for.
 *
 * A descriptor comes with OpenArena alone, and only while the one call that is outstanding is one:
 * then the last that came is its, and others are of calls that were given up. */
#pragma once

#include <holdfast.h>

#include "output.h"
#include "text.h"

#define HF_INTERFACE "io.holdfast"
/* Beyond a call's longest parameters, and beyond a reply's. */
#define HF_MESSAGE_SLACK (64u << 10)
/* What is buffered of replies that nobody receives while a send is stuck. */
#define HF_BUFFERED_MAX (64u << 20)
/* What is gathered of calls before it is sent. */
#define HF_GATHER_BYTES (256u << 10)
/* A timeout, and a deadline, that never comes. */
#define HF_FOR_EVER UINT64_MAX

struct HoldfastConnection {
    int fd;
    char *path;      /* as it was connected to; NULL: it was connected by somebody else */
    int passed_fd;   /* the last descriptor received; -1: none */
    bool takes_fds;  /* an OpenArena was called: descriptors are received, not thrown away */
    int dead;        /* the negative errno that ended it; 0: alive */
    int write_error; /* sending failed; what the daemon still had to say is read first */
    uint64_t timeout_usec;
    HfOutput out;
    size_t call_begin; /* bytes in `out` before the call that is being built */

    char *in;
    size_t in_capacity;
    size_t in_begin;    /* first byte not given up */
    size_t in_end;      /* behind the last byte received */
    size_t in_scanned;  /* no NUL before this */
    size_t message_end; /* behind the message handed out; in_begin where there is none */

    size_t outstanding; /* calls whose last reply was not received */
    size_t unwanted;    /* the first of them, which nobody waits for */

    const char *error_name; /* in the buffer, or a literal */
    const char *error_parameters;
};

/* A reply as it lies in the buffer. parameters: an object, "{}" where there were none; the bytes
 * are the library's to change. */
typedef struct HfReply {
    HoldfastText parameters;
    bool continues;
} HfReply;

/* Begins a call of a method of the interface; what is appended to connection->out until hf_call_end
 * are its parameters, with their braces. Returns 0 or what killed the connection. */
int hf_call_begin(HoldfastConnection *connection, const char *method, unsigned flags);
/* Ends it: 0, or why the call cannot be sent (and then nothing of it is left). Replies are expected
 * from here on. */
int hf_call_end(HoldfastConnection *connection, unsigned flags);

/* CLOCK_MONOTONIC. */
uint64_t hf_now_usec(void);
/* The point in time at which a wait that begins now ends; HF_FOR_EVER: never. */
uint64_t hf_deadline(const HoldfastConnection *connection);
/* Sends all that was gathered. 0, -ETIMEDOUT, -ENOBUFS, or what killed the connection. */
int hf_flush(HoldfastConnection *connection, uint64_t deadline);
/* The next reply that somebody wants. As holdfast_receive. */
int hf_receive(HoldfastConnection *connection, uint64_t deadline, HfReply *ret);
/* As hf_call_begin, for a call that waits for its reply: not while others are outstanding. */
int hf_call_begin_alone(HoldfastConnection *connection, const char *method, unsigned flags);
/* As that, and begins the parameters with a name. opening: what stands before it, {"arena": in the
 * message of most. */
int hf_call_begin_named(HoldfastConnection *connection, const char *method, unsigned flags,
                        const char *opening, const char *name);
/* The two together: ends the call, and waits. */
int hf_call_finish(HoldfastConnection *connection, HfReply *ret);
/* The reply of the one call that was just ended; on a timeout the call is given up. */
int hf_wait(HoldfastConnection *connection, HfReply *ret);
/* A call without parameters, and its reply. */
int hf_call_simple(HoldfastConnection *connection, const char *method, HfReply *ret);
/* Members of an object, by their names; an absent one has no data. 0 or -EBADMSG. */
int hf_members(HoldfastText object, const char *const names[], HoldfastText values[], size_t count);
/* Ends the text where it lies, in the reply that it is part of (all bytes of which are in the
 * buffer). */
const char *hf_terminate(HoldfastText text);
/* Turns a string, as it lies in the reply, into its characters, in the same place and ended.
 * -EBADMSG: it is none. */
int hf_unquote(HoldfastText *string);
/* Nobody waits for the rest of the oldest call any more. */
void hf_give_up(HoldfastConnection *connection);
/* Notes what ended the connection and returns it. */
int hf_kill(HoldfastConnection *connection, int error);
/* The texts of the last error go before the buffer moves. */
void hf_forget_error(HoldfastConnection *connection);
/* -EBUSY where replies are outstanding that a blocking call would have to skip. */
int hf_check_idle(const HoldfastConnection *connection);

/* The path that the connection leads to, for another one like it; the caller frees it. */
int hf_path(const HoldfastConnection *connection, char **ret);

/* One reply of a stream; 0 to go on, anything else gives the rest up. */
typedef int (*HfReplyFunction)(void *context, HfReply *reply);
/* Hands on the replies of the one call that was just ended with HOLDFAST_MORE. */
int hf_stream(HoldfastConnection *connection, HfReplyFunction function, void *context);
