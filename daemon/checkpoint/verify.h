/* Reads a whole image back and checks it, in a process of its own, so that nobody waits for it. One
 * at a time. */
#pragma once

#include "checkpoint/catalog.h"

struct event_base;

typedef struct Verify Verify;
typedef struct VerifyWaiter VerifyWaiter;

enum {
    VERIFY_BUSY = 1, /* one is running already */
};

typedef enum VerifyEvent {
    VERIFY_PROGRESS, /* at most ten times a second */
    VERIFY_GOOD,
    VERIFY_DAMAGED, /* where and why tell; the catalog has it renamed already, if it is not pinned
                       otherwise */
    VERIFY_FAILED, /* the check could not be made (I/O error, killed): why tells; says nothing about
                      the image */
} VerifyEvent;

/* Who asked. Embedded in the asker. After any event but PROGRESS it is forgotten. */
struct VerifyWaiter {
    void (*notify)(VerifyWaiter *waiter, VerifyEvent event, uint64_t pages_done,
                   uint64_t pages_total, const char *where, const char *why);
};

int verify_new(struct event_base *base, Catalog *catalog, Verify **ret);
/* Kills a running check. NULL is fine. */
Verify *verify_free(Verify *verify);

/* Starts checking a complete checkpoint, which is pinned until the end. 0, VERIFY_BUSY or a
 * negative errno. */
int verify_start(Verify *verify, Checkpoint *checkpoint, VerifyWaiter *waiter);
/* The daemon stops: the check is given up, and the asker told (VERIFY_FAILED). */
void verify_abandon(Verify *verify);
/* The asker went away: the check is given up. */
void verify_forget(Verify *verify, VerifyWaiter *waiter);
