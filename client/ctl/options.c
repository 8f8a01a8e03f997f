/* Options, before or behind the verb, told by one table. Not getopt(3): a negative number is an
 * argument here
 * (`increment stock nails -5`), and so is a lone "-". */
#include <grp.h>
#include <unistd.h>

#include "base/parse.h"
#include "ctl.h"

typedef struct OptionSpec {
    const char *name;
    char letter;
    bool value;    /* takes one */
    unsigned flag; /* OPTION_...; 0: every verb takes it */
    int (*parse)(Options *options, const char *value);
} OptionSpec;

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

static const OptionSpec specs[] = {
    {.name = "help", .letter = 'h', .parse = parse_help},
    {.name = "version", .parse = parse_version},
    {.name = "socket", .value = true, .parse = parse_socket},
    {.name = "json", .value = true, .parse = parse_json},
    {.name = "", .letter = 'j', .parse = parse_j},
    {.name = "no-legend", .parse = parse_no_legend},
    {.name = "quiet", .letter = 'q', .parse = parse_quiet},
    {.name = "timeout", .value = true, .parse = parse_timeout},
    {.name = "revision", .flag = OPTION_REVISION, .parse = parse_revision},
    {.name = "if-revision", .value = true, .flag = OPTION_IF_REVISION, .parse = parse_if_revision},
    {.name = "max-bytes", .value = true, .flag = OPTION_MAX_BYTES, .parse = parse_max_bytes},
    {.name = "mode", .value = true, .flag = OPTION_MODE, .parse = parse_arena_mode},
    {.name = "group", .value = true, .flag = OPTION_GROUP, .parse = parse_group},
    {.name = "prefix", .value = true, .flag = OPTION_PREFIX, .parse = parse_prefix},
    {.name = "keys", .flag = OPTION_KEYS, .parse = parse_keys},
    {.name = "key", .value = true, .flag = OPTION_KEY, .parse = parse_key},
    {.name = "label", .value = true, .flag = OPTION_LABEL, .parse = parse_label},
    {.name = "no-wait", .flag = OPTION_NO_WAIT, .parse = parse_no_wait},
    {.name = "arena", .value = true, .flag = OPTION_ARENA, .parse = parse_arena},
    {.name = "more", .flag = OPTION_MORE, .parse = parse_more},
};

static const OptionSpec *find_long(const char *name, size_t length)
{
    for (size_t i = 0; i < ARRAY_SIZE(specs); i++)
        if (length > 0 && strlen(specs[i].name) == length &&
            memcmp(specs[i].name, name, length) == 0)
            return &specs[i];
    return NULL;
}

static const OptionSpec *find_letter(char letter)
{
    for (size_t i = 0; i < ARRAY_SIZE(specs); i++)
        if (specs[i].letter == letter && letter != '\0')
            return &specs[i];
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
    if (!spec->value)
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

    for (size_t i = 0; i < ARRAY_SIZE(specs); i++)
        if ((specs[i].flag & wrong) != 0)
            return failure(STATUS_USAGE, "%s does not take --%s", verb->name, specs[i].name);
    return 0;
}
