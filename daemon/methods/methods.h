/* The methods of io.holdfast and org.varlink.service: one function a method, one const table. A
 * call comes with what the methods may know of its caller; how the caller is connected is somebody
 * else's business. */
#pragma once

#include "base/histogram.h"
#include "checkpoint/verify.h"
#include "protocol/call.h"
#include "store/store.h"

typedef struct Methods Methods;

typedef enum MethodResult {
    METHOD_DONE,    /* the reply was written */
    METHOD_AGAIN,   /* replies were written, more come: call again when there is room */
    METHOD_PARKED,  /* nothing happened: call again later */
    METHOD_WAITING, /* the reply comes later: CallerOperations.finish */
} MethodResult;

/* What a method asks of and about its caller; each takes the opaque caller of methods_call. */
typedef struct CallerOperations {
    bool (*administrator)(const void *caller);
    /* As for a file of that owner, group and mode; rights: 4 read, 2 write. */
    bool (*may)(const void *caller, uint32_t uid, uint32_t gid, uint32_t mode, unsigned rights);
    bool (*in_group)(const void *caller, uint32_t gid);
    void (*credentials)(const void *caller, uint32_t *ret_uid, uint32_t *ret_gid);
    Buffer *(*output)(void *caller);
    Buffer *(*scratch)(void *caller);
    char (*terminator)(const void *caller);
    void (*hold)(void *caller, uint64_t revision);
    /* Sends a descriptor with the reply that follows; owns it. -ETOOMANYREFS: see
     * MethodsOptions.descriptors_max. */
    int (*attach)(void *caller, int fd);
    void (*finish)(void *caller);
    void (*wrote)(void *caller);
    bool (*has_room)(const void *caller);
    void (*set_state)(void *caller, void *state, void (*release)(void *state));
    void *(*state)(const void *caller);
} CallerOperations;

/* What the status tells beside the store's own numbers; kept by the manager. */
typedef struct ServiceStatus {
    const char *state; /* starting, serving, readonly, stopping */
    uint64_t started_usec;
    const char *recovery; /* empty, image, journal, adopted */
    uint64_t recovery_duration_usec;
} ServiceStatus;

/* The command after a checkpoint that runs or ran last. */
typedef struct ServiceCommand {
    char checkpoint[64];
    pid_t pid; /* 0: none now */
    uint64_t started_usec;
    bool ended;
    uint64_t duration_usec; /* so far, unless it has ended */
    int exit_status;        /* -1: it did not exit */
    int signal;             /* 0: none killed it */
} ServiceCommand;

/* What is wrong with the configuration, and where. line: 0 where all of the file is meant. */
typedef struct ReloadError {
    char file[256];
    int line;
    char reason[256];
} ReloadError;

typedef struct MethodsHost {
    void *context;
    unsigned (*connections)(void *context);
    uint64_t (*durable_revision)(void *context);
    /* Reads the configuration again; names of what cannot change now into ignored, which has room
     * for count. 0, or a negative errno with *error filled. */
    int (*reload)(void *context, const char **ignored, size_t count, ReloadError *error);
    /* An update was parked for want of room in the ring. */
    void (*parked)(void *context);
    /* Appends the daemon's metrics, but for those of single arenas, as OpenMetrics text without its
     * end. */
    void (*metrics)(void *context, Buffer *out);
    /* False: none was ever run. */
    bool (*after_command)(void *context, ServiceCommand *ret);
} MethodsHost;

typedef struct MethodsOptions {
    Store *store;
    Job *job;
    Catalog *catalog;
    Verify *verify;
    Pool *pool;
    const CallerOperations *caller;
    const MethodsHost *host;
    const ServiceStatus *status; /* stays valid */
    uint32_t create_gid; /* who may create arenas, beside administrators; (uint32_t)-1: nobody */
    uint64_t arena_bytes_max;
    unsigned descriptors_max; /* that a caller may leave unread: attach refuses more */
} MethodsOptions;

int methods_new(const MethodsOptions *options, Methods **ret);
Methods *methods_free(Methods *methods);
void methods_set_limits(Methods *methods, uint32_t create_gid, uint64_t arena_bytes_max);

/* Runs a call. */
MethodResult methods_call(Methods *methods, void *caller, const Call *call);

/* Errors that do not come from a method. */
void methods_bad_message(Buffer *out, char terminator, const char *reason);
void methods_limit_exceeded(Buffer *out, char terminator, const char *limit, uint64_t maximum);
void methods_not_durable(Buffer *out, char terminator, uint64_t revision, const char *reason);

/* Kinds of calls, one a method, below METHODS_KINDS_MAX: for the server, which knows no methods. */
#define METHODS_KIND_NONE 0u
#define METHODS_KINDS_MAX 32u
/* Of the call that methods_call ran last. */
unsigned methods_kind(const Methods *methods);
/* "Put"; "none" for calls of what is no method, and for kinds that no method has. */
const char *methods_kind_name(unsigned kind);
/* Counts since the start, for status and metrics. */
uint64_t methods_reads(const Methods *methods);

/* The tables, for the test that holds them against the interface's file. */
typedef struct MethodInfo {
    const char *interface;
    const char *name;
    const Field *fields;
    size_t field_count;
} MethodInfo;
size_t methods_table(const MethodInfo **ret);
/* Names of all errors of io.holdfast that the methods can answer, ended by NULL. */
extern const char *const methods_errors[];
