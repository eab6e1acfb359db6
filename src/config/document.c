/* document.c - an option table as Markdown: docs/CONFIG.md is made of these. */
#include "config/config_internal.h"

#include <stdarg.h>
#include <stdio.h>

struct document {
    void (*write)(void *arg, const char *text, size_t len);
    void *arg;
};

static void put(struct document *to, const char *text)
{
    to->write(to->arg, text, strlen(text));
}

/* Text inside a cell: a '|' would end it. */
static void put_cell(struct document *to, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '|') {
            put(to, "\\");
        }
        to->write(to->arg, text, 1);
    }
}

static void put_type(struct document *to, const struct mr_option *option)
{
    static const char *const nouns[] = {
        [MR_OPT_STR] = "text",
        [MR_OPT_SECRET] = "secret",
        [MR_OPT_PATH] = "path",
        [MR_OPT_U64] = "number",
        [MR_OPT_SIZE] = "size",
        [MR_OPT_DURATION] = "duration",
        [MR_OPT_BOOL] = "true, false",
        [MR_OPT_LIST] = "list of texts",
        [MR_OPT_PAIRS] = "keys and texts",
    };

    if (option->type == MR_OPT_CHOICE || option->type == MR_OPT_CHOICE_OR_PAIRS) {
        for (size_t i = 0; option->choices[i] != NULL; i++) {
            put(to, i == 0 ? "`" : ", `");
            put_cell(to, option->choices[i]);
            put(to, "`");
        }
        put(to, option->type == MR_OPT_CHOICE ? "" : ", or keys and texts");
        return;
    }
    if (option->zero_word != NULL) {
        put(to, "`");
        put_cell(to, option->zero_word);
        put(to, "` or ");
    }
    put(to, nouns[option->type]);
    if (option->min != 0 || option->max != 0) {
        char buffer[96];
        struct mr_text range = mr_text_over(buffer, sizeof(buffer));
        config_range_describe(option, &range);
        put(to, ", ");
        put(to, buffer);
    }
}

static void put_rows(struct document *to, const char *prefix, const struct mr_option *table)
{
    for (const struct mr_option *option = table; option->name != NULL; option++) {
        char buffer[256];
        struct mr_text name = mr_text_over(buffer, sizeof(buffer));

        mr_text_add(&name, prefix);
        mr_text_add(&name, option->name);
        if (option->type == MR_OPT_SECTION) {
            mr_text_add(&name, ".");
            put_rows(to, buffer, option->table);
            continue;
        }
        put(to, "| `");
        put_cell(to, buffer);
        put(to, "` | ");
        put_type(to, option);
        put(to, " | ");
        if (option->required) {
            put(to, "required");
        } else if (option->default_text != NULL) {
            put(to, "`");
            put_cell(to, option->default_text);
            put(to, "`");
        }
        put(to, " | ");
        put_cell(to, option->help == NULL ? "" : option->help);
        put(to, " |\n");
    }
}

void mr_config_document(const char *title, const struct mr_option *table,
                        void (*write)(void *arg, const char *text, size_t len), void *arg)
{
    struct document to = {.write = write, .arg = arg};

    put(&to, "### ");
    put(&to, title);
    put(&to, "\n\n| key | value | default | meaning |\n|---|---|---|---|\n");
    put_rows(&to, "", table);
    put(&to, "\n");
}
