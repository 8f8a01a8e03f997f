/* Replies of Varlink, appended to an output buffer: {"parameters":{...}} with "continues" or
 * "error". */
#pragma once

#include "base/buffer.h"
#include "protocol/json.h"

/* Opens a reply: the caller writes the members of its parameters with the writer, then calls
 * reply_end. */
JsonWriter reply_begin(Buffer *out);
/* The same for an error; name: "io.holdfast.NoSuchKey". */
JsonWriter reply_begin_error(Buffer *out, const char *name);
/* terminator: '\0' (Varlink) or '\n'. continues only where more was asked, never with an error. */
void reply_end(JsonWriter *writer, bool continues, char terminator);

/* A name that the client made up, as an error gives it back: no longer than any that there is, so
 * that no error is longer than a message may be. */
#define REPLY_NAME_MAX 1024
Bytes reply_name(Bytes name);

/* The errors of org.varlink.service, whole. */
void reply_method_not_found(Buffer *out, Bytes method, char terminator);
void reply_interface_not_found(Buffer *out, Bytes interface, char terminator);
void reply_invalid_parameter(Buffer *out, Bytes parameter, char terminator);
void reply_permission_denied(Buffer *out, char terminator);
