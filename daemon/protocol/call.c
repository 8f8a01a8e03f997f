/* Varlink calls: what a message's members mean, and parameters by a table of fields.
 *
 * The normal way: the scan has noted the members of the message and those of "parameters";
 * call_parse sorts the former out, call_parameters fills a struct from the latter. Texts stay where
 * they are unless they must be unescaped or compacted. Where the scan could not note all members
 * (overflow), and for objects further within, the text is walked instead. What can go wrong: the
 * message is no call; a parameter is unknown, missing or of another type, which is answered by
 * name. */
#include "protocol/call.h"

/* One parameter as it was found, noted or walked to. */
typedef struct Found {
    Bytes name; /* without quotes, as written */
    Bytes value;
    ScanType type;
    bool spaced;
    bool escaped;
} Found;

static Bytes span_bytes(const char *text, ScanSpan span)
{
    return BYTES(text + span.begin, span.end - span.begin);
}

static Bytes unquote(Bytes string)
{
    return BYTES(string.data + 1, string.size - 2);
}

/* --- the call itself */

/* What is read while the members are sorted out; one of these a message. */
typedef struct Parts {
    ScanSpan method;
    bool has_method;
    Call *call;
} Parts;

typedef struct Part {
    const char *name;
    const char *wrong; /* the reason where it is of another type */
    bool (*take)(Parts *parts, int index, ScanSpan value);
} Part;

static bool take_method(Parts *parts, int index, ScanSpan value)
{
    (void)index;
    parts->method = value;
    parts->has_method = true;
    return value.type == SCAN_STRING;
}

static bool take_parameters(Parts *parts, int index, ScanSpan value)
{
    if (value.type == SCAN_OBJECT)
        parts->call->parameters = index;
    return value.type == SCAN_OBJECT || value.type == SCAN_NULL;
}

static bool take_flag(const Parts *parts, ScanSpan value, bool *flag)
{
    *flag = value.type == SCAN_BOOLEAN && parts->call->text[value.begin] == 't';
    return value.type == SCAN_BOOLEAN || value.type == SCAN_NULL;
}

static bool take_more(Parts *parts, int index, ScanSpan value)
{
    (void)index;
    return take_flag(parts, value, &parts->call->more);
}

static bool take_oneway(Parts *parts, int index, ScanSpan value)
{
    (void)index;
    return take_flag(parts, value, &parts->call->oneway);
}

static bool take_upgrade(Parts *parts, int index, ScanSpan value)
{
    (void)index;
    return take_flag(parts, value, &parts->call->upgrade);
}

static const Part call_parts[] = {
    {"method", "method is no string", take_method},
    {"parameters", "parameters is no object", take_parameters},
    {"more", "more is no boolean", take_more},
    {"oneway", "oneway is no boolean", take_oneway},
    {"upgrade", "upgrade is no boolean", take_upgrade},
};

/* NULL, or the reason why the member can't be there. */
static const char *take_member(Parts *parts, int index, const ScanMember *member)
{
    Bytes name = span_bytes(parts->call->text, member->name);

    for (size_t i = 0; i < ARRAY_SIZE(call_parts); i++)
        if (json_name_is(name, bytes_of_text(call_parts[i].name)))
            return call_parts[i].take(parts, index, member->value) ? NULL : call_parts[i].wrong;
    return "unknown member";
}

static int set_method(Call *call, ScanSpan span, Buffer *scratch)
{
    Bytes string = unquote(span_bytes(call->text, span));

    call->method = string;
    if (!span.escaped)
        return 0;
    /* For all that may come, so that the method stays where it is: results are never longer than
     * their texts. */
    if (buffer_reserve(scratch, scan_end(call->scan)) == NULL)
        return -ENOMEM;
    call->method.data = scratch->data + scratch->end;
    json_unescape(scratch, string);
    call->method.size = (size_t)(scratch->data + scratch->end - call->method.data);
    return 0;
}

int call_parse(Call *call, const char *text, const Scan *scan, Buffer *scratch,
               const char **ret_reason)
{
    Parts parts = {.call = call};
    const ScanMember *members;
    size_t count = scan_members(scan, &members);

    *call = (Call){.text = text, .scan = scan, .parameters = -1};
    if (scan_root(scan).type != SCAN_OBJECT) {
        *ret_reason = "a call is an object";
        return -EBADMSG;
    }
    /* On overflow too all that a call may have is here: the scan keeps room for eight members of
     * this level. */
    for (size_t i = 0; i < count; i++) {
        const char *reason =
            members[i].parent < 0 ? take_member(&parts, (int)i, &members[i]) : NULL;
        if (reason != NULL) {
            *ret_reason = reason;
            return -EBADMSG;
        }
    }
    if (!parts.has_method) {
        *ret_reason = "no method";
        return -EBADMSG;
    }
    *ret_reason = "out of memory";
    return set_method(call, parts.method, scratch);
}

/* --- parameters */

static const Field *field_find(const Field *fields, size_t count, Bytes name)
{
    for (size_t i = 0; i < count; i++)
        if (json_name_is(name, bytes_of_text(fields[i].name)))
            return &fields[i];
    return NULL;
}

static const ScanType field_types[] = {
    [FIELD_STRING] = SCAN_STRING,
    [FIELD_INT] = SCAN_INTEGER,
    [FIELD_BOOL] = SCAN_BOOLEAN,
    [FIELD_ARRAY] = SCAN_ARRAY,
};

/* The characters of a string or the compact text of a value: where it lies if it can stay, else in
 * scratch, where room was reserved. */
static Bytes settle(const Found *found, FieldType type, Buffer *scratch)
{
    bool string = type == FIELD_STRING;
    Bytes bytes = string ? unquote(found->value) : found->value;
    size_t before = scratch->end;

    if (string ? !found->escaped : !found->spaced)
        return bytes;
    if (string)
        json_unescape(scratch, bytes);
    else
        json_compact(scratch, bytes);
    return BYTES(scratch->data + before, scratch->end - before);
}

/* Puts a value that is not null into its place. False: of the wrong type. */
static bool field_fill(const Field *field, const Found *found, void *parameters, Buffer *scratch)
{
    void *place = (char *)parameters + field->offset;

    if (field->type != FIELD_ANY && found->type != field_types[field->type])
        return false;
    switch (field->type) {
    case FIELD_STRING:
    case FIELD_ANY:
        *(Bytes *)place = settle(found, field->type, scratch);
        break;
    case FIELD_INT:
        if (!json_to_int(found->value, place))
            return false;
        break;
    case FIELD_BOOL:
        *(bool *)place = *found->value.data == 't';
        break;
    case FIELD_ARRAY:
        *(Bytes *)place = found->value;
        break;
    }
    if (field->given != 0)
        *(bool *)((char *)parameters + field->given) = true;
    return true;
}

/* Which fields were there and not null; tables are shorter than this. */
typedef uint64_t FieldSet;
#define FIELDS_MAX 64

static void fill_defaults(const Field *fields, size_t count, void *parameters)
{
    for (size_t i = 0; i < count; i++)
        if (fields[i].type == FIELD_ANY)
            *(Bytes *)(void *)((char *)parameters + fields[i].offset) = BYTES_OF("null");
}

/* One parameter; 0, or -EINVAL with its name. */
static int take_found(const Field *fields, size_t count, const Found *found, void *parameters,
                      Buffer *scratch, FieldSet *filled, Bytes *ret_parameter)
{
    const Field *field = field_find(fields, count, found->name);

    if (field != NULL && found->type == SCAN_NULL)
        return 0;
    if (field == NULL || !field_fill(field, found, parameters, scratch)) {
        *ret_parameter = field != NULL ? bytes_of_text(field->name) : found->name;
        return -EINVAL;
    }
    *filled |= UINT64_C(1) << (field - fields);
    return 0;
}

static int check_required(const Field *fields, size_t count, FieldSet filled, Bytes *ret_parameter)
{
    for (size_t i = 0; i < count; i++) {
        if (fields[i].required && !(filled >> i & 1)) {
            *ret_parameter = bytes_of_text(fields[i].name);
            return -EINVAL;
        }
    }
    return 0;
}

/* What the members noted by the scan need in scratch. */
static size_t room_for(const Call *call, const ScanMember *members, size_t count)
{
    size_t room = 0;

    for (size_t i = 0; i < count; i++)
        if (members[i].parent == call->parameters &&
            (members[i].value.spaced || members[i].value.escaped))
            room += members[i].value.end - members[i].value.begin;
    return room;
}

int call_parameters(const Call *call, const Field *fields, size_t count, void *parameters,
                    Buffer *scratch, Bytes *ret_parameter)
{
    const ScanMember *members;
    size_t noted = scan_members(call->scan, &members), room;
    FieldSet filled = 0;
    int r;

    assert(count <= FIELDS_MAX);
    if (call->parameters >= 0 && scan_overflow(call->scan))
        return call_object(span_bytes(call->text, members[call->parameters].value), fields, count,
                           parameters, scratch, ret_parameter);
    fill_defaults(fields, count, parameters);
    if (call->parameters < 0)
        return check_required(fields, count, filled, ret_parameter);
    room = room_for(call, members, noted);
    if (room > 0 && buffer_reserve(scratch, room) == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < noted; i++) {
        if (members[i].parent != call->parameters)
            continue;
        Found found = {.name = span_bytes(call->text, members[i].name),
                       .value = span_bytes(call->text, members[i].value),
                       .type = members[i].value.type,
                       .spaced = members[i].value.spaced,
                       .escaped = members[i].value.escaped};
        r = take_found(fields, count, &found, parameters, scratch, &filled, ret_parameter);
        if (r < 0)
            return r;
    }
    return check_required(fields, count, filled, ret_parameter);
}

int call_object(Bytes object, const Field *fields, size_t count, void *parameters, Buffer *scratch,
                Bytes *ret_parameter)
{
    JsonWalk walk = json_walk(object);
    Bytes name, value;
    FieldSet filled = 0;
    int r;

    assert(count <= FIELDS_MAX);
    if (json_type_of(object) != SCAN_OBJECT) {
        *ret_parameter = BYTES("", 0);
        return -EINVAL;
    }
    fill_defaults(fields, count, parameters);
    while (json_next(&walk, &name, &value)) {
        Found found = {.name = name, .value = value, .type = json_type_of(value)};

        found.escaped = found.type == SCAN_STRING && memchr(value.data, '\\', value.size) != NULL;
        found.spaced =
            (found.type == SCAN_ARRAY || found.type == SCAN_OBJECT) && json_spaced(value);
        /* Nothing that was put there before may move; where the array's room was reserved this
         * takes none. */
        if ((found.escaped || found.spaced) &&
            buffer_reserve(scratch, (size_t)(object.data + object.size - value.data)) == NULL)
            return -ENOMEM;
        r = take_found(fields, count, &found, parameters, scratch, &filled, ret_parameter);
        if (r < 0)
            return r;
    }
    return check_required(fields, count, filled, ret_parameter);
}

bool call_deeper(const Call *call, Bytes value, unsigned depth_max)
{
    return scan_root(call->scan).depth > depth_max && json_depth(value) > depth_max;
}
