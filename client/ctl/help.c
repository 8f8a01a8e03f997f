/* --help, in the manner of systemd's tools: the verbs and the options from their tables; behind a
 * verb, what it is for and the options that it takes. */
#include "ctl.h"

/* Escape sequences where stdout is a terminal. */
static const char *style(const Ctl *ctl, const char *sequence)
{
    return ctl->colour ? sequence : "";
}

static void heading(const Ctl *ctl, const char *text)
{
    printf("\n%s%s:%s\n", style(ctl, "\x1b[4m"), text, style(ctl, "\x1b[0m"));
}

static void print_option(const OptionSpec *option)
{
    char text[64], letter[4] = "  ";

    if (option->letter != '\0')
        snprintf(letter, sizeof(letter), "-%c", option->letter);
    snprintf(text, sizeof(text), "%s%s%s%s", option->name != NULL ? "--" : "",
             option->name != NULL ? option->name : "", option->argument != NULL ? "=" : "",
             option->argument != NULL ? option->argument : "");
    printf("  %s %-21s %s\n", letter, text, option->help);
}

/* Which: OPTION_..., 0 for what every verb takes. */
static void print_options(unsigned which)
{
    for (const OptionSpec *option = option_specs; option->parse != NULL; option++)
        if (which == 0 ? option->flag == 0 : (option->flag & which) != 0)
            print_option(option);
}

static void print_title(const Ctl *ctl, const char *text)
{
    printf("\n%s%s.%s\n", style(ctl, "\x1b[1m"), text, style(ctl, "\x1b[0m"));
}

void help_print(const Ctl *ctl)
{
    char usage[VERB_USAGE_MAX];
    unsigned every = 0;

    printf("holdfastctl [OPTIONS...] COMMAND ...\n");
    print_title(ctl, "Ask and steer the holdfast daemon");
    for (const Verb *verb = verbs; verb->name != NULL; verb++) {
        if (verb->group != NULL)
            heading(ctl, verb->group);
        printf("  %-29s %s\n", verb_usage(verb, usage), verb->help);
        every |= verb->options;
    }
    heading(ctl, "Options");
    print_options(0);
    heading(ctl, "Options of some commands (COMMAND --help tells which)");
    print_options(every);
    printf(
        "\nWithout a command the status is shown. See the holdfastctl(1) man page for details.\n");
}

void help_print_verb(const Ctl *ctl, const Verb *verb)
{
    char usage[VERB_USAGE_MAX];

    printf("holdfastctl [OPTIONS...] %s\n", verb_usage(verb, usage));
    print_title(ctl, verb->help);
    if (verb->options != 0) {
        heading(ctl, "Options");
        print_options(verb->options);
    }
    heading(ctl, "Options of every command");
    print_options(0);
    printf("\nSee the holdfastctl(1) man page for details.\n");
}
