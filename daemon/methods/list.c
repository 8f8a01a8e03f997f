/* List: pages of an arena's entries, one a call or, with "more", all of them as a stream whose
 * state remembers the position. An entry that stays for the whole listing is in it at least once,
 * whatever else changes meanwhile. */

#include <stdio.h>

#include "methods/method.h"

#define LIST_LIMIT_DEFAULT 1000
#define LIST_LIMIT_MAX 10000
#define LIST_SLOTS_MAX 10000
#define LIST_TEXT_MAX (1 * MIB)

typedef struct ListParameters {
    Bytes arena;
    Bytes prefix;
    Bytes cursor;
    int64_t limit;
    bool values;
    bool limit_given;
    bool values_given;
    bool cursor_given;
} ListParameters;

const Field list_fields[] = {
    {.name = "arena",
     .type = FIELD_STRING,
     .required = true,
     .offset = offsetof(ListParameters, arena)},
    {.name = "prefix", .type = FIELD_STRING, .offset = offsetof(ListParameters, prefix)},
    {.name = "cursor",
     .type = FIELD_STRING,
     .offset = offsetof(ListParameters, cursor),
     .given = offsetof(ListParameters, cursor_given)},
    {.name = "limit",
     .type = FIELD_INT,
     .offset = offsetof(ListParameters, limit),
     .given = offsetof(ListParameters, limit_given)},
    {.name = "values",
     .type = FIELD_BOOL,
     .offset = offsetof(ListParameters, values),
     .given = offsetof(ListParameters, values_given)},
};

/* A page being written. */
typedef struct ListPage {
    JsonWriter writer;
    size_t start;
    uint64_t entries;
    uint64_t limit;
    Bytes prefix;
    bool values;
} ListPage;

/* A stream over all pages. */
typedef struct ListStream {
    Identity arena;
    uint64_t position;
} ListStream;

static bool list_visit(void *context, const ArenaEntry *entry)
{
    ListPage *page = context;
    size_t text = buffer_size(page->writer.out) - page->start;
    ArenaEntry shown = *entry;

    if (page->prefix.size > 0 &&
        (entry->key.size < page->prefix.size ||
         memcmp(entry->key.data, page->prefix.data, page->prefix.size) != 0))
        return true;
    if (!page->values)
        shown.value = BYTES_OF("null");
    if (page->entries > 0 &&
        (page->entries >= page->limit || text + shown.value.size > LIST_TEXT_MAX))
        return false;
    show_entry(&page->writer, &shown);
    page->entries++;
    return true;
}

static int read_cursor(Bytes text, uint64_t *ret)
{
    uint64_t position = 0;

    if (text.size != 16)
        return -EINVAL;
    for (size_t i = 0; i < text.size; i++) {
        const char *digits = "0123456789abcdef",
                   *digit = text.data[i] ? strchr(digits, text.data[i]) : NULL;

        if (!digit)
            return -EINVAL;
        position = position << 4 | (uint64_t)(digit - digits);
    }
    *ret = position;
    return 0;
}

/* Writes one page from *position on and moves it. 1: it was the last one; 0: there are more;
 * negative: an error was answered instead, with *ret_result. */
static int list_page(MethodCall *call, const ListParameters *parameters, uint64_t *position,
                     MethodResult *ret_result)
{
    Buffer *out = method_output(call);
    size_t start = buffer_size(out);
    ListPage page = {
        .start = start,
        .limit = parameters->limit_given ? (uint64_t)parameters->limit : LIST_LIMIT_DEFAULT,
        .prefix = parameters->prefix,
        .values = parameters->values_given ? parameters->values : true,
    };
    char next[17];
    int r;

    page.writer = method_reply(call);
    json_name(&page.writer, "entries");
    json_begin_array(&page.writer);
    r = arena_walk(call->arena->arena, position, LIST_SLOTS_MAX, list_visit, &page);
    if (r < 0) {
        StoreOutcome outcome = {0};

        buffer_truncate(out, start);
        store_note_damage(call->methods->options.store, call->arena);
        *ret_result = error_store(call, STORE_DAMAGED, &outcome, NULL, false);
        return r;
    }
    json_end_array(&page.writer);
    if (r == 0) {
        snprintf(next, sizeof(next), "%016llx", (unsigned long long)*position);
        json_name(&page.writer, "next");
        json_quote(&page.writer, bytes_of_text(next));
    }
    reply_end(&page.writer, r == 0 && call->call->more, call->ops->terminator(call->caller));
    call->methods->reads += page.entries;
    return r;
}

/* One page of a stream: the state remembers where it is, and that it is still the same arena. */
static MethodResult list_stream(MethodCall *call, const ListParameters *parameters,
                                uint64_t position)
{
    ListStream *stream = call->ops->state(call->caller);
    MethodResult result = METHOD_DONE;
    int r;

    if (!stream) {
        stream = calloc(1, sizeof(*stream));
        if (!stream)
            return error_limit(call, "buffers", 0);
        stream->arena = *arena_identity(call->arena->arena);
        stream->position = position;
        call->ops->set_state(call->caller, stream, free);
    }
    if (!identity_equal(&stream->arena, arena_identity(call->arena->arena)))
        return error_no_arena(call, parameters->arena);
    r = list_page(call, parameters, &stream->position, &result);
    if (r < 0)
        return result;
    return r == 1 ? METHOD_DONE : METHOD_AGAIN;
}

MethodResult method_list(MethodCall *call)
{
    const ListParameters *parameters = call->parameters;
    StoreOutcome outcome = {0};
    MethodResult result = METHOD_DONE;
    uint64_t position = 0;

    if (parameters->limit_given && (parameters->limit < 1 || parameters->limit > LIST_LIMIT_MAX))
        return error_invalid(call, "limit");
    if (parameters->cursor_given && read_cursor(parameters->cursor, &position) < 0)
        return error_invalid(call, "cursor");
    if (call->arena->damage[0] != '\0')
        return error_store(call, STORE_DAMAGED, &outcome, NULL, false);
    if (call->call->more)
        return list_stream(call, parameters, position);
    (void)list_page(call, parameters, &position, &result);
    return result;
}
