/* The interfaces that the daemon speaks. The table's rows are made from the .varlink files by
 * embed.py when this is built, so what introspection answers is the contract itself. Nothing can go
 * wrong. */
#include "protocol/interface.h"

typedef struct Interface {
    const char *name;
    const char *description;
} Interface;

static const Interface interfaces[] = {
#include "interface-texts.h"
};

/* In the order of the files in meson.build; a test holds the two together. */
const char *const interface_names[] = {"org.varlink.service", "io.holdfast", NULL};

static_assert(ARRAY_SIZE(interface_names) == ARRAY_SIZE(interfaces) + 1, "one name a description");

const char *interface_description(Bytes name)
{
    for (size_t i = 0; i < ARRAY_SIZE(interfaces); i++)
        if (bytes_equal(name, bytes_of_text(interfaces[i].name)))
            return interfaces[i].description;
    return NULL;
}
