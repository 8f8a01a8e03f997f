/* Methods on checkpoints, but for VerifyCheckpoint (verify.c). Taking one takes long: the call
 * waits (METHOD_WAITING) with a waiter of its own in the job, and is finished from there. A caller
 * that goes away takes its waiter with it; the checkpoint goes on. */

#include "methods/method.h"

/* Names in a request, repeated ones counted. */
#define NAMES_MAX 4096

typedef struct TakeParameters {
    Bytes arenas;
    Bytes label;
    bool wait;
    bool arenas_given;
    bool wait_given;
} TakeParameters;

const Field take_checkpoint_fields[] = {
    {.name = "arenas",
     .type = FIELD_ARRAY,
     .offset = offsetof(TakeParameters, arenas),
     .given = offsetof(TakeParameters, arenas_given)},
    {.name = "label", .type = FIELD_STRING, .offset = offsetof(TakeParameters, label)},
    {.name = "wait",
     .type = FIELD_BOOL,
     .offset = offsetof(TakeParameters, wait),
     .given = offsetof(TakeParameters, wait_given)},
};

const Field checkpoint_id_fields[] = {
    {.name = "id", .type = FIELD_STRING, .required = true, .offset = offsetof(IdParameters, id)},
};

static const char *const state_names[] = {
    [CHECKPOINT_RUNNING] = "running",
    [CHECKPOINT_COMPLETE] = "complete",
    [CHECKPOINT_FAILED] = "failed",
    [CHECKPOINT_CANCELLED] = "cancelled",
};

void show_checkpoint(JsonWriter *writer, MethodCall *call, const Checkpoint *checkpoint)
{
    char path[4096];

    json_begin_object(writer);
    member_text(writer, "id", checkpoint->spec.id);
    if (checkpoint->spec.label[0] != '\0')
        member_text(writer, "label", checkpoint->spec.label);
    member_text(writer, "state", state_names[checkpoint->state]);
    member_int(writer, "revision", checkpoint->spec.revision);
    json_name(writer, "arenas");
    json_begin_array(writer);
    for (size_t i = 0; i < checkpoint->arena_count; i++)
        if (checkpoint->arenas[i].held)
            json_quote(writer, bytes_of_text(checkpoint->arenas[i].name));
    json_end_array(writer);
    if (checkpoint->pid > 0)
        member_int(writer, "pid", (uint64_t)checkpoint->pid);
    member_int(writer, "startedUSec", checkpoint->spec.started_usec);
    member_int(writer, "pauseUSec", checkpoint->summary.pause_usec);
    member_int(writer, "heldUSec", checkpoint->summary.held_usec);
    member_int(writer, "durationUSec", checkpoint->summary.duration_usec);
    member_int(writer, "pagesTotal", checkpoint->summary.pages_total);
    member_int(writer, "pagesDone", checkpoint->pages_done);
    member_int(writer, "pagesCaptured", checkpoint->summary.pages_captured);
    member_int(writer, "stateBytes", checkpoint->summary.state_bytes);
    member_int(writer, "imageBytes", checkpoint->image_bytes);
    if (checkpoint->state == CHECKPOINT_COMPLETE && call->ops->administrator(call->caller)) {
        catalog_path(call->methods->options.catalog, checkpoint, path, sizeof(path));
        member_text(writer, "path", path);
    }
    if (checkpoint->reason[0] != '\0')
        member_text(writer, "reason", checkpoint->reason);
    json_end_object(writer);
}

void method_reply_checkpoint(MethodCall *call, const Checkpoint *checkpoint, bool continues)
{
    JsonWriter writer = method_reply(call);

    json_name(&writer, "checkpoint");
    show_checkpoint(&writer, call, checkpoint);
    reply_end(&writer, continues, call->ops->terminator(call->caller));
}

/* --- TakeCheckpoint */

/* A call that waits for a checkpoint. Also serves as the call in hand when the job tells of an
 * event. */
typedef struct TakeWait {
    JobWaiter waiter;
    MethodCall call;
    Call text;
    bool wait;
    bool ended; /* the job has forgotten the waiter */
} TakeWait;

static void take_release(void *state)
{
    TakeWait *take = state;

    if (!take->ended)
        job_forget(take->call.methods->options.job, &take->waiter);
    free(take);
}

/* What the caller hears of each event; the reply that ends the call comes last. */
static void take_notify(JobWaiter *waiter, JobEvent event, const Checkpoint *checkpoint)
{
    TakeWait *take = (TakeWait *)waiter;
    MethodCall *call = &take->call;
    bool finished = true;

    switch (event) {
    case JOB_CUT:
    case JOB_PROGRESS:
        finished = event == JOB_CUT && !take->wait;
        if (finished || (take->text.more && call->ops->has_room(call->caller)))
            method_reply_checkpoint(call, checkpoint, !finished);
        break;
    case JOB_COMPLETE:
        method_reply_checkpoint(call, checkpoint, false);
        break;
    case JOB_FAILED:
        error_checkpoint_failed(call, checkpoint->spec.id, checkpoint->reason);
        break;
    case JOB_CANCELLED:
        error_checkpoint_cancelled(call, checkpoint->spec.id);
        break;
    }
    take->ended = event != JOB_CUT && event != JOB_PROGRESS;
    if (finished)
        call->ops->finish(call->caller);
    else
        call->ops->wrote(call->caller);
}

/* An identity the list has already is left out. */
static void add_identity(Identity *identities, size_t *count, const Identity *identity)
{
    for (size_t i = 0; i < *count; i++)
        if (identity_equal(&identities[i], identity))
            return;
    identities[(*count)++] = *identity;
}

static bool may_checkpoint(MethodCall *call, const StoreArena *arena)
{
    ArenaAttributes attributes;

    arena_attributes(arena->arena, &attributes);
    return call->ops->may(call->caller, attributes.uid, attributes.gid, attributes.mode,
                          RIGHT_WRITE);
}

/* The arena of that name, if it can be saved for this caller. NULL: a reply was written. */
static const StoreArena *find_to_save(MethodCall *call, Bytes name, MethodResult *ret_result)
{
    StoreOutcome outcome = {0};

    call->arena = store_find(call->methods->options.store, name);
    if (!call->arena) {
        *ret_result = error_no_arena(call, name);
        return NULL;
    }
    if (!may_checkpoint(call, call->arena)) {
        *ret_result = error_denied(call);
        return NULL;
    }
    if (arena_damage(call->arena->arena)) {
        store_note_damage(call->methods->options.store, call->arena);
        *ret_result = error_store(call, STORE_DAMAGED, &outcome, NULL, false);
        return NULL;
    }
    return call->arena;
}

/* The characters of a name in a list, unescaped into room where needed. Empty, which is no name,
 * where it is not a string or longer than any name's text. */
static Bytes read_name(Bytes element, Buffer *room)
{
    enum { ESCAPED = 6 }; /* \u0061 */

    if (json_type_of(element) != SCAN_STRING ||
        element.size > 2 + (size_t)ESCAPED * HOLDFAST_NAME_MAX)
        return BYTES(NULL, 0);
    Bytes inner = BYTES(element.data + 1, element.size - 2);
    if (!memchr(inner.data, '\\', inner.size))
        return inner;
    buffer_truncate(room, 0);
    if (!buffer_reserve(room, inner.size))
        return BYTES(NULL, 0);
    json_unescape(room, inner);
    return BYTES(buffer_begin(room), buffer_size(room));
}

/* The arenas that a list names, checked. 0, or a reply was written. identities: room for all arenas
 * that exist. */
static int read_list(MethodCall *call, Buffer *room, Identity *identities, size_t *ret_count,
                     MethodResult *ret_result)
{
    const TakeParameters *parameters = call->parameters;
    JsonWalk walk = json_walk(parameters->arenas);
    size_t named = 0;
    Bytes unused, element;

    while (json_next(&walk, &unused, &element)) {
        const StoreArena *arena;
        Bytes name = read_name(element, room);

        if (!arena_name_valid(name)) {
            *ret_result = error_invalid(call, "arenas");
            return -EINVAL;
        }
        if (++named > NAMES_MAX) {
            *ret_result = error_limit(call, "arenas", NAMES_MAX);
            return -E2BIG;
        }
        arena = find_to_save(call, name, ret_result);
        if (!arena)
            return -ENOENT;
        add_identity(identities, ret_count, arena_identity(arena->arena));
    }
    return 0;
}

/* The arenas that the parameters name, at least one; as read_list. */
static int read_arenas(MethodCall *call, Identity *identities, size_t *ret_count,
                       MethodResult *ret_result)
{
    Buffer *room = &call->methods->gathered;

    *ret_count = 0;
    int r = read_list(call, room, identities, ret_count, ret_result);
    buffer_truncate(room, 0);
    room->failed = false;
    if (r < 0)
        return r;
    call->arena = NULL;
    if (*ret_count == 0) {
        *ret_result = error_invalid(call, "arenas");
        return -EINVAL;
    }
    return 0;
}

/* All arenas: the caller must be able to write each. */
static int check_all_arenas(MethodCall *call, MethodResult *ret_result)
{
    Store *store = call->methods->options.store;

    for (size_t i = 0; i < store_count(store); i++)
        if (!may_checkpoint(call, store_at(store, i))) {
            *ret_result = error_denied(call);
            return -EPERM;
        }
    return 0;
}

/* Hands the request to the job, with a waiter that finishes the call. */
static MethodResult take_start(MethodCall *call, const Identity *identities, size_t count)
{
    const TakeParameters *parameters = call->parameters;
    char label[HOLDFAST_LABEL_MAX + 1] = "";
    TakeWait *take = calloc(1, sizeof(*take));
    int r;

    if (!take)
        return error_limit(call, "buffers", 0);
    if (parameters->label.size > 0)
        memcpy(label, parameters->label.data, parameters->label.size);
    take->waiter.notify = take_notify;
    method_keep(call, &take->call, &take->text);
    take->wait = parameters->wait_given ? parameters->wait : true;
    r = job_request(call->methods->options.job, identities, count, label, &take->waiter);
    if (r != 0) {
        free(take);
        return r == JOB_QUEUE_FULL ? error_limit(call, "checkpoints", JOB_QUEUE_MAX)
                                   : error_checkpoint_failed(call, NULL, strerrordesc_np(-r));
    }
    call->ops->set_state(call->caller, take, take_release);
    return METHOD_WAITING;
}

MethodResult method_take_checkpoint(MethodCall *call)
{
    const TakeParameters *parameters = call->parameters;
    _cleanup_(freep) Identity *identities = NULL;
    MethodResult result = METHOD_DONE;
    size_t count = 0;
    int r;

    if (parameters->label.size > HOLDFAST_LABEL_MAX)
        return error_limit(call, "label", HOLDFAST_LABEL_MAX);
    if (!image_label_valid(parameters->label))
        return error_invalid(call, "label");
    identities = calloc(store_count(call->methods->options.store) + 1, sizeof(*identities));
    if (!identities)
        return error_limit(call, "buffers", 0);
    r = parameters->arenas_given ? read_arenas(call, identities, &count, &result)
                                 : check_all_arenas(call, &result);
    if (r < 0)
        return result;
    return take_start(call, identities, count);
}

/* --- the others */

MethodResult method_list_checkpoints(MethodCall *call)
{
    const MethodsOptions *options = &call->methods->options;
    const Checkpoint *running = job_running(options->job);
    JsonWriter writer = method_reply(call);

    json_name(&writer, "checkpoints");
    json_begin_array(&writer);
    for (size_t i = 0; i < catalog_count(options->catalog); i++)
        show_checkpoint(&writer, call, catalog_at(options->catalog, i));
    if (running)
        show_checkpoint(&writer, call, running);
    json_end_array(&writer);
    return method_end(call, &writer);
}

/* The id as terminated text; ids that are too long name nothing. */
static bool id_text(const MethodCall *call, char text[HOLDFAST_IMAGE_ID_MAX + 1])
{
    const IdParameters *parameters = call->parameters;

    if (parameters->id.size > HOLDFAST_IMAGE_ID_MAX ||
        memchr(parameters->id.data, 0, parameters->id.size))
        return false;
    memcpy(text, parameters->id.data, parameters->id.size);
    text[parameters->id.size] = '\0';
    return true;
}

Checkpoint *find_checkpoint(const MethodCall *call)
{
    char id[HOLDFAST_IMAGE_ID_MAX + 1];
    Checkpoint *checkpoint;

    if (!id_text(call, id))
        return NULL;
    checkpoint = catalog_find(call->methods->options.catalog, id);
    return checkpoint && checkpoint->state == CHECKPOINT_COMPLETE ? checkpoint : NULL;
}

MethodResult method_cancel_checkpoint(MethodCall *call)
{
    const IdParameters *parameters = call->parameters;
    char id[HOLDFAST_IMAGE_ID_MAX + 1];
    JsonWriter writer;

    if (!id_text(call, id) || job_cancel(call->methods->options.job, id) != 0)
        return error_no_checkpoint(call, parameters->id);
    writer = method_reply(call);
    return method_end(call, &writer);
}

/* The identities of the arenas that exist; NULL on want of memory. */
static Identity *live_identities(const MethodCall *call, size_t *ret_count)
{
    Store *store = call->methods->options.store;
    size_t count = store_count(store);
    Identity *identities = calloc(count + 1, sizeof(*identities));

    for (size_t i = 0; identities && i < count; i++)
        identities[i] = *arena_identity(store_at(store, i)->arena);
    *ret_count = count;
    return identities;
}

MethodResult method_delete_checkpoint(MethodCall *call)
{
    const IdParameters *parameters = call->parameters;
    Catalog *catalog = call->methods->options.catalog;
    Checkpoint *checkpoint = find_checkpoint(call);
    _cleanup_(freep) Identity *live = NULL;
    JsonWriter writer;
    size_t count;

    if (!checkpoint)
        return error_no_checkpoint(call, parameters->id);
    live = live_identities(call, &count);
    if (!live)
        return error_limit(call, "buffers", 0);
    if (checkpoint->pinned > 0 || catalog_needed(catalog, checkpoint, live, count))
        return error_checkpoint_needed(call, parameters->id);
    catalog_remove(catalog, checkpoint);
    writer = method_reply(call);
    return method_end(call, &writer);
}
