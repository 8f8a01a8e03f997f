/* Unit tests of base/housekeeper. */
#include "base/housekeeper.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

static Housekeeper *housekeeper;

static void setup(void)
{
    cr_assert(eq(int, housekeeper_new(&housekeeper), 0));
}

static void teardown(void)
{
    housekeeper = housekeeper_free(housekeeper);
}

TestSuite(housekeeper, .init = setup, .fini = teardown, .timeout = 60);

typedef struct Job {
    HousekeeperTask task;
    int number;
    pthread_t runner;
    bool again;
} Job;

static int order[1000];
static atomic_int ran;
static int done_count;
static atomic_bool gate;

static void job_run(HousekeeperTask *task)
{
    Job *job = (Job *)task;

    order[atomic_fetch_add(&ran, 1) % 1000] = job->number;
    job->runner = pthread_self();
}

static void job_done(HousekeeperTask *task)
{
    Job *job = (Job *)task;

    done_count++;
    if (job->again) {
        job->again = false;
        housekeeper_submit(housekeeper, task);
    }
}

Test(housekeeper, runs_tasks_in_order_in_another_thread_and_done_in_this_one)
{
    static Job jobs[1000];

    for (int i = 0; i < 1000; i++) {
        jobs[i] = (Job){.task = {.run = job_run, .done = job_done}, .number = i};
        housekeeper_submit(housekeeper, &jobs[i].task);
    }
    housekeeper_drain(housekeeper);
    cr_assert(eq(int, ran, 1000));
    cr_assert(eq(int, done_count, 1000));
    for (int i = 0; i < 1000; i++) {
        cr_assert(eq(int, order[i], i));
        cr_assert(not(pthread_equal(jobs[i].runner, pthread_self())));
    }
}

Test(housekeeper, descriptor_is_readable_while_something_is_to_be_reaped)
{
    Job job = {.task = {.run = job_run, .done = job_done}};
    struct pollfd poll_fd = {.fd = housekeeper_fd(housekeeper), .events = POLLIN};

    cr_assert(eq(int, poll(&poll_fd, 1, 0), 0));
    housekeeper_submit(housekeeper, &job.task);
    cr_assert(eq(int, poll(&poll_fd, 1, 30000), 1));
    cr_assert(eq(int, done_count, 0), "done waits for the reaping");
    housekeeper_reap(housekeeper);
    cr_assert(eq(int, done_count, 1));
    cr_assert(eq(int, poll(&poll_fd, 1, 0), 0));
}

static void run_and_free(HousekeeperTask *task)
{
    free(task);
    atomic_fetch_add(&ran, 1);
}

Test(housekeeper, a_task_without_done_may_free_itself)
{
    for (int i = 0; i < 100; i++) {
        HousekeeperTask *task = malloc(sizeof(*task));

        *task = (HousekeeperTask){.run = run_and_free};
        housekeeper_submit(housekeeper, task);
    }
    housekeeper_drain(housekeeper);
    cr_assert(eq(int, ran, 100));
}

Test(housekeeper, free_runs_what_done_submits_again)
{
    Job job = {.task = {.run = job_run, .done = job_done}, .again = true};

    housekeeper_submit(housekeeper, &job.task);
    housekeeper = housekeeper_free(housekeeper);
    cr_assert(eq(int, ran, 2));
    cr_assert(eq(int, done_count, 2));
}

static void run_behind_gate(HousekeeperTask *task)
{
    while (!atomic_load(&gate))
        usleep(100);
    job_run(task);
}

Test(housekeeper, submitting_does_not_wait_for_a_slow_task)
{
    Job slow = {.task = {.run = run_behind_gate, .done = job_done}, .number = 1};
    Job quick = {.task = {.run = job_run, .done = job_done}, .number = 2};

    housekeeper_submit(housekeeper, &slow.task);
    housekeeper_submit(housekeeper, &quick.task);
    housekeeper_reap(housekeeper);
    cr_assert(eq(int, done_count, 0));
    atomic_store(&gate, true);
    housekeeper_drain(housekeeper);
    cr_assert(eq(int, done_count, 2));
    cr_assert(eq(int, order[0], 1));
}

static sigset_t seen_mask;

static void run_look_at_mask(HousekeeperTask *task)
{
    (void)task;
    pthread_sigmask(SIG_BLOCK, NULL, &seen_mask);
}

Test(housekeeper, its_thread_takes_no_signals)
{
    HousekeeperTask task = {.run = run_look_at_mask};
    sigset_t own;

    housekeeper_submit(housekeeper, &task);
    housekeeper_drain(housekeeper);
    cr_assert(eq(int, sigismember(&seen_mask, SIGTERM), 1));
    cr_assert(eq(int, sigismember(&seen_mask, SIGCHLD), 1));
    cr_assert(eq(int, sigismember(&seen_mask, SIGUSR1), 1));
    pthread_sigmask(SIG_BLOCK, NULL, &own);
    cr_assert(eq(int, sigismember(&own, SIGTERM), 0), "the starting thread's mask is as it was");
}

Test(housekeeper, the_prompt_lane_does_not_wait_for_the_slow_one)
{
    Job slow = {.task = {.run = run_behind_gate, .done = job_done}, .number = 1};
    Job prompt = {.task = {.run = job_run, .done = job_done}, .number = 2};
    struct pollfd poll_fd = {.fd = housekeeper_fd(housekeeper), .events = POLLIN};

    housekeeper_submit_slow(housekeeper, &slow.task);
    housekeeper_submit(housekeeper, &prompt.task);
    cr_assert(eq(int, poll(&poll_fd, 1, 30000), 1));
    housekeeper_reap(housekeeper);
    cr_assert(eq(int, done_count, 1));
    cr_assert(eq(int, order[0], 2));
    atomic_store(&gate, true);
    housekeeper_drain(housekeeper);
    cr_assert(eq(int, done_count, 2));
    cr_assert(not(pthread_equal(slow.runner, prompt.runner)));
}
