/* Takes down the state of the arenas. Everything in it is O(1) an arena: this is part of the pause.
 */
#include "checkpoint/job-plan.h"

#include <stdio.h>

static void describe(const Arena *arena, ImageArena *ret)
{
    *ret = (ImageArena){
        .identity = *arena_identity(arena),
        .created_usec = arena_created_usec(arena),
        .created_revision = arena_created_revision(arena),
        .entries = arena_entries(arena),
        .revision = arena_revision(arena),
        .used_bytes = arena_used_bytes(arena),
        .pages = arena_high_water_pages(arena),
    };
    arena_attributes(arena, &ret->attributes);
    (void)snprintf(ret->name, sizeof(ret->name), "%s", arena_name(arena));
}

int job_plan_init(JobPlan *plan, const JobRequest *request, const JobArena *arenas, size_t count)
{
    *plan = (JobPlan){
        .arenas = calloc(count + 1, sizeof(*plan->arenas)),
        .count = count,
        .cuts = calloc(count + 1, sizeof(*plan->cuts)),
        .memfds = calloc(count + 1, sizeof(*plan->memfds)),
    };
    if (plan->arenas == NULL || plan->cuts == NULL || plan->memfds == NULL) {
        job_plan_deinit(plan);
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        ImageArena *arena = &plan->arenas[i];

        describe(arenas[i].arena, arena);
        /* What is damaged stays as older images and the journal have it: the next start makes it
         * whole from them. */
        arena->held =
            job_request_wants(request, &arena->identity) && !arena_damage(arenas[i].arena);
        if (!arena->held)
            continue;
        plan->cuts[plan->held] = (CaptureCut){.marks = arenas[i].marks, .pages = arena->pages};
        plan->memfds[plan->held++] = arena_fd(arenas[i].arena);
        plan->pages += arena->pages;
        plan->state_bytes += arena->used_bytes;
    }
    return 0;
}

void job_plan_deinit(JobPlan *plan)
{
    free(plan->arenas);
    free(plan->cuts);
    free(plan->memfds);
    *plan = (JobPlan){0};
}
