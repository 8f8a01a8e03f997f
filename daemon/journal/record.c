/* Encoding and decoding of records; see record.h for their form.
 *
 * The writer appends to memory that it does not own. An error sticks until the record is ended or
 * discarded, so a caller may append many operations and look once. The reader trusts nothing:
 * record_open walks the whole record first, so that an update is never applied in part because its
 * second half makes no sense. */
#include "journal/record.h"

#include "base/checksum.h"

static int record_fail(RecordWriter *writer, int error)
{
    if (writer->error == 0)
        writer->error = error;
    return writer->error;
}

int record_begin(RecordWriter *writer, uint64_t revision, uint64_t time_usec,
                 const Identity *identity)
{
    writer->at = writer->used;
    writer->operations = 0;
    writer->error = 0;
    writer->revision = revision;
    if (writer->capacity < writer->used || writer->capacity - writer->used < sizeof(RecordHeader))
        return record_fail(writer, -ENOSPC);

    RecordHeader *header = (RecordHeader *)(writer->data + writer->used);
    *header = (RecordHeader){
        .revision = revision,
        .time_usec = time_usec,
        .identity = *identity,
    };
    writer->at += sizeof(*header);
    return 0;
}

/* Room for one operation; the caller fills in key and value. RECORD_BYTES_MAX is a multiple of 8
 * and the capacity is taken as one, so the padding at the record's end always fits. */
static uint8_t *record_operation(RecordWriter *writer, RecordKind kind, size_t key, size_t value)
{
    size_t need = sizeof(OperationHeader) + key + value;

    if (writer->error != 0)
        return NULL;
    if (writer->operations >= UINT32_MAX || writer->at - writer->used + need > RECORD_BYTES_MAX) {
        record_fail(writer, -E2BIG);
        return NULL;
    }
    if (writer->at + need > (writer->capacity & ~(size_t)7)) {
        record_fail(writer, -ENOSPC);
        return NULL;
    }

    OperationHeader header = {
        .kind = (uint8_t)kind,
        .key_bytes = (uint16_t)key,
        .value_bytes = (uint32_t)value,
    };
    uint8_t *at = writer->data + writer->at;
    memcpy(at, &header, sizeof(header));
    writer->at += need;
    writer->operations++;
    return at + sizeof(header);
}

int record_put(RecordWriter *writer, Bytes key, Bytes value)
{
    if (key.size == 0 || key.size > HOLDFAST_KEY_MAX || value.size == 0 ||
        value.size > HOLDFAST_VALUE_MAX)
        return record_fail(writer, -EINVAL);

    uint8_t *at = record_operation(writer, RECORD_PUT, key.size, value.size);
    if (at == NULL)
        return writer->error;
    memcpy(at, key.data, key.size);
    memcpy(at + key.size, value.data, value.size);
    return 0;
}

int record_delete(RecordWriter *writer, Bytes key)
{
    if (key.size == 0 || key.size > HOLDFAST_KEY_MAX)
        return record_fail(writer, -EINVAL);

    uint8_t *at = record_operation(writer, RECORD_DELETE, key.size, 0);
    if (at == NULL)
        return writer->error;
    memcpy(at, key.data, key.size);
    return 0;
}

static int record_attributes(RecordWriter *writer, RecordKind kind, Bytes name,
                             const ArenaAttributes *attributes, uint64_t created_usec)
{
    RecordAttributes value = {
        .max_bytes = attributes->max_bytes,
        .created_usec = created_usec,
        .uid = attributes->uid,
        .gid = attributes->gid,
        .mode = attributes->mode,
    };

    uint8_t *at = record_operation(writer, kind, name.size, sizeof(value));
    if (at == NULL)
        return writer->error;
    if (name.size > 0)
        memcpy(at, name.data, name.size);
    memcpy(at + name.size, &value, sizeof(value));
    return 0;
}

int record_create_arena(RecordWriter *writer, const char *name, const ArenaAttributes *attributes,
                        uint64_t created_usec)
{
    Bytes text = bytes_of_text(name);
    if (text.size == 0 || text.size > HOLDFAST_NAME_MAX)
        return record_fail(writer, -EINVAL);
    return record_attributes(writer, RECORD_CREATE_ARENA, text, attributes, created_usec);
}

int record_change_arena(RecordWriter *writer, const ArenaAttributes *attributes)
{
    return record_attributes(writer, RECORD_CHANGE_ARENA, (Bytes){0}, attributes, 0);
}

int record_drop_arena(RecordWriter *writer)
{
    return record_operation(writer, RECORD_DROP_ARENA, 0, 0) != NULL ? 0 : writer->error;
}

int record_end(RecordWriter *writer, size_t *ret_bytes)
{
    if (writer->error == 0 && writer->operations == 0)
        record_fail(writer, -EINVAL);
    if (writer->error != 0) {
        int r = writer->error;
        record_discard(writer);
        return r;
    }

    size_t end = ALIGN_UP(writer->at, 8);
    memset(writer->data + writer->at, 0, end - writer->at);
    RecordHeader *header = (RecordHeader *)(writer->data + writer->used);
    header->bytes = (uint32_t)(end - writer->used);
    header->operations = writer->operations;
    if (ret_bytes != NULL)
        *ret_bytes = header->bytes;
    writer->used = end;
    writer->at = end;
    writer->operations = 0;
    return 0;
}

void record_discard(RecordWriter *writer)
{
    writer->at = writer->used;
    writer->operations = 0;
    writer->error = 0;
}

/* The checksum covers all that is behind it. */
static uint64_t record_checksum(const void *data, uint64_t seed)
{
    const RecordHeader *header = data;
    size_t skip = sizeof(header->checksum);
    return checksum_seeded((const uint8_t *)data + skip, header->bytes - skip, seed);
}

void record_seal(void *data, uint64_t seed)
{
    RecordHeader *header = data;
    header->checksum = record_checksum(data, seed);
}

bool record_sealed(const void *data, uint64_t seed)
{
    const RecordHeader *header = data;
    return header->checksum == record_checksum(data, seed);
}

size_t record_bytes(const void *data, size_t size)
{
    const RecordHeader *header = data;

    if (size < sizeof(*header))
        return 0;
    if (header->bytes < sizeof(*header) + sizeof(OperationHeader) || header->bytes % 8 != 0 ||
        header->bytes > RECORD_BYTES_MAX || header->bytes > size)
        return 0;
    return header->bytes;
}

/* What sizes an operation of each kind may have. */
typedef struct OperationRule {
    uint32_t key_min;
    uint32_t key_max;
    uint32_t value_min;
    uint32_t value_max;
} OperationRule;

static const OperationRule operation_rules[] = {
    [RECORD_PUT] = {1, HOLDFAST_KEY_MAX, 1, HOLDFAST_VALUE_MAX},
    [RECORD_DELETE] = {1, HOLDFAST_KEY_MAX, 0, 0},
    [RECORD_CREATE_ARENA] = {1, HOLDFAST_NAME_MAX, sizeof(RecordAttributes),
                             sizeof(RecordAttributes)},
    [RECORD_CHANGE_ARENA] = {0, 0, sizeof(RecordAttributes), sizeof(RecordAttributes)},
    [RECORD_DROP_ARENA] = {0, 0, 0, 0},
};

/* Bytes of the operation at data; 0 where there is none that makes sense. */
static size_t operation_bytes(const uint8_t *data, size_t size)
{
    OperationHeader header;

    if (size < sizeof(header))
        return 0;
    memcpy(&header, data, sizeof(header));
    if (header.kind < RECORD_PUT || header.kind >= ARRAY_SIZE(operation_rules))
        return 0;

    const OperationRule *rule = &operation_rules[header.kind];
    if (header.key_bytes < rule->key_min || header.key_bytes > rule->key_max ||
        header.value_bytes < rule->value_min || header.value_bytes > rule->value_max)
        return 0;
    size_t bytes = sizeof(header) + header.key_bytes + header.value_bytes;
    if (bytes > size)
        return 0;
    if (header.kind == RECORD_CREATE_ARENA &&
        memchr(data + sizeof(header), '\0', header.key_bytes) != NULL)
        return 0;
    return bytes;
}

int record_open(const void *data, size_t size, Record *ret)
{
    const RecordHeader *header = data;
    size_t bytes = record_bytes(data, size);

    if (bytes == 0 || header->operations == 0)
        return -EBADMSG;
    const uint8_t *begin = (const uint8_t *)data + sizeof(*header);
    const uint8_t *end = (const uint8_t *)data + bytes;
    const uint8_t *at = begin;
    /* Each round takes at least sizeof(OperationHeader), so the record's size bounds the loop. */
    for (uint32_t i = 0; i < header->operations; i++) {
        size_t step = operation_bytes(at, (size_t)(end - at));
        if (step == 0)
            return -EBADMSG;
        at += step;
    }
    if (end - at >= 8)
        return -EBADMSG;

    *ret = (Record){
        .revision = header->revision,
        .time_usec = header->time_usec,
        .identity = header->identity,
        .operations = header->operations,
        .bytes = header->bytes,
        .at = begin,
        .end = at,
    };
    return 0;
}

bool record_next_operation(Record *record, RecordOperation *ret)
{
    OperationHeader header;

    if (record->at >= record->end)
        return false;
    memcpy(&header, record->at, sizeof(header));
    const uint8_t *key = record->at + sizeof(header);
    const uint8_t *value = key + header.key_bytes;
    *ret = (RecordOperation){
        .kind = (RecordKind)header.kind,
        .key = BYTES(key, header.key_bytes),
    };
    if (header.kind == RECORD_PUT) {
        ret->value = BYTES(value, header.value_bytes);
    } else if (header.value_bytes == sizeof(RecordAttributes)) {
        RecordAttributes attributes;
        memcpy(&attributes, value, sizeof(attributes));
        ret->attributes = (ArenaAttributes){
            .max_bytes = attributes.max_bytes,
            .uid = attributes.uid,
            .gid = attributes.gid,
            .mode = attributes.mode,
        };
        ret->created_usec = attributes.created_usec;
    }
    record->at = value + header.value_bytes;
    return true;
}
