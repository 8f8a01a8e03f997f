/* holdfastd: the command line, the configuration, and then the manager, which does everything else.
 * Whatever is wrong here is said in one line before the exit; the exit statuses are those of
 * sysexits.h. */
#include <stdio.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "base/log.h"
#include "config.h"
#include "manager.h"
#include "options.h"

static int configure(Config *config, const Options *options)
{
    char text[CONFIG_ERROR_TEXT_MAX];
    ConfigError error;
    int r = config_load(config, options->config_path, options->config_required, options->overrides,
                        &error);

    if (r < 0)
        log_error("%s", config_error_text(&error, text));
    return r;
}

/* Runs with a configuration of defaults in *config; the manager owns it once it runs. */
static int run(Options *options, Config *config)
{
    ManagerOptions manager_options;
    int r;

    r = options_complete_paths(options, geteuid());
    if (r < 0) {
        log_error("no place for configuration and state: %s",
                  r == -ENOENT ? "the user has no home directory" : log_errno(r));
        return r == -ENOENT ? EX_CONFIG : EX_OSERR;
    }
    r = configure(config, options);
    if (r < 0)
        return r == -ENOMEM ? EX_OSERR : EX_CONFIG;
    r = options_complete_socket(options, geteuid(), config->socket);
    if (r < 0) {
        log_error("socket: %s", log_errno(r));
        return EX_OSERR;
    }
    if (options->check_config)
        return EX_OK;

    manager_options = (ManagerOptions){
        .config = *config,
        .state_directory = options->state_directory,
        .socket = options->socket,
        .recover_cut = options->recover_cut,
        .config_path = options->config_path,
        .config_required = options->config_required,
        .overrides = options->overrides,
    };
    *config = (Config){0};
    return manager_run(&manager_options);
}

int main(int argc, char **argv)
{
    Options options;
    Config config;
    int r;

    log_setup(LOG_INFO);
    /* What is created is ours alone; the socket gets its mode by itself. */
    umask(0077);
    r = options_parse(&options, argc, argv);
    if (r == OPTIONS_RUN) {
        config_init(&config);
        r = run(&options, &config);
        config_deinit(&config);
    } else if (r < 0) {
        log_error("command line: %s", log_errno(r));
        r = EX_OSERR;
    } else {
        r = r == OPTIONS_USAGE ? EX_USAGE : EX_OK;
    }
    options_deinit(&options);
    return r;
}
