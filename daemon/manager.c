/* Owns every object and the event loop.
 *
 * Start: directories and lock, memory and threads, recovery, journal, the rest, and only then the
 * socket. A turn of the loop: everything that is readable, then (end_turn) parked calls, the
 * journal's commit, a waiting cut, and the replies that may leave. Stop: nothing new is accepted,
 * the last checkpoint is taken where one is wanted, replies leave, the journal is closed with the
 * note that this stop was clean.
 *
 * What can go wrong at the start ends it with one of sysexits.h and a line in the log; later
 * nothing but an order does. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/message-ids.h"
#include "manager-private.h"
#include "protocol/json.h"
#include "service/activation.h"
#include "service/notify.h"

#define PROGRESS_USEC (5 * USEC_PER_SEC)
#define STOP_USEC (2 * USEC_PER_SEC)

/* One line in the log, and the exit status. */
static int fail(int status, const char *what, int error)
{
    log_error("%s: %s", what, log_errno(error));
    return status;
}

/* --- the state directory */

static int open_directory(int at, const char *name, int *ret)
{
    if (mkdirat(at, name, 0700) < 0 && errno != EEXIST)
        return -errno;
    *ret = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret < 0 ? -errno : 0;
}

static int open_state(Manager *manager)
{
    const char *path = manager->options->state_directory;
    int r = file_make_directories(path, 0700);

    if (r < 0)
        return fail(EX_IOERR, path, r);
    manager->state_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (manager->state_fd < 0)
        return fail(EX_IOERR, path, -errno);
    manager->lock_fd = openat(manager->state_fd, "LOCK", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (manager->lock_fd < 0)
        return fail(EX_IOERR, "LOCK", -errno);
    r = file_lock(manager->lock_fd);
    if (r == -EAGAIN) {
        log_error("%s: another holdfastd uses this state directory", path);
        return EX_TEMPFAIL;
    }
    if (r < 0)
        return fail(EX_IOERR, "LOCK", r);
    r = open_directory(manager->state_fd, "images", &manager->images_fd);
    if (r == 0)
        r = open_directory(manager->state_fd, "journal", &manager->journal_fd);
    if (r == 0)
        r = file_sync_directory(manager->state_fd);
    return r < 0 ? fail(EX_IOERR, path, r) : 0;
}

/* --- objects */

static int new_objects(Manager *manager)
{
    const Config *config = manager->config;
    StoreOptions store = {
        .merge = json_merge,
        .arenas_max = config->arenas_max,
        .memory_bytes_max = reload_memory_max(config),
    };
    char images[4096];
    int r;

    manager->base = event_base_new();
    if (!manager->base)
        return fail(EX_OSERR, "event loop", -ENOMEM);
    r = housekeeper_new(&manager->housekeeper);
    if (r == 0)
        r = pool_new(manager->housekeeper, &manager->pool);
    if (r == 0)
        r = capture_new(config->capture_bytes_max, &manager->capture);
    if (r < 0)
        return fail(EX_OSERR, "memory", r);
    capture_set_housekeeper(manager->capture, manager->housekeeper);
    snprintf(images, sizeof(images), "%s/images", manager->options->state_directory);
    r = catalog_new(manager->images_fd, images, manager->housekeeper, &manager->catalog);
    if (r < 0)
        return fail(EX_IOERR, images, r);
    store.pool = manager->pool;
    store.housekeeper = manager->housekeeper;
    store.capture = manager->capture;
    r = store_new(&store, &manager->store);
    return r < 0 ? fail(EX_OSERR, "store", r) : 0;
}

/* --- recovery */

typedef struct Progress {
    uint64_t told_usec;
} Progress;

static void recovery_progress(void *context, const char *phase, uint64_t done, uint64_t total)
{
    Progress *progress = context;
    uint64_t now = clock_monotonic();
    unsigned percent = total > 0 ? (unsigned)(done * 100 / total) : 0;

    if (now - progress->told_usec < PROGRESS_USEC)
        return;
    progress->told_usec = now;
    log_info("recovery: %s, %u%%", phase, percent);
    notify_extend(10 * PROGRESS_USEC);
    notify_status("recovery: %s, %u%%", phase, percent);
}

static const char *const recovery_names[] = {
    [RECOVERY_EMPTY] = "empty",
    [RECOVERY_IMAGE] = "image",
    [RECOVERY_JOURNAL] = "journal",
    [RECOVERY_ADOPTED] = "adopted",
};

static int open_journal(Manager *manager, const Recovery *recovery)
{
    const Config *config = manager->config;
    JournalOptions options = {
        .directory_fd = manager->journal_fd,
        .policy = (JournalPolicy)config->sync,
        .sync_interval_usec = config->sync_interval_usec,
        .segment_bytes_max = config->segment_bytes_max,
        .base_revision = recovery->base_revision,
        .housekeeper = manager->housekeeper,
        .changed = triggers_journal_changed,
        .context = manager,
    };
    int r = control_new(&recovery->position.lineage, &manager->control);

    if (r == 0)
        r = journal_open(&options, manager->control, &recovery->position, &manager->journal);
    if (r < 0)
        return fail(EX_IOERR, "journal", r);
    store_set_journal(manager->store, manager->journal);
    return 0;
}

static int recover(Manager *manager)
{
    Progress progress = {.told_usec = clock_monotonic()};
    RecoveryOptions options = {
        .store = manager->store,
        .catalog = manager->catalog,
        .context = {.pool = manager->pool, .housekeeper = manager->housekeeper},
        .images_directory_fd = manager->images_fd,
        .journal_directory_fd = manager->journal_fd,
        .cut = manager->options->recover_cut,
        .progress = recovery_progress,
        .progress_context = &progress,
    };
    uint64_t begin = clock_monotonic();
    Recovery recovery;
    int r = recovery_run(&options, &recovery);

    if (r < 0) {
        log_error("%s", recovery.message[0] != '\0' ? recovery.message : log_errno(r));
        recovery_deinit(&recovery);
        return r == -EBADMSG || r == -EPROTONOSUPPORT ? EX_DATAERR : EX_IOERR;
    }
    manager->recovered_revision = recovery.position.revision;
    r = open_journal(manager, &recovery);
    manager->status.recovery = recovery_names[recovery.kind];
    manager->status.recovery_duration_usec = clock_monotonic() - begin;
    if (r == 0)
        log_event(LOG_INFO, MESSAGE_ID_RECOVERED, NULL,
                  "recovered (%s): %zu arenas, %llu entries, %llu journal records, revision %llu, "
                  "in %.3f s",
                  manager->status.recovery, store_count(manager->store),
                  (unsigned long long)store_entries(manager->store),
                  (unsigned long long)recovery.records,
                  (unsigned long long)recovery.position.revision,
                  (double)manager->status.recovery_duration_usec / (double)USEC_PER_SEC);
    recovery_deinit(&recovery);
    return r;
}

/* --- what serves */

static unsigned host_connections(void *context)
{
    const Manager *manager = context;

    return server_connections(manager->server);
}

static uint64_t host_durable(void *context)
{
    const Manager *manager = context;

    return MIN(journal_durable_revision(manager->journal), store_revision(manager->store));
}

static void host_parked(void *context)
{
    Manager *manager = context;

    if (store_was_parked(manager->store))
        job_update_parked(manager->job);
}

static const MethodsHost methods_host = {
    .connections = host_connections,
    .durable_revision = host_durable,
    .reload = reload_run,
    .parked = host_parked,
};

static int new_services(Manager *manager)
{
    const Config *config = manager->config;
    ServerHandler handler = dispatch_handler(manager);
    ServerLimits limits = reload_server_limits(config);
    JobOptions job_options = reload_job_options(config);
    JobHost job_host = triggers_job_host;
    MethodsOptions methods = {
        .store = manager->store,
        .catalog = manager->catalog,
        .pool = manager->pool,
        .caller = &dispatch_caller,
        .host = &manager->methods_host,
        .status = &manager->status,
        .create_gid = reload_create_group(config),
        .arena_bytes_max = config->arena_bytes_max,
    };
    int r;

    manager->methods_host = methods_host;
    manager->methods_host.context = manager;
    job_host.context = manager;
    r = job_new(manager->base, manager->capture, manager->catalog, manager->housekeeper,
                manager->images_fd, &job_host, &job_options, &manager->job);
    if (r == 0)
        r = verify_new(manager->base, manager->catalog, &manager->verify);
    methods.job = manager->job;
    methods.verify = manager->verify;
    if (r == 0)
        r = methods_new(&methods, &manager->methods);
    if (r == 0)
        r = server_new(manager->base, manager->pool, &handler, &limits, &manager->server);
    return r < 0 ? fail(EX_OSERR, "services", r) : 0;
}

/* The socket: the ones the service manager hands over, else our own. */
static int listen_on_socket(Manager *manager)
{
    int first, count = activation_sockets(&first);
    int r = 0;

    for (int i = 0; i < count && r == 0; i++)
        r = server_listen_fd(manager->server, first + i);
    if (count <= 0)
        r = server_listen(manager->server, manager->options->socket, manager->config->socket_mode,
                          reload_socket_group(manager->config));
    if (r == 0)
        r = server_accept(manager->server);
    return r < 0 ? fail(r == -EADDRINUSE ? EX_TEMPFAIL : EX_OSERR, manager->options->socket, r) : 0;
}

/* --- events */

static void begin_stop(Manager *manager)
{
    if (manager->state != MANAGER_SERVING)
        return;
    manager->state = MANAGER_STOPPING;
    manager->status.state = "stopping";
    notify_stopping();
    server_stop(manager->server);
    if (!triggers_final(manager))
        manager_stop_now(manager);
}

void manager_stop_now(Manager *manager)
{
    manager->state = MANAGER_STOPPED;
    event_active(manager->again, 0, 0);
}

static void on_signal(evutil_socket_t signal_number, short what, void *context)
{
    Manager *manager = context;
    const char *ignored[64] = {NULL};
    char file[256], reason[256];
    int line;

    (void)what;
    switch (signal_number) {
    case SIGUSR1:
        triggers_now(manager);
        break;
    case SIGHUP:
        (void)reload_run(manager, ignored, ARRAY_SIZE(ignored) - 1, file, sizeof(file), &line,
                         reason, sizeof(reason));
        for (size_t i = 0; ignored[i]; i++)
            log_notice("reload: %s takes effect at the next start", ignored[i]);
        break;
    default:
        if (manager->state == MANAGER_STOPPING)
            manager_stop_now(manager); /* a second one does not wait for the checkpoint */
        begin_stop(manager);
        break;
    }
}

static void on_housekeeper(evutil_socket_t fd, short what, void *context)
{
    Manager *manager = context;

    (void)fd;
    (void)what;
    housekeeper_reap(manager->housekeeper);
}

static void on_journal(evutil_socket_t fd, short what, void *context)
{
    Manager *manager = context;

    (void)fd;
    (void)what;
    journal_reap(manager->journal);
}

static void on_nothing(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    (void)context;
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    triggers_tick(context);
}

static struct event *add_event(Manager *manager, int fd, short what, event_callback_fn callback,
                               const struct timeval *timeout)
{
    struct event *event = event_new(manager->base, fd, what, callback, manager);

    if (event && (what & (EV_READ | EV_SIGNAL) || timeout) && event_add(event, timeout) < 0) {
        event_free(event);
        return NULL;
    }
    return event;
}

static int add_events(Manager *manager)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGUSR1, SIGHUP};
    const struct timeval second = {.tv_sec = 1};
    bool complete = true;

    static_assert(ARRAY_SIZE(signals) == ARRAY_SIZE(((Manager *)0)->signals), "one event a signal");
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        manager->signals[i] =
            add_event(manager, signals[i], EV_SIGNAL | EV_PERSIST, on_signal, NULL);
        complete = complete && manager->signals[i];
    }
    manager->housekeeper_event = add_event(manager, housekeeper_fd(manager->housekeeper),
                                           EV_READ | EV_PERSIST, on_housekeeper, NULL);
    manager->journal_event =
        add_event(manager, journal_fd(manager->journal), EV_READ | EV_PERSIST, on_journal, NULL);
    manager->deadline = add_event(manager, -1, 0, on_nothing, NULL);
    manager->again = add_event(manager, -1, 0, on_nothing, NULL);
    manager->tick = add_event(manager, -1, EV_PERSIST, on_tick, &second);
    complete = complete && manager->housekeeper_event && manager->journal_event &&
               manager->deadline && manager->again && manager->tick;
    return complete ? 0 : fail(EX_OSERR, "events", -ENOMEM);
}

/* --- a turn */

/* Wakes the loop when the journal wants to be asked again. */
static void set_deadline(Manager *manager)
{
    uint64_t deadline = journal_deadline(manager->journal), now;
    struct timeval wait;

    if (deadline == UINT64_MAX) {
        event_del(manager->deadline);
        return;
    }
    now = clock_monotonic();
    deadline = deadline > now ? deadline - now : 0;
    wait = (struct timeval){.tv_sec = (time_t)(deadline / USEC_PER_SEC),
                            .tv_usec = (suseconds_t)(deadline % USEC_PER_SEC)};
    event_add(manager->deadline, &wait);
}

/* Updates that were applied but did not become durable: their replies say so. */
static void tell_failed(Manager *manager)
{
    uint64_t failed = journal_failed_revision(manager->journal);

    if (failed > manager->failed_told) {
        server_fail(manager->server, journal_durable_revision(manager->journal), failed);
        manager->failed_told = failed;
    }
}

static void end_turn(Manager *manager)
{
    /* In a turn without calls, too: what an idle daemon could give back would stay. */
    if (!manager->turn_started)
        store_turn(manager->store);
    if (manager->resume) {
        manager->resume = false;
        store_resume(manager->store);
        server_resume(manager->server);
    }
    journal_commit(manager->journal);
    if (store_was_out_of_batch(manager->store)) {
        /* What waits for room in the batch is tried again in the next turn, or when the sync is
         * done. */
        manager->resume = true;
        if (journal_has_room(manager->journal, RECORD_BYTES_MAX))
            event_active(manager->again, 0, 0);
    }
    job_turn(manager->job);
    tell_failed(manager);
    server_flush(manager->server,
                 MAX(journal_replied_revision(manager->journal), manager->failed_told));
    set_deadline(manager);
    manager->turn_started = false;
}

static void loop(Manager *manager)
{
    uint64_t deadline;

    while (manager->state != MANAGER_STOPPED) {
        event_base_loop(manager->base, EVLOOP_ONCE);
        end_turn(manager);
    }
    deadline = clock_monotonic() + STOP_USEC;
    while (server_busy(manager->server) && clock_monotonic() < deadline) {
        const struct timeval soon = {.tv_usec = 20000};

        event_add(manager->again, &soon);
        event_base_loop(manager->base, EVLOOP_ONCE);
        end_turn(manager);
    }
}

/* --- start and stop */

static void ignore_signals(void)
{
    /* A write to a closed socket or past RLIMIT_FSIZE is an error, not a death. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

static int start(Manager *manager)
{
    int r;

    ignore_signals();
    if (manager->config->after_command && manager->config->after_command[0] != '\0')
        log_warning("AfterCommand= is set, but this version does not run commands yet");
    manager->status.started_usec = clock_realtime();
    manager->status.state = "starting";
    r = open_state(manager);
    if (r == 0)
        r = new_objects(manager);
    if (r == 0)
        r = recover(manager);
    if (r == 0)
        r = new_services(manager);
    if (r == 0)
        r = add_events(manager);
    if (r == 0)
        r = listen_on_socket(manager);
    return r;
}

static void free_events(Manager *manager)
{
    struct event **events[] = {&manager->housekeeper_event, &manager->journal_event,
                               &manager->deadline, &manager->tick, &manager->again};

    for (size_t i = 0; i < ARRAY_SIZE(manager->signals); i++)
        if (manager->signals[i])
            event_free(manager->signals[i]);
    for (size_t i = 0; i < ARRAY_SIZE(events); i++)
        if (*events[i]) {
            event_free(*events[i]);
            *events[i] = NULL;
        }
}

/* In the order that lets each find what it still needs. Returns the exit status. */
static int stop(Manager *manager, int status)
{
    int r;

    manager->server = server_free(manager->server);
    manager->methods = methods_free(manager->methods);
    manager->verify = verify_free(manager->verify);
    manager->job = job_free(manager->job);
    free_events(manager);
    if (manager->journal) {
        r = journal_close(manager->journal, status == 0);
        if (r < 0)
            status = fail(EX_IOERR, "journal", r);
    }
    manager->control = control_free(manager->control);
    manager->store = store_free(manager->store);
    manager->catalog = catalog_free(manager->catalog);
    if (manager->housekeeper)
        housekeeper_drain(manager->housekeeper);
    manager->capture = capture_free(manager->capture);
    manager->pool = pool_free(manager->pool);
    manager->housekeeper = housekeeper_free(manager->housekeeper);
    if (manager->base)
        event_base_free(manager->base);
    closep(&manager->journal_fd);
    closep(&manager->images_fd);
    closep(&manager->lock_fd);
    closep(&manager->state_fd);
    config_deinit(manager->config);
    return status;
}

int manager_run(ManagerOptions *options)
{
    Manager manager = {
        .options = options,
        .config = &options->config,
        .state_fd = -1,
        .lock_fd = -1,
        .images_fd = -1,
        .journal_fd = -1,
    };
    Notify *notify = NULL;
    int r = start(&manager);

    if (r == 0 && notify_new(manager.base, &notify) < 0)
        r = fail(EX_OSERR, "watchdog", -ENOMEM);
    if (r == 0) {
        manager.state = MANAGER_SERVING;
        manager.status.state = "serving";
        triggers_start(&manager);
        log_event(LOG_INFO, MESSAGE_ID_STARTED, NULL, "serving on %s", options->socket);
        notify_ready();
        loop(&manager);
    }
    notify_free(notify);
    return stop(&manager, r);
}
