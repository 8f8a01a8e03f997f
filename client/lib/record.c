/* See record.h. The replies concerned are small; a tree of a larger one is refused, as it costs
 * many times its text. */
#include "record.h"

#include <errno.h>
#include <stdlib.h>

#define TREE_BYTES_MAX (4u << 20)

typedef struct Head {
    _Alignas(16) json_t *tree;
} Head;

static Head *head_of(const void *record)
{
    return (Head *)(uintptr_t)record - 1;
}

static void *place(void *record, const HfField *field)
{
    return (char *)record + field->offset;
}

static int read_integer(json_t *value, int64_t minimum, int64_t maximum, int64_t absent,
                        int64_t *ret)
{
    int64_t number = value != NULL ? json_integer_value(value) : absent;

    if (value != NULL && (!json_is_integer(value) || number < minimum || number > maximum))
        return -EBADMSG;
    *ret = number;
    return 0;
}

static int read_names(json_t *value, const char ***ret)
{
    size_t count = json_array_size(value), i;
    const char **names;
    json_t *element;

    if (value != NULL && !json_is_array(value))
        return -EBADMSG;
    names = calloc(count + 1, sizeof(*names));
    if (names == NULL)
        return -ENOMEM;
    json_array_foreach(value, i, element)
    {
        names[i] = json_string_value(element);
        if (names[i] == NULL) {
            free(names);
            return -EBADMSG;
        }
    }
    *ret = names;
    return 0;
}

static int read_field(const HfField *field, json_t *value, void *record)
{
    void *to = place(record, field);
    int64_t number = 0;
    int r = 0;

    switch (field->type) {
    case HF_FIELD_TEXT:
        if (value != NULL && !json_is_string(value))
            return -EBADMSG;
        *(const char **)to = json_string_value(value);
        return 0;
    case HF_FIELD_UNSIGNED:
        r = read_integer(value, 0, INT64_MAX, 0, &number);
        *(uint64_t *)to = (uint64_t)number;
        return r;
    case HF_FIELD_UNSIGNED32:
        r = read_integer(value, 0, UINT32_MAX, 0, &number);
        *(uint32_t *)to = (uint32_t)number;
        return r;
    case HF_FIELD_SIGNED32:
        r = read_integer(value, INT32_MIN, INT32_MAX, -1, &number);
        *(int32_t *)to = (int32_t)number;
        return r;
    case HF_FIELD_NAMES:
        return read_names(value, to);
    case HF_FIELD_RECORD:
        return value != NULL ? hf_record_new(field->record, value, to) : 0;
    }
    return -EBADMSG;
}

int hf_record_new(const HfRecordType *type, json_t *object, void **ret)
{
    if (!json_is_object(object))
        return -EBADMSG;
    Head *head = calloc(1, sizeof(Head) + type->size);
    if (head == NULL)
        return -ENOMEM;
    head->tree = json_incref(object);
    void *record = head + 1;
    for (size_t i = 0; i < type->count; i++) {
        const HfField *field = &type->fields[i];
        json_t *value = json_object_get(object, field->name);
        if (json_is_null(value))
            value = NULL;
        int r = value == NULL && field->required ? -EBADMSG : read_field(field, value, record);
        if (r < 0) {
            hf_record_free(type, record);
            return r;
        }
    }
    *ret = record;
    return 0;
}

void hf_record_free(const HfRecordType *type, void *record)
{
    if (record == NULL)
        return;
    for (size_t i = 0; i < type->count; i++) {
        const HfField *field = &type->fields[i];
        void *pointer = place(record, field);
        if (field->type == HF_FIELD_NAMES)
            free(*(void **)pointer);
        else if (field->type == HF_FIELD_RECORD)
            hf_record_free(field->record, *(void **)pointer);
    }
    json_decref(head_of(record)->tree);
    free(head_of(record));
}

int hf_records_new(const HfRecordType *type, json_t *array, void ***ret, size_t *ret_count)
{
    size_t count = json_array_size(array);

    if (!json_is_array(array))
        return -EBADMSG;
    void **records = calloc(count + 1, sizeof(*records));
    if (records == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        int r = hf_record_new(type, json_array_get(array, i), &records[i]);
        if (r < 0) {
            hf_records_free(type, records);
            return r;
        }
    }
    *ret = records;
    *ret_count = count;
    return 0;
}

void hf_records_free(const HfRecordType *type, void **records)
{
    for (size_t i = 0; records != NULL && records[i] != NULL; i++)
        hf_record_free(type, records[i]);
    free(records);
}

int hf_reply_tree(HoldfastConnection *connection, const HfReply *reply, json_t **ret)
{
    json_t *tree = NULL;

    if (reply->parameters.size <= TREE_BYTES_MAX)
        tree = json_loadb(reply->parameters.data, reply->parameters.size, JSON_REJECT_DUPLICATES,
                          NULL);
    if (tree == NULL)
        return hf_kill(connection, -EBADMSG);
    *ret = tree;
    return 0;
}

int hf_reply_record(HoldfastConnection *connection, const HfReply *reply, const char *name,
                    const HfRecordType *type, void **ret)
{
    json_t *tree;
    int r = hf_reply_tree(connection, reply, &tree);

    if (r < 0)
        return r;
    r = hf_record_new(type, json_object_get(tree, name), ret);
    json_decref(tree);
    return r < 0 ? hf_kill(connection, r) : 0;
}

int hf_reply_records(HoldfastConnection *connection, const HfReply *reply, const char *name,
                     const HfRecordType *type, void ***ret, size_t *ret_count)
{
    json_t *tree;
    int r = hf_reply_tree(connection, reply, &tree);

    if (r < 0)
        return r;
    r = hf_records_new(type, json_object_get(tree, name), ret, ret_count);
    json_decref(tree);
    return r < 0 ? hf_kill(connection, r) : 0;
}
