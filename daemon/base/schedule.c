/* The place of a child that computes among those who want a processor, by system calls whose
 * failure changes nothing but that place.
 *
 * Nicer only by a little: starved of the processor, a child would empty the ring too slowly, and
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

/* Less than the shortest slice of one who computes, more than some who run for microseconds. */
#define LONG_USEC USEC_PER_MSEC
#define ABSENCES_MAX 2
/* So many times as long as we were away nobody is let go first. */
#define BACKOFF_FACTOR 8
#define BACKOFF_USEC_MAX (50 * USEC_PER_MSEC)

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

/* Those who may not choose the length of a slice may know the policy. */
static void set_batch(void)
{
    if (sched_getscheduler(0) == SCHED_OTHER)
        (void)sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){});
}

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
    set_batch();
    (void)!nice(NICER);
}

/* Away for long once, and we may have met one who computes now and then; twice in a row, and there
 * is one who keeps the processor, to whom a yield would give more than a fair share. */
void schedule_yield(YieldBackoff *backoff)
{
    uint64_t before = clock_monotonic();
    uint64_t away;

    if (before < backoff->until_usec)
        return;
    (void)sched_yield();
    away = clock_monotonic() - before;
    backoff->absences = away < LONG_USEC ? 0 : backoff->absences + 1;
    if (backoff->absences >= ABSENCES_MAX) {
        backoff->absences = ABSENCES_MAX;
        backoff->until_usec = before + away + MIN(away * BACKOFF_FACTOR, BACKOFF_USEC_MAX);
    }
}
