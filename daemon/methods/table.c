/* The table of methods and the way of a call: find the method, read its parameters by its fields,
 * look the arena up, check the caller's rights, run. */

#include "methods/method.h"

#define IO "io.holdfast"
#define SERVICE "org.varlink.service"
#define FIELDS(array) .fields = (array), .field_count = ARRAY_SIZE(array)

/* Parameters that begin with the arena's name. */
#define ON_ARENA(which) .names_arena = true, .rights = (which)

/* The most frequent first. */
const Method method_table[] = {
    {IO, "Put", FIELDS(put_fields), .run = method_put, ON_ARENA(RIGHT_WRITE)},
    {IO, "Get", FIELDS(get_fields), .run = method_get, ON_ARENA(RIGHT_READ)},
    {IO, "Apply", FIELDS(apply_fields), .run = method_apply, ON_ARENA(RIGHT_WRITE)},
    {IO, "Merge", FIELDS(merge_fields), .run = method_merge, ON_ARENA(RIGHT_READ | RIGHT_WRITE)},
    {IO, "Increment", FIELDS(increment_fields), .run = method_increment,
     ON_ARENA(RIGHT_READ | RIGHT_WRITE)},
    {IO, "Delete", FIELDS(delete_fields), .run = method_delete, ON_ARENA(RIGHT_WRITE)},
    {IO, "GetMany", FIELDS(get_many_fields), .run = method_get_many, ON_ARENA(RIGHT_READ)},
    {IO, "List", FIELDS(list_fields), .run = method_list, ON_ARENA(RIGHT_READ)},
    {IO, "CreateArena", FIELDS(create_arena_fields), .run = method_create_arena},
    {IO, "ChangeArena", FIELDS(change_arena_fields), .run = method_change_arena,
     ON_ARENA(RIGHT_NONE)},
    {IO, "DropArena", FIELDS(drop_arena_fields), .run = method_drop_arena, ON_ARENA(RIGHT_NONE)},
    {IO, "ListArenas", .run = method_list_arenas},
    {IO, "OpenArena", FIELDS(open_arena_fields), .run = method_open_arena, ON_ARENA(RIGHT_READ)},
    {IO, "TakeCheckpoint", FIELDS(take_checkpoint_fields), .run = method_take_checkpoint},
    {IO, "ListCheckpoints", .run = method_list_checkpoints},
    {IO, "CancelCheckpoint", FIELDS(checkpoint_id_fields), .run = method_cancel_checkpoint,
     .administrator = true},
    {IO, "DeleteCheckpoint", FIELDS(checkpoint_id_fields), .run = method_delete_checkpoint,
     .administrator = true},
    {IO, "VerifyCheckpoint", FIELDS(checkpoint_id_fields), .run = method_verify_checkpoint,
     .administrator = true},
    {IO, "GetStatus", .run = method_get_status},
    {IO, "GetMetrics", .run = method_get_metrics},
    {IO, "Reload", .run = method_reload, .administrator = true},
    {SERVICE, "GetInfo", .run = method_get_info},
    {SERVICE, "GetInterfaceDescription", FIELDS(get_interface_description_fields),
     .run = method_get_interface_description},
};
const size_t method_count = ARRAY_SIZE(method_table);

static bool name_is(const char *literal, Bytes name)
{
    return strlen(literal) == name.size && memcmp(literal, name.data, name.size) == 0;
}

static const Method *find_method(Bytes interface, Bytes name)
{
    for (size_t i = 0; i < method_count; i++)
        if (name_is(method_table[i].name, name) && name_is(method_table[i].interface, interface))
            return &method_table[i];
    return NULL;
}

static MethodResult unknown_method(MethodCall *call, Bytes interface)
{
    Buffer *out = method_output(call);
    char terminator = call->ops->terminator(call->caller);

    if (name_is(IO, interface) || name_is(SERVICE, interface))
        reply_method_not_found(out, call->call->method, terminator);
    else
        reply_interface_not_found(out, interface, terminator);
    return METHOD_DONE;
}

/* Finds the arena that the first parameter names, and asks for the method's rights on it.
 * *ret_refused: a reply was written. */
static MethodResult look_up_arena(MethodCall *call, bool *ret_refused)
{
    Bytes name = *(const Bytes *)call->parameters;
    ArenaAttributes attributes;

    *ret_refused = true;
    if (!arena_name_valid(name))
        return error_invalid(call, call->method->fields[0].name);
    call->arena = store_find(call->methods->options.store, name);
    if (!call->arena)
        return error_no_arena(call, name);
    if (call->method->rights != RIGHT_NONE) {
        arena_attributes(call->arena->arena, &attributes);
        if (!call->ops->may(call->caller, attributes.uid, attributes.gid, attributes.mode,
                            call->method->rights))
            return error_denied(call);
    }
    *ret_refused = false;
    return METHOD_DONE;
}

static MethodResult run_method(MethodCall *call)
{
    Buffer *scratch = call->ops->scratch(call->caller);
    MethodResult result;
    bool refused;
    Bytes wrong;
    int r;

    if (call->method->administrator && !call->ops->administrator(call->caller))
        return error_denied(call);
    r = call_parameters(call->call, call->method->fields, call->method->field_count,
                        call->parameters, scratch, &wrong);
    if (r == -EINVAL) {
        reply_invalid_parameter(method_output(call), wrong, call->ops->terminator(call->caller));
        return METHOD_DONE;
    }
    if (r < 0)
        return error_limit(call, "buffers", 0);
    if (call->method->names_arena) {
        result = look_up_arena(call, &refused);
        if (refused)
            return result;
    }
    return call->method->run(call);
}

MethodResult methods_call(Methods *methods, void *caller, const Call *call)
{
    max_align_t parameters[METHOD_PARAMETERS_MAX / sizeof(max_align_t)];
    Bytes interface = {.data = call->method.data, .size = 0}, name = call->method;
    MethodCall in_hand = {
        .methods = methods,
        .caller = caller,
        .ops = methods->options.caller,
        .call = call,
        .parameters = parameters,
    };
    const char *dot = memrchr(call->method.data, '.', call->method.size);

    if (dot) {
        interface.size = (size_t)(dot - call->method.data);
        name = BYTES(dot + 1, call->method.size - interface.size - 1);
    }
    in_hand.method = find_method(interface, name);
    methods->kind = METHODS_KIND_NONE;
    if (!in_hand.method)
        return unknown_method(&in_hand, interface);
    methods->kind = (unsigned)(in_hand.method - method_table) + 1;
    memset(parameters, 0, sizeof(parameters));
    return run_method(&in_hand);
}

int methods_new(const MethodsOptions *options, Methods **ret)
{
    Methods *methods = calloc(1, sizeof(*methods));

    if (!methods)
        return -ENOMEM;
    methods->options = *options;
    buffer_init(&methods->gathered, options->pool);
    *ret = methods;
    return 0;
}

Methods *methods_free(Methods *methods)
{
    if (methods) {
        buffer_clear(&methods->gathered);
        free(methods);
    }
    return NULL;
}

void methods_set_limits(Methods *methods, uint32_t create_gid, uint64_t arena_bytes_max)
{
    methods->options.create_gid = create_gid;
    methods->options.arena_bytes_max = arena_bytes_max;
}

static_assert(ARRAY_SIZE(method_table) < METHODS_KINDS_MAX, "each method is a kind");

unsigned methods_kind(const Methods *methods)
{
    return methods->kind;
}

const char *methods_kind_name(unsigned kind)
{
    return kind > 0 && kind <= method_count ? method_table[kind - 1].name : "none";
}

uint64_t methods_reads(const Methods *methods)
{
    return methods->reads;
}

size_t methods_table(const MethodInfo **ret)
{
    static MethodInfo infos[ARRAY_SIZE(method_table)];

    for (size_t i = 0; i < method_count; i++)
        infos[i] = (MethodInfo){method_table[i].interface, method_table[i].name,
                                method_table[i].fields, method_table[i].field_count};
    *ret = infos;
    return method_count;
}
