/* Options, before or behind the verb, told by one table. Not getopt(3): a negative number is an
 * argument here (`increment stock nails -5`), and so is a lone "-". */
#include <grp.h>
#include <unistd.h>

#include "base/parse.h"
#include "ctl.h"

#define INTERVAL_MIN (100 * USEC_PER_MSEC)
#define INTERVAL_MAX (3600 * USEC_PER_SEC)

static int parse_help(Options *options, const char *value)
{
    (void)value;
    options->help = true;
    return 0;
}

static int parse_version(Options *options, const char *value)
{
    (void)value;
    options->version = true;
    return 0;
}

static int parse_socket(Options *options, const char *value)
{
    options->socket = value;
    return 0;
}

static int parse_json(Options *options, const char *value)
{
    static const char *const names[] = {
        [JSON_OFF] = "off", [JSON_SHORT] = "short", [JSON_PRETTY] = "pretty"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(names[i], value) == 0) {
            options->json = (JsonMode)i;
            options->json_given = true;
            return 0;
        }
    return -EINVAL;
}

/* As --json=pretty on a terminal, --json=short in a pipe. */
static int parse_j(Options *options, const char *value)
{
    (void)value;
    return parse_json(options, isatty(STDOUT_FILENO) ? "pretty" : "short");
}

static int parse_no_legend(Options *options, const char *value)
{
    (void)value;
    options->no_legend = true;
    return 0;
}

static int parse_no_pager(Options *options, const char *value)
{
    (void)value;
    options->no_pager = true;
    return 0;
}

static int parse_quiet(Options *options, const char *value)
{
    (void)value;
    options->quiet = true;
    return 0;
}

static int parse_timeout(Options *options, const char *value)
{
    return parse_duration(value, &options->timeout_usec);
}

static int parse_revision(Options *options, const char *value)
{
    (void)value;
    options->revision = true;
    return 0;
}

static int parse_if_revision(Options *options, const char *value)
{
    int r = parse_unsigned(value, &options->if_revision);

    return r == 0 && options->if_revision > INT64_MAX ? -ERANGE : r;
}

static int parse_max_bytes(Options *options, const char *value)
{
    options->arena_options.set |= HOLDFAST_SET_MAX_BYTES;
    return parse_size(value, &options->arena_options.max_bytes);
}

static int parse_arena_mode(Options *options, const char *value)
{
    options->arena_options.set |= HOLDFAST_SET_MODE;
    return parse_mode(value, &options->arena_options.mode);
}

static int parse_group(Options *options, const char *value)
{
    const struct group *group = getgrnam(value);
    uint64_t number;

    options->arena_options.set |= HOLDFAST_SET_GROUP;
    if (group != NULL)
        options->arena_options.gid = group->gr_gid;
    else if (parse_unsigned(value, &number) == 0 && number < UINT32_MAX)
        options->arena_options.gid = (uint32_t)number;
    else
        return -ENOENT;
    return 0;
}

static int parse_prefix(Options *options, const char *value)
{
    options->prefix = value;
    return 0;
}

static int parse_keys(Options *options, const char *value)
{
    (void)value;
    options->keys = true;
    return 0;
}

static int parse_key(Options *options, const char *value)
{
    options->key = value;
    return 0;
}

static int parse_label(Options *options, const char *value)
{
    options->label = value;
    return 0;
}

static int parse_no_wait(Options *options, const char *value)
{
    (void)value;
    options->no_wait = true;
    return 0;
}

static int parse_arena(Options *options, const char *value)
{
    options->arena = value;
    return 0;
}

static int parse_more(Options *options, const char *value)
{
    (void)value;
    options->more = true;
    return 0;
}

static int parse_once(Options *options, const char *value)
{
    (void)value;
    options->once = true;
    return 0;
}

static int parse_interval(Options *options, const char *value)
{
    int r = parse_duration(value, &options->interval_usec);

    /* Faster than a screen can be read would only be load. */
    return r == 0 &&
                   (options->interval_usec < INTERVAL_MIN || options->interval_usec > INTERVAL_MAX)
               ? -ERANGE
               : r;
}

/* clang-format off */
const OptionSpec option_specs[] = {
    {"socket", .argument = "PATH", .help = "Connect to the daemon at this socket", .parse = parse_socket},
    {"json", .argument = "MODE", .help = "Print JSON: pretty, short, off", .parse = parse_json},
    {.letter = 'j', .help = "As --json=pretty on a terminal, --json=short otherwise", .parse = parse_j},
    {"no-legend", .help = "Print no headings", .parse = parse_no_legend},
    {"no-pager", .help = "Do not pipe output into a pager", .parse = parse_no_pager},
    {"quiet", 'q', .help = "Print no progress and no summaries", .parse = parse_quiet},
    {"timeout", .argument = "SEC", .help = "Give up when the daemon does not answer for so long",
     .parse = parse_timeout},
    {"max-bytes", .argument = "SIZE", .flag = OPTION_MAX_BYTES,
     .help = "Memory an arena may occupy (K, M, G, T)", .parse = parse_max_bytes},
    {"mode", .argument = "MODE", .flag = OPTION_MODE, .help = "Who may read and write it, octal",
     .parse = parse_arena_mode},
    {"group", .argument = "GROUP", .flag = OPTION_GROUP, .help = "Its group", .parse = parse_group},
    {"revision", .flag = OPTION_REVISION, .help = "Print the revision too", .parse = parse_revision},
    {"if-revision", .argument = "N", .flag = OPTION_IF_REVISION,
     .help = "Only if the entry's revision is N; 0: if none", .parse = parse_if_revision},
    {"prefix", .argument = "PREFIX", .flag = OPTION_PREFIX, .help = "Only keys that begin so",
     .parse = parse_prefix},
    {"keys", .flag = OPTION_KEYS, .help = "Keys alone", .parse = parse_keys},
    {"key", .argument = "FIELD", .flag = OPTION_KEY,
     .help = "Lines are documents, this member is the key", .parse = parse_key},
    {"label", .argument = "LABEL", .flag = OPTION_LABEL, .help = "Give it a label", .parse = parse_label},
    {"no-wait", .flag = OPTION_NO_WAIT, .help = "Return once it runs", .parse = parse_no_wait},
    {"arena", .argument = "ARENA", .flag = OPTION_ARENA, .help = "Only this arena (export)",
     .parse = parse_arena},
    {"more", .flag = OPTION_MORE, .help = "Ask for a stream of replies", .parse = parse_more},
    {"interval", .argument = "SEC", .flag = OPTION_INTERVAL, .help = "Time between two screens",
     .parse = parse_interval},
    {"once", .flag = OPTION_ONCE, .help = "Print one screen and end", .parse = parse_once},
    {"help", 'h', .help = "Show this", .parse = parse_help},
    {"version", .help = "Show the version", .parse = parse_version},
    {0},
};
/* clang-format on */

static const OptionSpec *find_long(const char *name, size_t length)
{
    for (const OptionSpec *spec = option_specs; spec->parse != NULL; spec++)
        if (spec->name != NULL && strlen(spec->name) == length &&
            memcmp(spec->name, name, length) == 0)
            return spec;
    return NULL;
}

static const OptionSpec *find_letter(char letter)
{
    for (const OptionSpec *spec = option_specs; spec->parse != NULL; spec++)
        if (spec->letter == letter)
            return spec;
    return NULL;
}

static int take(Options *options, const OptionSpec *spec, const char *value)
{
    int r = spec->parse(options, value);

    if (r < 0)
        return failure(STATUS_USAGE, "'%s' is no value for --%s", value, spec->name);
    options->given |= spec->flag;
    return 0;
}

/* --name, --name=VALUE, or --name VALUE: then *index moves on by one. */
static int take_long(Options *options, int argc, char **argv, int *index)
{
    const char *name = argv[*index] + 2;
    const char *equals = strchr(name, '=');
    const OptionSpec *spec =
        find_long(name, equals != NULL ? (size_t)(equals - name) : strlen(name));

    if (spec == NULL)
        return failure(STATUS_USAGE, "there is no option '%s'; see --help", argv[*index]);
    if (spec->argument == NULL)
        return equals == NULL ? take(options, spec, "")
                              : failure(STATUS_USAGE, "the option --%s takes no value", spec->name);
    if (equals != NULL)
        return take(options, spec, equals + 1);
    if (*index + 1 >= argc)
        return failure(STATUS_USAGE, "the option --%s needs a value", spec->name);
    return take(options, spec, argv[++*index]);
}

static int take_letters(Options *options, const char *letters)
{
    for (; *letters != '\0'; letters++) {
        const OptionSpec *spec = find_letter(*letters);
        int r = spec != NULL
                    ? take(options, spec, "")
                    : failure(STATUS_USAGE, "there is no option '-%c'; see --help", *letters);
        if (r != 0)
            return r;
    }
    return 0;
}

static bool is_option(const char *argument)
{
    if (argument[0] != '-' || argument[1] == '\0')
        return false;
    return argument[1] < '0' || argument[1] > '9';
}

int options_parse(Options *options, int argc, char **argv, int *ret_count)
{
    bool ended = false;
    int count = 0, r = 0;

    for (int i = 1; i < argc && r == 0; i++) {
        if (ended || !is_option(argv[i]))
            argv[count++] = argv[i];
        else if (strcmp(argv[i], "--") == 0)
            ended = true;
        else if (argv[i][1] == '-')
            r = take_long(options, argc, argv, &i);
        else
            r = take_letters(options, argv[i] + 1);
    }
    *ret_count = count;
    return r;
}

int options_check(const Options *options, const Verb *verb)
{
    unsigned wrong = options->given & ~verb->options;

    for (const OptionSpec *spec = option_specs; spec->parse != NULL; spec++)
        if ((spec->flag & wrong) != 0)
            return failure(STATUS_USAGE, "%s does not take --%s", verb->name, spec->name);
    return 0;
}
