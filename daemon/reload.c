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

/* Reads all sources again, in the order of the start. */
static int read_sources(const ManagerOptions *options, Config *config, ConfigError *error)
{
    int r = config_read(config, options->config_path, options->config_required, error);

    for (const char *const *override = options->overrides; r >= 0 && override && *override;
         override++)
        r = config_set(config, *override, error);
    return r < 0 ? r : config_check(config, error);
}

static bool text_equal(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

int reload_run(void *context, const char **ignored, size_t count, char *file, size_t file_size,
               int *ret_line, char *reason, size_t reason_size)
{
    Manager *manager = context;
    uint64_t interval = manager->config->interval_usec;
    ConfigError error = {0};
    ServerLimits limits;
    JobOptions job;
    Config fresh;
    bool renamed;
    int r;

    config_init(&fresh);
    r = read_sources(manager->options, &fresh, &error);
    if (r < 0) {
        config_deinit(&fresh);
        snprintf(file, file_size, "%s", error.file);
        snprintf(reason, reason_size, "%s", error.reason);
        *ret_line = error.line;
        log_error("reload: %s:%d: %s; the old configuration stays", error.file, error.line,
                  error.reason);
        return r;
    }
    /* Looking a group up may ask a directory server: not in the loop where nothing was renamed. */
    renamed = !text_equal(manager->config->create_group, fresh.create_group);
    config_apply(manager->config, &fresh, ignored, count);
    config_deinit(&fresh);
    if (renamed)
        manager->create_gid = reload_create_group(manager->config);
    limits = reload_server_limits(manager->config);
    job = reload_job_options(manager->config);
    server_set_limits(manager->server, &limits);
    job_set_options(manager->job, &job);
    store_set_limits(manager->store, manager->config->arenas_max,
                     reload_memory_max(manager->config));
    methods_set_limits(manager->methods, manager->create_gid, manager->config->arena_bytes_max);
    journal_set_policy(manager->journal, (JournalPolicy)manager->config->sync,
                       manager->config->sync_interval_usec, manager->config->segment_bytes_max);
    if (manager->config->interval_usec != interval)
        triggers_start(manager); /* else reloads would put the checkpoint off again and again */
    after_configure(manager);
    log_info("configuration read again");
    return 0;
}
