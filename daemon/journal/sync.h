/* The thread that calls fdatasync, sync_file_range and nothing else: no allocation, no logging, no
 * lock that a fork could copy while it is held. Requests are done one after the other; after one
 * has failed the later ones are not tried (-ECANCELED), since no segment may be durable before the
 * one before it.
 */
#pragma once

#include "base/common.h"

/* Requests that may be under way at once. */
#define SYNC_QUEUE_MAX 8u

typedef struct Sync Sync;

/* How a file is made durable: 0 or a negative errno. For tests, and for file systems that need
 * more. */
typedef struct SyncOperations {
    int (*datasync)(void *context, int fd);
    /* Begins to write [from, to) and does not wait. */
    int (*behind)(void *context, int fd, uint64_t from, uint64_t to);
    void *context;
} SyncOperations;

/* operations: copied; NULL: fdatasync(2) and sync_file_range(2). */
int sync_new(const SyncOperations *operations, Sync **ret);
/* Waits for what is under way. NULL is fine. */
Sync *sync_free(Sync *sync);

/* Hands a file over; it must stay open until its result was taken. -EAGAIN: SYNC_QUEUE_MAX are
 * under way. */
int sync_submit(Sync *sync, int fd);
/* The same for bytes [from, to) of a file, whose writing to the disk shall begin and is not waited
 * for, so that a later sync finds less to do. Nothing is durable by it; its success says nothing.
 */
int sync_submit_behind(Sync *sync, int fd, uint64_t from, uint64_t to);
/* An eventfd that rings with each result, to be watched edge-triggered: nobody needs to read it,
 * which whoever waits for the result would wait for too. Who polls it reads it away first. */
int sync_fd(const Sync *sync);
/* The next result, in the order of the requests, in ret_result. False: there is none yet. */
bool sync_take(Sync *sync, int *ret_result);
/* How long the request took whose result was taken last, in microseconds. */
uint64_t sync_took_usec(const Sync *sync);
/* Waits until everything submitted is done; then sync_take has it. For stop. */
void sync_wait(Sync *sync);
/* Requests whose results were not taken. */
unsigned sync_pending(const Sync *sync);
/* After a failure: requests are tried again (of other files). Nothing may be pending. */
void sync_reset(Sync *sync);
