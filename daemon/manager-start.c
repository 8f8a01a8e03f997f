/* The start: directories and lock, memory and threads, recovery, journal, what serves, and last the
 * socket.
 *
 * What can go wrong ends it with one of sysexits.h and a line in the log. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "after.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "manager-private.h"
#include "metrics.h"
#include "protocol/json.h"
#include "service/notify.h"
#include "tell.h"

#define PROGRESS_USEC (5 * USEC_PER_SEC)

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
        return manager_fail(EX_IOERR, path, r);
    manager->state_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (manager->state_fd < 0)
        return manager_fail(EX_IOERR, path, -errno);
    manager->lock_fd = openat(manager->state_fd, "LOCK", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (manager->lock_fd < 0)
        return manager_fail(EX_IOERR, "LOCK", -errno);
    r = file_lock(manager->lock_fd);
    if (r == -EAGAIN) {
        log_error("%s: another holdfastd uses this state directory", path);
        return EX_TEMPFAIL;
    }
    if (r < 0)
        return manager_fail(EX_IOERR, "LOCK", r);
    r = open_directory(manager->state_fd, "images", &manager->images_fd);
    if (r == 0)
        r = open_directory(manager->state_fd, "journal", &manager->journal_fd);
    if (r == 0)
        r = file_sync_directory(manager->state_fd);
    return r < 0 ? manager_fail(EX_IOERR, path, r) : 0;
}

/* --- objects */

static int new_objects(Manager *manager)
{
    const Config *config = manager->config;
    StoreOptions store = {
        .merge = json_merge,
        .arenas_max = config->arenas_max,
        .memory_bytes_max = reload_memory_max(config),
        .keeper = stored_keeper(manager),
    };
    char images[4096];
    int r;

    manager->base = event_base_new();
    if (!manager->base)
        return manager_fail(EX_OSERR, "event loop", -ENOMEM);
    r = housekeeper_new(&manager->housekeeper);
    if (r == 0)
        r = pool_new(manager->housekeeper, &manager->pool);
    if (r == 0)
        r = capture_new(config->capture_bytes_max, &manager->capture);
    if (r < 0)
        return manager_fail(EX_OSERR, "memory", r);
    capture_set_housekeeper(manager->capture, manager->housekeeper);
    snprintf(images, sizeof(images), "%s/images", manager->options->state_directory);
    r = catalog_new(manager->images_fd, images, manager->housekeeper, &manager->catalog);
    if (r < 0)
        return manager_fail(EX_IOERR, images, r);
    store.pool = manager->pool;
    store.housekeeper = manager->housekeeper;
    store.capture = manager->capture;
    r = store_new(&store, &manager->store);
    return r < 0 ? manager_fail(EX_OSERR, "store", r) : 0;
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
    int r = 0;

    manager->control = TAKE_PTR(manager->adoption.control);
    manager->control_kept = manager->control && manager->controls_kept == 1;
    if (!manager->control)
        r = control_new(&recovery->position.lineage, &manager->control);
    if (r == 0)
        r = journal_open(&options, manager->control, &recovery->position, &manager->journal);
    if (r < 0)
        return manager_fail(EX_IOERR, "journal", r);
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
        .adoption = &manager->adoption,
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
    if (r == 0)
        stored_settle(manager);
    manager->status.recovery = recovery_names[recovery.kind];
    manager->status.recovery_duration_usec = clock_monotonic() - begin;
    if (r == 0)
        tell_recovered(manager, &recovery);
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
    .metrics = metrics_write,
    .after_command = after_status,
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
        .create_gid = manager->create_gid = reload_create_group(config),
        .arena_bytes_max = config->arena_bytes_max,
        .descriptors_max = SERVER_DESCRIPTORS_UNREAD_MAX,
    };
    int r;

    manager->methods_host = methods_host;
    manager->methods_host.context = manager;
    job_host.context = manager;
    r = job_new(manager->base, manager->capture, manager->catalog, manager->housekeeper,
                manager->images_fd, &job_host, &job_options, &manager->job);
    if (r == 0)
        r = after_new(manager);
    if (r == 0)
        r = verify_new(manager->base, manager->catalog, &manager->verify);
    methods.job = manager->job;
    methods.verify = manager->verify;
    if (r == 0)
        r = methods_new(&methods, &manager->methods);
    if (r == 0)
        r = server_new(manager->base, manager->pool, &handler, &limits, &manager->server);
    return r < 0 ? manager_fail(EX_OSERR, "services", r) : 0;
}

int manager_listen(Manager *manager)
{
    Activation *activation = &manager->activation;
    int r = 0;

    for (size_t i = 0; i < activation->socket_count && r == 0; i++) {
        r = server_listen_fd(manager->server, activation->sockets[i].fd);
        if (r == 0)
            TAKE_FD(activation->sockets[i].fd);
    }
    if (activation->socket_count == 0)
        r = server_listen(manager->server, manager->options->socket, manager->config->socket_mode,
                          reload_socket_group(manager->config));
    if (r == 0)
        r = server_accept(manager->server);
    return r < 0 ? manager_fail(r == -EADDRINUSE ? EX_TEMPFAIL : EX_OSERR, manager->options->socket,
                                r)
                 : 0;
}

/* --- the order of all that */

static void ignore_signals(void)
{
    /* A write to a closed socket or past RLIMIT_FSIZE is an error, not a death. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

int manager_open(Manager *manager)
{
    int r;

    ignore_signals();
    manager->status.started_usec = clock_realtime();
    manager->status.state = "starting";
    r = open_state(manager);
    if (r == 0)
        r = new_objects(manager);
    if (r == 0)
        r = stored_take(manager);
    if (r == 0)
        r = recover(manager);
    if (r == 0)
        r = new_services(manager);
    return r;
}
