/* json_walk.cpp - see json_walk_internal.h for the contract.
 *
 * DESIGN
 *
 * simdjson's On-Demand API: one vectorised pass finds quotes, brackets and broken
 * UTF-8 (chosen for the processor at run time, inside the library), then only what
 * lies on the path is looked at.  Each path begins at the top again, so of two equal
 * names the first one counts, whichever paths were walked before.
 *
 * Names are compared as they are written.  A document that has a backslash may write
 * a name with escapes (Python's json.dumps does, for all beyond ASCII), so there a
 * name that was not found is looked for again, decoded.
 *
 * After an error simdjson's iterator is dead and must not be rewound: the document
 * is begun anew.
 */
#include "codec/json_walk_internal.h"

#include <simdjson.h>

#include <cstring>
#include <new>
#include <utility>

using namespace simdjson;

struct mr_json_walk {
    ondemand::parser parser;
    ondemand::document document;
    const char *at;
    size_t len;
    bool alive;
    bool escapes; /* there is a backslash somewhere */
};

namespace
{

constexpr size_t ROOM_MIN = 4096;

static_assert(MR_JSON_WALK_PADDING >= SIMDJSON_PADDING + MR_JSON_WALK_NAME_MAX + 1,
              "simdjson reads so far behind a document");

bool iterate(mr_json_walk *walk)
{
    error_code error = walk->parser.iterate(walk->at, walk->len, walk->len + MR_JSON_WALK_PADDING)
                           .get(walk->document);
    walk->alive = error == SUCCESS;
    return walk->alive;
}

/* By doubling, so that payloads which grow bit by bit do not each take memory. */
bool make_room(mr_json_walk *walk, size_t len)
{
    size_t room = walk->parser.capacity() < ROOM_MIN ? ROOM_MIN : walk->parser.capacity();

    while (room < len) {
        room *= 2;
    }
    return room == walk->parser.capacity() || walk->parser.allocate(room) == SUCCESS;
}

/* There is no such place; everything else means that the text is broken. */
bool is_absence(error_code error)
{
    return error == NO_SUCH_FIELD || error == INCORRECT_TYPE || error == INDEX_OUT_OF_BOUNDS;
}

error_code find_decoded(ondemand::object &object, std::string_view name, ondemand::value &out)
{
    error_code error = object.reset().error();
    if (error != SUCCESS) {
        return error;
    }
    for (auto found : object) {
        ondemand::field field;
        std::string_view key;
        if ((error = std::move(found).get(field)) != SUCCESS ||
            (error = field.unescaped_key().get(key)) != SUCCESS) {
            return error;
        }
        if (key == name) {
            out = field.value();
            return SUCCESS;
        }
    }
    return NO_SUCH_FIELD;
}

error_code find_name(const mr_json_walk *walk, ondemand::object &object, const mr_json_step *step,
                     ondemand::value &out)
{
    const std::string_view name(step->name, step->name_len);
    error_code error = object.find_field_unordered(name).get(out);

    if (error == NO_SUCH_FIELD && walk->escapes) {
        error = find_decoded(object, name, out);
    }
    return error;
}

/* `from` is the document for the first step, a value for the others. */
template <typename From>
error_code follow(const mr_json_walk *walk, From &from, const mr_json_step *step,
                  ondemand::value &out)
{
    error_code error;

    if (step->name != nullptr) {
        ondemand::object object;
        error = from.get_object().get(object);
        return error != SUCCESS ? error : find_name(walk, object, step, out);
    }
    ondemand::array array;
    error = from.get_array().get(array);
    return error != SUCCESS ? error : array.at(step->index).get(out);
}

std::string_view trimmed(std::string_view text)
{
    size_t end = text.find_last_not_of(" \t\r\n");
    return text.substr(0, end == std::string_view::npos ? 0 : end + 1);
}

error_code read_string(ondemand::value &value, mr_json_walked *kind, std::string_view *text)
{
    *text = trimmed(value.raw_json_token());
    if (text->size() >= 2 && text->back() == '"' &&
        std::memchr(text->data(), '\\', text->size()) == nullptr) {
        *text = text->substr(1, text->size() - 2);
        *kind = MR_JSON_WALKED_STRING;
        return SUCCESS;
    }
    *kind = MR_JSON_WALKED_DECODED;
    return value.get_string().get(*text);
}

error_code read_nested(ondemand::value &value, ondemand::json_type type, std::string_view *text)
{
    error_code error;

    if (type == ondemand::json_type::object) {
        ondemand::object object;
        error = value.get_object().get(object);
        return error != SUCCESS ? error : object.raw_json().get(*text);
    }
    ondemand::array array;
    error = value.get_array().get(array);
    return error != SUCCESS ? error : array.raw_json().get(*text);
}

error_code read(ondemand::value &value, mr_json_walked *kind, std::string_view *text)
{
    ondemand::json_type type;
    error_code error = value.type().get(type);

    if (error != SUCCESS) {
        return error;
    }
    if (type == ondemand::json_type::string) {
        return read_string(value, kind, text);
    }
    if (type == ondemand::json_type::object || type == ondemand::json_type::array) {
        error = read_nested(value, type, text);
        *kind = MR_JSON_WALKED_NESTED;
    } else {
        *text = value.raw_json_token();
        *kind = MR_JSON_WALKED_SCALAR;
    }
    *text = trimmed(*text);
    return error;
}

} // namespace

struct mr_json_walk *mr_json_walk_new(void)
{
    return new (std::nothrow) mr_json_walk();
}

void mr_json_walk_free(struct mr_json_walk *walk)
{
    delete walk;
}

bool mr_json_walk_begin(struct mr_json_walk *walk, const char *at, size_t len)
{
    walk->at = at;
    walk->len = len;
    walk->escapes = std::memchr(at, '\\', len) != nullptr;
    walk->alive = false;
    return make_room(walk, len) && iterate(walk);
}

enum mr_json_walked mr_json_walk_to(struct mr_json_walk *walk, const struct mr_json_step *steps,
                                    size_t step_count, const char **value, size_t *len)
{
    mr_json_walked kind = MR_JSON_WALKED_BROKEN;
    std::string_view text;
    ondemand::value here;

    if (!walk->alive) {
        if (!iterate(walk)) {
            return MR_JSON_WALKED_BROKEN;
        }
    } else {
        walk->document.rewind();
    }
    error_code error = follow(walk, walk->document, &steps[0], here);
    for (size_t i = 1; error == SUCCESS && i < step_count; i++) {
        ondemand::value from = here;
        error = follow(walk, from, &steps[i], here);
    }
    if (error == SUCCESS) {
        error = read(here, &kind, &text);
    }
    if (error != SUCCESS) {
        walk->alive = false;
        return is_absence(error) ? MR_JSON_WALKED_ABSENT : MR_JSON_WALKED_BROKEN;
    }
    *value = text.data();
    *len = text.size();
    return kind;
}
