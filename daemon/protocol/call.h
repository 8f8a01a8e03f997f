/* A Varlink call: from the spans of a scan to method, flags and parameters by a table of fields. */
#pragma once

#include "base/buffer.h"
#include "protocol/json.h"
#include "protocol/scan.h"

typedef struct Call {
    Bytes method; /* characters; "io.holdfast.Put" */
    bool more;
    bool oneway;
    bool upgrade;
    /* The text of the message and its scan; good until the dispatcher returns, and again when a
     * parked call is retried. */
    const char *text;
    const Scan *scan;
    int parameters; /* index of the member "parameters" in the scan; -1: absent or null */
} Call;

/* Reads the call out of a complete message, scanned with 2 levels. 0, or -EBADMSG with a reason: no
 * object, no method, wrong types, unknown members; -ENOMEM (with a reason too). more, oneway,
 * upgrade and parameters may be null. scratch: takes the method's characters where they had
 * escapes. */
int call_parse(Call *call, const char *text, const Scan *scan, Buffer *scratch,
               const char **ret_reason);

/* --- parameters, by a table */

typedef enum FieldType {
    FIELD_STRING, /* Bytes: characters */
    FIELD_INT,    /* int64_t */
    FIELD_BOOL,   /* bool */
    FIELD_ANY, /* Bytes: compact JSON text; "null" where it is left out. The user checks the depth:
                  call_deeper */
    FIELD_ARRAY, /* Bytes: the text of the array as it was sent, for json_walk */
} FieldType;

typedef struct Field {
    const char *name;
    FieldType type;
    bool required; /* absent or null is InvalidParameter */
    size_t offset; /* of the value in the parameters' struct, which the caller zeroed or filled with
                      defaults */
    size_t given; /* offset of a bool that says whether it was there and not null; 0: nobody asks */
} Field;

/* Fills parameters by the table of count fields. 0, or -EINVAL with the name of the offending
 * parameter (unknown, missing, of the wrong type) in ret_parameter, which lies in the message or
 * the table; -ENOMEM. On failure parameters may be filled in part. scratch: takes unescaped strings
 * and compacted values, good until it is cleared or something else is appended to it: room for all
 * of them, and for what call_object finds within a FIELD_ARRAY, is reserved at once, so that
 * nothing moves. */
int call_parameters(const Call *call, const Field *fields, size_t count, void *parameters,
                    Buffer *scratch, Bytes *ret_parameter);
/* The same for an object within the parameters (an operation of an Apply): object is its validated
 * text. A text that is no object is -EINVAL with an empty name. */
int call_object(Bytes object, const Field *fields, size_t count, void *parameters, Buffer *scratch,
                Bytes *ret_parameter);
/* Whether a value of the call is nested deeper than that. Looks at the value only where the message
 * is that deep. */
bool call_deeper(const Call *call, Bytes value, unsigned depth_max);
