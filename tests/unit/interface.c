/* Unit tests of protocol/interface. */
#include "protocol/interface.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

Test(interface, descriptions_are_the_files)
{
    for (size_t i = 0; interface_names[i] != NULL; i++) {
        char path[4096];
        static char text[64 * 1024];
        size_t size;
        FILE *file;

        snprintf(path, sizeof(path), "%s/%s.varlink", PROTOCOL_DIRECTORY, interface_names[i]);
        file = fopen(path, "r");
        cr_assert(file != NULL, "%s", path);
        size = fread(text, 1, sizeof(text) - 1, file);
        fclose(file);
        text[size] = 0;
        cr_assert(eq(str, (char *)interface_description(bytes_of_text(interface_names[i])), text));
    }
}

Test(interface, speaks_both)
{
    bool service = false, holdfast = false;

    for (size_t i = 0; interface_names[i] != NULL; i++) {
        service |= strcmp(interface_names[i], "org.varlink.service") == 0;
        holdfast |= strcmp(interface_names[i], "io.holdfast") == 0;
    }
    cr_assert(service && holdfast);
}

Test(interface, unknown_names_have_no_description)
{
    cr_assert(interface_description(BYTES_OF("io.holdfas")) == NULL);
    cr_assert(interface_description(BYTES_OF("io.holdfast.")) == NULL);
    cr_assert(interface_description(BYTES(NULL, 0)) == NULL);
}
