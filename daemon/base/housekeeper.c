/* The threads for slow calls, one a lane. The loop's thread submits at the tail of a lane's
 * `waiting`; the lane's thread takes from its head, runs without the lock, and puts what has a
 * `done` on `finished` and rings the eventfd; the loop's thread reaps. The lock is held for a few
 * pointer moves only, so submitting never waits for a slow call. A forked child does not have the
 * threads and must not use any of this. */
#include "base/housekeeper.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

typedef struct TaskList {
    HousekeeperTask *first;
    HousekeeperTask *last;
} TaskList;

typedef enum LaneKind {
    LANE_PROMPT,
    LANE_SLOW,
    LANES,
} LaneKind;

/* Of the threads: the system allows 15 characters. */
static const char *const lane_names[LANES] = {
    [LANE_PROMPT] = "housekeeper",
    [LANE_SLOW] = "housekeep-slow",
};

typedef struct Lane {
    Housekeeper *housekeeper;
    pthread_t thread;
    pthread_cond_t work; /* something waits, or stop */
    TaskList waiting;
} Lane;

struct Housekeeper {
    pthread_mutex_t lock;
    pthread_cond_t idle; /* a task was run */
    Lane lanes[LANES];
    TaskList finished;
    uint64_t submitted;
    uint64_t ran;
    bool stop;
    int fd;
};

static void list_append(TaskList *list, HousekeeperTask *task)
{
    task->next = NULL;
    if (list->last != NULL)
        list->last->next = task;
    else
        list->first = task;
    list->last = task;
}

static HousekeeperTask *list_take(TaskList *list)
{
    HousekeeperTask *task = list->first;

    if (task != NULL) {
        list->first = task->next;
        if (list->first == NULL)
            list->last = NULL;
        task->next = NULL;
    }
    return task;
}

static void task_run(Housekeeper *housekeeper, HousekeeperTask *task)
{
    /* A task without done may be gone once it has run. */
    bool wants_done = task->done != NULL;

    pthread_mutex_unlock(&housekeeper->lock);
    task->run(task);
    pthread_mutex_lock(&housekeeper->lock);
    if (wants_done) {
        list_append(&housekeeper->finished, task);
        /* Cannot block: the counter would have to reach 2^64 - 2. */
        (void)eventfd_write(housekeeper->fd, 1);
    }
    housekeeper->ran++;
    pthread_cond_broadcast(&housekeeper->idle);
}

static void *lane_main(void *context)
{
    Lane *lane = context;
    Housekeeper *housekeeper = lane->housekeeper;
    HousekeeperTask *task;

    pthread_mutex_lock(&housekeeper->lock);
    for (;;) {
        task = list_take(&lane->waiting);
        if (task != NULL)
            task_run(housekeeper, task);
        else if (housekeeper->stop)
            break;
        else
            pthread_cond_wait(&lane->work, &housekeeper->lock);
    }
    pthread_mutex_unlock(&housekeeper->lock);
    return NULL;
}

/* Signals are for the loop's thread; the new thread inherits the mask. */
static int lane_start(Lane *lane, const char *name)
{
    sigset_t all, before;
    int r;

    sigfillset(&all);
    r = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (r != 0)
        return -r;
    r = pthread_create(&lane->thread, NULL, lane_main, lane);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0)
        return -r;
    pthread_setname_np(lane->thread, name);
    return 0;
}

/* Ends the first so many threads: they have nothing left to do. */
static void lanes_stop(Housekeeper *housekeeper, size_t count)
{
    pthread_mutex_lock(&housekeeper->lock);
    housekeeper->stop = true;
    for (size_t i = 0; i < count; i++)
        pthread_cond_signal(&housekeeper->lanes[i].work);
    pthread_mutex_unlock(&housekeeper->lock);
    for (size_t i = 0; i < count; i++)
        pthread_join(housekeeper->lanes[i].thread, NULL);
    for (size_t i = 0; i < LANES; i++)
        pthread_cond_destroy(&housekeeper->lanes[i].work);
    pthread_cond_destroy(&housekeeper->idle);
    pthread_mutex_destroy(&housekeeper->lock);
}

int housekeeper_new(Housekeeper **ret)
{
    _cleanup_(freep) Housekeeper *housekeeper = calloc(1, sizeof(*housekeeper));
    int r;

    if (housekeeper == NULL)
        return -ENOMEM;
    housekeeper->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (housekeeper->fd < 0)
        return -errno;
    pthread_mutex_init(&housekeeper->lock, NULL);
    pthread_cond_init(&housekeeper->idle, NULL);
    for (size_t i = 0; i < LANES; i++) {
        housekeeper->lanes[i].housekeeper = housekeeper;
        pthread_cond_init(&housekeeper->lanes[i].work, NULL);
    }
    for (size_t i = 0; i < LANES; i++) {
        r = lane_start(&housekeeper->lanes[i], lane_names[i]);
        if (r < 0) {
            lanes_stop(housekeeper, i);
            close(housekeeper->fd);
            return r;
        }
    }
    *ret = TAKE_PTR(housekeeper);
    return 0;
}

static bool housekeeper_at_rest(Housekeeper *housekeeper)
{
    bool rest;

    pthread_mutex_lock(&housekeeper->lock);
    rest = housekeeper->ran == housekeeper->submitted && housekeeper->finished.first == NULL;
    pthread_mutex_unlock(&housekeeper->lock);
    return rest;
}

Housekeeper *housekeeper_free(Housekeeper *housekeeper)
{
    if (housekeeper == NULL)
        return NULL;
    /* A done may submit more. */
    do
        housekeeper_drain(housekeeper);
    while (!housekeeper_at_rest(housekeeper));

    lanes_stop(housekeeper, LANES);
    close(housekeeper->fd);
    free(housekeeper);
    return NULL;
}

static void lane_submit(Housekeeper *housekeeper, LaneKind kind, HousekeeperTask *task)
{
    Lane *lane = &housekeeper->lanes[kind];

    pthread_mutex_lock(&housekeeper->lock);
    list_append(&lane->waiting, task);
    housekeeper->submitted++;
    pthread_cond_signal(&lane->work);
    pthread_mutex_unlock(&housekeeper->lock);
}

void housekeeper_submit(Housekeeper *housekeeper, HousekeeperTask *task)
{
    lane_submit(housekeeper, LANE_PROMPT, task);
}

void housekeeper_submit_slow(Housekeeper *housekeeper, HousekeeperTask *task)
{
    lane_submit(housekeeper, LANE_SLOW, task);
}

int housekeeper_fd(const Housekeeper *housekeeper)
{
    return housekeeper->fd;
}

void housekeeper_reap(Housekeeper *housekeeper)
{
    TaskList finished;
    HousekeeperTask *task;
    eventfd_t count;

    pthread_mutex_lock(&housekeeper->lock);
    (void)eventfd_read(housekeeper->fd, &count);
    finished = housekeeper->finished;
    housekeeper->finished = (TaskList){0};
    pthread_mutex_unlock(&housekeeper->lock);

    while ((task = list_take(&finished)) != NULL)
        task->done(task);
}

void housekeeper_drain(Housekeeper *housekeeper)
{
    uint64_t target;

    pthread_mutex_lock(&housekeeper->lock);
    target = housekeeper->submitted;
    while (housekeeper->ran < target)
        pthread_cond_wait(&housekeeper->idle, &housekeeper->lock);
    pthread_mutex_unlock(&housekeeper->lock);
    housekeeper_reap(housekeeper);
}
