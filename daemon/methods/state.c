/* Methods on the entries of one arena: Put, Get, GetMany, Delete, Merge, Increment, Apply. The
 * table has looked the arena up and asked for the rights; here the limits of keys and values are
 * checked and the store does the rest. */

#include "methods/method.h"

#define OPERATIONS_MAX 65536
#define REPLY_BYTES_MAX (16 * MIB - 64 * KIB)

/* The parameters of every method here: each uses the ones its fields name. */
typedef struct EntryParameters {
    Bytes arena;
    Bytes key;
    Bytes value;
    Bytes list;
    int64_t by;
    int64_t if_revision;
    bool by_given;
    bool if_revision_given;
} EntryParameters;

#define AT(member) .offset = offsetof(EntryParameters, member)
#define GIVEN(member) .given = offsetof(EntryParameters, member)

#define FIELD_ARENA                                                                                \
    {                                                                                              \
        .name = "arena", .type = FIELD_STRING, .required = true, AT(arena)                         \
    }
#define FIELD_KEY                                                                                  \
    {                                                                                              \
        .name = "key", .type = FIELD_STRING, .required = true, AT(key)                             \
    }
#define FIELD_IF_REVISION                                                                          \
    {                                                                                              \
        .name = "ifRevision", .type = FIELD_INT, AT(if_revision), GIVEN(if_revision_given)         \
    }

const Field put_fields[] = {
    FIELD_ARENA, FIELD_KEY, {.name = "value", .type = FIELD_ANY, AT(value)}, FIELD_IF_REVISION};
const Field get_fields[] = {FIELD_ARENA, FIELD_KEY};
const Field get_many_fields[] = {FIELD_ARENA,
                                 {.name = "keys", .type = FIELD_ARRAY, .required = true, AT(list)}};
const Field delete_fields[] = {FIELD_ARENA, FIELD_KEY, FIELD_IF_REVISION};
const Field merge_fields[] = {
    FIELD_ARENA, FIELD_KEY, {.name = "patch", .type = FIELD_ANY, AT(value)}, FIELD_IF_REVISION};
const Field increment_fields[] = {FIELD_ARENA,
                                  FIELD_KEY,
                                  {.name = "by", .type = FIELD_INT, AT(by), GIVEN(by_given)},
                                  FIELD_IF_REVISION};
const Field apply_fields[] = {
    FIELD_ARENA, {.name = "operations", .type = FIELD_ARRAY, .required = true, AT(list)}};

/* What keeps a key or a value out; 0: nothing. Fills outcome for STORE_LIMIT. -EINVAL: an empty
 * key. */
static int check_limits(const MethodCall *call, const StoreOperation *operation,
                        StoreOutcome *outcome)
{
    if (operation->key.size == 0)
        return -EINVAL;
    if (operation->key.size > HOLDFAST_KEY_MAX) {
        outcome->limit = "key";
        outcome->maximum = HOLDFAST_KEY_MAX;
        return STORE_LIMIT;
    }
    if (operation->value.size > HOLDFAST_VALUE_MAX) {
        outcome->limit = "value";
        outcome->maximum = HOLDFAST_VALUE_MAX;
        return STORE_LIMIT;
    }
    if (operation->value.size > 0 && call_deeper(call->call, operation->value, STORE_DEPTH_MAX)) {
        outcome->limit = "depth";
        outcome->maximum = STORE_DEPTH_MAX;
        return STORE_LIMIT;
    }
    return 0;
}

/* Checks one operation and gives it to the store. 0, or a reply was written (or the call is
 * parked): *ret_result. */
static int update_one(MethodCall *call, StoreOperation *operation, StoreOutcome *outcome,
                      MethodResult *ret_result)
{
    const EntryParameters *parameters = call->parameters;
    int r;

    operation->key = parameters->key;
    operation->value = parameters->value;
    operation->conditional = parameters->if_revision_given;
    operation->if_revision = (uint64_t)parameters->if_revision;
    if (parameters->if_revision_given && parameters->if_revision < 0) {
        *ret_result = error_invalid(call, "ifRevision");
        return -EINVAL;
    }
    r = check_limits(call, operation, outcome);
    if (r == -EINVAL) {
        *ret_result = error_invalid(call, "key");
        return r;
    }
    if (r == 0)
        r = store_update(call->methods->options.store, call->arena, operation, 1, outcome);
    if (r != 0)
        *ret_result = error_store(call, r, outcome, operation, false);
    return r;
}

/* The reply {value, revision} or {revision} to an update. */
static MethodResult reply_update(MethodCall *call, const StoreOutcome *outcome, bool with_value)
{
    JsonWriter writer = method_reply(call);

    if (with_value) {
        json_name(&writer, "value");
        json_text(&writer, outcome->value);
    }
    json_name(&writer, "revision");
    json_int(&writer, (int64_t)outcome->revision);
    return method_end_held(call, &writer, outcome->revision);
}

MethodResult method_put(MethodCall *call)
{
    StoreOperation operation = {.kind = STORE_PUT};
    StoreOutcome outcome = {0};
    MethodResult result;

    if (update_one(call, &operation, &outcome, &result) != 0)
        return result;
    return reply_update(call, &outcome, false);
}

MethodResult method_delete(MethodCall *call)
{
    StoreOperation operation = {.kind = STORE_DELETE};
    StoreOutcome outcome = {0};
    MethodResult result;

    if (update_one(call, &operation, &outcome, &result) != 0)
        return result;
    return reply_update(call, &outcome, false);
}

MethodResult method_merge(MethodCall *call)
{
    StoreOperation operation = {.kind = STORE_MERGE};
    StoreOutcome outcome = {0};
    MethodResult result;

    if (update_one(call, &operation, &outcome, &result) != 0)
        return result;
    return reply_update(call, &outcome, true);
}

MethodResult method_increment(MethodCall *call)
{
    const EntryParameters *parameters = call->parameters;
    StoreOperation operation = {.kind = STORE_INCREMENT,
                                .by = parameters->by_given ? parameters->by : 1};
    StoreOutcome outcome = {0};
    MethodResult result;

    if (update_one(call, &operation, &outcome, &result) != 0)
        return result;
    return reply_update(call, &outcome, true);
}

MethodResult method_get(MethodCall *call)
{
    const EntryParameters *parameters = call->parameters;
    StoreOperation operation = {.key = parameters->key};
    StoreOutcome outcome = {0};
    ArenaEntry entry;
    JsonWriter writer;
    int r = check_limits(call, &operation, &outcome);

    if (r == -EINVAL)
        return error_invalid(call, "key");
    if (r == 0)
        r = store_get(call->methods->options.store, call->arena, parameters->key, &entry);
    if (r != 0)
        return error_store(call, r, &outcome, &operation, false);
    call->methods->reads++;
    writer = method_reply(call);
    json_name(&writer, "value");
    json_text(&writer, entry.value);
    json_name(&writer, "revision");
    json_int(&writer, (int64_t)entry.revision);
    return method_end(call, &writer);
}

void show_entry(JsonWriter *writer, const ArenaEntry *entry)
{
    json_begin_object(writer);
    json_name(writer, "key");
    json_quote(writer, entry->key);
    json_name(writer, "value");
    json_text(writer, entry->value);
    json_name(writer, "revision");
    json_int(writer, (int64_t)entry->revision);
    json_end_object(writer);
}

/* The characters of a key in a list of strings, unescaped where needed. */
static Bytes list_key(MethodCall *call, Bytes text)
{
    Bytes inner = BYTES(text.data + 1, text.size - 2);
    Buffer *scratch = call->ops->scratch(call->caller);
    size_t before = buffer_size(scratch);

    if (!memchr(inner.data, '\\', inner.size))
        return inner;
    json_unescape(scratch, inner);
    return BYTES(buffer_begin(scratch) + before, buffer_size(scratch) - before);
}

/* Writes the entry of one key, if there is one. 0, or what stands against it. */
static int get_one(MethodCall *call, JsonWriter *writer, Bytes key, StoreOperation *operation,
                   StoreOutcome *outcome)
{
    ArenaEntry entry;
    int r;

    operation->key = key;
    r = check_limits(call, operation, outcome);
    if (r == 0)
        r = store_get(call->methods->options.store, call->arena, key, &entry);
    if (r == STORE_NO_SUCH_KEY)
        return 0;
    if (r == 0) {
        entry.key = key;
        show_entry(writer, &entry);
    }
    return r;
}

/* What stands against a reply with many entries, told. */
static MethodResult get_many_failed(MethodCall *call, int r, const StoreOutcome *outcome,
                                    const StoreOperation *operation)
{
    switch (r) {
    case -EINVAL:
        return error_invalid(call, "keys");
    case -E2BIG:
        return error_limit(call, "operations", OPERATIONS_MAX);
    case -EMSGSIZE:
        return error_limit(call, "message", REPLY_BYTES_MAX);
    default:
        return error_store(call, r, outcome, operation, false);
    }
}

/* The entries of a list of keys, which call->parameters names. -EINVAL: one is not a string;
 * -E2BIG: too many; -EMSGSIZE: too long a reply; or what get_one says. */
static int get_all(MethodCall *call, JsonWriter *writer, size_t start, StoreOperation *operation,
                   StoreOutcome *outcome)
{
    const EntryParameters *parameters = call->parameters;
    JsonWalk walk = json_walk(parameters->list);
    Bytes name, element;
    size_t keys = 0;

    while (json_next(&walk, &name, &element)) {
        if (json_type_of(element) != SCAN_STRING)
            return -EINVAL;
        if (++keys > OPERATIONS_MAX)
            return -E2BIG;
        int r = get_one(call, writer, list_key(call, element), operation, outcome);
        if (r != 0)
            return r;
        if (buffer_size(writer->out) - start > REPLY_BYTES_MAX)
            return -EMSGSIZE;
    }
    call->methods->reads += keys;
    return 0;
}

MethodResult method_get_many(MethodCall *call)
{
    const EntryParameters *parameters = call->parameters;
    Buffer *out = method_output(call);
    size_t start = buffer_size(out);
    StoreOperation operation = {0};
    StoreOutcome outcome = {0};

    /* What is unescaped is no longer than the text, so scratch never moves below. */
    if (!buffer_reserve(call->ops->scratch(call->caller), parameters->list.size))
        return error_limit(call, "buffers", 0);
    JsonWriter writer = method_reply(call);
    json_name(&writer, "entries");
    json_begin_array(&writer);
    int r = get_all(call, &writer, start, &operation, &outcome);
    if (r != 0) {
        buffer_truncate(out, start);
        return get_many_failed(call, r, &outcome, &operation);
    }
    json_end_array(&writer);
    json_name(&writer, "revision");
    json_int(&writer, (int64_t)arena_revision(call->arena->arena));
    return method_end(call, &writer);
}

/* --- Apply */

typedef struct OperationParameters {
    Bytes op;
    Bytes key;
    Bytes value;
    int64_t by;
    int64_t if_revision;
    bool value_given;
    bool by_given;
    bool if_revision_given;
} OperationParameters;

static const Field operation_fields[] = {
    {.name = "op",
     .type = FIELD_STRING,
     .required = true,
     .offset = offsetof(OperationParameters, op)},
    {.name = "key",
     .type = FIELD_STRING,
     .required = true,
     .offset = offsetof(OperationParameters, key)},
    {.name = "value",
     .type = FIELD_ANY,
     .offset = offsetof(OperationParameters, value),
     .given = offsetof(OperationParameters, value_given)},
    {.name = "by",
     .type = FIELD_INT,
     .offset = offsetof(OperationParameters, by),
     .given = offsetof(OperationParameters, by_given)},
    {.name = "ifRevision",
     .type = FIELD_INT,
     .offset = offsetof(OperationParameters, if_revision),
     .given = offsetof(OperationParameters, if_revision_given)},
};

static const struct {
    const char *name;
    StoreOperationKind kind;
    bool takes_value;
    bool takes_by;
} operation_kinds[] = {
    {"put", STORE_PUT, true, false},
    {"delete", STORE_DELETE, false, false},
    {"merge", STORE_MERGE, true, false},
    {"increment", STORE_INCREMENT, false, true},
};

/* One element of operations. 0, -EINVAL, -ENOMEM. */
static int read_operation(Bytes object, Buffer *scratch, StoreOperation *ret)
{
    OperationParameters parameters = {.by = 1};
    Bytes wrong;
    int r;

    if (json_type_of(object) != SCAN_OBJECT)
        return -EINVAL;
    r = call_object(object, operation_fields, ARRAY_SIZE(operation_fields), &parameters, scratch,
                    &wrong);
    if (r < 0)
        return r;
    for (size_t i = 0; i < ARRAY_SIZE(operation_kinds); i++) {
        if (!bytes_equal(parameters.op, bytes_of_text(operation_kinds[i].name)))
            continue;
        if ((parameters.value_given && !operation_kinds[i].takes_value) ||
            (parameters.by_given && !operation_kinds[i].takes_by) ||
            (parameters.if_revision_given && parameters.if_revision < 0))
            return -EINVAL;
        *ret = (StoreOperation){.kind = operation_kinds[i].kind,
                                .key = parameters.key,
                                .value =
                                    operation_kinds[i].takes_value ? parameters.value : (Bytes){0},
                                .by = parameters.by,
                                .conditional = parameters.if_revision_given,
                                .if_revision = (uint64_t)parameters.if_revision};
        return 0;
    }
    return -EINVAL;
}

/* Merge and increment depend on what there is, and tell it: they need the right to read as well. */
static bool may_run(const MethodCall *call, size_t count)
{
    const StoreOperation *operations =
        (const StoreOperation *)(const void *)buffer_begin(&call->methods->gathered);
    ArenaAttributes attributes;
    bool reads = false;

    for (size_t i = 0; i < count && !reads; i++)
        reads = operations[i].kind == STORE_MERGE || operations[i].kind == STORE_INCREMENT;
    arena_attributes(call->arena->arena, &attributes);
    return !reads || call->ops->may(call->caller, attributes.uid, attributes.gid, attributes.mode,
                                    RIGHT_READ | RIGHT_WRITE);
}

/* All operations into methods->gathered. 0, -EINVAL, -ENOMEM, -E2BIG (too many), STORE_LIMIT. */
static int read_operations(MethodCall *call, Bytes list, size_t *ret_count, StoreOutcome *outcome)
{
    Buffer *operations = &call->methods->gathered, *scratch = call->ops->scratch(call->caller);
    JsonWalk walk = json_walk(list);
    StoreOperation operation;
    Bytes name, element;
    size_t count = 0;
    int r;

    buffer_truncate(operations, 0);
    operations->failed = false;
    /* What is unescaped or compacted is no longer than the text, so scratch never moves below. */
    if (!buffer_reserve(scratch, list.size))
        return -ENOMEM;
    while (json_next(&walk, &name, &element)) {
        if (count == OPERATIONS_MAX)
            return -E2BIG;
        outcome->operation = count;
        r = read_operation(element, scratch, &operation);
        if (r == 0)
            r = check_limits(call, &operation, outcome);
        if (r != 0)
            return r;
        buffer_append(operations, &operation, sizeof(operation));
        if (operations->failed)
            return -ENOMEM;
        count++;
    }
    *ret_count = count;
    return count == 0 ? -EINVAL : 0;
}

MethodResult method_apply(MethodCall *call)
{
    const EntryParameters *parameters = call->parameters;
    Buffer *buffer = &call->methods->gathered;
    StoreOutcome outcome = {0};
    MethodResult result;
    size_t count = 0;
    int r = read_operations(call, parameters->list, &count, &outcome);

    if (r == -EINVAL)
        result = error_invalid(call, "operations");
    else if (r == -E2BIG)
        result = error_limit(call, "operations", OPERATIONS_MAX);
    else if (r == STORE_LIMIT)
        result = error_limit_at(call, outcome.limit, outcome.maximum, outcome.operation);
    else if (r < 0)
        result = error_limit(call, "buffers", 0);
    else if (!may_run(call, count))
        result = error_denied(call);
    else {
        const StoreOperation *operations =
            (const StoreOperation *)(const void *)buffer_begin(buffer);

        r = store_update(call->methods->options.store, call->arena, operations, count, &outcome);
        result = r == 0 ? reply_update(call, &outcome, false)
                        : error_store(call, r, &outcome, operations, true);
    }
    buffer_truncate(buffer, 0);
    buffer_shrink(buffer, 64 * KIB);
    return result;
}
