/* holdfastctl: asks and steers the daemon. Options, the verb from the table, a connection where the
 * verb needs one, and at the end whether all that was printed arrived. */
#include <locale.h>
#include <signal.h>
#include <unistd.h>

#include "ctl.h"

#define OUTPUT_BYTES (256 * KIB)

static bool wants_colour(void)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");

    /* no-color.org: set and not empty. */
    return isatty(STDOUT_FILENO) && (no_color == NULL || no_color[0] == '\0') && term != NULL &&
           strcmp(term, "dumb") != 0;
}

int connect_quietly(Ctl *ctl)
{
    int r = holdfast_connect(ctl->options.socket, &ctl->connection);

    if (r == 0)
        holdfast_set_timeout(ctl->connection, ctl->options.timeout_usec);
    return r;
}

static int connect_daemon(Ctl *ctl)
{
    char standard[256] = "";
    const char *path = ctl->options.socket;
    int r;

    if (path == NULL && holdfast_default_path(standard, sizeof(standard)) == 0)
        path = standard;
    r = connect_quietly(ctl);
    if (r == -EACCES || r == -EPERM)
        return failure(STATUS_DENIED, "no permission to connect to %s", path);
    if (r == -ENOENT || r == -ECONNREFUSED)
        return failure(STATUS_UNAVAILABLE, "there is no daemon at %s", path);
    if (r < 0)
        return failure(STATUS_UNAVAILABLE, "cannot connect to %s: %s", path, strerror(-r));
    return STATUS_OK;
}

static int run_verb(Ctl *ctl, int count, char **arguments)
{
    const char *name = count > 0 ? arguments[0] : "status";
    const Verb *verb = verb_find(name);
    char usage[VERB_USAGE_MAX];
    int r;

    if (verb == NULL)
        return failure(STATUS_USAGE, "there is no command '%s'; see --help", name);
    if (ctl->options.help) {
        pager_open(ctl);
        help_print_verb(ctl, verb);
        return STATUS_OK;
    }
    r = options_check(&ctl->options, verb);
    if (r != 0)
        return r;
    if (count > 0) {
        count--;
        arguments++;
    }
    if (count < verb->minimum || (verb->maximum >= 0 && count > verb->maximum))
        return failure(STATUS_USAGE, "usage: holdfastctl %s", verb_usage(verb, usage));
    if (!verb->offline)
        r = connect_daemon(ctl);
    if (r != 0)
        return r;
    if (verb->paged)
        pager_open(ctl);
    return verb->run(ctl, count, arguments);
}

/* What was printed may still fail to be written: a full disk, a pipe that is closed. */
static int finish_output(Ctl *ctl, int status)
{
    bool paged = ctl->pager != 0;
    int failed = ferror(stdout);

    errno = 0;
    failed |= fclose(stdout);
    pager_wait(ctl);
    /* Who has read enough in the pager leaves it: no failure. */
    if (!failed || paged || status != STATUS_OK)
        return status;
    return failure(STATUS_FAILED, "cannot write the output: %s",
                   strerror(errno != 0 ? errno : EIO));
}

int main(int argc, char **argv)
{
    Ctl ctl = {
        .options = {.timeout_usec = UINT64_MAX,
                    .if_revision = HOLDFAST_ANY_REVISION,
                    .interval_usec = USEC_PER_SEC},
        .terminal = isatty(STDOUT_FILENO),
        .colour = wants_colour(),
        .screen = STDOUT_FILENO,
    };
    int count, status;

    setlocale(LC_CTYPE, "");
    /* So that a closed pipe is an error that can be told, and told by the exit status. */
    signal(SIGPIPE, SIG_IGN);
    if (!ctl.terminal)
        setvbuf(stdout, NULL, _IOFBF, OUTPUT_BYTES);
    status = options_parse(&ctl.options, argc, argv, &count);
    if (status != STATUS_OK)
        return status;
    if (ctl.options.version)
        printf("holdfastctl %s\n", HOLDFAST_VERSION);
    else if (ctl.options.help && count == 0) {
        pager_open(&ctl);
        help_print(&ctl);
    } else
        status = run_verb(&ctl, count, argv);
    holdfast_disconnect(ctl.connection);
    return finish_output(&ctl, status);
}
