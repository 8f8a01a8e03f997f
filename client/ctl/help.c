/* --help, in the manner of systemd's tools: the verbs from their table, then the options. */
#include "ctl.h"

static const char options_text[] =
    "     --socket=PATH        Connect to the daemon at this socket\n"
    "     --json=MODE          Print JSON: pretty, short, off\n"
    "  -j                      As --json=pretty on a terminal, --json=short otherwise\n"
    "     --no-legend          Print no headings\n"
    "  -q --quiet              Print no progress and no summaries\n"
    "     --timeout=SEC        Give up when the daemon does not answer for so long\n"
    "     --max-bytes=SIZE     create, change: memory an arena may occupy (K, M, G, T)\n"
    "     --mode=MODE          create, change: who may read and write it, octal\n"
    "     --group=GROUP        create, change: its group\n"
    "     --revision           Print the entry's revision too\n"
    "     --if-revision=N      Only if the entry's revision is N; 0: if there is none\n"
    "     --prefix=PREFIX      list, export: only keys that begin so\n"
    "     --keys               list: keys alone\n"
    "     --key=FIELD          import: lines are documents, this member is the key\n"
    "     --label=LABEL        checkpoint: give it a label\n"
    "     --no-wait            checkpoint: return once it runs\n"
    "     --arena=ARENA        image export: only this arena\n"
    "     --more               call: ask for a stream of replies\n"
    "  -h --help               Show this\n"
    "     --version            Show the version\n";

/* Escape sequences where stdout is a terminal. */
static const char *style(const Ctl *ctl, const char *sequence)
{
    return ctl->colour ? sequence : "";
}

void help_print(const Ctl *ctl)
{
    const char *bold = style(ctl, "\x1b[1m"), *underline = style(ctl, "\x1b[4m"),
               *normal = style(ctl, "\x1b[0m");

    printf("holdfastctl [OPTIONS...] COMMAND ...\n\n%sAsk and steer the holdfast daemon.%s\n", bold,
           normal);
    for (const Verb *verb = verbs; verb->name != NULL; verb++) {
        char usage[64];
        snprintf(usage, sizeof(usage), "%s%s%s", verb->name, verb->arguments != NULL ? " " : "",
                 verb->arguments != NULL ? verb->arguments : "");
        if (verb->group != NULL)
            printf("\n%s%s%s:\n", underline, verb->group, normal);
        printf("  %-29s %s\n", usage, verb->help);
    }
    printf("\n%sOptions%s:\n%s", underline, normal, options_text);
    printf("\nWithout a command the status is shown. See holdfastctl(1).\n");
}

void help_print_verb(const Verb *verb)
{
    printf("holdfastctl [OPTIONS...] %s%s%s\n\n%s.\n", verb->name,
           verb->arguments != NULL ? " " : "", verb->arguments != NULL ? verb->arguments : "",
           verb->help);
}
