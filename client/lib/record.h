/* Records: structs made of a JSON object by a table of its members. A record is one block: what the
 * library keeps of it lies before the struct that the caller sees. Its texts are those of the tree,
 * which it holds. */
#pragma once

#include <holdfast.h>
#include <jansson.h>

#include "connection.h"

typedef enum HfFieldType {
    HF_FIELD_TEXT,     /* const char *; NULL where absent */
    HF_FIELD_UNSIGNED, /* uint64_t; 0 where absent */
    HF_FIELD_UNSIGNED32,
    HF_FIELD_SIGNED32, /* int32_t; -1 where absent */
    HF_FIELD_NAMES,    /* const char *const *, ended by NULL */
    HF_FIELD_RECORD,   /* a pointer to another record; NULL where absent */
} HfFieldType;

typedef struct HfRecordType HfRecordType;

typedef struct HfField {
    const char *name;
    HfFieldType type;
    size_t offset;
    bool required;
    const HfRecordType *record; /* HF_FIELD_RECORD */
} HfField;

/* A row of the table: what holds the member of that name, its type, and what else is to be set. */
#define HF_FIELD(struct_, member, name_, type_, ...)                                               \
    {                                                                                              \
        .name = name_, .type = type_, .offset = offsetof(struct_, member), __VA_ARGS__             \
    }

struct HfRecordType {
    size_t size; /* of the struct */
    const HfField *fields;
    size_t count;
};

extern const HfRecordType hf_arena_type;
extern const HfRecordType hf_checkpoint_type;
extern const HfRecordType hf_status_type;

/* Makes a record of an object; holds a reference of its own to it. 0, -EBADMSG, -ENOMEM. */
int hf_record_new(const HfRecordType *type, json_t *object, void **ret);
/* NULL is fine. */
void hf_record_free(const HfRecordType *type, void *record);

/* Makes records of an array of objects; the array of pointers ends in NULL. */
int hf_records_new(const HfRecordType *type, json_t *array, void ***ret, size_t *ret_count);
void hf_records_free(const HfRecordType *type, void **records);

/* The tree of a reply's parameters. A reply that is no JSON kills the connection. */
int hf_reply_tree(HoldfastConnection *connection, const HfReply *reply, json_t **ret);
/* The record that is the member of that name of a reply. */
int hf_reply_record(HoldfastConnection *connection, const HfReply *reply, const char *name,
                    const HfRecordType *type, void **ret);
int hf_reply_records(HoldfastConnection *connection, const HfReply *reply, const char *name,
                     const HfRecordType *type, void ***ret, size_t *ret_count);
