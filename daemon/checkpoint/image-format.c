/* The texts of an image: what they may hold. They end up in names of files, in the log and on
 * terminals. */
#include "checkpoint/image-format.h"

#include "checkpoint/image-write.h"

/* Whether it holds letters, digits and others alone. */
static bool plain(Bytes text, const char *others)
{
    for (size_t i = 0; i < text.size; i++)
        if (!is_alphanumeric(text.data[i]) &&
            (text.data[i] == '\0' || strchr(others, text.data[i]) == NULL))
            return false;
    return true;
}

/* The text in a field, without its NUL; as long as the field where there is none. */
static Bytes text_in(const char *text, size_t field)
{
    return BYTES(text, strnlen(text, field));
}

bool image_label_valid(Bytes label)
{
    return label.size <= HOLDFAST_LABEL_MAX && plain(label, " _.:-");
}

bool image_id_fits(const char *id, size_t field)
{
    Bytes text = text_in(id, field);

    return text.size > 0 && text.size < field && text.size <= HOLDFAST_IMAGE_ID_MAX &&
           plain(text, "-_");
}

bool image_label_fits(const char *label, size_t field)
{
    Bytes text = text_in(label, field);

    return text.size < field && image_label_valid(text);
}

bool image_name_fits(const char *name, size_t field)
{
    Bytes text = text_in(name, field);

    return text.size < field && arena_name_valid(text);
}

bool image_mode_fits(uint32_t mode)
{
    return (mode & ~ARENA_MODE_MASK) == 0;
}
