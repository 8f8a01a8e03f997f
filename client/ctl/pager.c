/* The pager, as systemd's tools have it: what $HOLDFAST_PAGER or $PAGER names, else less, else
 * more. It reads what is printed from a pipe, so stdout is exchanged before anything is printed.
 *
 * No pager where stdout or stdin is no terminal, where the terminal is dumb, with --no-pager, and
 * where the variable is empty or "cat". A pager that cannot be run is passed over, and in the end
 * its process copies what it reads: nothing that was printed is lost. Under sudo and the like it
 * may be a way to more rights than were given: then only less is taken, and can start nothing. */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "ctl.h"

#define WORDS_MAX 16

/* Whether the rights are those of somebody else than the person at the terminal. */
static bool is_lent(void)
{
    return getuid() != geteuid() || getenv("SUDO_UID") != NULL || getenv("PKEXEC_UID") != NULL;
}

/* NULL: none was named. */
static const char *pager_named(void)
{
    const char *name = getenv("HOLDFAST_PAGER");

    if (is_lent())
        return NULL;
    return name != NULL ? name : getenv("PAGER");
}

static bool wants_pager(const Ctl *ctl)
{
    const char *term = getenv("TERM"), *name = pager_named();

    if (!ctl->terminal || ctl->options.no_pager || !isatty(STDIN_FILENO) || term == NULL ||
        strcmp(term, "dumb") == 0)
        return false;
    return name == NULL || (name[0] != '\0' && strcmp(name, "cat") != 0);
}

/* Runs a command line, split at white space; returns where it cannot. */
static void run_command(const char *command)
{
    char *words[WORDS_MAX + 1], *rest = NULL;
    size_t count = 0;
    _cleanup_(freep) char *copy = strdup(command);

    if (copy == NULL)
        return;
    for (char *word = strtok_r(copy, " \t", &rest); word != NULL && count < WORDS_MAX;
         word = strtok_r(NULL, " \t", &rest))
        words[count++] = word;
    words[count] = NULL;
    if (count > 0)
        execvp(words[0], words);
}

/* The place of a pager that could not be run. */
static _Noreturn void copy_input(void)
{
    char buffer[16384];
    ssize_t n;

    while ((n = read(STDIN_FILENO, buffer, sizeof(buffer))) > 0)
        for (ssize_t at = 0, written; at < n; at += written) {
            written = write(STDOUT_FILENO, buffer + at, (size_t)(n - at));
            if (written <= 0)
                _exit(EXIT_FAILURE);
        }
    _exit(EXIT_SUCCESS);
}

static _Noreturn void run_pager(const int ends[static 2])
{
    const char *name = pager_named();

    /* Held open here, it would be an input without an end. */
    close(ends[1]);
    /* What main and the parent ignore is not ignored here. */
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    if (dup2(ends[0], STDIN_FILENO) < 0)
        _exit(EXIT_FAILURE);
    /* F: end by itself where all fits on a screen; R: colours; S: chop long lines; X: leave the
     * text on the screen; M: say where; K: end at Ctrl-C. */
    setenv("LESS", "FRSXMK", 1);
    setenv("LESSCHARSET", "utf-8", 0);
    if (is_lent())
        setenv("LESSSECURE", "1", 1);
    if (name != NULL)
        run_command(name);
    run_command("less");
    if (!is_lent())
        run_command("more");
    copy_input();
}

/* stdout becomes the pipe; how wide the terminal is must still be seen. */
static bool exchange_stdout(Ctl *ctl, int output)
{
    int screen = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);

    if (screen < 0)
        return false;
    fflush(stdout);
    if (dup2(output, STDOUT_FILENO) < 0) {
        close(screen);
        return false;
    }
    ctl->screen = screen;
    return true;
}

void pager_open(Ctl *ctl)
{
    int ends[2];
    pid_t pid;

    if (ctl->pager != 0 || !wants_pager(ctl) || pipe2(ends, O_CLOEXEC) < 0)
        return;
    pid = fork();
    if (pid == 0)
        run_pager(ends);
    close(ends[0]);
    if (pid > 0 && exchange_stdout(ctl, ends[1])) {
        ctl->pager = pid;
        /* Ctrl-C is the pager's. */
        signal(SIGINT, SIG_IGN);
    } else if (pid > 0) {
        /* It sees the end of its input at once. */
        close(ends[1]);
        waitpid(pid, NULL, 0);
        return;
    }
    close(ends[1]);
}

void pager_wait(Ctl *ctl)
{
    while (ctl->pager != 0 && waitpid(ctl->pager, NULL, 0) < 0 && errno == EINTR)
        ;
    ctl->pager = 0;
}
