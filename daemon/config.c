/* The configuration's keys: one table says name, kind, place, default, bounds, and whether a key
 * may change while the daemon runs. Everything else goes through the table: defaults are parsed as
 * any other value, an empty value is the default, a wrong one is refused with the key's name and
 * what was expected. Reading files is config-file's part. */
#include "config.h"

#include <stdio.h>
#include <sys/un.h>

#include "base/log.h"
#include "base/machine.h"
#include "base/parse.h"
#include "base/words.h"

typedef struct Key Key;

/* How a key's text becomes its value. */
typedef struct Kind {
    int (*parse_number)(const Key *key, const char *text, uint64_t *ret); /* NULL: a string */
    int (*check_string)(const char *text);                                /* NULL: anything goes */
    size_t width;         /* of the field, in bytes */
    const char *expected; /* NULL: one of the words */
} Kind;

struct Key {
    const char *name; /* "Section.Key" */
    const Kind *kind;
    size_t offset;
    const char *initial; /* "" : not set, or 0 */
    const char *least;   /* bounds of numbers, as they would be written */
    const char *most;
    const char *const *words; /* of an enumeration, in its order, ended by NULL */
    bool live;                /* may change while the daemon runs */
};

static int number_count(const Key *key, const char *text, uint64_t *ret)
{
    (void)key;
    return parse_unsigned(text, ret);
}

static int number_size(const Key *key, const char *text, uint64_t *ret)
{
    (void)key;
    return parse_size(text, ret);
}

static int number_duration(const Key *key, const char *text, uint64_t *ret)
{
    (void)key;
    return parse_duration(text, ret);
}

static int number_mode(const Key *key, const char *text, uint64_t *ret)
{
    unsigned mode;
    int r;

    (void)key;
    r = parse_mode(text, &mode);
    if (r == 0)
        *ret = mode;
    return r;
}

static int number_word(const Key *key, const char *text, uint64_t *ret)
{
    for (size_t i = 0; key->words[i] != NULL; i++) {
        if (strcmp(key->words[i], text) == 0) {
            *ret = i;
            return 0;
        }
    }
    return -EINVAL;
}

static int check_path(const char *text)
{
    static_assert(sizeof(((struct sockaddr_un *)NULL)->sun_path) == 108, "the text below says 107");

    return text[0] == '/' && strlen(text) < 108 ? 0 : -EINVAL;
}

static int check_command(const char *text)
{
    _cleanup_(freep) char **words = NULL;
    int count = words_split(text, &words);

    if (count < 0)
        return count;
    return count == 0 || words[0][0] == '/' ? 0 : -EINVAL;
}

static_assert(sizeof(SyncPolicy) == sizeof(unsigned) && sizeof(AtStop) == sizeof(unsigned) &&
                  sizeof(Compression) == sizeof(unsigned),
              "enumerations are stored as unsigned");

static const Kind kind_count = {number_count, NULL, sizeof(uint64_t), "a number"};
static const Kind kind_size = {number_size, NULL, sizeof(uint64_t),
                               "a size in bytes, or with K, M, G or T"};
static const Kind kind_duration = {number_duration, NULL, sizeof(uint64_t),
                                   "a time in seconds, or with us, ms, s, min, h or d"};
static const Kind kind_mode = {number_mode, NULL, sizeof(unsigned), "an octal mode"};
static const Kind kind_word = {number_word, NULL, sizeof(unsigned), NULL};
static const Kind kind_text = {NULL, NULL, sizeof(char *), "text"};
static const Kind kind_path = {NULL, check_path, sizeof(char *),
                               "an absolute path of at most 107 bytes"};

static const Kind kind_command = {NULL, check_command, sizeof(char *),
                                  "an absolute path and words, with all quotes closed"};

static const char *const sync_words[] = {
    [SYNC_ALWAYS] = "always", [SYNC_INTERVAL] = "interval", [SYNC_NEVER] = "never", NULL};
static const char *const at_stop_words[] = {
    [AT_STOP_AUTO] = "auto", [AT_STOP_YES] = "yes", [AT_STOP_NO] = "no", NULL};
static const char *const compression_words[] = {
    [COMPRESSION_NONE] = "none", [COMPRESSION_ZSTD] = "zstd", NULL};

#define FIELD(kind_name, field) .kind = &kind_name, .offset = offsetof(Config, field)
#define LIVE .live = true

/* In the order of etc/holdfastd.conf; a test holds the two together. */
/* clang-format off */
static const Key keys[] = {
    {"Server.Socket",                FIELD(kind_path, socket), .initial = ""},
    {"Server.SocketMode",            FIELD(kind_mode, socket_mode), .initial = "0660",
                                     .least = "0", .most = "0777"},
    {"Server.SocketGroup",           FIELD(kind_text, socket_group), .initial = ""},
    {"Server.ConnectionsMax",        FIELD(kind_count, connections_max), .initial = "4096",
                                     .least = "1", .most = "1000000", LIVE},
    {"Server.ConnectionsPerUserMax", FIELD(kind_count, connections_per_user_max), .initial = "1024",
                                     .least = "1", .most = "1000000", LIVE},
    /* 16 MiB is what Varlink's clients take, and what a reply may have. */
    {"Server.MessageBytesMax",       FIELD(kind_size, message_bytes_max), .initial = "16M",
                                     .least = "4K", .most = "16M", LIVE},
    {"Server.BufferBytesMax",        FIELD(kind_size, buffer_bytes_max), .initial = "256M",
                                     .least = "64K", .most = "1T", LIVE},

    {"Arenas.CreateGroup",           FIELD(kind_text, create_group), .initial = "", LIVE},
    {"Arenas.ArenasMax",             FIELD(kind_count, arenas_max), .initial = "256",
                                     .least = "1", .most = "65536", LIVE},
    {"Arenas.ArenaBytesMax",         FIELD(kind_size, arena_bytes_max), .initial = "16G",
                                     .least = "1M", .most = "16T", LIVE},
    {"Arenas.MemoryBytesMax",        FIELD(kind_size, memory_bytes_max), .initial = "",
                                     .least = "1M", .most = "1024T", LIVE},

    {"Journal.Sync",                 FIELD(kind_word, sync), .initial = "always",
                                     .words = sync_words},
    {"Journal.SyncIntervalSec",      FIELD(kind_duration, sync_interval_usec), .initial = "1s",
                                     .least = "1ms", .most = "1h", LIVE},
    {"Journal.SegmentBytesMax",      FIELD(kind_size, segment_bytes_max), .initial = "256M",
                                     .least = "1M", .most = "64G"},

    {"Checkpoint.IntervalSec",       FIELD(kind_duration, interval_usec), .initial = "15min",
                                     .least = "0", .most = "365d", LIVE},
    {"Checkpoint.JournalBytesMax",   FIELD(kind_size, journal_bytes_max), .initial = "1G",
                                     .least = "1M", .most = "1024T", LIVE},
    {"Checkpoint.AtStop",            FIELD(kind_word, at_stop), .initial = "auto",
                                     .words = at_stop_words, LIVE},
    {"Checkpoint.Keep",              FIELD(kind_count, keep), .initial = "4",
                                     .least = "1", .most = "1024", LIVE},
    {"Checkpoint.CaptureBytesMax",   FIELD(kind_size, capture_bytes_max), .initial = "64M",
                                     .least = "64K", .most = "64G"},
    {"Checkpoint.StallSec",          FIELD(kind_duration, stall_usec), .initial = "10s",
                                     .least = "1ms", .most = "1d", LIVE},
    {"Checkpoint.WriteBytesPerSecMax", FIELD(kind_size, write_bytes_per_sec_max), .initial = "0",
                                     .least = "0", .most = "1024T", LIVE},
    {"Checkpoint.Compression",       FIELD(kind_word, compression), .initial = "none",
                                     .words = compression_words, LIVE},
    {"Checkpoint.AfterCommand",      FIELD(kind_command, after_command), .initial = "", LIVE},
    {"Checkpoint.AfterCommandTimeoutSec", FIELD(kind_duration, after_command_timeout_usec),
                                     .initial = "10min", .least = "1ms", .most = "30d", LIVE},
};
/* clang-format on */

static void *field_of(const Config *config, const Key *key)
{
    return (char *)config + key->offset;
}

static const Key *key_find(const char *section, size_t section_length, const char *name,
                           size_t name_length)
{
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        const char *key = keys[i].name;

        if (strlen(key) == section_length + 1 + name_length &&
            memcmp(key, section, section_length) == 0 && key[section_length] == '.' &&
            memcmp(key + section_length + 1, name, name_length) == 0)
            return &keys[i];
    }
    return NULL;
}

static int key_parse_number(const Key *key, const char *text, uint64_t *ret)
{
    uint64_t value = 0, least = 0, most = UINT64_MAX;
    int r = 0;

    /* Unset and no default: 0, whatever the bounds. */
    if (text[0] != '\0') {
        r = key->kind->parse_number(key, text, &value);
        if (r < 0)
            return r;
        if (key->least != NULL)
            r = key->kind->parse_number(key, key->least, &least);
        if (r == 0 && key->most != NULL)
            r = key->kind->parse_number(key, key->most, &most);
        assert(r == 0);
        if (value < least || value > most)
            return -ERANGE;
    }
    *ret = value;
    return 0;
}

static int key_set_string(Config *config, const Key *key, const char *text)
{
    char **field = field_of(config, key), *copy = NULL;
    int r;

    if (text[0] != '\0') {
        r = key->kind->check_string != NULL ? key->kind->check_string(text) : 0;
        if (r < 0)
            return r;
        copy = strdup(text);
        if (copy == NULL)
            return -ENOMEM;
    }
    free(*field);
    *field = copy;
    return 0;
}

static int key_set(Config *config, const Key *key, const char *text)
{
    uint64_t value;
    unsigned narrow;
    int r;

    if (text[0] == '\0')
        text = key->initial;
    if (key->kind->parse_number == NULL)
        return key_set_string(config, key, text);
    r = key_parse_number(key, text, &value);
    if (r < 0)
        return r;
    narrow = (unsigned)value;
    if (key->kind->width == sizeof(narrow))
        memcpy(field_of(config, key), &narrow, sizeof(narrow));
    else
        memcpy(field_of(config, key), &value, sizeof(value));
    return 0;
}

static void describe_words(const Key *key, char *text, size_t size)
{
    size_t length = 0;

    for (size_t i = 0; key->words[i] != NULL && length < size; i++)
        length += (size_t)snprintf(text + length, size - length, "%s%s",
                                   i == 0                      ? ""
                                   : key->words[i + 1] == NULL ? " or "
                                                               : ", ",
                                   key->words[i]);
}

static void describe_error(const Key *key, const char *text, int r, ConfigError *error)
{
    char expected[128];

    if (r == -ERANGE && key->least != NULL)
        snprintf(expected, sizeof(expected), "a value from %s to %s", key->least, key->most);
    else if (key->kind->expected != NULL)
        snprintf(expected, sizeof(expected), "%s", key->kind->expected);
    else
        describe_words(key, expected, sizeof(expected));
    if (r == -ENOMEM)
        snprintf(error->reason, sizeof(error->reason), "%s=: out of memory", key->name);
    else
        snprintf(error->reason, sizeof(error->reason), "%s=%.80s is not %s", key->name, text,
                 expected);
}

/* -EINVAL for every wrong value, -ENOMEM. */
static int key_set_or_describe(Config *config, const Key *key, const char *text, ConfigError *error)
{
    int r = key_set(config, key, text);

    if (r == 0)
        return 0;
    describe_error(key, text, r, error);
    return r == -ENOMEM ? r : -EINVAL;
}

void config_init(Config *config)
{
    int r;

    *config = (Config){0};
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        r = key_set(config, &keys[i], "");
        /* Strings have no defaults, so nothing is allocated and only the table could be wrong. */
        assert(r == 0);
        (void)r;
    }
}

void config_deinit(Config *config)
{
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if (keys[i].kind->parse_number == NULL)
            freep(field_of(config, &keys[i]));
    *config = (Config){0};
}

int config_set_key(Config *config, const char *section, const char *name, const char *value,
                   ConfigError *error)
{
    const Key *key = key_find(section, strlen(section), name, strlen(name));

    if (key == NULL)
        return 1;
    return key_set_or_describe(config, key, value, error);
}

int config_set(Config *config, const char *option, ConfigError *error)
{
    const char *equals = strchr(option, '=');
    const char *dot = equals != NULL ? memchr(option, '.', (size_t)(equals - option)) : NULL;
    const Key *key;

    snprintf(error->file, sizeof(error->file), "--option");
    error->line = 0;
    if (dot == NULL) {
        snprintf(error->reason, sizeof(error->reason), "%.80s is not Section.Key=VALUE", option);
        return -EINVAL;
    }
    key = key_find(option, (size_t)(dot - option), dot + 1, (size_t)(equals - dot - 1));
    if (key == NULL) {
        snprintf(error->reason, sizeof(error->reason), "there is no key %.*s",
                 (int)MIN(equals - option, 80), option);
        return -EINVAL;
    }
    return key_set_or_describe(config, key, equals + 1, error);
}

int config_check(const Config *config, ConfigError *error)
{
    if (config->buffer_bytes_max < config->message_bytes_max) {
        *error =
            (ConfigError){.reason = "Server.BufferBytesMax= is less than Server.MessageBytesMax=: "
                                    "the largest messages could never arrive"};
        return -EINVAL;
    }
    if (config->buffer_bytes_max / 4 < config->message_bytes_max)
        log_warning("Server.BufferBytesMax=: a user may use a quarter of it, which is less than "
                    "one message of Server.MessageBytesMax=");
    return 0;
}

static bool key_differs(const Config *a, const Config *b, const Key *key)
{
    const void *field_a = field_of(a, key), *field_b = field_of(b, key);
    const char *text_a, *text_b;

    if (key->kind->parse_number != NULL)
        return memcmp(field_a, field_b, key->kind->width) != 0;
    text_a = *(char *const *)field_a;
    text_b = *(char *const *)field_b;
    return text_a == NULL || text_b == NULL ? text_a != text_b : strcmp(text_a, text_b) != 0;
}

/* Strings change owners both ways, so that each config still owns what it holds. */
static void key_swap(Config *a, Config *b, const Key *key)
{
    char kept[sizeof(uint64_t)];

    memcpy(kept, field_of(a, key), key->kind->width);
    memcpy(field_of(a, key), field_of(b, key), key->kind->width);
    memcpy(field_of(b, key), kept, key->kind->width);
}

size_t config_apply(Config *into, Config *from, const char **ignored, size_t count)
{
    size_t found = 0;

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        if (keys[i].live)
            key_swap(into, from, &keys[i]);
        else if (key_differs(into, from, &keys[i]) && found < count)
            ignored[found++] = keys[i].name;
    }
    return found;
}

uint64_t config_memory_default(void)
{
    return machine_memory() / 4 * 3;
}

size_t config_key_count(void)
{
    return ARRAY_SIZE(keys);
}

const char *config_key_name(size_t index)
{
    return keys[index].name;
}

const char *config_key_default(size_t index)
{
    return keys[index].initial;
}
