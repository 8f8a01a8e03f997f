/* Methods on arenas as such: create, change, drop, list, open. Who may: members of the create group
 * and administrators create; the owner and administrators change and drop. */

#include "base/clock.h"
#include "methods/method.h"

#define ARENA_MODE_DEFAULT 0600

typedef struct ArenaParameters {
    Bytes name;
    int64_t max_bytes;
    int64_t mode;
    int64_t gid;
    bool max_bytes_given;
    bool mode_given;
    bool gid_given;
} ArenaParameters;

#define FIELD_NAME                                                                                 \
    {                                                                                              \
        .name = "name", .type = FIELD_STRING, .required = true,                                    \
        .offset = offsetof(ArenaParameters, name)                                                  \
    }
#define FIELDS_ATTRIBUTES                                                                          \
    {.name = "maxBytes",                                                                           \
     .type = FIELD_INT,                                                                            \
     .offset = offsetof(ArenaParameters, max_bytes),                                               \
     .given = offsetof(ArenaParameters, max_bytes_given)},                                         \
        {.name = "mode",                                                                           \
         .type = FIELD_INT,                                                                        \
         .offset = offsetof(ArenaParameters, mode),                                                \
         .given = offsetof(ArenaParameters, mode_given)},                                          \
    {                                                                                              \
        .name = "gid", .type = FIELD_INT, .offset = offsetof(ArenaParameters, gid),                \
        .given = offsetof(ArenaParameters, gid_given)                                              \
    }

const Field create_arena_fields[] = {FIELD_NAME, FIELDS_ATTRIBUTES};
const Field change_arena_fields[] = {FIELD_NAME, FIELDS_ATTRIBUTES};
const Field drop_arena_fields[] = {FIELD_NAME};
const Field open_arena_fields[] = {FIELD_NAME};

void show_arena(JsonWriter *writer, MethodCall *call, const StoreArena *arena)
{
    ArenaAttributes attributes;
    bool readable;

    arena_attributes(arena->arena, &attributes);
    readable =
        call->ops->may(call->caller, attributes.uid, attributes.gid, attributes.mode, RIGHT_READ);
    json_begin_object(writer);
    json_name(writer, "name");
    json_quote(writer, bytes_of_text(arena_name(arena->arena)));
    member_int(writer, "entries", readable ? arena_entries(arena->arena) : 0);
    member_int(writer, "usedBytes", readable ? arena_used_bytes(arena->arena) : 0);
    member_int(writer, "maxBytes", readable ? attributes.max_bytes : 0);
    member_int(writer, "revision", readable ? arena_revision(arena->arena) : 0);
    member_int(writer, "uid", attributes.uid);
    member_int(writer, "gid", attributes.gid);
    member_int(writer, "mode", readable ? attributes.mode : 0);
    member_int(writer, "createdUSec", readable ? arena_created_usec(arena->arena) : 0);
    json_end_object(writer);
}

static MethodResult reply_arena(MethodCall *call, const StoreArena *arena, uint64_t revision)
{
    JsonWriter writer = method_reply(call);

    json_name(&writer, "arena");
    show_arena(&writer, call, arena);
    return revision > 0 ? method_end_held(call, &writer, revision) : method_end(call, &writer);
}

/* The attributes that the parameters give, over the ones there are. 0, or a reply was written. */
static int read_attributes(MethodCall *call, ArenaAttributes *attributes, MethodResult *ret_result)
{
    const ArenaParameters *parameters = call->parameters;

    if (parameters->max_bytes_given) {
        if (parameters->max_bytes < (int64_t)ARENA_BYTES_MIN ||
            (uint64_t)parameters->max_bytes > call->methods->options.arena_bytes_max) {
            *ret_result = error_invalid(call, "maxBytes");
            return -EINVAL;
        }
        attributes->max_bytes = (uint64_t)parameters->max_bytes;
    }
    if (parameters->mode_given) {
        if (parameters->mode < 0 || (parameters->mode & ~(int64_t)ARENA_MODE_MASK) != 0) {
            *ret_result = error_invalid(call, "mode");
            return -EINVAL;
        }
        attributes->mode = (uint32_t)parameters->mode;
    }
    if (parameters->gid_given) {
        if (parameters->gid < 0 || parameters->gid >= UINT32_MAX) {
            *ret_result = error_invalid(call, "gid");
            return -EINVAL;
        }
        if (!call->ops->administrator(call->caller) &&
            !call->ops->in_group(call->caller, (uint32_t)parameters->gid)) {
            *ret_result = error_denied(call);
            return -EPERM;
        }
        attributes->gid = (uint32_t)parameters->gid;
    }
    return 0;
}

MethodResult method_create_arena(MethodCall *call)
{
    const ArenaParameters *parameters = call->parameters;
    const MethodsOptions *options = &call->methods->options;
    ArenaAttributes attributes = {.max_bytes = options->arena_bytes_max,
                                  .mode = ARENA_MODE_DEFAULT};
    StoreOutcome outcome = {0};
    StoreArena *arena = NULL;
    MethodResult result;
    int r;

    if (!arena_name_valid(parameters->name))
        return error_invalid(call, "name");
    if (!call->ops->administrator(call->caller) &&
        (options->create_gid == (uint32_t)-1 ||
         !call->ops->in_group(call->caller, options->create_gid)))
        return error_denied(call);
    call->ops->credentials(call->caller, &attributes.uid, &attributes.gid);
    if (read_attributes(call, &attributes, &result) < 0)
        return result;
    r = store_create(options->store, parameters->name, &attributes, &arena, &outcome);
    if (r == STORE_EXISTS)
        return error_arena_exists(call, parameters->name);
    if (r != 0)
        return error_store(call, r, &outcome, NULL, false);
    return reply_arena(call, arena, outcome.revision);
}

/* The owner and administrators; else a reply was written. */
static bool may_own(MethodCall *call, MethodResult *ret_result)
{
    ArenaAttributes attributes;
    uint32_t uid, gid;

    arena_attributes(call->arena->arena, &attributes);
    call->ops->credentials(call->caller, &uid, &gid);
    if (uid == attributes.uid || call->ops->administrator(call->caller))
        return true;
    *ret_result = error_denied(call);
    return false;
}

MethodResult method_change_arena(MethodCall *call)
{
    ArenaAttributes attributes;
    StoreOutcome outcome = {0};
    MethodResult result;
    int r;

    if (!may_own(call, &result))
        return result;
    arena_attributes(call->arena->arena, &attributes);
    if (read_attributes(call, &attributes, &result) < 0)
        return result;
    r = store_change(call->methods->options.store, call->arena, &attributes, &outcome);
    if (r != 0)
        return error_store(call, r, &outcome, NULL, false);
    return reply_arena(call, call->arena, outcome.revision);
}

MethodResult method_drop_arena(MethodCall *call)
{
    StoreOutcome outcome = {0};
    MethodResult result;
    JsonWriter writer;
    int r;

    if (!may_own(call, &result))
        return result;
    r = store_drop(call->methods->options.store, call->arena, &outcome);
    if (r != 0)
        return error_store(call, r, &outcome, NULL, false);
    call->arena = NULL;
    writer = method_reply(call);
    return method_end_held(call, &writer, outcome.revision);
}

MethodResult method_list_arenas(MethodCall *call)
{
    Store *store = call->methods->options.store;
    JsonWriter writer = method_reply(call);

    json_name(&writer, "arenas");
    json_begin_array(&writer);
    for (size_t i = 0; i < store_count(store); i++)
        show_arena(&writer, call, store_at(store, i));
    json_end_array(&writer);
    return method_end(call, &writer);
}

/* The descriptor first: it leaves with the first byte of the reply, which is written after it. */
MethodResult method_open_arena(MethodCall *call)
{
    JsonWriter writer;
    int fd = -1;
    int r = call->arena->damage[0] != '\0' ? STORE_DAMAGED : arena_share(call->arena->arena, &fd);

    if (r == 0) {
        r = call->ops->attach(call->caller, fd);
        if (r == -ETOOMANYREFS)
            return error_limit(call, "descriptors", call->methods->options.descriptors_max);
    }
    if (r != 0)
        return error_store(call, r, NULL, NULL, false);
    writer = method_reply(call);
    member_int(&writer, "fileDescriptor", 0);
    json_name(&writer, "arena");
    show_arena(&writer, call, call->arena);
    return method_end(call, &writer);
}
