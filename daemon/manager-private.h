/* What the manager's files share: every object there is. Private to manager*.c,
 * dispatch.c, triggers.c and reload.c. */
#pragma once

#include <event2/event.h>

#include "base/busy-poll.h"
#include "base/housekeeper.h"
#include "checkpoint/verify.h"
#include "journal/journal.h"
#include "manager.h"
#include "methods/methods.h"
#include "server/server.h"
#include "service/activation.h"
#include "service/command.h"
#include "service/descriptor-store.h"
#include "store/recovery.h"

typedef enum ManagerState {
    MANAGER_STARTING,
    MANAGER_SERVING,
    MANAGER_STOPPING, /* nothing new is accepted; the last checkpoint may run */
    MANAGER_STOPPED,
} ManagerState;

/* What the service manager was told. */
#define TELL_LINE_MAX 512
typedef struct Tell {
    bool ready;
    char line[TELL_LINE_MAX]; /* of status, the last one */
    uint64_t next_usec;       /* monotonic: no other one before */
    bool extended;            /* more time for the stop was asked for */
    uint64_t stop_done;       /* how far the last checkpoint was then */
} Tell;

/* What became of checkpoints since the start; of metrics.c. */
typedef struct Metrics {
    uint64_t ended[CHECKPOINT_CANCELLED + 1]; /* by state */
    Histogram pause;
    Histogram duration;
    uint64_t held_usec;
    uint64_t image_bytes;
} Metrics;

typedef struct Manager {
    ManagerOptions *options;
    Config *config; /* options->config */
    ManagerState state;
    ServiceStatus status;
    MethodsHost methods_host;

    int state_fd;
    int lock_fd;
    int images_fd;
    int journal_fd;

    Activation activation; /* what the service manager handed over, until it is taken */
    DescriptorStore *descriptors;
    Adoption adoption;    /* while the start lasts */
    size_t controls_kept; /* control memfds in the store */
    bool control_kept;    /* ours is the one there */

    struct event_base *base;
    BusyPoll poll;
    Housekeeper *housekeeper;
    Pool *pool;
    Capture *capture;
    Catalog *catalog;
    Store *store;
    Control *control;
    Journal *journal;
    Job *job;
    Verify *verify;
    Command *after; /* AfterCommand= */
    Methods *methods;
    Server *server;

    struct event *signals[4];
    struct event *housekeeper_event;
    struct event *journal_event;
    struct event *deadline; /* of the journal */
    uint64_t deadline_usec; /* what it waits for; UINT64_MAX: it does not */
    struct event *tick;     /* once a second: triggers */
    struct event *again;    /* made active where the next turn must not wait */

    bool turn_started;    /* store_turn was called in this turn */
    bool resume;          /* parked calls are to be tried again */
    gid_t create_gid;     /* who may create arenas */
    uint64_t failed_told; /* replies up to this revision were turned into NotDurable */

    /* triggers.c */
    uint64_t proven_usec; /* monotonic: an adoption has been good for a minute; 0: not served yet */
    uint64_t recovered_revision; /* of the last update that came back at the start */
    uint64_t next_interval_usec; /* monotonic: when a checkpoint is due by the interval */
    uint64_t retry_usec;         /* monotonic: none by itself before */
    uint64_t stuck_usec;         /* monotonic: a stop waits no longer for the journal */
    bool own_request;            /* one that the daemon asked for itself waits or runs */
    JobWaiter own_waiter;
    JobWaiter final_waiter;

    Tell tell;
    Metrics metrics;
    char *images_path; /* absolute; of after.c */
} Manager;

/* One line in the log; returns the exit status. */
int manager_fail(int status, const char *what, int error);

/* --- manager-start.c; both return 0 or an exit status, told already */

/* Everything up to what serves; nothing is served yet. */
int manager_open(Manager *manager);
/* The sockets, last: those that the service manager hands over, else our own. */
int manager_listen(Manager *manager);

/* --- manager-stored.c: what the service manager keeps for the next process */

/* Sorts what was handed over; before recovery. */
int stored_take(Manager *manager);
/* The store's keeper. */
StoreKeeper stored_keeper(Manager *manager);
/* After recovery, with the journal open: what is not used goes, what is not kept yet is kept. */
void stored_settle(Manager *manager);

/* --- dispatch.c: between the server and the methods */

extern const CallerOperations dispatch_caller;
ServerHandler dispatch_handler(Manager *manager);

/* --- triggers.c: when checkpoints are taken without anybody asking over the socket */

/* The host that the job asks. */
extern const JobHost triggers_job_host;
void triggers_start(Manager *manager);
/* Once a second. */
void triggers_tick(Manager *manager);
/* SIGUSR1. */
void triggers_now(Manager *manager);
/* The journal's state changed. */
void triggers_journal_changed(void *context, JournalState state, int error);
/* Starts the last checkpoint where one is wanted; false: none is. manager_stop_now is called at its
 * end. */
bool triggers_final(Manager *manager);
void manager_stop_now(Manager *manager);
/* True when something changed that no complete image has. */
bool triggers_changed(const Manager *manager);
/* Segments that no kept image needs go. */
void triggers_retire_journal(Manager *manager);

/* --- reload.c: what the configuration decides, at start and again */

JobOptions reload_job_options(const Config *config);
ServerLimits reload_server_limits(const Config *config);
/* A group's number; (gid_t)-1 where there is none of that name. */
gid_t reload_group(const char *name);
gid_t reload_socket_group(const Config *config);
gid_t reload_create_group(const Config *config);
uint64_t reload_memory_max(const Config *config);
/* Of MethodsHost. */
int reload_run(void *context, const char **ignored, size_t count, ReloadError *error);
