/* call, introspect, metrics, reload. */
#include "../lib/text.h"
#include "show.h"

static int print_reply(void *context, const char *reply, size_t length)
{
    const Ctl *ctl = context;

    print_json(ctl, reply, length, print_mode(ctl));
    fflush(stdout);
    return print_check();
}

int verb_call(Ctl *ctl, int count, char **arguments)
{
    const char *parameters = count > 1 ? arguments[1] : "{}";
    HoldfastText whole;
    int r;

    if (!hf_text_whole((HoldfastText){parameters, strlen(parameters)}, &whole) ||
        hf_text_type(whole) != HF_TEXT_OBJECT)
        return failure(STATUS_USAGE, "the parameters are no JSON object");
    if (!ctl->options.more)
        return show_raw(ctl, arguments[0], parameters, NULL);
    r = holdfast_stream(ctl->connection, arguments[0], parameters, print_reply, ctl);
    return r != 0 && print_check() == 0 ? failure_call(ctl, r) : STATUS_OK;
}

int verb_introspect(Ctl *ctl, int count, char **arguments)
{
    const char *description;
    int r =
        holdfast_describe(ctl->connection, count > 0 ? arguments[0] : "io.holdfast", &description);

    if (r != 0)
        return failure_call(ctl, r);
    fputs(description, stdout);
    return STATUS_OK;
}

int verb_metrics(Ctl *ctl, int count, char **arguments)
{
    const char *text;
    size_t length;
    int r;

    (void)count;
    (void)arguments;
    if (ctl->options.json != JSON_OFF)
        return show_raw(ctl, "GetMetrics", "{}", NULL);
    r = holdfast_get_metrics(ctl->connection, &text, &length);
    if (r != 0)
        return failure_call(ctl, r);
    fwrite(text, 1, length, stdout);
    return STATUS_OK;
}

int verb_reload(Ctl *ctl, int count, char **arguments)
{
    char **ignored;
    int r;

    (void)count;
    (void)arguments;
    if (ctl->options.json != JSON_OFF)
        return show_raw(ctl, "Reload", "{}", NULL);
    r = holdfast_reload(ctl->connection, &ignored);
    if (r != 0)
        return failure_call(ctl, r);
    for (size_t i = 0; ignored[i] != NULL && !ctl->options.quiet; i++)
        fprintf(stderr, "holdfastctl: %s cannot change while the daemon runs\n", ignored[i]);
    holdfast_names_free(ignored);
    return STATUS_OK;
}
