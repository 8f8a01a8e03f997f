/* See show.h. */
#include "show.h"

#include "base/clock.h"
#include "base/parse.h"

int show_raw(const Ctl *ctl, const char *method, const char *parameters, const char *member)
{
    HoldfastText value;
    const char *reply;
    size_t size;
    int r = holdfast_call(ctl->connection, method, parameters, &reply, &size);

    if (r != 0)
        return failure_call(ctl, r);
    value = (HoldfastText){reply, size};
    if (member != NULL && !print_member(reply, size, member, &value))
        return failure_call(ctl, -EBADMSG);
    print_json(ctl, value.data, value.size,
               ctl->options.json == JSON_OFF ? print_mode(ctl) : ctl->options.json);
    return STATUS_OK;
}

int show_tree(const Ctl *ctl, const char *method, json_t *parameters, const char *member)
{
    char *text = parameters != NULL ? json_dumps(parameters, JSON_COMPACT) : NULL;
    int status;

    json_decref(parameters);
    /* jansson makes no string of what is not UTF-8, and a text where memory is short it does not
     * make either. */
    if (text == NULL)
        return failure_call(ctl, -EILSEQ);
    status = show_raw(ctl, method, text, member);
    free(text);
    return status;
}

const char *show_age(char text[static SHOW_AGE_MAX], uint64_t usec)
{
    uint64_t now = clock_realtime();
    char duration[FORMAT_DURATION_MAX];

    if (usec == 0) {
        strcpy(text, "-");
        return text;
    }
    snprintf(text, SHOW_AGE_MAX, "%s ago", format_duration(duration, now > usec ? now - usec : 0));
    return text;
}
