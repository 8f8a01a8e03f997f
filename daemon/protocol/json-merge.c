/* RFC 7396, merge patch, on texts: members that the patch does not touch keep theirs.
 *
 * The normal way: one pass over the patch makes a small tree of what it says, member by member,
 * along objects within objects only (`Change`). One pass over the target writes the result: a
 * member with no change is copied, one with an object is merged with it, one with another value
 * gets that, one with null goes; then the changes that met no member follow. Each text is read once
 * from front to back, so no shape of them is dear; a patch of many members is looked up in a table.
 * What can go wrong: the result is too long or too deep; want of memory. Then nothing was appended.
 */
#include "protocol/json.h"

#include <sys/random.h>

#include "base/checksum.h"
#include "protocol/text.h"

/* Up to this many changes in all they are looked for one by one. */
#define LINEAR_MAX 16
#define NONE UINT32_MAX

/* One member of the patch. */
typedef struct Change {
    uint64_t hash; /* of its name and its parent */
    uint32_t name;
    uint32_t name_end;
    uint32_t value;
    uint32_t value_end;
    uint32_t first; /* object: the change of its first member, or NONE */
    uint32_t next;  /* in the same object, or NONE */
    bool object;
    bool met; /* the target has a member of this name */
} Change;

typedef struct Merge {
    Buffer *out;
    size_t size_max; /* of out */
    unsigned depth_max;
    Bytes patch;
    uint64_t seed;
    Buffer changes; /* of Change */
    Buffer slots;   /* of uint32_t: index of a change, or NONE; empty: looked for one by one */
    size_t mask;
    Buffer scratch; /* an unescaped name */
} Merge;

static Change *change_at(const Merge *merge, uint32_t index)
{
    return (Change *)(void *)buffer_begin(&merge->changes) + index;
}

static uint32_t change_count(const Merge *merge)
{
    return (uint32_t)(buffer_size(&merge->changes) / sizeof(Change));
}

static Bytes change_name(const Merge *merge, const Change *change)
{
    return BYTES(merge->patch.data + change->name, change->name_end - change->name);
}

static Bytes change_value(const Merge *merge, const Change *change)
{
    return BYTES(merge->patch.data + change->value, change->value_end - change->value);
}

/* --- a text, from front to back */

typedef struct Reader {
    const char *at;
    const char *end;
} Reader;

/* Within an object, behind its bracket or a member: the next member's name, with the reader at its
 * value. False: behind the closing bracket. */
static bool next_member(Reader *reader, Bytes *ret_name)
{
    const char *at = text_skip_space(reader->at, reader->end), *begin;

    if (at < reader->end && *at == ',')
        at = text_skip_space(at + 1, reader->end);
    if (at >= reader->end || *at != '"') {
        reader->at = at < reader->end ? at + 1 : at;
        return false;
    }
    begin = at + 1;
    at = text_skip_string(begin, reader->end);
    *ret_name = BYTES(begin, at - 1 - begin);
    at = text_skip_space(at, reader->end);
    reader->at = text_skip_space(at + 1, reader->end); /* behind the colon */
    return true;
}

static bool at_object(const Reader *reader)
{
    return reader->at < reader->end && *reader->at == '{';
}

/* --- the patch */

static int change_add(Merge *merge, Bytes name, uint32_t value, bool object)
{
    uint32_t begin = (uint32_t)(name.data - merge->patch.data);
    Change change = {.name = begin,
                     .name_end = begin + (uint32_t)name.size,
                     .value = value,
                     .first = NONE,
                     .next = NONE,
                     .object = object};

    buffer_append(&merge->changes, &change, sizeof(change));
    return merge->changes.failed ? -ENOMEM : 0;
}

/* Reads the object that the reader is at; the first of its changes in ret_first. depth: of this
 * object in the result. */
static int read_changes(Merge *merge, Reader *reader, unsigned depth, uint32_t *ret_first)
{
    uint32_t last = NONE;
    Bytes name;
    int r;

    if (depth > merge->depth_max)
        return -E2BIG;
    *ret_first = NONE;
    reader->at++;
    while (next_member(reader, &name)) {
        uint32_t index = change_count(merge), first = NONE;
        uint32_t value = (uint32_t)(reader->at - merge->patch.data);
        bool object = at_object(reader);

        r = change_add(merge, name, value, object);
        if (r < 0)
            return r;
        if (last == NONE)
            *ret_first = index;
        else
            change_at(merge, last)->next = index;
        last = index;
        if (object) {
            r = read_changes(merge, reader, depth + 1, &first);
            if (r < 0)
                return r;
            change_at(merge, index)->first = first;
        } else {
            reader->at = text_skip_value(reader->at, reader->end);
        }
        change_at(merge, index)->value_end = (uint32_t)(reader->at - merge->patch.data);
    }
    return 0;
}

/* --- looking up. A group is the changes of one object; it goes by the index of the first of them.
 */

static int name_hash(Merge *merge, uint32_t group, Bytes name, uint64_t *ret_hash)
{
    if (name.size > 0 && memchr(name.data, '\\', name.size) != NULL) {
        buffer_truncate(&merge->scratch, 0);
        json_unescape(&merge->scratch, name);
        if (merge->scratch.failed)
            return -ENOMEM;
        name = BYTES(buffer_begin(&merge->scratch), buffer_size(&merge->scratch));
    }
    *ret_hash = checksum_seeded(name.data, name.size, merge->seed ^ group);
    return 0;
}

/* Both as written: the same characters? */
static bool same_name(Merge *merge, Bytes a, Bytes b)
{
    if (b.size > 0 && memchr(b.data, '\\', b.size) != NULL) {
        buffer_truncate(&merge->scratch, 0);
        json_unescape(&merge->scratch, b);
        b = BYTES(buffer_begin(&merge->scratch), buffer_size(&merge->scratch));
    }
    return json_name_is(a, b);
}

static int hash_group(Merge *merge, uint32_t group)
{
    uint32_t *slots = (uint32_t *)(void *)buffer_begin(&merge->slots);
    int r;

    for (uint32_t i = group; i != NONE; i = change_at(merge, i)->next) {
        Change *change = change_at(merge, i);
        size_t slot;

        r = name_hash(merge, group, change_name(merge, change), &change->hash);
        if (r < 0)
            return r;
        for (slot = change->hash & merge->mask; slots[slot] != NONE;)
            slot = (slot + 1) & merge->mask;
        slots[slot] = i;
    }
    return 0;
}

/* Puts all changes into the table where they are many. first: group of the outermost. */
static int make_table(Merge *merge, uint32_t first)
{
    uint32_t count = change_count(merge);
    size_t slots = 64;
    int r;

    if (count <= LINEAR_MAX)
        return 0;
    if (getrandom(&merge->seed, sizeof(merge->seed), 0) != (ssize_t)sizeof(merge->seed))
        return errno > 0 ? -errno : -EIO;
    while (slots < (size_t)count * 2)
        slots *= 2;
    if (buffer_reserve(&merge->slots, slots * sizeof(uint32_t)) == NULL)
        return -ENOMEM;
    memset(buffer_begin(&merge->slots), 0xFF, slots * sizeof(uint32_t));
    merge->slots.end += slots * sizeof(uint32_t);
    merge->mask = slots - 1;
    r = hash_group(merge, first);
    for (uint32_t i = 0; r == 0 && i < count; i++)
        if (change_at(merge, i)->first != NONE)
            r = hash_group(merge, change_at(merge, i)->first);
    return r;
}

/* The change of that name; *ret NULL: none. */
static int change_find(Merge *merge, uint32_t group, Bytes name, Change **ret)
{
    const uint32_t *slots;
    uint64_t hash;
    int r;

    *ret = NULL;
    if (group == NONE)
        return 0;
    if (buffer_size(&merge->slots) == 0) {
        for (uint32_t i = group; i != NONE && *ret == NULL; i = change_at(merge, i)->next)
            if (same_name(merge, change_name(merge, change_at(merge, i)), name))
                *ret = change_at(merge, i);
        return merge->scratch.failed ? -ENOMEM : 0;
    }
    r = name_hash(merge, group, name, &hash);
    if (r < 0)
        return r;
    slots = (const uint32_t *)(const void *)buffer_begin(&merge->slots);
    for (size_t slot = hash & merge->mask; slots[slot] != NONE; slot = (slot + 1) & merge->mask) {
        Change *change = change_at(merge, slots[slot]);
        /* A hash alone would be enough to go wrong once in 2^64; here it would lose data. */
        if (change->hash == hash && same_name(merge, change_name(merge, change), name)) {
            *ret = change;
            return merge->scratch.failed ? -ENOMEM : 0;
        }
    }
    return merge->scratch.failed ? -ENOMEM : 0;
}

/* --- the result */

static int check_room(const Merge *merge)
{
    if (merge->out->failed)
        return -ENOMEM;
    return buffer_size(merge->out) > merge->size_max ? -E2BIG : 0;
}

static bool is_null(Bytes value)
{
    return value.size > 0 && *value.data == 'n';
}

static void put_name(Merge *merge, Bytes name, bool *comma)
{
    buffer_append_text(merge->out, *comma ? ",\"" : "\"");
    buffer_append_bytes(merge->out, name);
    buffer_append_text(merge->out, "\":");
    *comma = true;
}

/* Copies the value that the reader is at; it lies in `depth` containers. */
static int put_value(Merge *merge, Reader *reader, unsigned depth)
{
    unsigned inner;

    reader->at = text_copy_value(merge->out, reader->at, reader->end, &inner);
    return depth + inner > merge->depth_max ? -E2BIG : check_room(merge);
}

static int put_object(Merge *merge, Reader *target, uint32_t group, unsigned depth);

/* Writes what a change makes of the member's value that target is at; target NULL: there is none.
 */
static int put_change(Merge *merge, Reader *target, const Change *change, unsigned depth)
{
    Bytes value = change_value(merge, change);
    Reader patch = {value.data, value.data + value.size};

    if (change->object && target != NULL && at_object(target))
        return put_object(merge, target, change->first, depth + 1);
    if (target != NULL)
        target->at = text_skip_value(target->at, target->end);
    if (change->object)
        return put_object(merge, NULL, change->first, depth + 1);
    return put_value(merge, &patch, depth);
}

static int put_member(Merge *merge, Reader *target, Bytes name, uint32_t group, unsigned depth,
                      bool *comma)
{
    Change *change;
    int r;

    r = change_find(merge, group, name, &change);
    if (r < 0)
        return r;
    if (change != NULL) {
        change->met = true;
        if (is_null(change_value(merge, change))) {
            target->at = text_skip_value(target->at, target->end);
            return 0;
        }
    }
    put_name(merge, name, comma);
    return change != NULL ? put_change(merge, target, change, depth)
                          : put_value(merge, target, depth);
}

/* Writes the object that target is at (NULL: {}) with the changes of the group; target is behind it
 * afterwards. depth: this object's own in the result. */
static int put_object(Merge *merge, Reader *target, uint32_t group, unsigned depth)
{
    bool comma = false;
    Bytes name;
    int r;

    if (depth > merge->depth_max)
        return -E2BIG;
    buffer_append(merge->out, "{", 1);
    if (target != NULL) {
        target->at++;
        while (next_member(target, &name)) {
            r = put_member(merge, target, name, group, depth, &comma);
            if (r < 0)
                return r;
        }
    }
    for (uint32_t i = group; i != NONE; i = change_at(merge, i)->next) {
        const Change *change = change_at(merge, i);
        if (change->met || is_null(change_value(merge, change)))
            continue;
        put_name(merge, change_name(merge, change), &comma);
        r = put_change(merge, NULL, change, depth);
        if (r < 0)
            return r;
    }
    buffer_append(merge->out, "}", 1);
    return check_room(merge);
}

static int merge_texts(Merge *merge, Bytes target)
{
    Reader patch = {merge->patch.data, merge->patch.data + merge->patch.size};
    /* Without a target there is no pointer to count from. */
    Reader base = {target.data, target.data ? target.data + target.size : NULL};
    uint32_t first;
    int r;

    if (merge->patch.size >= NONE)
        return -E2BIG;
    patch.at = text_skip_space(patch.at, patch.end);
    if (!at_object(&patch))
        return put_value(merge, &patch, 0);
    r = read_changes(merge, &patch, 1, &first);
    if (r < 0)
        return r;
    r = make_table(merge, first);
    if (r < 0)
        return r;
    if (target.data != NULL)
        base.at = text_skip_space(base.at, base.end);
    return put_object(merge, target.data != NULL && at_object(&base) ? &base : NULL, first, 1);
}

int json_merge(Buffer *out, Bytes target, Bytes patch, size_t size_max, unsigned depth_max)
{
    size_t before = buffer_size(out);
    bool failed = out->failed;
    Merge merge = {.out = out,
                   .size_max = size_max < SIZE_MAX - before ? before + size_max : SIZE_MAX,
                   .depth_max = depth_max,
                   .patch = patch};
    int r;

    buffer_init(&merge.changes, out->pool);
    buffer_init(&merge.slots, out->pool);
    buffer_init(&merge.scratch, out->pool);
    r = merge_texts(&merge, target);
    buffer_clear(&merge.changes);
    buffer_clear(&merge.slots);
    buffer_clear(&merge.scratch);
    if (r < 0) {
        buffer_truncate(out, before);
        out->failed = failed;
    }
    return r;
}
