/* The calls that take, list, check and delete checkpoints. */
#include <errno.h>
#include <string.h>

#include "record.h"

#define FIELD(member, name_, type_, ...)                                                           \
    HF_FIELD(HoldfastCheckpoint, member, name_, type_, __VA_ARGS__)

static const HfField fields[] = {
    FIELD(id, "id", HF_FIELD_TEXT, .required = true),
    FIELD(label, "label", HF_FIELD_TEXT),
    FIELD(state, "state", HF_FIELD_TEXT, .required = true),
    FIELD(revision, "revision", HF_FIELD_UNSIGNED, .required = true),
    FIELD(arenas, "arenas", HF_FIELD_NAMES),
    FIELD(pid, "pid", HF_FIELD_UNSIGNED32),
    FIELD(started_usec, "startedUSec", HF_FIELD_UNSIGNED),
    FIELD(pause_usec, "pauseUSec", HF_FIELD_UNSIGNED),
    FIELD(held_usec, "heldUSec", HF_FIELD_UNSIGNED),
    FIELD(duration_usec, "durationUSec", HF_FIELD_UNSIGNED),
    FIELD(pages_total, "pagesTotal", HF_FIELD_UNSIGNED),
    FIELD(pages_done, "pagesDone", HF_FIELD_UNSIGNED),
    FIELD(pages_captured, "pagesCaptured", HF_FIELD_UNSIGNED),
    FIELD(state_bytes, "stateBytes", HF_FIELD_UNSIGNED),
    FIELD(image_bytes, "imageBytes", HF_FIELD_UNSIGNED),
    FIELD(path, "path", HF_FIELD_TEXT),
    FIELD(reason, "reason", HF_FIELD_TEXT),
};

const HfRecordType hf_checkpoint_type = {sizeof(HoldfastCheckpoint), fields,
                                         sizeof(fields) / sizeof(fields[0])};

void holdfast_checkpoint_free(HoldfastCheckpoint *checkpoint)
{
    hf_record_free(&hf_checkpoint_type, checkpoint);
}

void holdfast_checkpoints_free(HoldfastCheckpoint **checkpoints)
{
    hf_records_free(&hf_checkpoint_type, (void **)checkpoints);
}

/* A call whose replies are how far a checkpoint is, and at last the checkpoint. */
typedef struct Following {
    HoldfastConnection *connection;
    HoldfastProgressFunction progress;
    void *context;
    HoldfastCheckpoint *last;
} Following;

static int follow(void *context, HfReply *reply)
{
    Following *following = context;
    HoldfastCheckpoint *checkpoint;
    int r = hf_reply_record(following->connection, reply, "checkpoint", &hf_checkpoint_type,
                            (void **)&checkpoint);

    if (r < 0)
        return r;
    if (following->progress != NULL && reply->continues)
        following->progress(following->context, checkpoint);
    if (reply->continues)
        holdfast_checkpoint_free(checkpoint);
    else
        following->last = checkpoint;
    return 0;
}

/* Ends the call, which was begun with these flags, and follows it to its last reply. */
static int finish_following(HoldfastConnection *connection, unsigned flags,
                            HoldfastProgressFunction progress, void *context,
                            HoldfastCheckpoint **ret_checkpoint)
{
    Following following = {.connection = connection, .progress = progress, .context = context};
    int r = hf_call_end(connection, flags);

    if (r == 0)
        r = hf_stream(connection, follow, &following);
    if (r != 0)
        return r;
    if (ret_checkpoint != NULL)
        *ret_checkpoint = following.last;
    else
        holdfast_checkpoint_free(following.last);
    return 0;
}

static void append_names(HfOutput *out, const char *const *names)
{
    hf_output_literal(out, "\"arenas\":[");
    for (size_t i = 0; names[i] != NULL; i++) {
        if (i > 0)
            hf_output_literal(out, ",");
        hf_output_string(out, names[i], strlen(names[i]));
    }
    hf_output_literal(out, "],");
}

int holdfast_take_checkpoint(HoldfastConnection *connection, const char *const *arenas,
                             const char *label, bool wait, HoldfastProgressFunction progress,
                             void *context, HoldfastCheckpoint **ret_checkpoint)
{
    HfOutput *out = &connection->out;
    unsigned flags = progress != NULL && wait ? HOLDFAST_MORE : 0;
    int r = hf_call_begin_alone(connection, "TakeCheckpoint", flags);

    if (r < 0)
        return r;
    hf_output_literal(out, "{");
    if (arenas != NULL)
        append_names(out, arenas);
    if (label != NULL) {
        hf_output_literal(out, "\"label\":");
        hf_output_string(out, label, strlen(label));
        hf_output_literal(out, ",");
    }
    hf_output_literal(out, wait ? "\"wait\":true}" : "\"wait\":false}");
    return finish_following(connection, flags, progress, context, ret_checkpoint);
}

static int begin_id(HoldfastConnection *connection, const char *method, const char *id,
                    unsigned flags)
{
    int r = hf_call_begin_named(connection, method, flags, "{\"id\":", id);

    if (r == 0)
        hf_output_literal(&connection->out, "}");
    return r;
}

int holdfast_verify_checkpoint(HoldfastConnection *connection, const char *id,
                               HoldfastProgressFunction progress, void *context,
                               HoldfastCheckpoint **ret_checkpoint)
{
    unsigned flags = progress != NULL ? HOLDFAST_MORE : 0;
    int r = begin_id(connection, "VerifyCheckpoint", id, flags);

    return r == 0 ? finish_following(connection, flags, progress, context, ret_checkpoint) : r;
}

int holdfast_cancel_checkpoint(HoldfastConnection *connection, const char *id)
{
    HfReply reply;
    int r = begin_id(connection, "CancelCheckpoint", id, 0);

    return r == 0 ? hf_call_finish(connection, &reply) : r;
}

int holdfast_delete_checkpoint(HoldfastConnection *connection, const char *id)
{
    HfReply reply;
    int r = begin_id(connection, "DeleteCheckpoint", id, 0);

    return r == 0 ? hf_call_finish(connection, &reply) : r;
}

int holdfast_list_checkpoints(HoldfastConnection *connection, HoldfastCheckpoint ***ret_checkpoints,
                              size_t *ret_count)
{
    HoldfastCheckpoint **checkpoints;
    size_t count;
    HfReply reply;
    int r = hf_call_simple(connection, "ListCheckpoints", &reply);

    if (r == 0)
        r = hf_reply_records(connection, &reply, "checkpoints", &hf_checkpoint_type,
                             (void ***)&checkpoints, &count);
    if (r != 0)
        return r;
    if (ret_count != NULL)
        *ret_count = count;
    if (ret_checkpoints != NULL)
        *ret_checkpoints = checkpoints;
    else
        holdfast_checkpoints_free(checkpoints);
    return 0;
}
