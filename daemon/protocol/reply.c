/* Replies of Varlink.
 *
 * The normal way: reply_begin, the members of the parameters with the writer, reply_end; all in one
 * output buffer, no allocation besides it. An error is told by its name before the parameters;
 * whether the reply continues is known only at the end and comes last. What can go wrong is want of
 * memory, which the buffer remembers. */
#include "protocol/reply.h"

JsonWriter reply_begin(Buffer *out)
{
    buffer_append_text(out, "{\"parameters\":{");
    return json_writer(out);
}

JsonWriter reply_begin_error(Buffer *out, const char *name)
{
    buffer_append_text(out, "{\"error\":\"");
    buffer_append_text(out, name);
    buffer_append_text(out, "\",\"parameters\":{");
    return json_writer(out);
}

void reply_end(JsonWriter *writer, bool continues, char terminator)
{
    buffer_append_text(writer->out, continues ? "},\"continues\":true}" : "}}");
    buffer_append(writer->out, &terminator, 1);
}

Bytes reply_name(Bytes name)
{
    return BYTES(name.data, MIN(name.size, REPLY_NAME_MAX));
}

/* An error with one string. */
static void reply_error(Buffer *out, const char *error, const char *name, Bytes value,
                        char terminator)
{
    JsonWriter writer = reply_begin_error(out, error);
    json_name(&writer, name);
    json_quote(&writer, reply_name(value));
    reply_end(&writer, false, terminator);
}

void reply_method_not_found(Buffer *out, Bytes method, char terminator)
{
    reply_error(out, "org.varlink.service.MethodNotFound", "method", method, terminator);
}

void reply_interface_not_found(Buffer *out, Bytes interface, char terminator)
{
    reply_error(out, "org.varlink.service.InterfaceNotFound", "interface", interface, terminator);
}

void reply_invalid_parameter(Buffer *out, Bytes parameter, char terminator)
{
    reply_error(out, "org.varlink.service.InvalidParameter", "parameter", parameter, terminator);
}

void reply_permission_denied(Buffer *out, char terminator)
{
    JsonWriter writer = reply_begin_error(out, "org.varlink.service.PermissionDenied");
    reply_end(&writer, false, terminator);
}
