/* Nicer only by a little: starved of the processor, a child would empty the ring too slowly, and
 * updates would wait for it. SCHED_BATCH keeps it from interrupting those who just woke up. */
#include "base/schedule.h"

#include <sched.h>
#include <unistd.h>

#define NICER 5

void schedule_behind(void)
{
    if (sched_getscheduler(0) == SCHED_OTHER)
        (void)sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){});
    (void)!nice(NICER);
}
