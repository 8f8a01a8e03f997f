/* Calls as text: building their messages, the blocking call, the stream, and the two halves of
 * pipelining. The typed calls of the other files are made of the same parts. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "connection.h"

const char *holdfast_error_name(const HoldfastConnection *connection)
{
    return connection->error_name;
}

const char *holdfast_error_parameters(const HoldfastConnection *connection)
{
    return connection->error_parameters;
}

bool holdfast_error_is(const HoldfastConnection *connection, const char *name)
{
    const char *error = connection->error_name;
    size_t length = strlen(HF_INTERFACE);

    if (strchr(name, '.') == NULL && strncmp(error, HF_INTERFACE ".", length + 1) == 0)
        error += length + 1;
    return strcmp(error, name) == 0;
}

int hf_call_begin(HoldfastConnection *connection, const char *method, unsigned flags)
{
    HfOutput *out = &connection->out;
    char name[256];
    int n = snprintf(name, sizeof(name), "%s%s",
                     strchr(method, '.') != NULL ? "" : HF_INTERFACE ".", method);

    hf_forget_error(connection);
    if (connection->dead < 0)
        return connection->dead;
    if (connection->write_error < 0)
        return connection->write_error;
    if (n < 0 || (size_t)n >= sizeof(name))
        return -EINVAL;
    connection->call_begin = hf_output_size(out);
    hf_output_literal(out, "{\"method\":");
    hf_output_string(out, name, (size_t)n);
    if (flags & HOLDFAST_MORE)
        hf_output_literal(out, ",\"more\":true");
    if (flags & HOLDFAST_ONEWAY)
        hf_output_literal(out, ",\"oneway\":true");
    hf_output_literal(out, ",\"parameters\":");
    return 0;
}

int hf_call_end(HoldfastConnection *connection, unsigned flags)
{
    HfOutput *out = &connection->out;
    int r;

    hf_output_append(out, "}", sizeof("}"));
    r = out->failed;
    if (r == 0 && hf_output_size(out) - connection->call_begin > HOLDFAST_MESSAGE_MAX)
        r = -EMSGSIZE;
    if (r < 0) {
        hf_output_rewind(out, connection->call_begin);
        return r;
    }
    if (!(flags & HOLDFAST_ONEWAY))
        connection->outstanding++;
    return 0;
}

int hf_call_begin_alone(HoldfastConnection *connection, const char *method, unsigned flags)
{
    int r = hf_check_idle(connection);

    return r == 0 ? hf_call_begin(connection, method, flags) : r;
}

int hf_call_begin_named(HoldfastConnection *connection, const char *method, unsigned flags,
                        const char *opening, const char *name)
{
    int r = hf_call_begin_alone(connection, method, flags);

    if (r < 0)
        return r;
    hf_output_literal(&connection->out, opening);
    hf_output_string(&connection->out, name, strlen(name));
    return 0;
}

int hf_call_finish(HoldfastConnection *connection, HfReply *ret)
{
    int r = hf_call_end(connection, 0);

    return r == 0 ? hf_wait(connection, ret) : r;
}

int hf_call_simple(HoldfastConnection *connection, const char *method, HfReply *ret)
{
    int r = hf_call_begin_alone(connection, method, 0);

    if (r < 0)
        return r;
    hf_output_literal(&connection->out, "{}");
    return hf_call_finish(connection, ret);
}

int hf_members(HoldfastText object, const char *const names[], HoldfastText values[], size_t count)
{
    HoldfastText name, value;
    HfTextWalk walk;
    int r;

    memset(values, 0, count * sizeof(values[0]));
    if (!hf_text_walk(object, &walk) || !walk.object)
        return -EBADMSG;
    while ((r = hf_text_next(&walk, &name, &value)) > 0)
        for (size_t i = 0; i < count; i++)
            if (hf_text_is(name, names[i]))
                values[i] = value;
    return r;
}

const char *hf_terminate(HoldfastText text)
{
    char *data = (char *)(uintptr_t)text.data;

    data[text.size] = '\0';
    return data;
}

int hf_unquote(HoldfastText *string)
{
    HoldfastText inner;
    long length;

    if (hf_text_type(*string) != HF_TEXT_STRING)
        return -EBADMSG;
    inner = hf_text_inner(*string);
    length = hf_text_unescape(inner, (char *)(uintptr_t)inner.data);
    if (length < 0)
        return -EBADMSG;
    inner.size = (size_t)length;
    (void)hf_terminate(inner);
    *string = inner;
    return 0;
}

/* Parameters must be an object: another value would be no call, and cost the connection. */
static int append_call(HoldfastConnection *connection, const char *method, HoldfastText parameters,
                       unsigned flags)
{
    HoldfastText value = {"{}", 2};
    int r;

    if (parameters.data != NULL &&
        (!hf_text_whole(parameters, &value) || hf_text_type(value) != HF_TEXT_OBJECT))
        return -EINVAL;
    r = hf_call_begin(connection, method, flags);
    if (r < 0)
        return r;
    hf_output_value(&connection->out, value.data, value.size);
    return hf_call_end(connection, flags);
}

static HoldfastText text_of(const char *text)
{
    return (HoldfastText){text, text != NULL ? strlen(text) : 0};
}

int holdfast_call(HoldfastConnection *connection, const char *method, const char *parameters,
                  const char **ret_reply, size_t *ret_length)
{
    HfReply reply;
    int r = hf_check_idle(connection);

    if (r == 0)
        r = append_call(connection, method, text_of(parameters), 0);
    if (r == 0)
        r = hf_wait(connection, &reply);
    if (r != 0)
        return r;
    if (ret_reply != NULL)
        *ret_reply = reply.parameters.data;
    if (ret_length != NULL)
        *ret_length = reply.parameters.size;
    return 0;
}

int hf_stream(HoldfastConnection *connection, HfReplyFunction function, void *context)
{
    for (;;) {
        HfReply reply;
        int r = hf_wait(connection, &reply);
        if (r != 0)
            return r;
        r = function(context, &reply);
        if (r != 0 && reply.continues)
            hf_give_up(connection);
        if (r != 0 || !reply.continues)
            return r;
    }
}

typedef struct TextStream {
    HoldfastReplyFunction function;
    void *context;
} TextStream;

static int give_text(void *context, HfReply *reply)
{
    TextStream *stream = context;

    return stream->function(stream->context, reply->parameters.data, reply->parameters.size);
}

int holdfast_stream(HoldfastConnection *connection, const char *method, const char *parameters,
                    HoldfastReplyFunction function, void *context)
{
    TextStream stream = {.function = function, .context = context};
    int r = hf_check_idle(connection);

    if (r == 0)
        r = append_call(connection, method, text_of(parameters), HOLDFAST_MORE);
    return r == 0 ? hf_stream(connection, give_text, &stream) : r;
}

int holdfast_send(HoldfastConnection *connection, const char *method, const char *parameters,
                  size_t length, unsigned flags)
{
    hf_forget_error(connection);
    if ((flags & ~(unsigned)(HOLDFAST_MORE | HOLDFAST_ONEWAY)) != 0 ||
        flags == (HOLDFAST_MORE | HOLDFAST_ONEWAY))
        return -EINVAL;
    /* Before this call is added, so that one that could not be sent leaves it unsent as a whole. */
    if (hf_output_size(&connection->out) >= HF_GATHER_BYTES) {
        int r = hf_flush(connection, hf_deadline(connection));
        if (r < 0)
            return r;
    }
    return append_call(connection, method, (HoldfastText){parameters, length}, flags);
}

int holdfast_receive(HoldfastConnection *connection, const char **ret_reply, size_t *ret_length,
                     bool *ret_continues)
{
    HfReply reply;
    int r = hf_receive(connection, hf_deadline(connection), &reply);

    if (r != 0)
        return r;
    if (ret_reply != NULL)
        *ret_reply = reply.parameters.data;
    if (ret_length != NULL)
        *ret_length = reply.parameters.size;
    if (ret_continues != NULL)
        *ret_continues = reply.continues;
    return 0;
}
