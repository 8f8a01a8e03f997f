/* What went wrong, for people: a sentence for each error of the interface, filled from its
 * parameters, with the error's name behind it for whoever looks it up. */
#include <jansson.h>
#include <stdarg.h>

#include "base/parse.h"
#include "ctl.h"

typedef struct ErrorText {
    const char *name;
    int status;
    /* {name} stands for the parameter of that name, {name:bytes} for it as a size, {name:allowed}
     * for what may stand in the parameter that it names. What stands in [] is left out where a
     * parameter in it is absent. */
    const char *text;
} ErrorText;

static const ErrorText texts[] = {
    {"io.holdfast.NoSuchArena", STATUS_FAILED, "there is no arena '{arena}'"},
    {"io.holdfast.ArenaExists", STATUS_FAILED, "there is an arena '{arena}' already"},
    {"io.holdfast.ArenaFull", STATUS_FAILED,
     "arena '{arena}' is full, it may occupy {maxBytes:bytes}"},
    {"io.holdfast.ArenaDamaged", STATUS_FAILED, "arena '{arena}' is damaged and closed: {where}"},
    {"io.holdfast.NoSuchKey", STATUS_FAILED,
     "arena '{arena}' has no key '{key}'[ (operation {operation})]"},
    {"io.holdfast.RevisionMismatch", STATUS_FAILED,
     "the revision of '{key}' is {revision}[ (operation {operation})]"},
    {"io.holdfast.WrongType", STATUS_FAILED,
     "the value of '{key}' is no integer, or the sum is too large[ (operation {operation})]"},
    {"io.holdfast.LimitExceeded", STATUS_FAILED,
     "over the limit: {limit}, at most {maximum}[ (operation {operation})]"},
    {"io.holdfast.NoSuchCheckpoint", STATUS_FAILED, "there is no checkpoint '{id}'"},
    {"io.holdfast.CheckpointNeeded", STATUS_FAILED, "checkpoint {id} is needed for recovery"},
    {"io.holdfast.CheckpointFailed", STATUS_FAILED, "the checkpoint[ {id}] failed: {reason}"},
    {"io.holdfast.CheckpointCancelled", STATUS_FAILED, "checkpoint {id} was cancelled"},
    {"io.holdfast.ImageDamaged", STATUS_FAILED,
     "the image of checkpoint {id} is damaged at {where}: {reason}"},
    {"io.holdfast.ReadOnly", STATUS_FAILED, "updates are refused: {reason}"},
    {"io.holdfast.NotDurable", STATUS_FAILED,
     "the update was made as revision {revision}, but may not survive a crash: {reason}"},
    {"io.holdfast.ConfigurationInvalid", STATUS_FAILED,
     "the configuration is wrong, the old one stays: {file}:{line}: {reason}"},
    {"io.holdfast.BadMessage", STATUS_FAILED, "the daemon could not read the message: {reason}"},
    {"org.varlink.service.PermissionDenied", STATUS_DENIED, "you may not do that"},
    {"org.varlink.service.InvalidParameter", STATUS_FAILED,
     "the daemon does not accept the parameter '{parameter}'{parameter:allowed}"},
    {"org.varlink.service.MethodNotFound", STATUS_FAILED, "there is no method {method}"},
    {"org.varlink.service.MethodNotImplemented", STATUS_FAILED,
     "the daemon does not have the method {method} yet"},
    {"org.varlink.service.InterfaceNotFound", STATUS_FAILED, "there is no interface {interface}"},
    {"org.varlink.service.ExpectedMore", STATUS_FAILED,
     "this method can only be called with --more"},
};

/* What the daemon accepts, for InvalidParameter, which only names the parameter. */
typedef struct AllowedText {
    const char *parameter;
    const char *text;
} AllowedText;

#define NAME_ALLOWED                                                                               \
    "1 to 64 of the characters A-Z a-z 0-9 _ . -, of which the first is a letter or a digit"

static const AllowedText allowed_texts[] = {
    {"name", NAME_ALLOWED},
    {"arena", NAME_ALLOWED},
    {"arenas", "names of arenas, at least one"},
    {"maxBytes", "from 512 KiB to ArenaBytesMax= of the daemon's configuration"},
    {"mode", "read and write for owner, group and others, up to 0666"},
    {"gid", "the number of a group"},
    {"key", "a text of 1 to 1024 bytes"},
    {"keys", "texts of 1 to 1024 bytes"},
    {"label", "up to 64 of the characters A-Z a-z 0-9 _ . : - and space"},
    {"limit", "from 1 to 10000"},
    {"cursor", "what the page before gave as next"},
    {"ifRevision", "a revision, or 0 where there must be no such entry"},
    {"by", "an integer"},
    {"operations", "at least one, each with the members that its op takes and no others"},
};

static void write_allowed(FILE *out, const char *parameter)
{
    for (size_t i = 0; i < ARRAY_SIZE(allowed_texts); i++)
        if (strcmp(allowed_texts[i].parameter, parameter) == 0)
            fprintf(out, ": %s", allowed_texts[i].text);
}

static const ErrorText *find_text(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (strcmp(texts[i].name, name) == 0)
            return &texts[i];
    return NULL;
}

/* Nothing that a name or a reason holds may steer the terminal. */
static void write_plain(FILE *out, const char *text)
{
    for (; *text != '\0'; text++)
        fputc((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text, out);
}

/* The parameter that stands between the braces, at most its name's part. */
static const json_t *find_field(const json_t *parameters, const char *field, size_t length)
{
    const char *colon = memchr(field, ':', length);
    char name[32];

    snprintf(name, sizeof(name), "%.*s", (int)(colon != NULL ? (size_t)(colon - field) : length),
             field);
    return json_object_get(parameters, name);
}

static void write_field(FILE *out, const json_t *parameters, const char *field, size_t length)
{
    const json_t *value = find_field(parameters, field, length);
    char text[FORMAT_BYTES_MAX];

    if (json_is_string(value) && memchr(field, ':', length) != NULL)
        write_allowed(out, json_string_value(value));
    else if (json_is_string(value))
        write_plain(out, json_string_value(value));
    else if (json_is_integer(value) && memchr(field, ':', length) != NULL)
        fputs(format_bytes(text, (uint64_t)json_integer_value(value)), out);
    else if (json_is_integer(value))
        fprintf(out, "%lld", (long long)json_integer_value(value));
    else
        fputc('?', out);
}

/* Whether all parameters that the bracket at text names are there. */
static bool is_complete(const json_t *parameters, const char *text)
{
    for (; *text != ']'; text++) {
        if (*text != '{')
            continue;
        size_t length = strcspn(text + 1, "}");
        const json_t *value = find_field(parameters, text + 1, length);
        if (value == NULL || json_is_null(value))
            return false;
    }
    return true;
}

static void write_text(FILE *out, const json_t *parameters, const char *text)
{
    while (*text != '\0') {
        size_t length = strcspn(text, "{[]");
        fwrite(text, 1, length, out);
        text += length;
        if (*text == '{') {
            length = strcspn(text, "}");
            write_field(out, parameters, text + 1, length - 1);
            text += length + 1;
        } else if (*text == '[')
            text = is_complete(parameters, text) ? text + 1 : strchr(text, ']');
        else if (*text == ']')
            text++;
    }
}

/* An error that is not known is told with its parameters as they are. */
static void write_message(FILE *out, const char *name, const char *parameters)
{
    const ErrorText *known = find_text(name);
    json_t *tree = json_loads(parameters, 0, NULL);

    if (known != NULL)
        write_text(out, tree, known->text);
    else {
        fputs("the daemon answered an error", out);
        if (strcmp(parameters, "{}") != 0) {
            fputs(": ", out);
            write_plain(out, parameters);
        }
    }
    fputs(" (", out);
    write_plain(out, name);
    fputc(')', out);
    json_decref(tree);
}

char *failure_text(const HoldfastConnection *connection)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    if (out == NULL)
        return NULL;
    write_message(out, holdfast_error_name(connection), holdfast_error_parameters(connection));
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

int failure(int status, const char *format, ...)
{
    va_list arguments;

    fflush(stdout);
    fputs("holdfastctl: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return status;
}

static int failure_remote(const HoldfastConnection *connection)
{
    const char *name = holdfast_error_name(connection);
    const ErrorText *known = find_text(name);
    _cleanup_(freep) char *text = failure_text(connection);

    return failure(known != NULL ? known->status : STATUS_FAILED, "%s", text != NULL ? text : name);
}

int failure_call(const Ctl *ctl, int r)
{
    switch (r) {
    case HOLDFAST_ERROR_REMOTE:
        return failure_remote(ctl->connection);
    case -ETIMEDOUT:
        return failure(STATUS_UNAVAILABLE, "the daemon did not answer in time");
    case -EPIPE:
    case -ECONNRESET:
        return failure(STATUS_UNAVAILABLE, "the daemon closed the connection");
    case -EBADMSG:
        return failure(STATUS_FAILED, "the daemon's answer makes no sense");
    case -EINVAL:
        return failure(STATUS_FAILED, "that is no JSON value");
    case -EILSEQ:
        return failure(STATUS_FAILED, "names and keys must be UTF-8");
    case -EMSGSIZE:
        return failure(STATUS_FAILED, "the message is longer than %u MiB",
                       HOLDFAST_MESSAGE_MAX >> 20);
    default:
        return failure(STATUS_FAILED, "%s", strerror(-r));
    }
}
