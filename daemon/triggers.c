/* Checkpoints that nobody asked for over the socket: by interval, by the journal's size, on
 * SIGUSR1, at the stop, and the one that heals a journal whose sync failed. Also what the job asks
 * of the layers around it, and what follows when a checkpoint has ended: retiring the journal. */

#include <stdio.h>

#include "after.h"
#include "base/clock.h"
#include "base/log.h"
#include "manager-private.h"
#include "metrics.h"
#include "tell.h"

/* An adoption that was followed by so much service has not brought what ends us. */
#define PROVEN_USEC (60 * USEC_PER_SEC)
#define RETRY_USEC (60 * USEC_PER_SEC)
/* How long a stop waits for a journal that cannot be written. */
#define STUCK_USEC (10 * USEC_PER_SEC)

/* --- what the job asks */

static size_t host_arenas(void *context, const JobArena **ret)
{
    const Manager *manager = context;

    return store_arenas(manager->store, ret);
}

static uint64_t host_revision(void *context)
{
    const Manager *manager = context;

    return store_revision(manager->store);
}

static bool host_ready(void *context)
{
    const Manager *manager = context;

    return journal_state(manager->journal) != JOURNAL_OK || journal_cut_ready(manager->journal);
}

static void host_cut(void *context)
{
    Manager *manager = context;

    if (!journal_switch(manager->journal))
        journal_sync(manager->journal);
}

static bool host_durable(void *context, uint64_t revision)
{
    const Manager *manager = context;

    return journal_covers(manager->journal, revision);
}

static void host_resume(void *context)
{
    Manager *manager = context;

    manager->resume = true;
    event_active(manager->again, 0, 0);
}

/* damaged: those that are damaged, too, which no checkpoint saves. */
static bool covers_all(const Manager *manager, const Checkpoint *checkpoint, bool damaged)
{
    for (size_t i = 0; i < store_count(manager->store); i++) {
        const StoreArena *arena = store_at(manager->store, i);

        if ((damaged || !arena_damage(arena->arena)) &&
            !checkpoint_holds(checkpoint, arena_identity(arena->arena)))
            return false;
    }
    return true;
}

static void host_ended(void *context, const Checkpoint *checkpoint)
{
    Manager *manager = context;

    metrics_checkpoint(manager, checkpoint);
    tell_soon(manager);
    store_release_dropped(manager->store);
    /* Also after a cancelled one: what was cancelled shall not begin again at once. */
    if (checkpoint->state != CHECKPOINT_COMPLETE)
        manager->retry_usec = clock_monotonic() + RETRY_USEC;
    if (checkpoint->state != CHECKPOINT_COMPLETE)
        return;
    if (journal_state(manager->journal) == JOURNAL_CONDEMNED &&
        covers_all(manager, checkpoint, true) &&
        checkpoint->spec.revision >= journal_failed_revision(manager->journal))
        (void)journal_heal(manager->journal,
                           checkpoint->spec.revision); /* else the next one does */
    triggers_retire_journal(manager);
    after_checkpoint(manager, checkpoint);
}

const JobHost triggers_job_host = {
    .arenas = host_arenas,
    .revision = host_revision,
    .ready = host_ready,
    .cut = host_cut,
    .durable = host_durable,
    .resume = host_resume,
    .ended = host_ended,
};

/* --- what the journal must keep */

typedef uint64_t (*CutOf)(const Manager *manager, const Arena *arena);

static uint64_t oldest_cut(const Manager *manager, const Arena *arena)
{
    return catalog_oldest_cut(manager->catalog, arena_identity(arena));
}

static uint64_t newest_cut(const Manager *manager, const Arena *arena)
{
    size_t index;
    const Checkpoint *image = catalog_newest_of(manager->catalog, arena_identity(arena),
                                                catalog_count(manager->catalog), &index);

    if (arena_damage(arena))
        return UINT64_MAX; /* a checkpoint would not make it a newer one */
    return image ? image->spec.revision : 0;
}

/* The lowest over all arenas of the cut that cut_of names; an arena that no image holds needs its
 * creation. */
static uint64_t lowest_cut(const Manager *manager, CutOf cut_of)
{
    const Checkpoint *newest = catalog_newest(manager->catalog);
    uint64_t lowest = newest ? newest->spec.revision : 0;

    for (size_t i = 0; i < store_count(manager->store); i++) {
        const Arena *arena = store_at(manager->store, i)->arena;
        uint64_t cut = cut_of(manager, arena);

        if (cut == 0)
            cut = MAX(arena_created_revision(arena), UINT64_C(1)) - 1;
        lowest = MIN(lowest, cut);
    }
    return lowest;
}

void triggers_retire_journal(Manager *manager)
{
    uint64_t lowest = lowest_cut(manager, oldest_cut);

    /* Also back to the oldest image there is: with it, arenas that were created since come back
     * even where every newer image is damaged. */
    for (size_t i = 0; i < catalog_count(manager->catalog); i++) {
        const Checkpoint *image = catalog_at(manager->catalog, i);

        if (image->state == CHECKPOINT_COMPLETE)
            lowest = MIN(lowest, image->spec.revision);
    }
    journal_retire(manager->journal, lowest);
}

/* --- by itself */

bool triggers_changed(const Manager *manager)
{
    const Checkpoint *newest = catalog_newest(manager->catalog);
    uint64_t last = store_updates(manager->store) > 0 ? store_revision(manager->store)
                                                      : manager->recovered_revision;

    if (!newest)
        return store_count(manager->store) > 0;
    return last > newest->spec.revision || !covers_all(manager, newest, false);
}

static void own_notify(JobWaiter *waiter, JobEvent event, const Checkpoint *checkpoint)
{
    Manager *manager = CONTAINER_OF(waiter, Manager, own_waiter);

    (void)checkpoint;
    if (event == JOB_COMPLETE || event == JOB_FAILED || event == JOB_CANCELLED)
        manager->own_request = false;
}

static void ask(Manager *manager, const char *why)
{
    int r;

    if (manager->own_request || manager->state != MANAGER_SERVING)
        return;
    manager->own_waiter.notify = own_notify;
    r = job_request(manager->job, NULL, 0, "", &manager->own_waiter);
    if (r != 0) {
        manager->retry_usec = clock_monotonic() + RETRY_USEC;
        log_warning("checkpoint (%s): %s; the next try is in a minute", why,
                    r == JOB_QUEUE_FULL ? "too many wait already" : log_errno(r));
        return;
    }
    manager->own_request = true;
    log_debug("checkpoint: %s", why);
    event_active(manager->again, 0, 0);
}

void triggers_start(Manager *manager)
{
    uint64_t interval = manager->config->interval_usec;

    manager->next_interval_usec = interval > 0 ? clock_monotonic() + interval : UINT64_MAX;
}

static void prove_adoption(Manager *manager, uint64_t now)
{
    if (manager->proven_usec == 0)
        manager->proven_usec = now + PROVEN_USEC;
    if (now >= manager->proven_usec)
        manager->control->header->adoptions = 0;
}

void triggers_now(Manager *manager)
{
    ask(manager, "SIGUSR1");
}

/* The last image is published when the journal covers it. One that cannot be written may never do
 * so, and the stop is not to wait for that. */
static void give_up_final(Manager *manager, uint64_t now)
{
    if (journal_state(manager->journal) == JOURNAL_OK || !job_waits_for_journal(manager->job)) {
        manager->stuck_usec = UINT64_MAX;
        return;
    }
    if (manager->stuck_usec == UINT64_MAX)
        manager->stuck_usec = now + STUCK_USEC;
    if (now < manager->stuck_usec)
        return;
    log_warning("the last checkpoint is given up, since the journal is not written either: %s",
                log_errno(journal_error(manager->journal)));
    manager_stop_now(manager);
}

void triggers_tick(Manager *manager)
{
    uint64_t now = clock_monotonic();

    if (manager->state == MANAGER_STOPPING)
        give_up_final(manager, now);
    if (manager->state != MANAGER_SERVING)
        return;
    prove_adoption(manager, now);
    if (now < manager->retry_usec)
        return;
    if (journal_state(manager->journal) == JOURNAL_CONDEMNED) {
        ask(manager, "the journal's sync failed");
        return;
    }
    if (now >= manager->next_interval_usec) {
        triggers_start(manager);
        if (triggers_changed(manager))
            ask(manager, "interval");
        return;
    }
    if (journal_bytes_behind(manager->journal, lowest_cut(manager, newest_cut)) >=
            manager->config->journal_bytes_max &&
        triggers_changed(manager))
        ask(manager, "size of the journal");
}

/* --- when the journal cannot be written */

void triggers_journal_changed(void *context, JournalState state, int error)
{
    Manager *manager = context;
    char reason[200];

    if (state == JOURNAL_OK) {
        store_set_read_only(manager->store, NULL);
        tell_updates_accepted(manager);
    } else {
        snprintf(reason, sizeof(reason),
                 state == JOURNAL_NO_ROOM ? "the journal cannot be written: %s"
                                          : "a sync of the journal failed: %s",
                 log_errno(error));
        store_set_read_only(manager->store, reason);
        tell_updates_refused(manager, reason,
                             state == JOURNAL_NO_ROOM
                                 ? "they are accepted again as soon as it can be written"
                                 : "a checkpoint will heal it");
        if (state == JOURNAL_CONDEMNED)
            manager->retry_usec = 0;
    }
    tell_soon(manager);
    manager->resume = true;
    if (manager->again)
        event_active(manager->again, 0, 0);
}

/* --- at the stop */

static void final_notify(JobWaiter *waiter, JobEvent event, const Checkpoint *checkpoint)
{
    Manager *manager = CONTAINER_OF(waiter, Manager, final_waiter);

    if (event == JOB_CUT || event == JOB_PROGRESS)
        return;
    if (event == JOB_FAILED)
        log_warning("the last checkpoint failed: %s; the journal has the state",
                    checkpoint->reason);
    manager_stop_now(manager);
}

bool triggers_final(Manager *manager)
{
    JobOptions options;

    if (manager->config->at_stop == AT_STOP_NO || !triggers_changed(manager))
        return false;
    /* The next process finds the arenas where the descriptor store keeps them, and all of it in the
     * journal if not. */
    if (manager->config->at_stop == AT_STOP_AUTO && descriptor_store_in_use(manager->descriptors) &&
        journal_state(manager->journal) == JOURNAL_OK)
        return false;
    /* The next process reads it at once, and no client waits meanwhile. */
    options = reload_job_options(manager->config);
    options.cached = true;
    job_set_options(manager->job, &options);
    manager->stuck_usec = UINT64_MAX;
    manager->final_waiter.notify = final_notify;
    return job_request(manager->job, NULL, 0, "", &manager->final_waiter) == 0;
}
