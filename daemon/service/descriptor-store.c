/* Putting descriptors into the service manager's store, and taking them out.
 *
 * Each message is a task for the housekeeper, with a duplicate of the descriptor, so that the
 * loop's thread never waits for the service manager and the caller may do with its own as it likes.
 * FDPOLL=0: a memfd is always readable, and the manager would drop what hangs up. */
#include "service/descriptor-store.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/housekeeper.h"
#include "base/log.h"
#include "service/notify-send.h"

/* How long a message waits for room in the service manager's queue. One that had none is not waited
 * for again until it takes something: the housekeeper has other work. */
#define WAIT_MSEC 5000
#define NAME_BYTES_MAX 256 /* FDNAME= takes 255 */

struct DescriptorStore {
    Housekeeper *housekeeper; /* NULL: at once */
    bool there;
    atomic_bool sent;
    atomic_bool stuck; /* the last message found no room */
    LogLimit trouble;
};

typedef struct StoreTask {
    HousekeeperTask task;
    DescriptorStore *store;
    int fd; /* -1: to be removed */
    int result;
    char name[NAME_BYTES_MAX];
} StoreTask;

int descriptor_store_new(DescriptorStore **ret)
{
    DescriptorStore *store = calloc(1, sizeof(*store));
    const char *kept = getenv("FDSTORE"); /* how many; older managers do not say */

    if (!store)
        return -ENOMEM;
    store->there = getenv("NOTIFY_SOCKET") && (!kept || strcmp(kept, "0") != 0);
    *ret = store;
    return 0;
}

DescriptorStore *descriptor_store_free(DescriptorStore *store)
{
    free(store);
    return NULL;
}

void descriptor_store_background(DescriptorStore *store, Housekeeper *housekeeper)
{
    store->housekeeper = housekeeper;
}

void descriptor_store_proven(DescriptorStore *store)
{
    atomic_store(&store->sent, true);
}

bool descriptor_store_in_use(const DescriptorStore *store)
{
    return atomic_load(&store->sent);
}

static void store_run(HousekeeperTask *task)
{
    StoreTask *message = (StoreTask *)task;
    DescriptorStore *store = message->store;
    bool puts = message->fd >= 0;
    char text[NAME_BYTES_MAX + 64];

    snprintf(text, sizeof(text), "%s\nFDNAME=%s", puts ? "FDSTORE=1\nFDPOLL=0" : "FDSTOREREMOVE=1",
             message->name);
    message->result = notify_send(text, message->fd, atomic_load(&store->stuck) ? 0 : WAIT_MSEC);
    atomic_store(&store->stuck, message->result == -EAGAIN);
    if (puts && message->result > 0)
        atomic_store(&store->sent, true);
    closep(&message->fd);
}

static void tell_failed(DescriptorStore *store, const char *name, int error)
{
    log_limited(&store->trouble, LOG_WARNING,
                "descriptor store: cannot tell the service manager of %s: %s", name,
                log_errno(error));
}

static void store_done(HousekeeperTask *task)
{
    StoreTask *message = (StoreTask *)task;

    if (message->result < 0)
        tell_failed(message->store, message->name, message->result);
    free(message);
}

static void submit(DescriptorStore *store, const char *name, int fd)
{
    StoreTask *message = calloc(1, sizeof(*message));

    if (!message) {
        closep(&fd);
        tell_failed(store, name, -ENOMEM);
        return;
    }
    *message =
        (StoreTask){.task = {.run = store_run, .done = store_done}, .store = store, .fd = fd};
    snprintf(message->name, sizeof(message->name), "%s", name);
    if (store->housekeeper) {
        housekeeper_submit(store->housekeeper, &message->task);
        return;
    }
    store_run(&message->task);
    store_done(&message->task);
}

void descriptor_store_put(DescriptorStore *store, const char *name, int fd)
{
    int copy;

    if (!store->there)
        return;
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0)
        tell_failed(store, name, -errno);
    else
        submit(store, name, copy);
}

void descriptor_store_remove(DescriptorStore *store, const char *name)
{
    if (store->there)
        submit(store, name, -1);
}
