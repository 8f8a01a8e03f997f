/* The command line by getopt_long(3): one table of options, one of their texts in --help. Paths
 * that are not given come from systemd's environment, else from the system's places for root, else
 * from the XDG base directories. */
#include "options.h"

#include <getopt.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>

#define CONFIG_NAME "holdfastd.conf"

static const char usage[] =
    "Usage: holdfastd [OPTION]...\n"
    "\n"
    "Keeps the state of applications in memory, serves it on a Unix socket, and makes\n"
    "consistent images of it on disk. Stays in the foreground.\n"
    "\n"
    "  --config=FILE               Read FILE (and FILE.d/*.conf) instead of the default\n"
    "  --state-directory=DIR       Keep images and journal in DIR\n"
    "  --socket=PATH               Listen on PATH\n"
    "  --option=Section.Key=VALUE  Set a key, whatever the configuration says\n"
    "  --recover=cut               Start although the journal is damaged, without what lies\n"
    "                              behind the damage\n"
    "  --check-config              Read the configuration, say what is wrong with it, exit\n"
    "  --version                   Print the version and exit\n"
    "  --help                      Print this and exit\n";

enum {
    OPTION_CONFIG = 256,
    OPTION_STATE_DIRECTORY,
    OPTION_SOCKET,
    OPTION_OPTION,
    OPTION_RECOVER,
    OPTION_CHECK_CONFIG,
    OPTION_VERSION,
    OPTION_HELP,
};

static const struct option long_options[] = {
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"state-directory", required_argument, NULL, OPTION_STATE_DIRECTORY},
    {"socket", required_argument, NULL, OPTION_SOCKET},
    {"option", required_argument, NULL, OPTION_OPTION},
    {"recover", required_argument, NULL, OPTION_RECOVER},
    {"check-config", no_argument, NULL, OPTION_CHECK_CONFIG},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

/* An empty path would name the current directory, or nothing: refused. */
static int take_path(char **field, const char *name, const char *text)
{
    char *copy;

    if (text[0] == '\0') {
        fprintf(stderr, "holdfastd: --%s= needs a path\n", name);
        return OPTIONS_USAGE;
    }
    copy = strdup(text);
    if (copy == NULL)
        return -ENOMEM;
    free(*field);
    *field = copy;
    return OPTIONS_RUN;
}

static int take_recover(Options *options, const char *text)
{
    if (strcmp(text, "cut") != 0) {
        fprintf(stderr, "holdfastd: --recover=%s: the only choice is cut\n", text);
        return OPTIONS_USAGE;
    }
    options->recover_cut = true;
    return OPTIONS_RUN;
}

static int options_take(Options *options, int option)
{
    switch (option) {
    case OPTION_CONFIG:
        options->config_required = true;
        return take_path(&options->config_path, "config", optarg);
    case OPTION_STATE_DIRECTORY:
        return take_path(&options->state_directory, "state-directory", optarg);
    case OPTION_SOCKET:
        return take_path(&options->socket, "socket", optarg);
    case OPTION_OPTION:
        options->overrides[options->overrides_count++] = optarg;
        return OPTIONS_RUN;
    case OPTION_RECOVER:
        return take_recover(options, optarg);
    case OPTION_CHECK_CONFIG:
        options->check_config = true;
        return OPTIONS_RUN;
    case OPTION_VERSION:
        printf("holdfastd %s\n", HOLDFAST_VERSION);
        return OPTIONS_DONE;
    case OPTION_HELP:
        fputs(usage, stdout);
        return OPTIONS_DONE;
    default: /* getopt_long has said what is wrong */
        return OPTIONS_USAGE;
    }
}

int options_parse(Options *options, int argc, char **argv)
{
    int option, r;

    *options = (Options){0};
    options->overrides = calloc((size_t)argc + 1, sizeof(*options->overrides));
    if (options->overrides == NULL)
        return -ENOMEM;
    optind = 1;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) >= 0) {
        r = options_take(options, option);
        if (r != OPTIONS_RUN)
            return r;
    }
    if (optind < argc) {
        fprintf(stderr, "holdfastd: unexpected argument '%s'\n", argv[optind]);
        return OPTIONS_USAGE;
    }
    return OPTIONS_RUN;
}

void options_deinit(Options *options)
{
    free(options->config_path);
    free(options->state_directory);
    free(options->socket);
    free(options->overrides);
    *options = (Options){0};
}

static int join(char **ret, const char *directory, const char *name)
{
    if (asprintf(ret, "%s/%s", directory, name) < 0) {
        *ret = NULL;
        return -ENOMEM;
    }
    return 0;
}

/* systemd names several directories with colons between them; the first is ours. */
static int first_directory(const char *variable, char **ret)
{
    const char *value = getenv(variable);
    char *directory;

    if (value == NULL || value[0] != '/')
        return -ENOENT;
    directory = strndup(value, strcspn(value, ":"));
    if (directory == NULL)
        return -ENOMEM;
    *ret = directory;
    return 0;
}

/* An XDG base directory: the variable's, which must be absolute to count, else below the home
 * directory. */
static int xdg_directory(const char *variable, const char *below_home, uid_t uid, char **ret)
{
    const char *value = getenv(variable), *home = getenv("HOME");
    struct passwd *user;
    char *directory;

    if (value != NULL && value[0] == '/') {
        directory = strdup(value);
        if (directory == NULL)
            return -ENOMEM;
        *ret = directory;
        return 0;
    }
    if (home == NULL || home[0] != '/') {
        user = getpwuid(uid);
        home = user != NULL ? user->pw_dir : NULL;
    }
    if (home == NULL || home[0] != '/')
        return -ENOENT;
    return join(ret, home, below_home);
}

static int default_config(uid_t uid, char **ret)
{
    _cleanup_(freep) char *directory = NULL;
    int r;

    r = first_directory("CONFIGURATION_DIRECTORY", &directory);
    if (r == 0)
        return join(ret, directory, CONFIG_NAME);
    if (r != -ENOENT)
        return r;
    if (uid == 0)
        return join(ret, "/etc/holdfast", CONFIG_NAME);
    r = xdg_directory("XDG_CONFIG_HOME", ".config", uid, &directory);
    return r < 0 ? r : join(ret, directory, "holdfast/" CONFIG_NAME);
}

static int default_state_directory(uid_t uid, char **ret)
{
    _cleanup_(freep) char *directory = NULL;
    int r;

    r = first_directory("STATE_DIRECTORY", ret);
    if (r != -ENOENT)
        return r;
    if (uid == 0)
        return join(ret, "/var/lib", "holdfast");
    r = xdg_directory("XDG_STATE_HOME", ".local/state", uid, &directory);
    return r < 0 ? r : join(ret, directory, "holdfast");
}

int options_complete_paths(Options *options, uid_t uid)
{
    int r = 0;

    if (options->config_path == NULL)
        r = default_config(uid, &options->config_path);
    if (r == 0 && options->state_directory == NULL)
        r = default_state_directory(uid, &options->state_directory);
    return r;
}

int options_complete_socket(Options *options, uid_t uid, const char *configured)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");

    if (options->socket != NULL)
        return 0;
    if (configured != NULL) {
        options->socket = strdup(configured);
        return options->socket != NULL ? 0 : -ENOMEM;
    }
    if (uid == 0)
        return join(&options->socket, "/run/holdfast", "holdfast.sock");
    if (runtime != NULL && runtime[0] == '/')
        return join(&options->socket, runtime, "holdfast.sock");
    if (asprintf(&options->socket, "/run/user/%" PRIu32 "/holdfast.sock", (uint32_t)uid) < 0) {
        options->socket = NULL;
        return -ENOMEM;
    }
    return 0;
}
