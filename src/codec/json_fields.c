/* json_fields.c - see json_fields.h for the contract.
 *
 * DESIGN
 *
 * The text is copied into a buffer of our own, because simdjson reads a little
 * behind the end of its input and the journal's blocks have no room there.  Values
 * then lie in that copy.  Only strings with escapes are decoded, into a second
 * buffer that has room for all of them at their longest.
 *
 * Rejected, measured in ns for two fields of 100 bytes and of 1 KB (this processor,
 * best of seven): simdjson On-Demand 37 and 310; its tree 98 and 510; yajl 246 and
 * 1,540; cJSON 340 and 2,860 with an arena; json-c 990 and 9,100; jansson 1,380 and
 * 11,700.  yyjson is not in Debian 12.
 */
#include "codec/json_fields.h"

#include "base/text.h"
#include "codec/json.h"
#include "codec/json_walk_internal.h"

enum { INDEX_MAX = 1000000, TEXT_ROOM_MIN = 4096 };

struct path {
    char *text; /* names of the steps point into it */
    struct mr_json_step steps[MR_JSON_STEPS_MAX];
    size_t step_count;
};

struct mr_json_fields {
    struct mr_json_walk *walk;
    struct path paths[MR_JSON_FIELDS_MAX];
    struct mr_json_field found[MR_JSON_FIELDS_MAX];
    uint32_t count;
    char *text; /* the copy, and the padding */
    size_t text_room;
    char *decoded; /* NULL until the first escape */
    size_t decoded_room;
    size_t decoded_used;
};

struct mr_json_fields *mr_json_fields_new(void)
{
    struct mr_json_fields *fields = mr_alloc(sizeof(*fields));

    fields->walk = mr_json_walk_new();
    if (fields->walk == NULL) {
        mr_memory_refused(sizeof(*fields)); /* at least as much */
    }
    return fields;
}

void mr_json_fields_free(struct mr_json_fields *fields)
{
    if (fields == NULL) {
        return;
    }
    for (uint32_t i = 0; i < fields->count; i++) {
        mr_free(fields->paths[i].text);
    }
    mr_json_walk_free(fields->walk);
    mr_free(fields->text);
    mr_free(fields->decoded);
    mr_free(fields);
}

uint32_t mr_json_fields_count(const struct mr_json_fields *fields)
{
    return fields->count;
}

/* ---- paths ---- */

static const char *step_name(struct mr_json_step *step, struct mr_span name)
{
    if (name.len == 0) {
        return "a field has an empty name";
    }
    if (name.len > MR_JSON_WALK_NAME_MAX) {
        return "the name of a field is longer than 255 bytes";
    }
    if (memchr(name.at, '"', name.len) != NULL || memchr(name.at, '\\', name.len) != NULL) {
        return "the name of a field may not have a quote or a backslash";
    }
    *step = (struct mr_json_step){.name = (const char *)name.at, .name_len = name.len};
    return NULL;
}

/* Behind '[': 12] or "name"]. */
static const char *step_bracket(struct mr_json_step *step, struct mr_span *rest)
{
    const char *fault = "'[' is not closed by ']'";
    uint64_t index;

    if (rest->len != 0 && rest->at[0] == '"') {
        *rest = mr_span_make(rest->at + 1, rest->len - 1);
        struct mr_span name = mr_span_split(rest, '"');
        if (rest->at == NULL || rest->len == 0 || rest->at[0] != ']') {
            return "'[\"' is not closed by '\"]'";
        }
        *rest = mr_span_make(rest->at + 1, rest->len - 1);
        return step_name(step, name);
    }
    struct mr_span digits = mr_span_split(rest, ']');
    if (rest->at == NULL) {
        return fault;
    }
    if (mr_parse_u64(digits, INDEX_MAX, &index) != MR_OK) {
        return "between '[' and ']' stands a number from 0, or a name in double quotes";
    }
    *step = (struct mr_json_step){.index = (size_t)index};
    return NULL;
}

static const char *path_parse(struct path *path, struct mr_span rest)
{
    while (rest.len != 0) {
        const char *fault;
        if (path->step_count == MR_JSON_STEPS_MAX) {
            return "it has more than 16 steps";
        }
        struct mr_json_step *step = &path->steps[path->step_count];
        uint8_t first = rest.at[0];
        rest = mr_span_make(rest.at + 1, rest.len - 1);
        if (first == '.') {
            struct mr_span name = rest;
            name.len = 0;
            while (name.len < rest.len && rest.at[name.len] != '.' && rest.at[name.len] != '[') {
                name.len += 1;
            }
            rest = mr_span_make(rest.at + name.len, rest.len - name.len);
            fault = step_name(step, name);
        } else if (first == '[') {
            fault = step_bracket(step, &rest);
        } else {
            return "behind a field comes '.' or '['";
        }
        if (fault != NULL) {
            return fault;
        }
        path->step_count += 1;
    }
    return path->step_count == 0 ? "it names no field" : NULL;
}

const char *mr_json_fields_add(struct mr_json_fields *fields, struct mr_span text, uint32_t *index)
{
    for (uint32_t i = 0; i < fields->count; i++) {
        if (mr_span_is(text, fields->paths[i].text)) {
            *index = i;
            return NULL;
        }
    }
    if (fields->count == MR_JSON_FIELDS_MAX) {
        return "there are more than 32 different fields";
    }
    struct path *path = &fields->paths[fields->count];
    *path = (struct path){.text = mr_strndup((const char *)text.at, text.len)};
    const char *fault = path_parse(path, mr_span_of(path->text));
    if (fault != NULL) {
        mr_free(path->text);
        return fault;
    }
    *index = fields->count;
    fields->count += 1;
    return NULL;
}

/* ---- reading ---- */

/* Room for `size` bytes; what was there is forgotten. */
static void make_room(char **buffer, size_t *room, size_t size)
{
    if (size <= *room) {
        return;
    }
    size_t more = *room == 0 ? TEXT_ROOM_MIN : *room;
    while (more < size) {
        more *= 2;
    }
    mr_free(*buffer);
    *buffer = mr_alloc(more);
    *room = more;
}

/* simdjson will decode the next string into the same place: keep this one. */
static struct mr_span keep_decoded(struct mr_json_fields *fields, const char *value, size_t len,
                                   size_t text_len)
{
    if (fields->decoded_used == 0) {
        make_room(&fields->decoded, &fields->decoded_room, text_len * fields->count);
    }
    mr_assert(fields->decoded_used + len <= fields->decoded_room);
    char *at = fields->decoded + fields->decoded_used;
    memcpy(at, value, len);
    fields->decoded_used += len;
    return mr_span_make(at, len);
}

static struct mr_json_field field_read(struct mr_json_fields *fields, const struct path *path,
                                       struct mr_span text)
{
    const char *at = NULL;
    size_t len = 0;

    switch (mr_json_walk_to(fields->walk, path->steps, path->step_count, &at, &len)) {
    case MR_JSON_WALKED_STRING:
        return (struct mr_json_field){.value = mr_span_make(at, len)};
    case MR_JSON_WALKED_DECODED:
        return (struct mr_json_field){.value = keep_decoded(fields, at, len, text.len)};
    case MR_JSON_WALKED_SCALAR:
    case MR_JSON_WALKED_NESTED:
        if (len == 4 && memcmp(at, "null", 4) == 0) {
            return (struct mr_json_field){.found = MR_JSON_NULL};
        }
        if (mr_json_valid(mr_span_make(at, len))) {
            return (struct mr_json_field){.value = mr_span_make(at, len)};
        }
        break;
    case MR_JSON_WALKED_ABSENT:
        if (mr_json_valid(text)) {
            return (struct mr_json_field){.found = MR_JSON_ABSENT};
        }
        break;
    case MR_JSON_WALKED_BROKEN:
        break;
    }
    return (struct mr_json_field){.found = MR_JSON_NOT_JSON};
}

const struct mr_json_field *mr_json_fields_read(struct mr_json_fields *fields, struct mr_span text)
{
    make_room(&fields->text, &fields->text_room, text.len + MR_JSON_WALK_PADDING);
    if (text.len != 0) {
        memcpy(fields->text, text.at, text.len);
    }
    fields->decoded_used = 0;
    bool begun = text.len != 0 && mr_json_walk_begin(fields->walk, fields->text, text.len);
    for (uint32_t i = 0; i < fields->count; i++) {
        fields->found[i] = begun ? field_read(fields, &fields->paths[i], text)
                                 : (struct mr_json_field){.found = MR_JSON_NOT_JSON};
    }
    return fields->found;
}
