/* The calls that read and change entries. A value goes through as text: in from the caller's, out
 * as a place in the reply, never through a tree. */
#include <errno.h>
#include <string.h>

#include "connection.h"

static const char opening[] = "{\"arena\":";

/* Begins a call with {"arena":...,"key":... */
static int begin_entry(HoldfastConnection *connection, const char *method, const char *arena,
                       const char *key, size_t key_length)
{
    int r = hf_call_begin_named(connection, method, 0, opening, arena);

    if (r < 0)
        return r;
    hf_output_literal(&connection->out, ",\"key\":");
    hf_output_string(&connection->out, key, key_length);
    return 0;
}

static void append_json(HfOutput *out, const char *name, const char *json, size_t size)
{
    hf_output_literal(out, name);
    hf_output_value(out, json, size);
}

static void append_revision(HfOutput *out, uint64_t if_revision)
{
    if (if_revision == HOLDFAST_ANY_REVISION)
        return;
    hf_output_literal(out, ",\"ifRevision\":");
    hf_output_unsigned(out, if_revision);
}

static int read_unsigned(HoldfastText text, uint64_t *ret)
{
    int64_t value;

    if (hf_text_integer(text, &value) < 0 || value < 0)
        return -EBADMSG;
    if (ret != NULL)
        *ret = (uint64_t)value;
    return 0;
}

/* A reply that makes no sense leaves nothing to go on with. */
static int check(HoldfastConnection *connection, int r)
{
    return r < 0 ? hf_kill(connection, r) : r;
}

/* Ends the call whose parameters lack their brace; ret_value: NULL where the reply has no value. */
static int finish_entry(HoldfastConnection *connection, HoldfastText *ret_value,
                        uint64_t *ret_revision)
{
    static const char *const names[] = {"revision", "value"};
    HoldfastText members[2];
    HfReply reply;
    uint64_t revision = 0;
    int r;

    hf_output_literal(&connection->out, "}");
    r = hf_call_finish(connection, &reply);
    if (r != 0)
        return r;
    r = hf_members(reply.parameters, names, members, 2);
    if (r == 0)
        r = read_unsigned(members[0], &revision);
    if (r == 0 && ret_value != NULL && members[1].data == NULL)
        r = -EBADMSG;
    if (r < 0)
        return check(connection, r);
    if (ret_value != NULL)
        *ret_value = members[1];
    if (ret_revision != NULL)
        *ret_revision = revision;
    return 0;
}

static void give_value(HoldfastText value, const char **ret_json, size_t *ret_length)
{
    if (ret_json != NULL)
        *ret_json = hf_terminate(value);
    if (ret_length != NULL)
        *ret_length = value.size;
}

int holdfast_put(HoldfastConnection *connection, const char *arena, const char *key,
                 size_t key_length, const char *json, size_t json_length, uint64_t if_revision,
                 uint64_t *ret_revision)
{
    int r = begin_entry(connection, "Put", arena, key, key_length);

    if (r < 0)
        return r;
    append_json(&connection->out, ",\"value\":", json, json_length);
    append_revision(&connection->out, if_revision);
    return finish_entry(connection, NULL, ret_revision);
}

int holdfast_get(HoldfastConnection *connection, const char *arena, const char *key,
                 size_t key_length, const char **ret_json, size_t *ret_json_length,
                 uint64_t *ret_revision)
{
    HoldfastText value;
    int r = begin_entry(connection, "Get", arena, key, key_length);

    if (r == 0)
        r = finish_entry(connection, &value, ret_revision);
    if (r == 0)
        give_value(value, ret_json, ret_json_length);
    return r;
}

int holdfast_delete(HoldfastConnection *connection, const char *arena, const char *key,
                    size_t key_length, uint64_t if_revision, uint64_t *ret_revision)
{
    int r = begin_entry(connection, "Delete", arena, key, key_length);

    if (r < 0)
        return r;
    append_revision(&connection->out, if_revision);
    return finish_entry(connection, NULL, ret_revision);
}

int holdfast_merge(HoldfastConnection *connection, const char *arena, const char *key,
                   size_t key_length, const char *patch, size_t patch_length, uint64_t if_revision,
                   const char **ret_json, size_t *ret_json_length, uint64_t *ret_revision)
{
    HoldfastText value;
    int r = begin_entry(connection, "Merge", arena, key, key_length);

    if (r < 0)
        return r;
    append_json(&connection->out, ",\"patch\":", patch, patch_length);
    append_revision(&connection->out, if_revision);
    r = finish_entry(connection, &value, ret_revision);
    if (r == 0)
        give_value(value, ret_json, ret_json_length);
    return r;
}

int holdfast_increment(HoldfastConnection *connection, const char *arena, const char *key,
                       size_t key_length, int64_t by, uint64_t if_revision, int64_t *ret_value,
                       uint64_t *ret_revision)
{
    HoldfastText value;
    int64_t sum;
    int r = begin_entry(connection, "Increment", arena, key, key_length);

    if (r < 0)
        return r;
    hf_output_literal(&connection->out, ",\"by\":");
    hf_output_integer(&connection->out, by);
    append_revision(&connection->out, if_revision);
    r = finish_entry(connection, &value, ret_revision);
    if (r != 0)
        return r;
    if (hf_text_integer(value, &sum) < 0)
        return check(connection, -EBADMSG);
    if (ret_value != NULL)
        *ret_value = sum;
    return 0;
}

static const char *const operation_names[] = {
    [HOLDFAST_PUT] = "put",
    [HOLDFAST_DELETE] = "delete",
    [HOLDFAST_MERGE] = "merge",
    [HOLDFAST_INCREMENT] = "increment",
};

static void append_operation(HfOutput *out, const HoldfastOperation *operation)
{
    hf_output_literal(out, "{\"op\":\"");
    hf_output_literal(out, operation_names[operation->type]);
    hf_output_literal(out, "\",\"key\":");
    hf_output_string(out, operation->key.data, operation->key.size);
    if (operation->type == HOLDFAST_PUT || operation->type == HOLDFAST_MERGE)
        append_json(out, ",\"value\":", operation->json.data, operation->json.size);
    if (operation->type == HOLDFAST_INCREMENT) {
        hf_output_literal(out, ",\"by\":");
        hf_output_integer(out, operation->by);
    }
    if (operation->check_revision) {
        hf_output_literal(out, ",\"ifRevision\":");
        hf_output_unsigned(out, operation->if_revision);
    }
    hf_output_literal(out, "}");
}

int holdfast_apply(HoldfastConnection *connection, const char *arena,
                   const HoldfastOperation *operations, size_t count, uint64_t *ret_revision)
{
    HfOutput *out = &connection->out;

    for (size_t i = 0; i < count; i++)
        if ((unsigned)operations[i].type >= sizeof(operation_names) / sizeof(operation_names[0]))
            return -EINVAL;
    int r = hf_call_begin_named(connection, "Apply", 0, opening, arena);
    if (r < 0)
        return r;
    hf_output_literal(out, ",\"operations\":[");
    for (size_t i = 0; i < count && out->failed == 0; i++) {
        if (i > 0)
            hf_output_literal(out, ",");
        append_operation(out, &operations[i]);
    }
    hf_output_literal(out, "]");
    return finish_entry(connection, NULL, ret_revision);
}

/* --- many entries */

/* An entry's texts are ended in place: the walk over the entries is behind it by then. */
static int read_entry(HoldfastText text, unsigned flags, HoldfastItem *ret)
{
    static const char *const names[] = {"key", "value", "revision"};
    HoldfastText members[3];
    uint64_t revision;

    if (hf_members(text, names, members, 3) < 0 || hf_unquote(&members[0]) < 0 ||
        read_unsigned(members[2], &revision) < 0)
        return -EBADMSG;
    *ret =
        (HoldfastItem){.key = members[0].data, .key_length = members[0].size, .revision = revision};
    if (flags & HOLDFAST_KEYS_ONLY)
        return 0;
    if (members[1].data == NULL)
        return -EBADMSG;
    ret->json = hf_terminate(members[1]);
    ret->json_length = members[1].size;
    return 0;
}

/* What a call that returns entries carries through its replies. */
typedef struct Listing {
    HoldfastConnection *connection;
    unsigned flags;
    HoldfastItemFunction function;
    void *context;
    uint64_t revision; /* get_many */
    const char *next;  /* list */
} Listing;

static int visit_entries(Listing *listing, HoldfastText entries)
{
    HoldfastItem entry;
    HoldfastText text;
    HfTextWalk walk;
    int r, stop;

    if (!hf_text_walk(entries, &walk) || walk.object)
        return check(listing->connection, -EBADMSG);
    while ((r = hf_text_next(&walk, NULL, &text)) > 0) {
        r = read_entry(text, listing->flags, &entry);
        if (r < 0)
            break;
        stop = listing->function(listing->context, &entry);
        if (stop != 0)
            return stop;
    }
    return check(listing->connection, r);
}

/* One reply with entries, of GetMany or List. */
static int visit_reply(void *context, HfReply *reply)
{
    static const char *const names[] = {"entries", "next", "revision"};
    Listing *listing = context;
    HoldfastText members[3];
    int r = hf_members(reply->parameters, names, members, 3);

    if (r < 0)
        return check(listing->connection, r);
    if (members[2].data != NULL && read_unsigned(members[2], &listing->revision) < 0)
        return check(listing->connection, -EBADMSG);
    r = visit_entries(listing, members[0]);
    if (r != 0)
        return r;
    listing->next = NULL;
    if (hf_text_type(members[1]) != HF_TEXT_STRING)
        return 0;
    if (hf_unquote(&members[1]) < 0)
        return check(listing->connection, -EBADMSG);
    listing->next = members[1].data;
    return 0;
}

int holdfast_get_many(HoldfastConnection *connection, const char *arena, const HoldfastText *keys,
                      size_t count, HoldfastItemFunction function, void *context,
                      uint64_t *ret_revision)
{
    Listing listing = {.connection = connection, .function = function, .context = context};
    HfOutput *out = &connection->out;
    HfReply reply;
    int r = hf_call_begin_named(connection, "GetMany", 0, opening, arena);

    if (r < 0)
        return r;
    hf_output_literal(out, ",\"keys\":[");
    for (size_t i = 0; i < count && out->failed == 0; i++) {
        if (i > 0)
            hf_output_literal(out, ",");
        hf_output_string(out, keys[i].data, keys[i].size);
    }
    hf_output_literal(out, "]}");
    r = hf_call_finish(connection, &reply);
    if (r == 0)
        r = visit_reply(&listing, &reply);
    if (r == 0 && ret_revision != NULL)
        *ret_revision = listing.revision;
    return r;
}

static int begin_list(HoldfastConnection *connection, const char *arena, const char *prefix,
                      const char *cursor, unsigned limit, unsigned flags, unsigned call_flags)
{
    HfOutput *out = &connection->out;
    int r = (flags & ~(unsigned)HOLDFAST_KEYS_ONLY) != 0
                ? -EINVAL
                : hf_call_begin_named(connection, "List", call_flags, opening, arena);

    if (r < 0)
        return r;
    if (prefix != NULL) {
        hf_output_literal(out, ",\"prefix\":");
        hf_output_string(out, prefix, strlen(prefix));
    }
    if (cursor != NULL) {
        hf_output_literal(out, ",\"cursor\":");
        hf_output_string(out, cursor, strlen(cursor));
    }
    if (limit > 0) {
        hf_output_literal(out, ",\"limit\":");
        hf_output_integer(out, limit);
    }
    if (flags & HOLDFAST_KEYS_ONLY)
        hf_output_literal(out, ",\"values\":false");
    hf_output_literal(out, "}");
    return 0;
}

int holdfast_list(HoldfastConnection *connection, const char *arena, const char *prefix,
                  const char *cursor, unsigned limit, unsigned flags, HoldfastItemFunction function,
                  void *context, const char **ret_next)
{
    Listing listing = {
        .connection = connection, .flags = flags, .function = function, .context = context};
    HfReply reply;
    int r = begin_list(connection, arena, prefix, cursor, limit, flags, 0);

    if (r == 0)
        r = hf_call_finish(connection, &reply);
    if (r == 0)
        r = visit_reply(&listing, &reply);
    if (r == 0 && ret_next != NULL)
        *ret_next = listing.next;
    return r;
}

int holdfast_list_all(HoldfastConnection *connection, const char *arena, const char *prefix,
                      unsigned flags, HoldfastItemFunction function, void *context)
{
    Listing listing = {
        .connection = connection, .flags = flags, .function = function, .context = context};
    int r = begin_list(connection, arena, prefix, NULL, 0, flags, HOLDFAST_MORE);

    if (r == 0)
        r = hf_call_end(connection, HOLDFAST_MORE);
    return r == 0 ? hf_stream(connection, visit_reply, &listing) : r;
}
