/* Nicer only by a little: starved of the processor, a child would empty the ring too slowly, and
 * updates would wait for it. SCHED_BATCH keeps it from interrupting those who just woke up, and a
 * short time slice lets them interrupt it (from Linux 6.12 on; older ones take no such wish).
 *
 * sched_setattr(2) by number: the C library has it from 2.41 on only, and the kernel's header with
 * its struct does not go together with sched.h everywhere. */
#include "base/schedule.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

#define SLICE_NSEC 100000 /* the least that the kernel grants */
#define NICER 5
#define NICE_MAX 19

/* Who has the processor for so long will have it for longer. */
#define LONG_USEC 500
/* So many times as long as they had it nobody is let go first. */
#define SHARE 8

/* struct sched_attr as of Linux 3.14; each later one takes it. */
typedef struct Attributes {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime; /* nanoseconds: of these policies the length of a slice */
    uint64_t deadline;
    uint64_t period;
} Attributes;
static_assert(sizeof(Attributes) == 48, "part of the system's interface");

void schedule_behind(void)
{
    Attributes attributes = {0};

    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) == 0 &&
        attributes.policy == SCHED_OTHER) {
        attributes.policy = SCHED_BATCH;
        attributes.runtime = SLICE_NSEC;
        attributes.nice = MIN(attributes.nice + NICER, NICE_MAX);
        if (syscall(SYS_sched_setattr, 0, &attributes, 0) == 0)
            return;
    }
    (void)!nice(NICER);
}

void schedule_yield(Courtesy *courtesy)
{
    uint64_t before = clock_monotonic();
    uint64_t took;

    if (before < courtesy->none_until_usec)
        return;
    (void)sched_yield();
    took = clock_monotonic() - before;
    if (took >= LONG_USEC)
        courtesy->none_until_usec = before + took + took * SHARE;
}
