/* Owns every object and the event loop.
 *
 * Start (manager-start.c): directories and lock, memory and threads, recovery, journal, the rest,
 * and only then the socket. A turn of the loop: everything that is readable, then (end_turn) parked
 * calls, the journal's commit, a waiting cut, and the replies that may leave. Stop: nothing new is
 * accepted, the last checkpoint is taken where one is wanted, replies leave, the journal is closed
 * with the note that this stop was clean.
 *
 * What can go wrong at the start ends it with one of sysexits.h and a line in the log; later
 * nothing but an order does. */

#include <signal.h>
#include <sysexits.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "manager-private.h"
#include "service/notify.h"
#include "tell.h"

#define STOP_USEC (2 * USEC_PER_SEC)

int manager_fail(int status, const char *what, int error)
{
    log_error("%s: %s", what, log_errno(error));
    return status;
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
    command_stop(manager->after);
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
    ReloadError error;

    (void)what;
    switch (signal_number) {
    case SIGUSR1:
        triggers_now(manager);
        break;
    case SIGHUP:
        (void)reload_run(manager, ignored, ARRAY_SIZE(ignored) - 1, &error);
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

static void on_deadline(evutil_socket_t fd, short what, void *context)
{
    Manager *manager = context;

    (void)fd;
    (void)what;
    manager->deadline_usec = UINT64_MAX;
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
    tell_tick(context);
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
    manager->journal_event = add_event(manager, journal_fd(manager->journal),
                                       EV_READ | EV_ET | EV_PERSIST, on_journal, NULL);
    manager->deadline = add_event(manager, -1, 0, on_deadline, NULL);
    manager->deadline_usec = UINT64_MAX;
    manager->again = add_event(manager, -1, 0, on_nothing, NULL);
    manager->tick = add_event(manager, -1, EV_PERSIST, on_tick, &second);
    complete = complete && manager->housekeeper_event && manager->journal_event &&
               manager->deadline && manager->again && manager->tick;
    return complete ? 0 : manager_fail(EX_OSERR, "events", -ENOMEM);
}

/* --- a turn */

/* Wakes the loop when the journal wants to be asked again. Mostly that is when it wanted it in the
 * turn before, or never. */
static void set_deadline(Manager *manager)
{
    uint64_t deadline = journal_deadline(manager->journal), now;
    struct timeval wait;

    if (deadline == manager->deadline_usec)
        return;
    if (deadline == UINT64_MAX) {
        event_del(manager->deadline);
        manager->deadline_usec = UINT64_MAX;
        return;
    }
    now = clock_monotonic();
    wait = clock_timeval(deadline > now ? deadline - now : 0);
    /* Should it fail, the next turn tries again. */
    if (event_add(manager->deadline, &wait) == 0)
        manager->deadline_usec = deadline;
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
    bool answered;

    /* In a turn without calls, too: what an idle daemon could give back would stay. */
    if (!manager->turn_started)
        store_turn(manager->store);
    if (manager->resume) {
        manager->resume = false;
        store_resume(manager->store);
        server_resume(manager->server);
    }
    journal_commit(manager->journal);
    store_turn_end(manager->store);
    if (store_was_out_of_batch(manager->store)) {
        /* What waits for room in the batch is tried again in the next turn, or when the sync is
         * done. */
        manager->resume = true;
        if (journal_has_room(manager->journal, RECORD_BYTES_MAX))
            event_active(manager->again, 0, 0);
    }
    job_turn(manager->job);
    tell_failed(manager);
    manager->turn_started = false; /* what goes on there is of the next one */
    answered = server_flush(manager->server,
                            MAX(journal_replied_revision(manager->journal), manager->failed_told));
    /* A checkpoint's child has better use for a processor; and where an event is active already the
     * next turn does not sleep, and proves nothing. */
    if (answered && !job_running(manager->job) &&
        event_base_get_num_events(manager->base, EVENT_BASE_COUNT_ACTIVE) == 0)
        busy_poll_answered(&manager->poll, clock_monotonic());
    set_deadline(manager);
}

/* Turns until all replies have left and the checkpoint is over, as far as that comes soon. */
static void finish(Manager *manager, uint64_t deadline)
{
    while ((server_busy(manager->server) || job_ending(manager->job)) &&
           clock_monotonic() < deadline) {
        const struct timeval soon = {.tv_usec = 20000};

        event_add(manager->again, &soon);
        event_base_loop(manager->base, EVLOOP_ONCE);
        end_turn(manager);
    }
}

/* True: there were any. */
static bool run_events(Manager *manager, int flags)
{
    event_base_loop(manager->base, EVLOOP_ONCE | flags);
    /* The most that were active at a time since this was asked last: also of what the end of the
     * last turn made active. */
    return event_base_get_max_events(manager->base, EVENT_BASE_COUNT_ACTIVE, 1) > 0;
}

/* Waits for the next events and runs what is to be done for them: without sleep for as long as
 * busy-poll.h says. */
static void next_events(Manager *manager)
{
    while (busy_poll_looks(&manager->poll)) {
        if (run_events(manager, EVLOOP_NONBLOCK)) {
            busy_poll_found(&manager->poll, manager->turn_started);
            return;
        }
        if (!busy_poll_again(&manager->poll, clock_monotonic()))
            break;
    }
    (void)run_events(manager, 0);
}

static void loop(Manager *manager)
{
    uint64_t deadline;

    while (manager->state != MANAGER_STOPPED) {
        next_events(manager);
        end_turn(manager);
    }
    job_abandon(manager->job);
    verify_abandon(manager->verify);
    deadline = clock_monotonic() + STOP_USEC;
    finish(manager, deadline);
    /* What still waits for room was not begun, and hears so. */
    store_set_read_only(manager->store, "the daemon stops");
    manager->resume = true;
    end_turn(manager);
    finish(manager, deadline);
}

/* --- start and stop */

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
    manager->after = command_free(manager->after);
    manager->job = job_free(manager->job);
    free_events(manager);
    if (manager->journal) {
        r = journal_close(manager->journal, status == 0);
        if (r < 0)
            status = manager_fail(EX_IOERR, "journal", r);
    }
    manager->control = control_free(manager->control);
    adoption_deinit(&manager->adoption);
    manager->store = store_free(manager->store);
    manager->catalog = catalog_free(manager->catalog);
    if (manager->housekeeper)
        housekeeper_drain(manager->housekeeper);
    manager->capture = capture_free(manager->capture);
    manager->pool = pool_free(manager->pool);
    manager->housekeeper = housekeeper_free(manager->housekeeper);
    if (manager->base)
        event_base_free(manager->base);
    manager->descriptors = descriptor_store_free(manager->descriptors);
    activation_deinit(&manager->activation);
    closep(&manager->journal_fd);
    closep(&manager->images_fd);
    closep(&manager->lock_fd);
    closep(&manager->state_fd);
    free(manager->images_path);
    config_deinit(manager->config);
    return status;
}

static int start(Manager *manager)
{
    int r = manager_open(manager);

    if (r == 0)
        r = add_events(manager);
    return r == 0 ? manager_listen(manager) : r;
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
        r = manager_fail(EX_OSERR, "watchdog", -ENOMEM);
    if (r == 0) {
        manager.state = MANAGER_SERVING;
        manager.status.state = "serving";
        triggers_start(&manager);
        tell_started(&manager);
        tell_tick(&manager);
        loop(&manager);
    }
    notify_free(notify);
    return stop(&manager, r);
}
