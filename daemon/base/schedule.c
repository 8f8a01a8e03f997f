/* sched_setattr(2), which the C library has from 2.41 on only; and the kernel's header with its
 * struct does not go together with sched.h everywhere. */
#include "base/schedule.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NICER 5
#define NICE_MAX 19

/* struct sched_attr as of Linux 3.14; each later one takes it. */
typedef struct Attributes {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime; /* nanoseconds: of SCHED_OTHER the length of a slice, 0: the kernel's own */
    uint64_t deadline;
    uint64_t period;
} Attributes;
static_assert(sizeof(Attributes) == 48, "part of the system's interface");

static int get_attributes(Attributes *ret)
{
    return (int)syscall(SYS_sched_getattr, 0, ret, sizeof(*ret), 0);
}

static int set_attributes(Attributes *attributes)
{
    return (int)syscall(SYS_sched_setattr, 0, attributes, 0);
}

void schedule_behind(void)
{
    Attributes attributes = {};

    if (get_attributes(&attributes) == 0 && attributes.policy == SCHED_OTHER) {
        attributes.policy = SCHED_BATCH;
        attributes.nice = MIN(attributes.nice + NICER, NICE_MAX);
        if (set_attributes(&attributes) == 0)
            return;
    }
    (void)!nice(NICER);
}
