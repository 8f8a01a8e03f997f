/* AfterCommand=. While the command works on an image, or is to, the image is pinned: a checkpoint
 * that is quicker than the command does not take it away. What can go wrong is told in the log and
 * is nobody's trouble but the command's. */
#include "after.h"

#include "base/log.h"

/* The images' directory as a path that means the same to everybody. */
static int find_directory(Manager *manager)
{
    char *path = NULL;

    if (asprintf(&path, "%s/images", manager->options->state_directory) < 0)
        return -ENOMEM;
    manager->images_path = realpath(path, NULL);
    free(path);
    return manager->images_path ? 0 : -errno;
}

/* The image may go again. */
static void released(void *context, const char *checkpoint)
{
    const Manager *manager = context;
    Checkpoint *image = catalog_find(manager->catalog, checkpoint);

    if (image && image->pinned > 0)
        image->pinned--;
}

int after_new(Manager *manager)
{
    const CommandHost host = {.context = manager, .released = released};
    int r = find_directory(manager);

    if (r == 0)
        r = command_new(manager->base, manager->housekeeper, &host, &manager->after);
    if (r == 0)
        after_configure(manager);
    return r;
}

void after_configure(Manager *manager)
{
    const Config *config = manager->config;
    int r = command_set(manager->after, config->after_command, config->after_command_timeout_usec);

    if (r < 0)
        log_warning("AfterCommand=: %s; what was set before stays", log_errno(r));
}

void after_checkpoint(Manager *manager, const Checkpoint *checkpoint)
{
    Checkpoint *image = catalog_find(manager->catalog, checkpoint->spec.id);
    _cleanup_(freep) char *path = NULL;
    CommandImage run = {
        .checkpoint = checkpoint->spec.id,
        .revision = checkpoint->spec.revision,
        .label = checkpoint->spec.label,
    };
    int r = -ENOMEM;

    if (!image || !command_is_set(manager->after))
        return;
    if (asprintf(&path, "%s/%s.image", manager->images_path, checkpoint->spec.id) < 0)
        path = NULL;
    image->pinned++;
    run.path = path;
    if (path)
        r = command_run(manager->after, &run);
    if (r < 0) {
        image->pinned--;
        log_warning("command after checkpoint %s: %s", checkpoint->spec.id, log_errno(r));
    }
}

bool after_status(void *context, ServiceCommand *ret)
{
    const Manager *manager = context;
    CommandState state;

    if (!command_state(manager->after, &state))
        return false;
    static_assert(sizeof(ret->checkpoint) >= sizeof(state.checkpoint), "ids fit");
    *ret = (ServiceCommand){
        .pid = state.pid,
        .started_usec = state.started_usec,
        .ended = state.ended,
        .duration_usec = state.duration_usec,
        .exit_status = state.exit_status,
        .signal = state.signal,
    };
    memcpy(ret->checkpoint, state.checkpoint, sizeof(state.checkpoint));
    return true;
}
