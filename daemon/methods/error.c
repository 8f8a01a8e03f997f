/* The errors of io.holdfast: each function writes one whole reply. The table below is what a test
 * holds against the interface's file.
 *
 * What can go wrong: want of memory, which the reply's buffer remembers. */

#include "methods/method.h"

enum {
    ERROR_NO_SUCH_ARENA,
    ERROR_ARENA_EXISTS,
    ERROR_ARENA_FULL,
    ERROR_ARENA_DAMAGED,
    ERROR_NO_SUCH_KEY,
    ERROR_REVISION_MISMATCH,
    ERROR_WRONG_TYPE,
    ERROR_LIMIT_EXCEEDED,
    ERROR_NO_SUCH_CHECKPOINT,
    ERROR_CHECKPOINT_NEEDED,
    ERROR_CHECKPOINT_FAILED,
    ERROR_CHECKPOINT_CANCELLED,
    ERROR_IMAGE_DAMAGED,
    ERROR_READ_ONLY,
    ERROR_NOT_DURABLE,
    ERROR_CONFIGURATION_INVALID,
    ERROR_BAD_MESSAGE,
};

const char *const methods_errors[] = {
    [ERROR_NO_SUCH_ARENA] = "io.holdfast.NoSuchArena",
    [ERROR_ARENA_EXISTS] = "io.holdfast.ArenaExists",
    [ERROR_ARENA_FULL] = "io.holdfast.ArenaFull",
    [ERROR_ARENA_DAMAGED] = "io.holdfast.ArenaDamaged",
    [ERROR_NO_SUCH_KEY] = "io.holdfast.NoSuchKey",
    [ERROR_REVISION_MISMATCH] = "io.holdfast.RevisionMismatch",
    [ERROR_WRONG_TYPE] = "io.holdfast.WrongType",
    [ERROR_LIMIT_EXCEEDED] = "io.holdfast.LimitExceeded",
    [ERROR_NO_SUCH_CHECKPOINT] = "io.holdfast.NoSuchCheckpoint",
    [ERROR_CHECKPOINT_NEEDED] = "io.holdfast.CheckpointNeeded",
    [ERROR_CHECKPOINT_FAILED] = "io.holdfast.CheckpointFailed",
    [ERROR_CHECKPOINT_CANCELLED] = "io.holdfast.CheckpointCancelled",
    [ERROR_IMAGE_DAMAGED] = "io.holdfast.ImageDamaged",
    [ERROR_READ_ONLY] = "io.holdfast.ReadOnly",
    [ERROR_NOT_DURABLE] = "io.holdfast.NotDurable",
    [ERROR_CONFIGURATION_INVALID] = "io.holdfast.ConfigurationInvalid",
    [ERROR_BAD_MESSAGE] = "io.holdfast.BadMessage",
    NULL,
};

static JsonWriter error_begin(MethodCall *call, int error)
{
    return reply_begin_error(method_output(call), methods_errors[error]);
}

/* An error whose one parameter is a name. */
static MethodResult error_named(MethodCall *call, int error, const char *parameter, Bytes name)
{
    JsonWriter writer = error_begin(call, error);

    member_bytes(&writer, parameter, reply_name(name));
    return method_end(call, &writer);
}

MethodResult error_invalid(MethodCall *call, const char *parameter)
{
    reply_invalid_parameter(method_output(call), bytes_of_text(parameter),
                            call->ops->terminator(call->caller));
    return METHOD_DONE;
}

MethodResult error_denied(MethodCall *call)
{
    reply_permission_denied(method_output(call), call->ops->terminator(call->caller));
    return METHOD_DONE;
}

static JsonWriter limit_begin(Buffer *out, const char *limit, uint64_t maximum)
{
    JsonWriter writer = reply_begin_error(out, methods_errors[ERROR_LIMIT_EXCEEDED]);

    member_text(&writer, "limit", limit);
    member_int(&writer, "maximum", maximum);
    return writer;
}

MethodResult error_limit(MethodCall *call, const char *limit, uint64_t maximum)
{
    JsonWriter writer = limit_begin(method_output(call), limit, maximum);

    return method_end(call, &writer);
}

MethodResult error_limit_at(MethodCall *call, const char *limit, uint64_t maximum, size_t operation)
{
    JsonWriter writer = limit_begin(method_output(call), limit, maximum);

    member_int(&writer, "operation", operation);
    return method_end(call, &writer);
}

MethodResult error_no_arena(MethodCall *call, Bytes name)
{
    return error_named(call, ERROR_NO_SUCH_ARENA, "arena", name);
}

MethodResult error_arena_exists(MethodCall *call, Bytes name)
{
    return error_named(call, ERROR_ARENA_EXISTS, "arena", name);
}

MethodResult error_no_checkpoint(MethodCall *call, Bytes id)
{
    return error_named(call, ERROR_NO_SUCH_CHECKPOINT, "id", id);
}

MethodResult error_checkpoint_needed(MethodCall *call, Bytes id)
{
    return error_named(call, ERROR_CHECKPOINT_NEEDED, "id", id);
}

MethodResult error_checkpoint_failed(MethodCall *call, const char *id, const char *reason)
{
    JsonWriter writer = error_begin(call, ERROR_CHECKPOINT_FAILED);

    if (id && id[0] != '\0')
        member_text(&writer, "id", id);
    member_text(&writer, "reason", reason);
    return method_end(call, &writer);
}

MethodResult error_checkpoint_cancelled(MethodCall *call, const char *id)
{
    return error_named(call, ERROR_CHECKPOINT_CANCELLED, "id", bytes_of_text(id));
}

MethodResult error_image_damaged(MethodCall *call, const char *id, const char *where,
                                 const char *reason)
{
    JsonWriter writer = error_begin(call, ERROR_IMAGE_DAMAGED);

    member_text(&writer, "id", id);
    member_text(&writer, "where", where);
    member_text(&writer, "reason", reason);
    return method_end(call, &writer);
}

MethodResult error_configuration(MethodCall *call, const ReloadError *error)
{
    JsonWriter writer = error_begin(call, ERROR_CONFIGURATION_INVALID);

    member_text(&writer, "file", error->file);
    member_int(&writer, "line", (uint64_t)error->line);
    member_text(&writer, "reason", error->reason);
    return method_end(call, &writer);
}

/* --- what the store answered; one writer of parameters for each outcome */

typedef struct StoreError {
    MethodCall *call;
    const StoreOutcome *outcome;
    Bytes key;
} StoreError;

static void with_arena_and_key(JsonWriter *writer, const StoreError *error)
{
    member_text(writer, "arena", arena_name(error->call->arena->arena));
    member_bytes(writer, "key", error->key);
}

static void with_key(JsonWriter *writer, const StoreError *error)
{
    member_bytes(writer, "key", error->key);
}

static void with_key_and_revision(JsonWriter *writer, const StoreError *error)
{
    member_bytes(writer, "key", error->key);
    member_int(writer, "revision", error->outcome->revision);
}

static void with_arena_and_maximum(JsonWriter *writer, const StoreError *error)
{
    member_text(writer, "arena", arena_name(error->call->arena->arena));
    member_int(writer, "maxBytes", error->outcome->maximum);
}

static void with_limit(JsonWriter *writer, const StoreError *error)
{
    member_text(writer, "limit", error->outcome->limit);
    member_int(writer, "maximum", error->outcome->maximum);
}

static void with_reason(JsonWriter *writer, const StoreError *error)
{
    const char *reason = store_reason(error->call->methods->options.store);

    member_text(writer, "reason", reason ? reason : "updates are refused");
}

static void with_damage(JsonWriter *writer, const StoreError *error)
{
    member_text(writer, "arena", arena_name(error->call->arena->arena));
    member_text(writer, "where", error->call->arena->damage);
}

static const struct {
    int error;
    void (*write)(JsonWriter *writer, const StoreError *error);
    bool names_operation;
} store_errors[] = {
    [STORE_NO_SUCH_KEY] = {ERROR_NO_SUCH_KEY, with_arena_and_key, true},
    [STORE_REVISION_MISMATCH] = {ERROR_REVISION_MISMATCH, with_key_and_revision, true},
    [STORE_WRONG_TYPE] = {ERROR_WRONG_TYPE, with_key, true},
    [STORE_ARENA_FULL] = {ERROR_ARENA_FULL, with_arena_and_maximum, false},
    [STORE_LIMIT] = {ERROR_LIMIT_EXCEEDED, with_limit, true},
    [STORE_READ_ONLY] = {ERROR_READ_ONLY, with_reason, false},
    [STORE_DAMAGED] = {ERROR_ARENA_DAMAGED, with_damage, false},
};

/* A system call failed (no memory, no descriptor left): nothing changed. */
static MethodResult error_not_begun(MethodCall *call, int error)
{
    JsonWriter writer = error_begin(call, ERROR_READ_ONLY);

    log_limited(&call->methods->not_begun, LOG_WARNING, "%s: not begun: %s", call->method->name,
                log_errno(error));
    member_text(&writer, "reason", log_errno(error));
    return method_end(call, &writer);
}

MethodResult error_store(MethodCall *call, int code, const StoreOutcome *outcome,
                         const StoreOperation *operations, bool in_apply)
{
    StoreError error = {.call = call, .outcome = outcome};
    JsonWriter writer;

    if (code == STORE_PARKED) {
        call->methods->options.host->parked(call->methods->options.host->context);
        return METHOD_PARKED;
    }
    if (code < 0)
        return error_not_begun(call, code);
    if (operations)
        error.key = operations[outcome->operation].key;
    writer = error_begin(call, store_errors[code].error);
    store_errors[code].write(&writer, &error);
    if (in_apply && store_errors[code].names_operation)
        member_int(&writer, "operation", outcome->operation);
    return method_end(call, &writer);
}

/* --- errors of messages that are no calls, and of replies that came too late */

void methods_bad_message(Buffer *out, char terminator, const char *reason)
{
    JsonWriter writer = reply_begin_error(out, methods_errors[ERROR_BAD_MESSAGE]);

    member_text(&writer, "reason", reason);
    reply_end(&writer, false, terminator);
}

void methods_limit_exceeded(Buffer *out, char terminator, const char *limit, uint64_t maximum)
{
    JsonWriter writer = limit_begin(out, limit, maximum);

    reply_end(&writer, false, terminator);
}

void methods_not_durable(Buffer *out, char terminator, uint64_t revision, const char *reason)
{
    JsonWriter writer = reply_begin_error(out, methods_errors[ERROR_NOT_DURABLE]);

    member_int(&writer, "revision", revision);
    member_text(&writer, "reason", reason);
    reply_end(&writer, false, terminator);
}
