/* What the configuration decides: turned into the options of each object at start, and again at a
 * reload. */

#include <grp.h>
#include <stdio.h>

#include "after.h"
#include "base/log.h"
#include "manager-private.h"

#define MESSAGE_USEC_MAX (30 * USEC_PER_SEC)
#define GROUP_DEFAULT "holdfast"

JobOptions reload_job_options(const Config *config)
{
    return (JobOptions){
        .zstd = config->compression == COMPRESSION_ZSTD,
        .stall_usec = config->stall_usec,
        .write_bytes_per_sec = config->write_bytes_per_sec_max,
        .keep = (unsigned)config->keep,
    };
}

ServerLimits reload_server_limits(const Config *config)
{
    return (ServerLimits){
        .connections_max = (unsigned)config->connections_max,
        .connections_per_user_max = (unsigned)config->connections_per_user_max,
        .message_bytes_max = config->message_bytes_max,
        .buffer_bytes_max = config->buffer_bytes_max,
        .message_usec_max = MESSAGE_USEC_MAX,
    };
}

gid_t reload_group(const char *name)
{
    const struct group *group = getgrnam(name);

    return group ? group->gr_gid : (gid_t)-1;
}

/* The group named, else the one of the daemon's package where there is such a group. */
gid_t reload_socket_group(const Config *config)
{
    return reload_group(config->socket_group ? config->socket_group : GROUP_DEFAULT);
}

gid_t reload_create_group(const Config *config)
{
    return config->create_group ? reload_group(config->create_group) : reload_socket_group(config);
}

uint64_t reload_memory_max(const Config *config)
{
    return config->memory_bytes_max > 0 ? config->memory_bytes_max : config_memory_default();
}

static bool text_equal(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* What may change does, and the objects hear of it. */
static void take_over(Manager *manager, Config *fresh, const char **ignored, size_t count)
{
    const Config *config = manager->config;
    uint64_t interval = config->interval_usec;
    /* Looking a group up may ask a directory server: not in the loop where nothing was renamed. */
    bool renamed = !text_equal(config->create_group, fresh->create_group);
    ServerLimits limits;
    JobOptions job;

    config_apply(manager->config, fresh, ignored, count);
    if (renamed)
        manager->create_gid = reload_create_group(config);
    limits = reload_server_limits(config);
    job = reload_job_options(config);
    server_set_limits(manager->server, &limits);
    job_set_options(manager->job, &job);
    store_set_limits(manager->store, config->arenas_max, reload_memory_max(config));
    methods_set_limits(manager->methods, manager->create_gid, config->arena_bytes_max);
    journal_set_policy(manager->journal, (JournalPolicy)config->sync, config->sync_interval_usec,
                       config->segment_bytes_max);
    if (config->interval_usec != interval)
        triggers_start(manager); /* else reloads would put the checkpoint off again and again */
    after_configure(manager);
}

int reload_run(void *context, const char **ignored, size_t count, ReloadError *error)
{
    Manager *manager = context;
    const ManagerOptions *options = manager->options;
    char text[CONFIG_ERROR_TEXT_MAX];
    ConfigError found = {0};
    Config fresh;
    int r;

    config_init(&fresh);
    r = config_load(&fresh, options->config_path, options->config_required, options->overrides,
                    &found);
    if (r == 0) {
        take_over(manager, &fresh, ignored, count);
        log_info("configuration read again");
    } else {
        log_error("reload: %s; the old configuration stays", config_error_text(&found, text));
        error->line = found.line;
        snprintf(error->file, sizeof(error->file), "%s", found.file);
        snprintf(error->reason, sizeof(error->reason), "%s", found.reason);
    }
    config_deinit(&fresh);
    return r;
}
