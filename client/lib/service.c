/* The calls about the daemon itself: its status, its configuration, its interfaces. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "record.h"

#define STATUS(member, name_, type_, ...)                                                          \
    HF_FIELD(HoldfastStatus, member, name_, type_, __VA_ARGS__)
#define COMMAND(member, name_, type_, ...)                                                         \
    HF_FIELD(HoldfastCommand, member, name_, type_, __VA_ARGS__)

static const HfField command_fields[] = {
    COMMAND(pid, "pid", HF_FIELD_UNSIGNED32),
    COMMAND(checkpoint, "checkpoint", HF_FIELD_TEXT, .required = true),
    COMMAND(started_usec, "startedUSec", HF_FIELD_UNSIGNED),
    COMMAND(duration_usec, "durationUSec", HF_FIELD_UNSIGNED),
    COMMAND(exit_status, "exitStatus", HF_FIELD_SIGNED32),
    COMMAND(signal, "signal", HF_FIELD_SIGNED32),
};

static const HfRecordType command_type = {sizeof(HoldfastCommand), command_fields,
                                          sizeof(command_fields) / sizeof(command_fields[0])};

static const HfField status_fields[] = {
    STATUS(version, "version", HF_FIELD_TEXT, .required = true),
    STATUS(pid, "pid", HF_FIELD_UNSIGNED32),
    STATUS(state, "state", HF_FIELD_TEXT, .required = true),
    STATUS(reason, "reason", HF_FIELD_TEXT),
    STATUS(started_usec, "startedUSec", HF_FIELD_UNSIGNED),
    STATUS(recovery, "recovery", HF_FIELD_TEXT, .required = true),
    STATUS(recovery_duration_usec, "recoveryDurationUSec", HF_FIELD_UNSIGNED),
    STATUS(arenas, "arenas", HF_FIELD_UNSIGNED),
    STATUS(entries, "entries", HF_FIELD_UNSIGNED),
    STATUS(used_bytes, "usedBytes", HF_FIELD_UNSIGNED),
    STATUS(revision, "revision", HF_FIELD_UNSIGNED),
    STATUS(durable_revision, "durableRevision", HF_FIELD_UNSIGNED),
    STATUS(connections, "connections", HF_FIELD_UNSIGNED),
    STATUS(updates, "updates", HF_FIELD_UNSIGNED),
    STATUS(reads, "reads", HF_FIELD_UNSIGNED),
    STATUS(last_checkpoint, "lastCheckpoint", HF_FIELD_RECORD, .record = &hf_checkpoint_type),
    STATUS(running_checkpoint, "runningCheckpoint", HF_FIELD_RECORD, .record = &hf_checkpoint_type),
    STATUS(after_command, "afterCommand", HF_FIELD_RECORD, .record = &command_type),
};

const HfRecordType hf_status_type = {sizeof(HoldfastStatus), status_fields,
                                     sizeof(status_fields) / sizeof(status_fields[0])};

void holdfast_status_free(HoldfastStatus *status)
{
    hf_record_free(&hf_status_type, status);
}

int holdfast_get_status(HoldfastConnection *connection, HoldfastStatus **ret_status)
{
    HoldfastStatus *status;
    HfReply reply;
    int r = hf_call_simple(connection, "GetStatus", &reply);

    if (r == 0)
        r = hf_reply_record(connection, &reply, "status", &hf_status_type, (void **)&status);
    if (r != 0)
        return r;
    if (ret_status != NULL)
        *ret_status = status;
    else
        holdfast_status_free(status);
    return 0;
}

void holdfast_names_free(char **names)
{
    for (size_t i = 0; names != NULL && names[i] != NULL; i++)
        free(names[i]);
    free(names);
}

static int copy_names(json_t *array, char ***ret)
{
    char **names = calloc(json_array_size(array) + 1, sizeof(*names));
    json_t *element;
    size_t i;

    if (names == NULL)
        return -ENOMEM;
    json_array_foreach(array, i, element)
    {
        const char *name = json_string_value(element);
        names[i] = name != NULL ? strdup(name) : NULL;
        if (names[i] == NULL) {
            holdfast_names_free(names);
            return name != NULL ? -ENOMEM : -EBADMSG;
        }
    }
    *ret = names;
    return 0;
}

int holdfast_reload(HoldfastConnection *connection, char ***ret_ignored)
{
    json_t *tree;
    HfReply reply;
    int r = hf_call_simple(connection, "Reload", &reply);

    if (r == 0)
        r = hf_reply_tree(connection, &reply, &tree);
    if (r != 0 || ret_ignored == NULL) {
        if (r == 0)
            json_decref(tree);
        return r;
    }
    r = copy_names(json_object_get(tree, "ignored"), ret_ignored);
    json_decref(tree);
    return r < 0 ? hf_kill(connection, r) : 0;
}

/* The one member of a reply, a string: ended by a NUL, in the input's memory. */
static int text_member(HoldfastConnection *connection, const HfReply *reply, const char *name,
                       const char **ret_text, size_t *ret_length)
{
    const char *const names[] = {name};
    HoldfastText text;

    if (hf_members(reply->parameters, names, &text, 1) < 0 || hf_unquote(&text) < 0)
        return hf_kill(connection, -EBADMSG);
    if (ret_length != NULL)
        *ret_length = text.size;
    if (ret_text != NULL)
        *ret_text = text.data;
    return 0;
}

int holdfast_get_metrics(HoldfastConnection *connection, const char **ret_text, size_t *ret_length)
{
    HfReply reply;
    int r = hf_call_simple(connection, "GetMetrics", &reply);

    return r == 0 ? text_member(connection, &reply, "text", ret_text, ret_length) : r;
}

int holdfast_describe(HoldfastConnection *connection, const char *interface,
                      const char **ret_description)
{
    HfReply reply;
    int r = hf_call_begin_named(connection, "org.varlink.service.GetInterfaceDescription", 0,
                                "{\"interface\":", interface);

    if (r < 0)
        return r;
    hf_output_literal(&connection->out, "}");
    r = hf_call_finish(connection, &reply);
    return r == 0 ? text_member(connection, &reply, "description", ret_description, NULL) : r;
}
