/* What the methods share: the call in hand, the table's entry, errors. Private to this folder. */
#pragma once

#include "base/log.h"
#include "methods/methods.h"
#include "protocol/json.h"
#include "protocol/reply.h"

typedef struct MethodCall MethodCall;

struct Methods {
    MethodsOptions options;
    uint64_t reads;
    unsigned kind; /* of the call that ran last: METHODS_KIND_NONE or the method's place and one */
    Buffer gathered; /* of the call in hand: operations of an Apply, as StoreOperation; a name */
    LogLimit not_begun;
};

#define RIGHT_NONE 0u
#define RIGHT_WRITE 2u
#define RIGHT_READ 4u

/* One method. The parameters' struct begins with `Bytes arena` wherever rights are asked for. */
typedef struct Method {
    const char *interface;
    const char *name;
    const Field *fields;
    size_t field_count;
    size_t parameters_size;
    MethodResult (*run)(MethodCall *call);
    unsigned rights;    /* on the arena that the parameters name */
    bool names_arena;   /* looks the arena up: call->arena */
    bool administrator; /* for administrators alone */
} Method;

struct MethodCall {
    Methods *methods;
    void *caller;
    const CallerOperations *ops;
    const Call *call;
    const Method *method;
    void *parameters;
    StoreArena *arena;
};

extern const Method method_table[];
extern const size_t method_count;

#define METHOD_PARAMETERS_MAX 160

/* A call that is to be finished when its message is gone. text: keeps its flags; both lie in what
 * waits. */
static inline void method_keep(const MethodCall *call, MethodCall *kept, Call *text)
{
    *text = (Call){.more = call->call->more};
    *kept = *call;
    kept->call = text;
    kept->parameters = NULL;
}

/* --- replies */

static inline Buffer *method_output(MethodCall *call)
{
    return call->ops->output(call->caller);
}

static inline JsonWriter method_reply(MethodCall *call)
{
    return reply_begin(method_output(call));
}

static inline MethodResult method_end(MethodCall *call, JsonWriter *writer)
{
    reply_end(writer, false, call->ops->terminator(call->caller));
    return METHOD_DONE;
}

/* The end of the reply to an update: it leaves when the revision is durable. */
static inline MethodResult method_end_held(MethodCall *call, JsonWriter *writer, uint64_t revision)
{
    reply_end(writer, false, call->ops->terminator(call->caller));
    call->ops->hold(call->caller, revision);
    return METHOD_DONE;
}

/* --- errors: each writes a whole reply and returns METHOD_DONE */

MethodResult error_invalid(MethodCall *call, const char *parameter);
MethodResult error_denied(MethodCall *call);
MethodResult error_limit(MethodCall *call, const char *limit, uint64_t maximum);
MethodResult error_limit_at(MethodCall *call, const char *limit, uint64_t maximum,
                            size_t operation);
MethodResult error_no_arena(MethodCall *call, Bytes name);
MethodResult error_arena_exists(MethodCall *call, Bytes name);
MethodResult error_no_checkpoint(MethodCall *call, Bytes id);
MethodResult error_checkpoint_needed(MethodCall *call, Bytes id);
MethodResult error_checkpoint_failed(MethodCall *call, const char *id, const char *reason);
MethodResult error_checkpoint_cancelled(MethodCall *call, const char *id);
MethodResult error_image_damaged(MethodCall *call, const char *id, const char *where,
                                 const char *reason);
MethodResult error_configuration(MethodCall *call, const ReloadError *error);
/* What the store answered. operations: of the update, to name the key; in_apply: also tell the
 * operation's index. */
MethodResult error_store(MethodCall *call, int code, const StoreOutcome *outcome,
                         const StoreOperation *operations, bool in_apply);

/* --- checkpoints by their ids */

typedef struct IdParameters {
    Bytes id;
} IdParameters;

/* The complete one that the parameters name; NULL: there is none. */
Checkpoint *find_checkpoint(const MethodCall *call);
/* Writes a reply that is the checkpoint. */
void method_reply_checkpoint(MethodCall *call, const Checkpoint *checkpoint, bool continues);

/* --- what the interface shows, as JSON */

void show_arena(JsonWriter *writer, MethodCall *call, const StoreArena *arena);
void show_entry(JsonWriter *writer, const ArenaEntry *entry);
void show_checkpoint(JsonWriter *writer, MethodCall *call, const Checkpoint *checkpoint);

/* Members of an object being written. */
static inline void member_int(JsonWriter *writer, const char *name, uint64_t value)
{
    json_name(writer, name);
    json_int(writer, (int64_t)value);
}

static inline void member_bytes(JsonWriter *writer, const char *name, Bytes characters)
{
    json_name(writer, name);
    json_quote(writer, characters);
}

static inline void member_text(JsonWriter *writer, const char *name, const char *text)
{
    member_bytes(writer, name, bytes_of_text(text));
}

MethodResult method_put(MethodCall *call);
MethodResult method_get(MethodCall *call);
MethodResult method_get_many(MethodCall *call);
MethodResult method_delete(MethodCall *call);
MethodResult method_merge(MethodCall *call);
MethodResult method_increment(MethodCall *call);
MethodResult method_apply(MethodCall *call);
MethodResult method_list(MethodCall *call);
MethodResult method_create_arena(MethodCall *call);
MethodResult method_change_arena(MethodCall *call);
MethodResult method_drop_arena(MethodCall *call);
MethodResult method_list_arenas(MethodCall *call);
MethodResult method_open_arena(MethodCall *call);
MethodResult method_take_checkpoint(MethodCall *call);
MethodResult method_list_checkpoints(MethodCall *call);
MethodResult method_cancel_checkpoint(MethodCall *call);
MethodResult method_delete_checkpoint(MethodCall *call);
MethodResult method_verify_checkpoint(MethodCall *call);
MethodResult method_get_status(MethodCall *call);
MethodResult method_get_metrics(MethodCall *call);
MethodResult method_reload(MethodCall *call);
MethodResult method_get_info(MethodCall *call);
MethodResult method_get_interface_description(MethodCall *call);

/* Fields, beside their methods' functions. */
extern const Field put_fields[4], get_fields[2], get_many_fields[2], delete_fields[3],
    merge_fields[4], increment_fields[4], apply_fields[2], list_fields[5];
extern const Field create_arena_fields[4], change_arena_fields[4], drop_arena_fields[1],
    open_arena_fields[1];
extern const Field take_checkpoint_fields[3], checkpoint_id_fields[1];
extern const Field get_interface_description_fields[1];
