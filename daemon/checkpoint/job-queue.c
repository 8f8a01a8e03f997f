/* Requests in the order in which they came. What can go wrong: too many, and want of memory. Being
 * told may make a waiter forget itself or others, or ask again; so no pointer to a waiter is held
 * over a call but `upcoming`, which job_request_forget moves on. */
#include "checkpoint/job-queue.h"

void job_queue_init(JobQueue *queue)
{
    *queue = (JobQueue){.end = &queue->first};
}

void job_queue_deinit(JobQueue *queue)
{
    JobRequest *request;

    while ((request = job_queue_take(queue)) != NULL)
        job_request_free(request);
}

static int compare_identities(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(Identity));
}

static void job_request_freep(JobRequest **request)
{
    job_request_free(*request);
}

static int job_request_new(const Identity *arenas, size_t count, const char *label,
                           JobRequest **ret)
{
    _cleanup_(job_request_freep) JobRequest *request = calloc(1, sizeof(*request));

    if (request == NULL)
        return -ENOMEM;
    if (strlen(label) > HOLDFAST_LABEL_MAX)
        return -EINVAL;
    strcpy(request->label, label);
    request->checkpoint = calloc(1, sizeof(*request->checkpoint));
    if (request->checkpoint == NULL)
        return -ENOMEM;
    strcpy(request->checkpoint->spec.label, label);
    if (count > 0) {
        request->arenas = calloc(count, sizeof(*arenas));
        if (request->arenas == NULL)
            return -ENOMEM;
        memcpy(request->arenas, arenas, count * sizeof(*arenas));
        qsort(request->arenas, count, sizeof(*arenas), compare_identities);
        request->count = 1;
        for (size_t i = 1; i < count; i++)
            if (!identity_equal(&request->arenas[i], &request->arenas[request->count - 1]))
                request->arenas[request->count++] = request->arenas[i];
    }
    *ret = TAKE_PTR(request);
    return 0;
}

JobRequest *job_request_free(JobRequest *request)
{
    if (request == NULL)
        return NULL;
    free(request->arenas);
    free(request->checkpoint);
    free(request);
    return NULL;
}

static bool job_request_equal(const JobRequest *a, const JobRequest *b)
{
    return a->count == b->count && strcmp(a->label, b->label) == 0 &&
           (a->count == 0 || memcmp(a->arenas, b->arenas, a->count * sizeof(Identity)) == 0);
}

int job_queue_add(JobQueue *queue, const Identity *arenas, size_t count, const char *label,
                  JobWaiter *waiter)
{
    _cleanup_(job_request_freep) JobRequest *request = NULL;
    JobRequest *into;
    int r;

    r = job_request_new(arenas, count, label, &request);
    if (r < 0)
        return r;
    for (into = queue->first; into != NULL; into = into->next)
        if (job_request_equal(into, request))
            break;
    if (into == NULL) {
        if (queue->count >= JOB_QUEUE_MAX)
            return JOB_QUEUE_FULL;
        into = *queue->end = TAKE_PTR(request);
        queue->end = &into->next;
        queue->count++;
    }
    if (waiter != NULL) {
        waiter->next = into->waiters;
        into->waiters = waiter;
    }
    return 0;
}

JobRequest *job_queue_take(JobQueue *queue)
{
    JobRequest *request = queue->first;

    if (request == NULL)
        return NULL;
    queue->first = request->next;
    if (queue->first == NULL)
        queue->end = &queue->first;
    queue->count--;
    request->next = NULL;
    return request;
}

void job_queue_forget(JobQueue *queue, JobWaiter *waiter)
{
    for (JobRequest *request = queue->first; request != NULL; request = request->next)
        if (job_request_forget(request, waiter))
            return;
}

bool job_request_wants(const JobRequest *request, const Identity *identity)
{
    return request->count == 0 || bsearch(identity, request->arenas, request->count,
                                          sizeof(*identity), compare_identities) != NULL;
}

bool job_request_forget(JobRequest *request, JobWaiter *waiter)
{
    for (JobWaiter **link = &request->waiters; *link != NULL; link = &(*link)->next) {
        if (*link != waiter)
            continue;
        if (request->upcoming == waiter)
            request->upcoming = waiter->next;
        *link = waiter->next;
        waiter->next = NULL;
        return true;
    }
    return false;
}

void job_request_tell(JobRequest *request, JobEvent event, const Checkpoint *checkpoint)
{
    for (JobWaiter *waiter = request->waiters; waiter != NULL; waiter = request->upcoming) {
        request->upcoming = waiter->next;
        waiter->notify(waiter, event, checkpoint);
    }
}

void job_request_end(JobRequest *request, JobEvent event, const Checkpoint *checkpoint)
{
    JobWaiter *waiter;

    while ((waiter = request->waiters) != NULL) {
        request->waiters = waiter->next;
        waiter->next = NULL;
        waiter->notify(waiter, event, checkpoint);
    }
}
