/* SCHED_IDLE is what a child wants that computes beside clients: whoever wakes up takes the
 * processor at once, and the scheduler counts one that only such a child uses as free. Under
 * SCHED_BATCH a wake-up may wait for the end of the child's time slice, some tenths of a
 * millisecond. But on a machine that is never idle the child would get next to nothing, the ring
 * would fill and updates would wait. So it is only used where it can be left again: the kernel
 * wants a privilege for that, or a limit (RLIMIT_NICE) that allows the nice value that the process
 * has. A process that is made for it tries. */
#include "base/schedule.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/common.h"

/* Nicer only by a little, see above. */
#define NICER 5
static int set_policy(pid_t pid, int policy)
{
    return sched_setscheduler(pid, policy, &(struct sched_param){}) < 0 ? -errno : 0;
}

static bool may_return(void)
{
    int status = 0;
    pid_t pid = _Fork();

    if (pid == 0)
        _exit(set_policy(0, SCHED_IDLE) == 0 && set_policy(0, SCHED_BATCH) == 0 ? 0 : 1);
    while (pid > 0 && waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return false;
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void schedule_behind(void)
{
    (void)!nice(NICER);
    if (sched_getscheduler(0) == SCHED_OTHER)
        (void)set_policy(0, SCHED_BATCH);
}

void schedule_last(void)
{
    (void)!nice(NICER);
    if (sched_getscheduler(0) == SCHED_OTHER)
        (void)set_policy(0, may_return() ? SCHED_IDLE : SCHED_BATCH);
}

bool schedule_hurry(pid_t pid)
{
    int policy = sched_getscheduler(pid);

    if (policy == SCHED_IDLE)
        (void)set_policy(pid, SCHED_BATCH);
    return policy != SCHED_OTHER;
}
