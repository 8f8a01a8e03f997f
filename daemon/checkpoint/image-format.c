/* The texts of an image: what they may hold. They end up in names of files, in the log and on
 * terminals. */
#include "checkpoint/image-format.h"

static bool is_alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Whether text ends in NUL within its field, is at most max long and holds only letters, digits and
 * others. */
static bool text_fits(const char *text, size_t field, size_t max, const char *others)
{
    size_t length = strnlen(text, field);

    if (length == field || length > max)
        return false;
    for (size_t i = 0; i < length; i++)
        if (!is_alphanumeric(text[i]) && strchr(others, text[i]) == NULL)
            return false;
    return true;
}

bool image_id_fits(const char *id, size_t field)
{
    return text_fits(id, field, HOLDFAST_IMAGE_ID_MAX, "-_") && id[0] != '\0';
}

bool image_label_fits(const char *label, size_t field)
{
    return text_fits(label, field, HOLDFAST_LABEL_MAX, " _.:-");
}

bool image_name_fits(const char *name, size_t field)
{
    return text_fits(name, field, HOLDFAST_NAME_MAX, "_.-") && is_alphanumeric(name[0]);
}
