/* get, put, delete, merge, increment: one entry at a time, values as text. */
#include <fcntl.h>

#include "base/parse.h"
#include "lines.h"
#include "print.h"

/* A value, and before it its revision where that was asked for. */
static void print_value(const Ctl *ctl, const char *json, size_t size, uint64_t revision)
{
    if (ctl->options.revision)
        printf("%llu\t", (unsigned long long)revision);
    print_json(ctl, json, size, print_mode(ctl));
}

static int finish_revision(const Ctl *ctl, int r, uint64_t revision)
{
    if (r != 0)
        return failure_call(ctl, r);
    if (ctl->options.revision)
        printf("%llu\n", (unsigned long long)revision);
    return STATUS_OK;
}

static int get_one(Ctl *ctl, const char *arena, const char *key)
{
    const char *json;
    size_t size;
    uint64_t revision;
    int r = holdfast_get(ctl->connection, arena, key, strlen(key), &json, &size, &revision);

    if (r != 0)
        return failure_call(ctl, r);
    print_value(ctl, json, size, revision);
    return STATUS_OK;
}

/* The keys asked for, and which of them came. */
typedef struct Asked {
    const Ctl *ctl;
    HoldfastText *keys;
    bool *came;
    size_t count;
} Asked;

static int take_entry(void *context, const HoldfastItem *entry)
{
    Asked *asked = context;

    for (size_t i = 0; i < asked->count; i++)
        if (asked->keys[i].size == entry->key_length &&
            memcmp(asked->keys[i].data, entry->key, entry->key_length) == 0)
            asked->came[i] = true;
    print_entry(NULL, entry, asked->ctl->options.revision);
    return print_check();
}

/* Several keys: a JSON line for each entry there is, as export writes them; a key without one is
 * told and fails. */
static int get_many(Ctl *ctl, const char *arena, int count, char **keys)
{
    _cleanup_(freep) HoldfastText *texts = calloc((size_t)count, sizeof(*texts));
    _cleanup_(freep) bool *came = calloc((size_t)count, sizeof(*came));
    Asked asked = {.ctl = ctl, .keys = texts, .came = came, .count = (size_t)count};
    int status = STATUS_OK;
    int r;

    if (texts == NULL || came == NULL)
        return failure_call(ctl, -ENOMEM);
    for (int i = 0; i < count; i++)
        texts[i] = (HoldfastText){keys[i], strlen(keys[i])};
    r = holdfast_get_many(ctl->connection, arena, texts, (size_t)count, take_entry, &asked, NULL);
    if (r != 0)
        return failure_call(ctl, r);
    for (int i = 0; i < count; i++)
        if (!came[i])
            status = failure(STATUS_FAILED, "arena '%s' has no key '%s'", arena, keys[i]);
    return status;
}

int verb_get(Ctl *ctl, int count, char **arguments)
{
    if (count == 2)
        return get_one(ctl, arguments[0], arguments[1]);
    return get_many(ctl, arguments[0], count - 1, arguments + 1);
}

/* The value on the command line, or all of stdin. ret_owned: to be freed, NULL where nothing is. */
static int read_value(int count, char **arguments, HoldfastText *ret, char **ret_owned)
{
    const char *argument = count > 2 ? arguments[2] : "-";
    int r;

    *ret_owned = NULL;
    if (strcmp(argument, "-") != 0) {
        *ret = (HoldfastText){argument, strlen(argument)};
        return STATUS_OK;
    }
    r = lines_read_all(STDIN_FILENO, HOLDFAST_MESSAGE_MAX, ret_owned, &ret->size);
    if (r < 0)
        return failure(STATUS_FAILED, "cannot read the value from stdin: %s", strerror(-r));
    ret->data = *ret_owned;
    return STATUS_OK;
}

int verb_put(Ctl *ctl, int count, char **arguments)
{
    _cleanup_(freep) char *owned = NULL;
    HoldfastText value;
    uint64_t revision = 0;
    int r = read_value(count, arguments, &value, &owned);

    if (r != STATUS_OK)
        return r;
    r = holdfast_put(ctl->connection, arguments[0], arguments[1], strlen(arguments[1]), value.data,
                     value.size, ctl->options.if_revision, &revision);
    return finish_revision(ctl, r, revision);
}

int verb_delete(Ctl *ctl, int count, char **arguments)
{
    uint64_t revision = 0;
    int r = holdfast_delete(ctl->connection, arguments[0], arguments[1], strlen(arguments[1]),
                            ctl->options.if_revision, &revision);

    (void)count;
    return finish_revision(ctl, r, revision);
}

int verb_merge(Ctl *ctl, int count, char **arguments)
{
    _cleanup_(freep) char *owned = NULL;
    HoldfastText patch;
    const char *json;
    size_t size;
    uint64_t revision;
    int r = read_value(count, arguments, &patch, &owned);

    if (r != STATUS_OK)
        return r;
    r = holdfast_merge(ctl->connection, arguments[0], arguments[1], strlen(arguments[1]),
                       patch.data, patch.size, ctl->options.if_revision, &json, &size, &revision);
    if (r != 0)
        return failure_call(ctl, r);
    print_value(ctl, json, size, revision);
    return STATUS_OK;
}

static bool parse_integer(const char *text, int64_t *ret)
{
    char *end;

    errno = 0;
    *ret = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && text[0] != ' ';
}

int verb_increment(Ctl *ctl, int count, char **arguments)
{
    int64_t by = 1, sum;
    uint64_t revision;
    int r;

    if (count > 2 && !parse_integer(arguments[2], &by))
        return failure(STATUS_USAGE, "'%s' is no integer of 64 bits", arguments[2]);
    r = holdfast_increment(ctl->connection, arguments[0], arguments[1], strlen(arguments[1]), by,
                           ctl->options.if_revision, &sum, &revision);
    if (r != 0)
        return failure_call(ctl, r);
    if (ctl->options.revision)
        printf("%llu\t", (unsigned long long)revision);
    printf("%lld\n", (long long)sum);
    return STATUS_OK;
}
