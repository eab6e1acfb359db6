/* fuzz_json_fields.c
 *
 * Goal:   no text makes the reader of fields read or write where it must not; and
 *         what it finds in valid JSON is what the dumbest reader finds.
 * Method: a fixed set of paths over whatever comes.  A text with half a surrogate
 *         pair may give NOT_JSON instead: such a string has no UTF-8.
 */
#include "codec/json_fields.h"
#include "fuzz.h"
#include "json_naive.h"

static const struct {
    const char *path;
    struct naive_step steps[3];
    size_t step_count;
} wanted[] = {
    {".a", {{"a", 0}}, 1},
    {".a.b", {{"a", 0}, {"b", 0}}, 2},
    {".a[1]", {{"a", 0}, {NULL, 1}}, 2},
    {"[0]", {{NULL, 0}}, 1},
    {"[2].a", {{NULL, 2}, {"a", 0}}, 2},
    {".b[0].a", {{"b", 0}, {NULL, 0}, {"a", 0}}, 3},
    {"[\"x.y\"]", {{"x.y", 0}}, 1},
    {".\xc3\xa9", {{"\xc3\xa9", 0}}, 1},
};

static void compare(struct mr_span text, size_t i, const struct mr_json_field *got,
                    uint8_t *scratch)
{
    struct naive_text t = {.at = text.at, .end = text.at + text.len};
    struct mr_span value;
    bool found = true;
    bool fine = true;

    for (size_t s = 0; found && s < wanted[i].step_count; s++) {
        found = naive_step_into(&t, &wanted[i].steps[s], scratch);
    }
    if (!found) {
        mr_assert(got->found == MR_JSON_ABSENT);
        return;
    }
    naive_space(&t);
    const uint8_t *begin = t.at;
    if (*t.at == '"') {
        size_t len;
        fine = naive_string(&t, scratch, &len);
        value = mr_span_make(scratch, len);
    } else {
        naive_skip(&t, scratch);
        value = mr_span_make(begin, (size_t)(t.at - begin));
        if (mr_span_is(value, "null")) {
            mr_assert(got->found == MR_JSON_NULL);
            return;
        }
    }
    mr_assert(got->found == (fine ? MR_JSON_FOUND : MR_JSON_NOT_JSON));
    mr_assert(!fine || mr_span_equal(got->value, value));
}

/* Half a surrogate pair anywhere: a name that has one cannot be compared. */
static bool has_surrogate(struct mr_span text)
{
    for (size_t i = 0; i + 3 < text.len; i++) {
        if (text.at[i] == '\\' && text.at[i + 1] == 'u' && (text.at[i + 2] | 0x20) == 'd' &&
            text.at[i + 3] >= '8') {
            return true;
        }
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    static struct mr_json_fields *fields;
    static uint8_t scratch[1 << 16];
    /* In a buffer of its own size, so that the sanitizer sees each byte too many. */
    uint8_t *copy = mr_alloc(len + 1);
    struct mr_span text = mr_span_make(copy, len);

    memcpy(copy, at, len);
    for (uint32_t i = 0; fields == NULL || i < MR_COUNT_OF(wanted); i++) {
        uint32_t index = 0;
        fields = fields == NULL ? mr_json_fields_new() : fields;
        mr_assert(mr_json_fields_add(fields, mr_span_of(wanted[i].path), &index) == NULL);
        mr_assert(index == i);
    }
    const struct mr_json_field *found = mr_json_fields_read(fields, text);
    bool model = len < sizeof(scratch) / 4 && mr_json_valid(text) && !has_surrogate(text);
    for (size_t i = 0; i < MR_COUNT_OF(wanted); i++) {
        if (found[i].found == MR_JSON_FOUND && found[i].value.len != 0) {
            (void)memchr(found[i].value.at, 0, found[i].value.len);
        }
        if (model) {
            compare(text, i, &found[i], scratch);
        }
    }
    mr_free(copy);
    return 0;
}
