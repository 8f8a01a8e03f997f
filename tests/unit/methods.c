/* The tables of methods, fields and errors against the interface's own file: neither knows a name
 * that the other does not, and a field is required where its type is not nullable. */

#include <criterion/criterion.h>
#include <stdio.h>

#include "methods/methods.h"
#include "protocol/interface.h"

/* The next declaration of that kind behind *at: its name, and for methods its parameters' text. */
static bool next_declaration(const char **at, const char *keyword, char name[64],
                             char parameters[512])
{
    char sought[32];
    const char *found;
    int read = 0;

    snprintf(sought, sizeof(sought), "\n%s ", keyword);
    found = strstr(*at, sought);
    if (!found)
        return false;
    parameters[0] = '\0';
    cr_assert(sscanf(found + strlen(sought), "%63[A-Za-z] %n", name, &read) >= 1);
    found += strlen(sought) + (size_t)read;
    cr_assert_eq(*found, '(');
    sscanf(found, "(%511[^)])", parameters);
    *at = found;
    return true;
}

static const MethodInfo *find_info(const char *interface, const char *name)
{
    const MethodInfo *infos;
    size_t count = methods_table(&infos);

    for (size_t i = 0; i < count; i++)
        if (strcmp(infos[i].interface, interface) == 0 && strcmp(infos[i].name, name) == 0)
            return &infos[i];
    return NULL;
}

static const Field *find_field(const MethodInfo *info, const char *name)
{
    for (size_t i = 0; i < info->field_count; i++)
        if (strcmp(info->fields[i].name, name) == 0)
            return &info->fields[i];
    return NULL;
}

static FieldType field_type(const char *type)
{
    static const struct {
        const char *prefix;
        FieldType type;
    } types[] = {{"string", FIELD_STRING},
                 {"int", FIELD_INT},
                 {"bool", FIELD_BOOL},
                 {"object", FIELD_ANY},
                 {"[]", FIELD_ARRAY}};

    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if (strncmp(type, types[i].prefix, strlen(types[i].prefix)) == 0)
            return types[i].type;
    cr_assert_fail("unknown type %s", type);
    return FIELD_ANY;
}

/* Holds one method's parameters against its fields. */
static void compare_parameters(const MethodInfo *info, char *parameters)
{
    size_t count = 0;
    char *rest = NULL;

    for (char *one = strtok_r(parameters, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
        char name[64], type[64];
        const Field *field;
        bool nullable;

        cr_assert_eq(sscanf(one, " %63[A-Za-z]: %63s", name, type), 2, "%s", one);
        field = find_field(info, name);
        cr_assert_not_null(field, "%s has no field %s", info->name, name);
        nullable = type[0] == '?';
        cr_assert_eq(field->required, !nullable, "%s.%s", info->name, name);
        cr_assert_eq(field->type, field_type(type + nullable), "%s.%s", info->name, name);
        count++;
    }
    cr_assert_eq(count, info->field_count, "%s has %zu fields in the table, %zu in the file",
                 info->name, info->field_count, count);
}

static size_t compare_methods(const char *interface)
{
    const char *at = interface_description(bytes_of_text(interface));
    char name[64], parameters[512];
    size_t count = 0;

    while (next_declaration(&at, "method", name, parameters)) {
        const MethodInfo *info = find_info(interface, name);

        cr_assert_not_null(info, "%s.%s is not in the table", interface, name);
        compare_parameters(info, parameters);
        count++;
    }
    return count;
}

Test(methods, tables_are_what_the_interface_says)
{
    const MethodInfo *infos;
    size_t methods = compare_methods("io.holdfast") + compare_methods("org.varlink.service");

    cr_assert_eq(methods, methods_table(&infos));
    cr_assert_gt(methods, 20);
}

Test(methods, errors_are_what_the_interface_says)
{
    const char *at = interface_description(BYTES_OF("io.holdfast"));
    char name[64], parameters[512], full[96];
    size_t declared = 0, known = 0;

    while (next_declaration(&at, "error", name, parameters)) {
        bool found = false;

        snprintf(full, sizeof(full), "io.holdfast.%s", name);
        for (const char *const *error = methods_errors; *error; error++)
            found = found || strcmp(*error, full) == 0;
        cr_assert(found, "%s is not in the table", full);
        declared++;
    }
    while (methods_errors[known])
        known++;
    cr_assert_eq(known, declared);
}
