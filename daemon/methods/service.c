/* Methods on the service: status, reload, and what org.varlink.service wants. */

#include "methods/method.h"
#include "protocol/interface.h"

#define RELOAD_IGNORED_MAX 64

typedef struct DescriptionParameters {
    Bytes interface;
} DescriptionParameters;

const Field get_interface_description_fields[] = {
    {.name = "interface",
     .type = FIELD_STRING,
     .required = true,
     .offset = offsetof(DescriptionParameters, interface)},
};

/* The state that people see: updates refused is a state of its own, with its reason. */
static void show_state(JsonWriter *writer, const MethodsOptions *options)
{
    const char *reason = store_reason(options->store);
    bool serving = strcmp(options->status->state, "serving") == 0;

    member_text(writer, "state", reason && serving ? "readonly" : options->status->state);
    if (reason)
        member_text(writer, "reason", reason);
}

static void show_checkpoints(JsonWriter *writer, MethodCall *call)
{
    const MethodsOptions *options = &call->methods->options;
    const Checkpoint *last = catalog_newest(options->catalog), *running = job_running(options->job);

    if (last) {
        json_name(writer, "lastCheckpoint");
        show_checkpoint(writer, call, last);
    }
    if (running) {
        json_name(writer, "runningCheckpoint");
        show_checkpoint(writer, call, running);
    }
}

static void show_command(JsonWriter *writer, const MethodsHost *host)
{
    ServiceCommand command;

    if (!host->after_command(host->context, &command))
        return;
    json_name(writer, "afterCommand");
    json_begin_object(writer);
    if (command.pid > 0)
        member_int(writer, "pid", (uint64_t)command.pid);
    member_text(writer, "checkpoint", command.checkpoint);
    member_int(writer, "startedUSec", command.started_usec);
    if (command.ended)
        member_int(writer, "durationUSec", command.duration_usec);
    if (command.exit_status >= 0)
        member_int(writer, "exitStatus", (uint64_t)command.exit_status);
    if (command.signal > 0)
        member_int(writer, "signal", (uint64_t)command.signal);
    json_end_object(writer);
}

MethodResult method_get_status(MethodCall *call)
{
    const MethodsOptions *options = &call->methods->options;
    const MethodsHost *host = options->host;
    JsonWriter writer = method_reply(call);

    json_name(&writer, "status");
    json_begin_object(&writer);
    member_text(&writer, "version", HOLDFAST_VERSION);
    member_int(&writer, "pid", (uint64_t)getpid());
    show_state(&writer, options);
    member_int(&writer, "startedUSec", options->status->started_usec);
    member_text(&writer, "recovery", options->status->recovery);
    member_int(&writer, "recoveryDurationUSec", options->status->recovery_duration_usec);
    member_int(&writer, "arenas", store_count(options->store));
    member_int(&writer, "entries", store_entries(options->store));
    member_int(&writer, "usedBytes", store_used_bytes(options->store));
    member_int(&writer, "revision", store_revision(options->store));
    member_int(&writer, "durableRevision", host->durable_revision(host->context));
    member_int(&writer, "connections", host->connections(host->context));
    member_int(&writer, "updates", store_updates(options->store));
    member_int(&writer, "reads", call->methods->reads);
    show_checkpoints(&writer, call);
    show_command(&writer, host);
    json_end_object(&writer);
    return method_end(call, &writer);
}

MethodResult method_reload(MethodCall *call)
{
    const MethodsHost *host = call->methods->options.host;
    const char *ignored[RELOAD_IGNORED_MAX] = {NULL};
    ReloadError error;
    JsonWriter writer;
    int r = host->reload(host->context, ignored, ARRAY_SIZE(ignored), &error);

    if (r < 0)
        return error_configuration(call, &error);
    writer = method_reply(call);
    json_name(&writer, "ignored");
    json_begin_array(&writer);
    for (size_t i = 0; i < ARRAY_SIZE(ignored) && ignored[i]; i++)
        json_quote(&writer, bytes_of_text(ignored[i]));
    json_end_array(&writer);
    return method_end(call, &writer);
}

MethodResult method_get_info(MethodCall *call)
{
    JsonWriter writer = method_reply(call);

    member_text(&writer, "vendor", INTERFACE_VENDOR);
    member_text(&writer, "product", INTERFACE_PRODUCT);
    member_text(&writer, "version", HOLDFAST_VERSION);
    member_text(&writer, "url", INTERFACE_URL);
    json_name(&writer, "interfaces");
    json_begin_array(&writer);
    for (const char *const *name = interface_names; *name; name++)
        json_quote(&writer, bytes_of_text(*name));
    json_end_array(&writer);
    return method_end(call, &writer);
}

MethodResult method_get_interface_description(MethodCall *call)
{
    const DescriptionParameters *parameters = call->parameters;
    const char *description = interface_description(parameters->interface);
    JsonWriter writer;

    if (!description) {
        reply_interface_not_found(method_output(call), parameters->interface,
                                  call->ops->terminator(call->caller));
        return METHOD_DONE;
    }
    writer = method_reply(call);
    member_text(&writer, "description", description);
    return method_end(call, &writer);
}
