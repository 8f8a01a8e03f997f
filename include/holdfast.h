/* libholdfast: the client library of holdfast, which keeps application state in shared arenas.
 *
 *     HoldfastConnection *connection;
 *     uint64_t revision;
 *     int r = holdfast_connect(NULL, &connection);
 *
 *     if (r < 0)
 *         return r;
 *     r = holdfast_put(connection, "sessions", "ann", 3, "{\"seen\":1}", 10,
 *                      HOLDFAST_ANY_REVISION, &revision);
 *     if (r == HOLDFAST_ERROR_REMOTE)
 *         fprintf(stderr, "%s %s\n", holdfast_error_name(connection),
 *                 holdfast_error_parameters(connection));
 *     holdfast_disconnect(connection);
 *
 * What the methods mean, and which errors they answer, is told by the interface io.holdfast
 * (`holdfastctl introspect`).
 *
 * Results. Every call that returns int returns
 *
 *   0                      it was done
 *   HOLDFAST_ERROR_REMOTE  the daemon answered an error: holdfast_error_name and
 *                          holdfast_error_parameters have it
 *   a negative errno       it was not done, or nobody knows:
 *
 *     -EINVAL     an argument is wrong, nothing was sent (a text that is not one JSON value, a
 *                 name with a NUL, ...)
 *     -EILSEQ     a key or a name is not UTF-8, nothing was sent
 *     -EMSGSIZE   the call, or the reply, is longer than HOLDFAST_MESSAGE_MAX
 *     -EBUSY      a blocking call while replies to holdfast_send are outstanding, nothing was sent
 *     -ENOBUFS    more replies wait than are buffered: holdfast_receive some; nothing was lost
 *     -ETIMEDOUT  the timeout passed; the call may still be carried out, the connection stays
 *                 usable
 *     -EBADMSG    the daemon's reply makes no sense; the connection is dead
 *     -ENOMEM     no memory; where a reply was under way the connection is dead
 *     other       the connection broke (-EPIPE, -ECONNRESET, ...) and is dead
 *
 * On a dead connection every call returns what killed it. Output parameters are written only where
 * 0 is returned; each may be NULL where it is not wanted.
 *
 * Memory. What is returned as `const char *` lies in the connection's buffer, ends in NUL and is
 * good until the next call on the connection; records (HoldfastArena *, ...) belong to the caller
 * and have a function that frees them. Records are made by the library alone: later versions may
 * add members at their end, so never declare one or take its size.
 *
 * Threads. The library has no global state. A connection may be used by one thread at a time;
 * different connections by different threads at once. Signals that interrupt a call do not end it.
 * SIGPIPE is never raised. A callback must not use the connection that calls it.
 *
 * Revisions and sizes in bytes are below 2^63. Times are microseconds. */
#ifndef HOLDFAST_H
#define HOLDFAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The daemon answered an error. */
#define HOLDFAST_ERROR_REMOTE 1

/* For if_revision: whatever the entry's revision is. 0 is: only if there is no such entry. */
#define HOLDFAST_ANY_REVISION UINT64_MAX

/* A longer message is neither sent nor received. */
#define HOLDFAST_MESSAGE_MAX (16u << 20)

typedef struct HoldfastConnection HoldfastConnection;

/* A range of bytes that belongs to the caller. */
typedef struct HoldfastText {
    const char *data;
    size_t size;
} HoldfastText;

/* --- connecting */

/* Connects to the daemon. path: of its socket; NULL: the user's own
 * ($XDG_RUNTIME_DIR/holdfast.sock) where there is one and the caller is not root, else the system's
 * (/run/holdfast/holdfast.sock). Waits where the daemon's backlog is full. -ENOENT or
 * -ECONNREFUSED: there is no daemon; -EACCES: no right to connect; -ENAMETOOLONG. */
int holdfast_connect(const char *path, HoldfastConnection **ret);
/* Takes over a connected stream socket; owns fd on success only. */
int holdfast_connect_fd(int fd, HoldfastConnection **ret);
/* Closes and frees; NULL is fine. */
void holdfast_disconnect(HoldfastConnection *connection);
/* Writes the path that holdfast_connect(NULL, ...) would use. -ENAMETOOLONG where size is too
 * small. */
int holdfast_default_path(char *path, size_t size);

/* How long a call waits for the daemon, from now on; streams: for each reply. UINT64_MAX (what it
 * is at first): for ever. A call that timed out may still be carried out; its reply is dropped when
 * it comes. */
void holdfast_set_timeout(HoldfastConnection *connection, uint64_t timeout_usec);

/* The error that the last call answered, "io.holdfast.NoSuchArena", and its parameters, a JSON
 * object. Empty text and "{}" where there was none. */
const char *holdfast_error_name(const HoldfastConnection *connection);
const char *holdfast_error_parameters(const HoldfastConnection *connection);
/* Whether the last call answered the error of that name; a name without a dot is one of
 * io.holdfast. */
bool holdfast_error_is(const HoldfastConnection *connection, const char *name);

/* --- calls as text */

/* Calls a method and waits for its reply. method: with its interface, or a name of io.holdfast
 * alone ("Put"). parameters: a JSON object; NULL: none. ret_reply: the reply's parameters as the
 * daemon wrote them. */
int holdfast_call(HoldfastConnection *connection, const char *method, const char *parameters,
                  const char **ret_reply, size_t *ret_length);

/* One reply of a stream. Return 0 to go on; anything else ends the stream and is returned by the
 * call. (There is no way to stop the daemon: what it still sends is dropped when the next reply is
 * read.) */
typedef int (*HoldfastReplyFunction)(void *context, const char *reply, size_t length);
/* Calls a method with "more" and hands each reply to the function, the last one included. */
int holdfast_stream(HoldfastConnection *connection, const char *method, const char *parameters,
                    HoldfastReplyFunction function, void *context);

enum {
    HOLDFAST_MORE = 1 << 0,   /* ask for a stream: replies until one does not continue */
    HOLDFAST_ONEWAY = 1 << 1, /* there will be no reply */
};

/* Pipelining: any number of sends, then as many receives; replies come in the order of the calls.
 * What is sent may wait in the connection until holdfast_flush, or until a receive; what was not
 * flushed is lost with the connection. length: of parameters, without a NUL. Should holdfast_send
 * return -ENOBUFS, nothing of the call was sent. */
int holdfast_send(HoldfastConnection *connection, const char *method, const char *parameters,
                  size_t length, unsigned flags);
int holdfast_flush(HoldfastConnection *connection);
/* The next reply. ret_continues: there is more to come of the same call. -ENODATA: no call is
 * outstanding. HOLDFAST_ERROR_REMOTE answers one call, the ones behind it go on; so does
 * -ETIMEDOUT, after which it may be called again. */
int holdfast_receive(HoldfastConnection *connection, const char **ret_reply, size_t *ret_length,
                     bool *ret_continues);
/* Calls whose last reply was not received yet. */
size_t holdfast_outstanding(const HoldfastConnection *connection);

/* --- state
 *
 * key: 1 to 1024 bytes of UTF-8. json: the text of one JSON value, kept token for token. */

int holdfast_put(HoldfastConnection *connection, const char *arena, const char *key,
                 size_t key_length, const char *json, size_t json_length, uint64_t if_revision,
                 uint64_t *ret_revision);
int holdfast_get(HoldfastConnection *connection, const char *arena, const char *key,
                 size_t key_length, const char **ret_json, size_t *ret_json_length,
                 uint64_t *ret_revision);
int holdfast_delete(HoldfastConnection *connection, const char *arena, const char *key,
                    size_t key_length, uint64_t if_revision, uint64_t *ret_revision);
/* patch: an RFC 7396 merge patch. ret_json: the value that it made. */
int holdfast_merge(HoldfastConnection *connection, const char *arena, const char *key,
                   size_t key_length, const char *patch, size_t patch_length, uint64_t if_revision,
                   const char **ret_json, size_t *ret_json_length, uint64_t *ret_revision);
/* ret_value: the sum. */
int holdfast_increment(HoldfastConnection *connection, const char *arena, const char *key,
                       size_t key_length, int64_t by, uint64_t if_revision, int64_t *ret_value,
                       uint64_t *ret_revision);

typedef enum HoldfastOperationType {
    HOLDFAST_PUT,
    HOLDFAST_DELETE,
    HOLDFAST_MERGE,
    HOLDFAST_INCREMENT,
} HoldfastOperationType;

/* One operation of an Apply; members that it does not use are zero. */
typedef struct HoldfastOperation {
    HoldfastOperationType type;
    bool check_revision;  /* apply only if the entry's revision is if_revision */
    uint64_t if_revision; /* 0: only if there is no such entry */
    HoldfastText key;
    HoldfastText json; /* put: the value; merge: the patch */
    int64_t by;        /* increment */
} HoldfastOperation;

/* All of the operations, each seeing the ones before it, or none of them. */
int holdfast_apply(HoldfastConnection *connection, const char *arena,
                   const HoldfastOperation *operations, size_t count, uint64_t *ret_revision);

/* An entry as it is handed out (HoldfastEntry is how it lies in memory, see holdfast/layout.h); it
 * and its texts are good until the function it was given to returns. */
typedef struct HoldfastItem {
    const char *key; /* ends in NUL */
    size_t key_length;
    const char *json; /* ends in NUL; NULL where only keys were asked for */
    size_t json_length;
    uint64_t revision;
} HoldfastItem;

/* Return 0 to go on; anything else ends the listing and is returned by the call. */
typedef int (*HoldfastItemFunction)(void *context, const HoldfastItem *entry);

/* The entries there are of these keys, all of one state. ret_revision: the arena's. */
int holdfast_get_many(HoldfastConnection *connection, const char *arena, const HoldfastText *keys,
                      size_t count, HoldfastItemFunction function, void *context,
                      uint64_t *ret_revision);

enum {
    HOLDFAST_KEYS_ONLY = 1 << 0, /* leave the values out */
};

/* One page of a listing. prefix, cursor: NULL for none. limit: entries at most; 0: the daemon's
 * default. ret_next: the cursor of the next page; NULL after the last one. It may be handed back as
 * it is. */
int holdfast_list(HoldfastConnection *connection, const char *arena, const char *prefix,
                  const char *cursor, unsigned limit, unsigned flags, HoldfastItemFunction function,
                  void *context, const char **ret_next);
/* All pages, streamed. An entry that stays for the whole listing is visited at least once. */
int holdfast_list_all(HoldfastConnection *connection, const char *arena, const char *prefix,
                      unsigned flags, HoldfastItemFunction function, void *context);

/* --- arenas */

typedef struct HoldfastArena {
    const char *name;
    uint64_t entries;
    uint64_t used_bytes;
    uint64_t max_bytes;
    uint64_t revision; /* of its last change; 0: never changed */
    uint32_t uid;
    uint32_t gid;
    uint32_t mode;
    uint64_t created_usec; /* since the epoch */
    bool readable; /* false: the caller may not read it, and is told name, uid and gid only */
} HoldfastArena;

void holdfast_arena_free(HoldfastArena *arena);
void holdfast_arenas_free(HoldfastArena **arenas);

enum {
    HOLDFAST_SET_MAX_BYTES = 1 << 0,
    HOLDFAST_SET_MODE = 1 << 1,
    HOLDFAST_SET_GROUP = 1 << 2,
};

/* What is set of an arena: the members that `set` names. */
typedef struct HoldfastArenaOptions {
    unsigned set;
    uint64_t max_bytes;
    uint32_t mode;
    uint32_t gid;
} HoldfastArenaOptions;

/* options: NULL for the defaults. ret_arena: free it with holdfast_arena_free. */
int holdfast_create_arena(HoldfastConnection *connection, const char *name,
                          const HoldfastArenaOptions *options, HoldfastArena **ret_arena);
int holdfast_change_arena(HoldfastConnection *connection, const char *name,
                          const HoldfastArenaOptions *options, HoldfastArena **ret_arena);
int holdfast_drop_arena(HoldfastConnection *connection, const char *name);
/* Hands over a descriptor of the arena's memory, to be read as holdfast/layout.h says; most want a
 * map, below. ret_fd: the caller's to close; close-on-exec. */
int holdfast_open_arena(HoldfastConnection *connection, const char *name, int *ret_fd,
                        HoldfastArena **ret_arena);
/* ret_arenas: an array, ended by NULL; free it with holdfast_arenas_free. */
int holdfast_list_arenas(HoldfastConnection *connection, HoldfastArena ***ret_arenas,
                         size_t *ret_count);

/* --- maps: reading an arena straight from shared memory
 *
 *     HoldfastMap *map;
 *     int r = holdfast_map_open(connection, "sessions", &map);
 *     if (r == 0)
 *         r = holdfast_map_get(map, "ann", 3, buffer, sizeof(buffer), &length, &revision);
 *
 * A read makes no system call and takes no lock, holds nobody up, and gives what an update left,
 * whole: never half of it, and never what an update has not finished. It may show an update that is
 * not durable yet. Where the memory does not stand still (for about 100 us), the daemon is asked.
 *
 * A map has a connection of its own, to the daemon that it was opened with. The first use after
 * every 100 ms looks whether that one is still there: where it is not, or the arena was dropped or
 * taken over, the arena of that name is opened again, for which the connection's timeout at
 * holdfast_map_open holds. So the memory of a daemon that is gone is read for 100 ms at most, and a
 * map outlives the daemon's restarts, whether the arena was adopted, restored or made anew. The
 * right to read is looked at when it is opened (again).
 *
 * What is returned, beside what is said of each:
 *   0               it was done
 *   -EINVAL         a key is empty or longer than 1024 bytes
 *   -ENOTCONN       there is no daemon now; it is tried again at most every 100 ms
 *   -ESTALE         there is no arena of that name (any more)
 *   -EACCES         no right to read it, or to connect
 *   -EBADMSG        the memory, or the daemon's reply, makes no sense
 *   -EPROTO         what was handed over is no arena, or not sealed: it could be cut short under
 *                   the reader
 *   -EPROTONOSUPPORT  its layout is none that this version reads
 *   -ETIMEDOUT      the daemon had to be asked and did not answer in time
 *   -EREMOTEIO      it answered another error
 *   -EMFILE, -ENOMEM, ...
 * After any of them the map may be used again. Output parameters are written only where it is said;
 * each may be NULL. A map may be used by one thread at a time, different ones by different threads
 * at once. Whatever the memory holds, nothing outside of the mapping and of the caller's buffer is
 * touched. */

typedef struct HoldfastMap HoldfastMap;

/* The arena changed while it was read. */
#define HOLDFAST_MAP_CHANGED 2

/* connection: tells which daemon; it is not used afterwards. -EOPNOTSUPP: it leads to no path. */
int holdfast_map_open(HoldfastConnection *connection, const char *arena, HoldfastMap **ret);
/* NULL is fine. */
void holdfast_map_close(HoldfastMap *map);

/* Copies the entry's value, the text of one JSON value without a NUL, to buffer. ret_length: its
 * length, also where it does not fit into size bytes: -ENOBUFS, and what is in buffer is nothing.
 * -ENOENT: there is no such entry. A value has at most 8 MiB. */
int holdfast_map_get(HoldfastMap *map, const char *key, size_t key_length, char *buffer,
                     size_t size, size_t *ret_length, uint64_t *ret_revision);

typedef struct HoldfastMapEntry {
    HoldfastText key; /* to be set by the caller; the rest is written */
    const char *json; /* in the buffer, without a NUL; NULL: there is no such entry */
    size_t json_length;
    uint64_t revision; /* 0: there is no such entry */
} HoldfastMapEntry;

/* Fills the entries in, all of one state; count: at least 1. ret_length: bytes of the buffer that
 * the values take, also where they do not fit: -ENOBUFS. ret_revision: the arena's. After any error
 * no entry has a value. */
int holdfast_map_get_many(HoldfastMap *map, HoldfastMapEntry *entries, size_t count, char *buffer,
                          size_t size, size_t *ret_length, uint64_t *ret_revision);

/* Hands all entries to the function, in no order; it returns 0 to go on, anything else ends the
 * iteration and is returned. All that it is given belongs to one state, that of ret_revision. Where
 * the arena changes meanwhile: HOLDFAST_MAP_CHANGED, and the rest of that state cannot be had.
 * Should that happen again and again, holdfast_list_all goes another way. */
int holdfast_map_iterate(HoldfastMap *map, HoldfastItemFunction function, void *context,
                         uint64_t *ret_revision);

/* Waits until the arena's revision is another than that one, which it tells: 0. It sleeps
 * meanwhile, and is woken by the daemon. -ETIMEDOUT: it was the same for timeout_usec. (With
 * UINT64_MAX for revision, which none is, it tells the revision at once.) */
int holdfast_map_wait(HoldfastMap *map, uint64_t revision, uint64_t timeout_usec,
                      uint64_t *ret_revision);

/* --- checkpoints */

typedef struct HoldfastCheckpoint {
    const char *id;
    const char *label;         /* NULL: none */
    const char *state;         /* "running", "complete", "failed", "cancelled" */
    uint64_t revision;         /* the cut */
    const char *const *arenas; /* names, ended by NULL */
    uint32_t pid;              /* 0: none */
    uint64_t started_usec;     /* since the epoch */
    uint64_t pause_usec;       /* how long no update could be applied */
    uint64_t held_usec;        /* how long updates were held back for want of room in the ring */
    uint64_t duration_usec;
    uint64_t pages_total;
    uint64_t pages_done;
    uint64_t pages_captured;
    uint64_t state_bytes;
    uint64_t image_bytes;
    const char *path;   /* NULL: not told */
    const char *reason; /* why it failed; NULL: it did not */
} HoldfastCheckpoint;

void holdfast_checkpoint_free(HoldfastCheckpoint *checkpoint);
void holdfast_checkpoints_free(HoldfastCheckpoint **checkpoints);

/* How far it is. The checkpoint is good until the function returns. */
typedef void (*HoldfastProgressFunction)(void *context, const HoldfastCheckpoint *checkpoint);

/* arenas: names, ended by NULL; NULL: all. label: NULL for none. wait: return when the image is
 * durable, else once the child is forked. progress: NULL where it is not wanted. */
int holdfast_take_checkpoint(HoldfastConnection *connection, const char *const *arenas,
                             const char *label, bool wait, HoldfastProgressFunction progress,
                             void *context, HoldfastCheckpoint **ret_checkpoint);
int holdfast_list_checkpoints(HoldfastConnection *connection, HoldfastCheckpoint ***ret_checkpoints,
                              size_t *ret_count);
int holdfast_cancel_checkpoint(HoldfastConnection *connection, const char *id);
int holdfast_delete_checkpoint(HoldfastConnection *connection, const char *id);
int holdfast_verify_checkpoint(HoldfastConnection *connection, const char *id,
                               HoldfastProgressFunction progress, void *context,
                               HoldfastCheckpoint **ret_checkpoint);

/* --- the service */

/* The command after a checkpoint (AfterCommand=) that runs, or that ran last. */
typedef struct HoldfastCommand {
    uint32_t pid;           /* 0: it does not run */
    const char *checkpoint; /* id of the one whose image it was given */
    uint64_t started_usec;  /* since the epoch */
    uint64_t duration_usec; /* when it has ended; else 0 */
    int32_t exit_status;    /* -1: it did not exit */
    int32_t signal; /* -1: no signal ended it. Ended with neither: it could not be started */
} HoldfastCommand;

typedef struct HoldfastStatus {
    const char *version;
    uint32_t pid;
    const char *state;     /* "starting", "serving", "readonly", "stopping" */
    const char *reason;    /* why updates are refused; NULL: they are not */
    uint64_t started_usec; /* since the epoch */
    const char *recovery;  /* "empty", "image", "journal", "adopted" */
    uint64_t recovery_duration_usec;
    uint64_t arenas;
    uint64_t entries;
    uint64_t used_bytes;
    uint64_t revision;
    uint64_t durable_revision; /* newest revision known to be on stable storage */
    uint64_t connections;
    uint64_t updates;
    uint64_t reads;
    const HoldfastCheckpoint *last_checkpoint;    /* NULL: none */
    const HoldfastCheckpoint *running_checkpoint; /* NULL: none */
    const HoldfastCommand *after_command;         /* NULL: none */
} HoldfastStatus;

void holdfast_status_free(HoldfastStatus *status);

int holdfast_get_status(HoldfastConnection *connection, HoldfastStatus **ret_status);
/* What the daemon counts and measures, as OpenMetrics text, at *ret_length bytes and a NUL. */
int holdfast_get_metrics(HoldfastConnection *connection, const char **ret_text, size_t *ret_length);
/* The daemon reads its configuration again. ret_ignored: names of keys that cannot change while it
 * runs, an array ended by NULL; free it with holdfast_names_free. */
int holdfast_reload(HoldfastConnection *connection, char ***ret_ignored);
void holdfast_names_free(char **names);
/* The description of an interface, "io.holdfast", in the language of Varlink. */
int holdfast_describe(HoldfastConnection *connection, const char *interface,
                      const char **ret_description);

#ifdef __cplusplus
}
#endif

#endif
