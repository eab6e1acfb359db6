/* test_template.c
 * links: pipeline journal codec config os base
 *
 * Goal:   a template renders exactly what its rules say; what it cannot render is
 *         a reason, never an empty text; mistakes are told with their column.
 * Method: tables of template, event and result, by hand.
 */
#include "pipeline/template.h"

#include <stdio.h>
#include <stdlib.h>

static const struct mr_template_vars press = {
    .client = {(const uint8_t *)"press-4", 7},
    .username = {(const uint8_t *)"", 0},
    .topic = {(const uint8_t *)"plant/temp/7", 12},
};

static const struct {
    const char *text;
    enum mr_template_use use;
    const char *topic; /* NULL: the one of `press` */
    const char *expected;
    const char *reason; /* instead of `expected` */
} renderings[] = {
    {"sensor_${topic[1]}", MR_TEMPLATE_DEST, NULL, "sensor_temp", NULL},
    {"sensor_${topic[0]}_${topic[2]}", MR_TEMPLATE_DEST, NULL, "sensor_plant_7", NULL},
    {"all", MR_TEMPLATE_DEST, NULL, "all", NULL},
    {"a_${topic}", MR_TEMPLATE_DEST, NULL, "a_plant_temp_7", NULL},
    /* each character outside the set is one '_', a two-byte one too */
    {"a_${topic}", MR_TEMPLATE_DEST, "x y/\xc3\xa9/../$", "a_x_y___..__", NULL},
    {"a.${clientid}", MR_TEMPLATE_DEST, NULL, "a.press-4", NULL},
    {"${clientid}", MR_TEMPLATE_TEXT, NULL, "press-4", NULL},
    {"${topic}", MR_TEMPLATE_TEXT, "a b/\xc3\xa9", "a b/\xc3\xa9", NULL},
    {"$${clientid}", MR_TEMPLATE_TEXT, NULL, "${clientid}", NULL},
    {"5$ $x $$ ${topic[2]}$", MR_TEMPLATE_TEXT, NULL, "5$ $x $$ 7$", NULL},
    {"p_${topic[1]}", MR_TEMPLATE_DEST, "a//b", "p_", NULL}, /* an empty level is a level */
    {"p_${topic[3]}", MR_TEMPLATE_DEST, NULL, NULL, "the topic has no level 3 (it has 3, from 0)"},
    {"${username}", MR_TEMPLATE_TEXT, NULL, NULL, "the device has no user name"},
};

static void test_renders(void)
{
    for (size_t i = 0; i < MR_COUNT_OF(renderings); i++) {
        struct mr_template *tmpl = NULL;
        struct mr_error why = {.text = ""};
        struct mr_template_vars vars = press;
        uint8_t out[256];
        size_t len = 0;

        if (renderings[i].topic != NULL) {
            vars.topic = mr_span_of(renderings[i].topic);
        }
        mr_assert(mr_template_compile(&tmpl, "topic", renderings[i].text, renderings[i].use,
                                      &why) == MR_OK);
        mr_assert(mr_template_size(tmpl, &vars) <= sizeof(out));
        enum mr_err err = mr_template_render(tmpl, &vars, out, &len, &why);
        if (renderings[i].expected == NULL) {
            mr_assert(err == MR_ERR_REJECT && strcmp(why.text, renderings[i].reason) == 0);
        } else {
            mr_assert(err == MR_OK && mr_span_is(mr_span_make(out, len), renderings[i].expected));
        }
        mr_template_free(tmpl);
    }
}

static const struct {
    const char *text;
    enum mr_template_use use;
    const char *part; /* of the message */
} mistakes[] = {
    {"", MR_TEMPLATE_TEXT, "is empty"},
    {"${topic[1]}_x", MR_TEMPLATE_DEST, "begin with literal text"},
    {"a_${topic", MR_TEMPLATE_DEST, "column 3 of 'a_${topic': '${' is not closed"},
    {"a_${topic[x]}", MR_TEMPLATE_DEST, "column 10 of 'a_${topic[x]}': a topic level is written"},
    {"a_${topic[]}", MR_TEMPLATE_DEST, "a topic level is written"},
    {"a_${topic[-1]}", MR_TEMPLATE_DEST, "a topic level is written"},
    {"a_${topic[99999]}", MR_TEMPLATE_DEST, "from 0 to 65535"},
    {"${clientId}", MR_TEMPLATE_TEXT,
     "column 3 of '${clientId}': there is no '${clientId}'; did "
     "you mean '${clientid}'?"},
    {"${topics[1]}", MR_TEMPLATE_TEXT, "did you mean '${topic}'?"},
    {"${payload.x}", MR_TEMPLATE_TEXT, "there is no '${payload.x}'; available are ${clientid}"},
    {"${clientid[1]}", MR_TEMPLATE_TEXT, "there is no"},
    {"${}", MR_TEMPLATE_TEXT, "there is no"},
};

static void test_tells_mistakes(void)
{
    for (size_t i = 0; i < MR_COUNT_OF(mistakes); i++) {
        struct mr_template *tmpl = NULL;
        struct mr_error why = {.text = ""};

        mr_assert(mr_template_compile(&tmpl, "topic", mistakes[i].text, mistakes[i].use, &why) ==
                  MR_ERR_CONFIG);
        if (strstr(why.text, mistakes[i].part) == NULL) {
            printf("for '%s': %s\n", mistakes[i].text, why.text);
            mr_assert(false);
        }
        mr_assert(strncmp(why.text, "topic: ", 7) == 0);
        mr_assert(tmpl == NULL);
    }
}

static void test_knows_literals(void)
{
    struct mr_template *tmpl = NULL;

    mr_assert(mr_template_compile(&tmpl, "topic", "$${x}", MR_TEMPLATE_DEST, NULL) == MR_OK);
    mr_assert(strcmp(mr_template_literal(tmpl), "${x}") == 0);
    mr_template_free(tmpl);
    mr_assert(mr_template_compile(&tmpl, "topic", "a${topic}", MR_TEMPLATE_DEST, NULL) == MR_OK);
    mr_assert(mr_template_literal(tmpl) == NULL);
    mr_template_free(tmpl);
    mr_template_free(NULL);
}

static void test_bounds_the_parts(void)
{
    char text[33 * 8 + 1] = "";
    struct mr_template *tmpl = NULL;
    struct mr_error why;

    for (int i = 0; i < 33; i++) {
        memcpy(text + strlen(text), "${topic}", 9);
    }
    mr_assert(mr_template_compile(&tmpl, "key", text, MR_TEMPLATE_TEXT, &why) == MR_ERR_CONFIG);
    mr_assert(strstr(why.text, "more than 32 parts") != NULL);
}

int main(void)
{
    test_renders();
    test_tells_mistakes();
    test_knows_literals();
    test_bounds_the_parts();
    return 0;
}
