/* schema.c - option tables as JSON schema, for editors and for those who generate files.
 *
 * Sizes and durations are texts with a unit; a number alone is allowed where the parser
 * takes one.  What a schema cannot say (a template's grammar, files that must exist) is
 * left to `millrace check`.
 */
#include "config/config_internal.h"

#include <inttypes.h>

struct schema {
    void (*write)(void *arg, const char *text, size_t len);
    void *arg;
};

static void put(const struct schema *to, const char *text)
{
    to->write(to->arg, text, strlen(text));
}

static void put_string(const struct schema *to, const char *text)
{
    put(to, "\"");
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            put(to, "\\");
        }
        to->write(to->arg, text, 1);
    }
    put(to, "\"");
}

static void put_table(const struct schema *to, const struct mr_option *const *tables,
                      size_t table_count);

static void put_choices(const struct schema *to, const struct mr_option *option)
{
    /* YAML reads a bare true, false or number as such; both are written by people. */
    put(to, "\"enum\":[");
    for (size_t i = 0; option->choices[i] != NULL; i++) {
        const char *choice = option->choices[i];
        put(to, i == 0 ? "" : ",");
        put_string(to, choice);
        if (strcmp(choice, "true") == 0 || strcmp(choice, "false") == 0 ||
            strspn(choice, "0123456789") == strlen(choice)) {
            put(to, ",");
            put(to, choice);
        }
    }
    put(to, "]");
}

static void put_range(const struct schema *to, const struct mr_option *option)
{
    char buffer[96];
    struct mr_text text = mr_text_over(buffer, sizeof(buffer));

    if (option->min != 0) {
        mr_text_fmt(&text, ",\"minimum\":%" PRIu64, option->min);
    }
    if (option->max != 0) {
        mr_text_fmt(&text, ",\"maximum\":%" PRIu64, option->max);
    }
    put(to, buffer);
}

static void put_type(const struct schema *to, const struct mr_option *option)
{
    static const char secret[] =
        "\"oneOf\":[{\"type\":\"string\"},{\"type\":\"object\",\"properties\":{\"file\":{\"type\":"
        "\"string\"},\"credential\":{\"type\":\"string\"}},\"additionalProperties\":false}]";

    switch (option->type) {
    case MR_OPT_U64:
        put(to, "\"type\":\"integer\"");
        put_range(to, option);
        break;
    case MR_OPT_BOOL:
        put(to, "\"type\":\"boolean\"");
        break;
    case MR_OPT_CHOICE:
        put_choices(to, option);
        break;
    case MR_OPT_SIZE:
    case MR_OPT_DURATION:
        put(to, "\"type\":[\"string\",\"integer\"]");
        break;
    case MR_OPT_LIST:
        put(to, "\"type\":[\"array\",\"string\"],\"items\":{\"type\":\"string\"}");
        break;
    case MR_OPT_PAIRS:
        put(to, "\"type\":\"object\"");
        break;
    case MR_OPT_SECRET:
        put(to, secret);
        break;
    case MR_OPT_SECTION:
        put(to, "\"type\":\"object\",");
        put_table(to, &option->table, 1);
        break;
    default:
        put(to, "\"type\":[\"string\",\"number\",\"boolean\"]");
        break;
    }
}

static void put_option(const struct schema *to, const struct mr_option *option)
{
    put_string(to, option->name);
    put(to, ":{");
    put_type(to, option);
    if (option->help != NULL) {
        put(to, ",\"description\":");
        put_string(to, option->help);
    }
    if (option->default_text != NULL) {
        put(to, ",\"default\":");
        put_string(to, option->default_text);
    }
    put(to, "}");
}

static void put_table(const struct schema *to, const struct mr_option *const *tables,
                      size_t table_count)
{
    bool first = true;

    put(to, "\"properties\":{");
    for (size_t i = 0; i < table_count; i++) {
        for (const struct mr_option *option = tables[i]; option->name != NULL; option++) {
            put(to, first ? "" : ",");
            put_option(to, option);
            first = false;
        }
    }
    put(to, "},\"required\":[");
    first = true;
    for (size_t i = 0; i < table_count; i++) {
        for (const struct mr_option *option = tables[i]; option->name != NULL; option++) {
            if (option->required) {
                put(to, first ? "" : ",");
                put_string(to, option->name);
                first = false;
            }
        }
    }
    put(to, "],\"additionalProperties\":false");
}

void mr_config_schema(const struct mr_option *const *tables, size_t table_count,
                      void (*write)(void *arg, const char *text, size_t len), void *arg)
{
    put_table(&(struct schema){.write = write, .arg = arg}, tables, table_count);
}
