/* Sealing and checking of batches. Sealing is the one place where checksums of records are made:
 * only when a batch is about to be written is it known where it goes, and a batch that could not be
 * written is sealed again for another segment. */
#include "journal/batch.h"

#include "base/checksum.h"
#include "journal/record.h"

static uint64_t batch_checksum(const BatchHeader *header, uint64_t salt)
{
    size_t skip = sizeof(header->checksum);
    return checksum_seeded((const uint8_t *)header + skip, sizeof(*header) - skip, salt);
}

/* Counts the records and finds the last one's revision. */
static int batch_walk(const uint8_t *data, size_t used, uint64_t base, uint64_t *ret_records,
                      uint64_t *ret_last)
{
    uint64_t records = 0;
    uint64_t last = base;

    for (size_t at = sizeof(BatchHeader); at < used;) {
        size_t bytes = record_bytes(data + at, used - at);
        if (bytes == 0)
            return -EBADMSG;
        const RecordHeader *record = (const RecordHeader *)(data + at);
        if (record->revision <= last)
            return -EBADMSG;
        last = record->revision;
        records++;
        at += bytes;
    }
    *ret_records = records;
    *ret_last = last;
    return 0;
}

int64_t batch_seal(void *data, size_t used, const BatchHeader *fields, uint64_t salt)
{
    uint8_t *bytes = data;
    BatchHeader header = *fields;

    int r = batch_walk(bytes, used, fields->base_revision, &header.records, &header.last_revision);
    if (r < 0)
        return r;
    header.magic = BATCH_MAGIC;
    header.bytes = used;
    header.reserved = 0;
    header.checksum = batch_checksum(&header, salt);
    memcpy(bytes, &header, sizeof(header));

    for (size_t at = sizeof(header); at < used;) {
        const RecordHeader *record = (const RecordHeader *)(bytes + at);
        record_seal(bytes + at, batch_record_seed(&header, header.offset + at));
        at += record->bytes;
    }
    size_t padded = batch_padded(used);
    memset(bytes + used, 0, padded - used);
    return (int64_t)padded;
}

bool batch_valid(const BatchHeader *header, uint64_t sequence, uint64_t offset, uint64_t salt)
{
    JournalMark place = {.segment = sequence, .offset = offset};

    return header->magic == BATCH_MAGIC && header->offset == offset &&
           header->bytes >= sizeof(*header) && header->bytes <= BATCH_BYTES_MAX &&
           header->checksum == batch_checksum(header, salt) &&
           /* Nothing behind a batch was durable when it was written. */
           journal_mark_compare(&header->mark, &place) <= 0;
}
