/* test_json_fields.c
 * links: codec base
 *
 * Goal:   a field gives exactly the text its rules say, whatever else is wanted of
 *         the same text; what is not there, null, or not JSON is told apart.
 * Method: tables by hand; documents of every length up to 3,000 bytes.  Against a
 *         second reader: test/fuzz/fuzz_json_fields.c.
 */
#include "codec/json_fields.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *text;
    const char *path;
    enum mr_json_found found;
    const char *value;
} reads[] = {
    {"{\"a\":\"x\"}", ".a", MR_JSON_FOUND, "x"},
    {"{\"a\":{\"b\":21.50}}", ".a.b", MR_JSON_FOUND, "21.50"},
    {"{\"a\":[1,{\"b\":true}]}", ".a[1].b", MR_JSON_FOUND, "true"},
    {"[ 5 ,6]", "[0]", MR_JSON_FOUND, "5"},
    {"{\"a.b\":1}", "[\"a.b\"]", MR_JSON_FOUND, "1"},
    {"{\"a\": {\"c\" : [1, 2]} }", ".a", MR_JSON_FOUND, "{\"c\" : [1, 2]}"},
    {"{\"a\":[ ] }", ".a", MR_JSON_FOUND, "[ ]"},
    {"{\"a\":\"\"}", ".a", MR_JSON_FOUND, ""},
    {"{\"a\":\"\\u00e9\\n\\\"\"}", ".a", MR_JSON_FOUND, "\xc3\xa9\n\""},
    {"{\"a\":\"\\ud83d\\ude00\"}", ".a", MR_JSON_FOUND, "\xf0\x9f\x98\x80"},
    {"{\"caf\\u00e9\":1}", ".caf\xc3\xa9", MR_JSON_FOUND, "1"}, /* as json.dumps writes it */
    {"{\"caf\xc3\xa9\":1}", ".caf\xc3\xa9", MR_JSON_FOUND, "1"},
    {"{\"a\":1,\"a\":2}", ".a", MR_JSON_FOUND, "1"},
    {"{\"a\":123456789012345678901234567890}", ".a", MR_JSON_FOUND,
     "123456789012345678901234567890"},
    {"{\"a\":-0.10e+5}", ".a", MR_JSON_FOUND, "-0.10e+5"},
    {"{\"a\":null}", ".a", MR_JSON_NULL, NULL},
    {"{\"a\":1}", ".b", MR_JSON_ABSENT, NULL},
    {"{\"a\":1}", ".a.b", MR_JSON_ABSENT, NULL}, /* not an object */
    {"{\"a\":[1]}", ".a[1]", MR_JSON_ABSENT, NULL},
    {"{\"a\":[1]}", ".a.b", MR_JSON_ABSENT, NULL},
    {"{\"a\":{}}", ".a[0]", MR_JSON_ABSENT, NULL},
    {"{}", ".a", MR_JSON_ABSENT, NULL},
    {"[]", "[0]", MR_JSON_ABSENT, NULL},
    {"21.5", ".a", MR_JSON_ABSENT, NULL},
    {"\"text\"", ".a", MR_JSON_ABSENT, NULL},
    {"null", ".a", MR_JSON_ABSENT, NULL},
    {"", ".a", MR_JSON_NOT_JSON, NULL},
    {"  ", ".a", MR_JSON_NOT_JSON, NULL},
    {"21.5 C", ".a", MR_JSON_NOT_JSON, NULL},
    {"{\"a\":1", ".b", MR_JSON_NOT_JSON, NULL},
    {"{\"a\":tru}", ".a", MR_JSON_NOT_JSON, NULL},
    {"{\"a\":01}", ".a", MR_JSON_NOT_JSON, NULL},
    {"{\"a\":{\"b\":tru}}", ".a", MR_JSON_NOT_JSON, NULL},
    {"{\"a\":\"\xff\"}", ".a", MR_JSON_NOT_JSON, NULL},
    {"{\"a\":\"\\ud83d\"}", ".a", MR_JSON_NOT_JSON, NULL}, /* half a pair has no UTF-8 */
    {"{\"a\":\"x}", ".a", MR_JSON_NOT_JSON, NULL},
};

static void test_reads(void)
{
    for (size_t i = 0; i < MR_COUNT_OF(reads); i++) {
        struct mr_json_fields *fields = mr_json_fields_new();
        uint32_t index = 9;

        mr_assert(mr_json_fields_add(fields, mr_span_of(reads[i].path), &index) == NULL);
        mr_assert(index == 0);
        const struct mr_json_field *got = mr_json_fields_read(fields, mr_span_of(reads[i].text));
        bool as_expected = got->found == reads[i].found &&
                           (reads[i].value == NULL || mr_span_is(got->value, reads[i].value));
        if (!as_expected) {
            printf("%s of %s: found %d, '%.*s'\n", reads[i].path, reads[i].text, got->found,
                   (int)got->value.len, (const char *)got->value.at);
        }
        mr_assert(as_expected);
        mr_json_fields_free(fields);
    }
}

/* Fields of one text do not disturb each other, in whatever order they lie; a broken
 * one leaves the others.
 */
static void test_many_at_once(void)
{
    static const char *const paths[] = {".c", ".a", ".bad", ".none", ".b[1]", ".a"};
    static const uint32_t places[] = {0, 1, 2, 3, 4, 1};
    struct mr_json_fields *fields = mr_json_fields_new();
    uint32_t index;

    for (size_t i = 0; i < MR_COUNT_OF(paths); i++) {
        mr_assert(mr_json_fields_add(fields, mr_span_of(paths[i]), &index) == NULL);
        mr_assert(index == places[i]);
    }
    mr_assert(mr_json_fields_count(fields) == 5);
    for (int round = 0; round < 3; round++) {
        const struct mr_json_field *got = mr_json_fields_read(
            fields,
            mr_span_of("{\"a\":\"A\\tA\",\"b\":[0,\"B\\/B\"],\"bad\":nil,\"c\":\"C\\\\C\"}"));
        mr_assert(mr_span_is(got[0].value, "C\\C"));
        mr_assert(mr_span_is(got[1].value, "A\tA"));
        mr_assert(got[2].found == MR_JSON_NOT_JSON && got[3].found == MR_JSON_NOT_JSON);
        mr_assert(mr_span_is(got[4].value, "B/B"));
    }
    mr_json_fields_free(fields);
}

/* Around the sizes of vectors and buffers, the text ends where its memory ends. */
static void test_every_length(void)
{
    struct mr_json_fields *fields = mr_json_fields_new();
    uint32_t index;
    char name[300];

    mr_assert(mr_json_fields_add(fields, mr_span_of(".last"), &index) == NULL);
    memset(name, 'n', sizeof(name));
    name[0] = '.';
    name[256] = '\0'; /* the longest name, in a text that ends before it would */
    mr_assert(mr_json_fields_add(fields, mr_span_of(name), &index) == NULL);
    for (size_t len = 0; len < 9000; len += len < 300 ? 1 : 97) {
        char *text = mr_alloc(len + 32);
        size_t at = (size_t)sprintf(text, "{\"fill\":\"");
        memset(text + at, 'x', len);
        at += len;
        at += (size_t)sprintf(text + at, "\",\"last\":7}");
        uint8_t *exact = mr_alloc(at);
        memcpy(exact, text, at);
        const struct mr_json_field *got = mr_json_fields_read(fields, mr_span_make(exact, at));
        mr_assert(mr_span_is(got[0].value, "7"));
        mr_assert(got[1].found == MR_JSON_ABSENT);
        mr_free(exact);
        mr_free(text);
    }
    mr_json_fields_free(fields);
}

static void test_paths_refused(void)
{
    static const char *const bad[] = {
        "",
        ".",
        ".a.",
        ".a[",
        ".a[x]",
        ".a[1",
        ".a[]",
        "a",
        ".a[1]b",
        ".a[\"b]",
        ".a[\"b\"",
        ".a[\"\"]",
        ".a\"",
        ".a\\b",
        ".a[-1]",
        "..a",
        ".a[9999999999]",
        ".a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a",
    };
    struct mr_json_fields *fields = mr_json_fields_new();
    uint32_t index;
    char path[16];

    for (size_t i = 0; i < MR_COUNT_OF(bad); i++) {
        mr_assert(mr_json_fields_add(fields, mr_span_of(bad[i]), &index) != NULL);
    }
    for (uint32_t i = 0; i < MR_JSON_FIELDS_MAX; i++) {
        sprintf(path, ".f%u", i);
        mr_assert(mr_json_fields_add(fields, mr_span_of(path), &index) == NULL && index == i);
    }
    mr_assert(mr_json_fields_add(fields, mr_span_of(".more"), &index) != NULL);
    mr_assert(mr_json_fields_add(fields, mr_span_of(".f7"), &index) == NULL && index == 7);
    mr_json_fields_free(fields);
}

int main(void)
{
    test_reads();
    test_many_at_once();
    test_every_length();
    test_paths_refused();
    return 0;
}
