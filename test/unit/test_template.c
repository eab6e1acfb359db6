/* test_template.c
 * links: pipeline journal codec config os base
 *
 * Goal:   a template renders exactly what its rules say; what it cannot render is
 *         a reason, never an empty text; what it needs of an event is known
 *         beforehand; mistakes are told with their column.
 * Method: tables of template, event and result, by hand.
 */
#include "pipeline/template.h"

#include <stdio.h>
#include <stdlib.h>

static struct mr_json_fields *fields; /* of main() */

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
        mr_assert(mr_template_compile(&tmpl, "topic", renderings[i].text, renderings[i].use, fields,
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
    {"${topics[1]}", MR_TEMPLATE_TEXT, "did you mean '${topic[1]}'?"},
    {"${payloads.x}", MR_TEMPLATE_TEXT,
     "there is no '${payloads.x}'; did you mean '${payload.x}'?"},
    {"${prop.x}", MR_TEMPLATE_TEXT, "did you mean '${props.x}'?"},
    {"${weather}", MR_TEMPLATE_TEXT, "available are ${clientid}, ${username}, ${topic}"},
    {"${clientid[1]}", MR_TEMPLATE_TEXT, "there is no"},
    {"${props}", MR_TEMPLATE_TEXT, "there is no"},
    {"${props.}", MR_TEMPLATE_TEXT, "a property is written ${props.name}"},
    {"${props.user_properties.}", MR_TEMPLATE_TEXT, "a property is written"},
    {"${payload.}", MR_TEMPLATE_TEXT, "column 10 of '${payload.}': a field has an empty name"},
    {"a ${payload.a[b]}", MR_TEMPLATE_TEXT, "between '[' and ']' stands a number from 0"},
    {"${payload[\"a]}", MR_TEMPLATE_TEXT, "is not closed"},
    {"${payload.id}_x", MR_TEMPLATE_DEST, "begin with literal text"},
    {"${}", MR_TEMPLATE_TEXT, "there is no"},
};

static void test_tells_mistakes(void)
{
    for (size_t i = 0; i < MR_COUNT_OF(mistakes); i++) {
        struct mr_template *tmpl = NULL;
        struct mr_error why = {.text = ""};

        mr_assert(mr_template_compile(&tmpl, "topic", mistakes[i].text, mistakes[i].use, fields,
                                      &why) == MR_ERR_CONFIG);
        if (strstr(why.text, mistakes[i].part) == NULL) {
            printf("for '%s': %s\n", mistakes[i].text, why.text);
            mr_assert(false);
        }
        mr_assert(strncmp(why.text, "topic: ", 7) == 0);
        mr_assert(tmpl == NULL);
    }
}

/* ---- what follows from more than the names ---- */

static const struct {
    const char *text;
    const char *payload;
    const char *expected;
    const char *reason; /* instead of `expected` */
    unsigned needs;
} varying[] = {
    {"${qos}/${retain}", "", "1/true", NULL, MR_TEMPLATE_NEEDS_EVENT},
    {"${received}", "", "1763920561123", NULL, MR_TEMPLATE_NEEDS_RECEIVED},
    {"<${payload}>", "a b", "<a b>", NULL, MR_TEMPLATE_NEEDS_EVENT},
    {"<${payload}>", "", "<>", NULL, MR_TEMPLATE_NEEDS_EVENT},
    {"${payload.a.b}", "{\"a\":{\"b\":1.50}}", "1.50", NULL, MR_TEMPLATE_NEEDS_FIELDS},
    {"${payload[\"a.b\"]}-${clientid}", "{\"a.b\":true}", "true-press-4", NULL,
     MR_TEMPLATE_NEEDS_FIELDS},
    {"${payload.v[1]}", "{\"v\":[1,\"two\"]}", "two", NULL, MR_TEMPLATE_NEEDS_FIELDS},
    {"${payload.a}", "{\"a\":\"\"}", "", NULL, MR_TEMPLATE_NEEDS_FIELDS},
    {"${payload.a}", "{}", NULL, "the payload has no field 'a'", MR_TEMPLATE_NEEDS_FIELDS},
    {"${payload.a.b}", "{\"a\":7}", NULL, "the payload has no field 'a.b'",
     MR_TEMPLATE_NEEDS_FIELDS},
    {"${payload.a}", "{\"a\":null}", NULL, "the payload's field 'a' is null",
     MR_TEMPLATE_NEEDS_FIELDS},
    {"${payload[0].a}", "21.5 C", NULL, "the payload is not JSON, so it has no field '[0].a'",
     MR_TEMPLATE_NEEDS_FIELDS},
    {"${payload.a:-none}", "{}", "none", NULL, MR_TEMPLATE_NEEDS_FIELDS},
    {"${payload.a:-}", "not JSON", "", NULL, MR_TEMPLATE_NEEDS_FIELDS},
    {"${payload.a:-x:-y}", "{\"a\":null}", "x:-y", NULL, MR_TEMPLATE_NEEDS_FIELDS},
    {"${payload[\"a:-b\"]:-c}", "{\"a:-b\":1}", "1", NULL, MR_TEMPLATE_NEEDS_FIELDS},
    {"${payload.a:-none}", "{\"a\":\"\"}", "", NULL, MR_TEMPLATE_NEEDS_FIELDS},
    {"${username:-nobody}", "", "nobody", NULL, 0},
    {"${topic[7]:-flat}", "", "flat", NULL, 0},
    {"${props.content_type}", "", "text/plain", NULL, MR_TEMPLATE_NEEDS_PROPS},
    {"${props.unit}", "", "C", NULL, MR_TEMPLATE_NEEDS_PROPS}, /* the first of two */
    {"${props.user_properties.unit}", "", "C", NULL, MR_TEMPLATE_NEEDS_PROPS},
    {"${props.user_properties.content_type}", "", "forged", NULL, MR_TEMPLATE_NEEDS_PROPS},
    {"${props.a.b}", "", "dotted", NULL, MR_TEMPLATE_NEEDS_PROPS},
    {"${props.message_expiry_interval}", "", "3600", NULL, MR_TEMPLATE_NEEDS_PROPS},
    {"${props.payload_format_indicator}", "", "1", NULL, MR_TEMPLATE_NEEDS_PROPS},
    {"${props.response_topic}", "", NULL, "the event has no property 'response_topic'",
     MR_TEMPLATE_NEEDS_PROPS},
    {"${props.site}", "", NULL, "the event has no user property 'site'", MR_TEMPLATE_NEEDS_PROPS},
    {"${props.site:-here}${qos}", "", "here1", NULL,
     MR_TEMPLATE_NEEDS_PROPS | MR_TEMPLATE_NEEDS_EVENT},
};

static struct mr_span properties_make(uint8_t *out, size_t size)
{
    static const char *const users[][2] = {
        {"content_type", "forged"}, {"unit", "C"}, {"unit", "K"}, {"a.b", "dotted"}};
    static uint8_t raw[200];
    struct mr_mqtt_props props = {
        .content_type = mr_span_of("text/plain"), .message_expiry_s = 3600, .payload_format = 1};
    ptrdiff_t len = 0;

    for (size_t i = 0; i < MR_COUNT_OF(users); i++) {
        ptrdiff_t more = mr_mqtt_user_property_put(mr_span_of(users[i][0]), mr_span_of(users[i][1]),
                                                   raw + len, sizeof(raw) - (size_t)len);
        mr_assert(more > 0);
        len += more;
    }
    props.user_raw = mr_span_make(raw, (size_t)len);
    mr_mqtt_set(&props, MR_MQTT_PROP_USER);
    mr_mqtt_set(&props, MR_MQTT_PROP_CONTENT_TYPE);
    mr_mqtt_set(&props, MR_MQTT_PROP_MESSAGE_EXPIRY);
    mr_mqtt_set(&props, MR_MQTT_PROP_PAYLOAD_FORMAT);
    len = mr_mqtt_props_encode(&props, MR_MQTT_PUBLISH, out, size);
    mr_assert(len > 0);
    return mr_span_make(out, (size_t)len);
}

static void test_renders_what_varies(void)
{
    uint8_t raw[300];
    struct mr_span properties = properties_make(raw, sizeof(raw));

    for (size_t i = 0; i < MR_COUNT_OF(varying); i++) {
        struct mr_json_fields *own = mr_json_fields_new();
        struct mr_template *tmpl = NULL;
        struct mr_error why = {.text = ""};
        struct mr_template_facts facts = {.payload = mr_span_of(varying[i].payload),
                                          .received_ms = 1763920561123,
                                          .qos = 1,
                                          .retain = true};
        struct mr_template_vars vars = press;
        uint8_t out[256];
        size_t len = 0;

        vars.facts = &facts;
        mr_assert(mr_template_compile(&tmpl, "key", varying[i].text, MR_TEMPLATE_TEXT, own, &why) ==
                  MR_OK);
        mr_assert(mr_template_needs(tmpl) == varying[i].needs);
        mr_assert(mr_template_facts_work_out(&facts, varying[i].needs, properties, own) == MR_OK);
        mr_assert(mr_template_size(tmpl, &vars) <= sizeof(out));
        enum mr_err err = mr_template_render(tmpl, &vars, out, &len, &why);
        bool as_expected =
            varying[i].expected == NULL
                ? err == MR_ERR_REJECT && strcmp(why.text, varying[i].reason) == 0
                : err == MR_OK && mr_span_is(mr_span_make(out, len), varying[i].expected);
        if (!as_expected) {
            printf("%s: '%.*s' %s\n", varying[i].text, (int)len, (const char *)out, why.text);
        }
        mr_assert(as_expected);
        mr_template_free(tmpl);
        mr_json_fields_free(own);
    }
}

static void test_refuses_broken_properties(void)
{
    struct mr_template_facts facts = {.qos = 0};

    mr_assert(mr_template_facts_work_out(&facts, MR_TEMPLATE_NEEDS_PROPS, mr_span_of("\xff"),
                                         fields) == MR_ERR_REJECT);
}

static void test_knows_literals(void)
{
    struct mr_template *tmpl = NULL;

    mr_assert(mr_template_compile(&tmpl, "topic", "$${x}", MR_TEMPLATE_DEST, fields, NULL) ==
              MR_OK);
    mr_assert(strcmp(mr_template_literal(tmpl), "${x}") == 0);
    mr_template_free(tmpl);
    mr_assert(mr_template_compile(&tmpl, "topic", "a${topic}", MR_TEMPLATE_DEST, fields, NULL) ==
              MR_OK);
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
    mr_assert(mr_template_compile(&tmpl, "key", text, MR_TEMPLATE_TEXT, fields, &why) ==
              MR_ERR_CONFIG);
    mr_assert(strstr(why.text, "more than 32 parts") != NULL);
}

int main(void)
{
    fields = mr_json_fields_new();
    test_renders();
    test_renders_what_varies();
    test_refuses_broken_properties();
    test_tells_mistakes();
    test_knows_literals();
    test_bounds_the_parts();
    mr_json_fields_free(fields);
    return 0;
}
