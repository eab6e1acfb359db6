/* json_read.c - see json_read.h for the contract.
 *
 * DESIGN
 *
 * The text is valid, so a value can be passed over by counting brackets outside of
 * strings.  Every step is bounded by the span all the same: a caller that has not
 * checked gets wrong answers, never bytes that are not its own.
 */
#include "codec/json_read.h"

static struct mr_span after(struct mr_span text, size_t count)
{
    return mr_span_make(text.at + count, text.len - count);
}

static struct mr_span skip_space(struct mr_span text)
{
    size_t i = 0;

    while (i < text.len &&
           (text.at[i] == ' ' || text.at[i] == '\n' || text.at[i] == '\r' || text.at[i] == '\t')) {
        i += 1;
    }
    return after(text, i);
}

/* Bytes of the string that `text` begins with, quotes included. */
static size_t string_len(struct mr_span text)
{
    for (size_t i = 1; i < text.len; i++) {
        if (text.at[i] == '\\') {
            i += 1;
        } else if (text.at[i] == '"') {
            return i + 1;
        }
    }
    return text.len;
}

/* Bytes of the value that `text` begins with. */
static size_t value_len(struct mr_span text)
{
    size_t depth = 0;
    size_t i = 0;

    while (i < text.len) {
        uint8_t c = text.at[i];
        if (c == '"') {
            i += string_len(after(text, i));
            if (depth == 0) {
                return i;
            }
            continue;
        }
        if (c == '[' || c == '{') {
            depth += 1;
        } else if (c == ']' || c == '}') {
            if (depth <= 1) {
                return depth == 0 ? i : i + 1;
            }
            depth -= 1;
        } else if (depth == 0 && strchr(", \t\r\n:", c) != NULL) {
            return i;
        }
        i += 1;
    }
    return text.len;
}

struct mr_span mr_json_member(struct mr_span object, const char *name)
{
    struct mr_span rest = skip_space(object);

    if (rest.len == 0 || rest.at[0] != '{') {
        return (struct mr_span){0};
    }
    rest = skip_space(after(rest, 1));
    while (rest.len > 0 && rest.at[0] == '"') {
        size_t len = string_len(rest);
        struct mr_span key = mr_span_make(rest.at + 1, len < 2 ? 0 : len - 2);
        rest = skip_space(after(rest, len));
        if (rest.len == 0) {
            break;
        }
        rest = skip_space(after(rest, 1)); /* the colon */
        len = value_len(rest);
        if (mr_span_is(key, name)) {
            return mr_span_make(rest.at, len);
        }
        rest = skip_space(after(rest, len));
        if (rest.len == 0 || rest.at[0] != ',') {
            break;
        }
        rest = skip_space(after(rest, 1));
    }
    return (struct mr_span){0};
}

bool mr_json_next(struct mr_span *at, struct mr_span *element)
{
    struct mr_span rest = skip_space(*at);

    if (rest.len == 0 || (rest.at[0] != '[' && rest.at[0] != ',')) {
        return false;
    }
    rest = skip_space(after(rest, 1));
    size_t len = value_len(rest);
    *element = mr_span_make(rest.at, len);
    *at = after(rest, len);
    return len != 0;
}

/* Four hexadecimal digits. */
static uint32_t hex4(struct mr_span text)
{
    uint32_t code = 0;

    for (size_t i = 0; i < 4 && i < text.len; i++) {
        uint8_t c = text.at[i];
        code = code << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return code & 0xffff;
}

static void add_code(struct mr_text *out, uint32_t code)
{
    uint8_t bytes[4];
    size_t len = 0;

    if (code < 0x80) {
        bytes[len++] = (uint8_t)code;
    } else if (code < 0x800) {
        bytes[len++] = (uint8_t)(0xc0 | code >> 6);
    } else if (code < 0x10000) {
        bytes[len++] = (uint8_t)(0xe0 | code >> 12);
        bytes[len++] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
    } else {
        bytes[len++] = (uint8_t)(0xf0 | code >> 18);
        bytes[len++] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
        bytes[len++] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
    }
    if (code >= 0x80) {
        bytes[len++] = (uint8_t)(0x80 | (code & 0x3f));
    }
    mr_text_bytes(out, bytes, len);
}

/* What stands behind "\u", two of them for a surrogate pair; returns the bytes used. */
static size_t add_unicode(struct mr_text *out, struct mr_span text)
{
    uint32_t code = hex4(text);
    bool pair = code >= 0xd800 && code < 0xdc00 && text.len >= 10 && text.at[4] == '\\' &&
                text.at[5] == 'u';
    uint32_t low = pair ? hex4(after(text, 6)) : 0;

    if (pair && low >= 0xdc00 && low < 0xe000) {
        add_code(out, 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00));
        return 10;
    }
    add_code(out, code >= 0xd800 && code < 0xe000 ? 0xfffd : code);
    return 4;
}

void mr_json_text(struct mr_text *out, struct mr_span value)
{
    static const char from[] = "bfnrt";
    static const char to[] = "\b\f\n\r\t";

    if (value.len < 2 || value.at[0] != '"') {
        mr_text_span(out, value);
        return;
    }
    struct mr_span rest = mr_span_make(value.at + 1, value.len - 2);
    while (rest.len > 0) {
        if (rest.at[0] != '\\' || rest.len == 1) {
            mr_text_bytes(out, rest.at, 1);
            rest = after(rest, 1);
            continue;
        }
        uint8_t escaped = rest.at[1];
        rest = after(rest, 2);
        if (escaped == 'u' && rest.len >= 4) {
            rest = after(rest, add_unicode(out, rest));
            continue;
        }
        const char *known = strchr(from, escaped);
        uint8_t plain = known == NULL || escaped == '\0' ? escaped : (uint8_t)to[known - from];
        mr_text_bytes(out, &plain, 1);
    }
}

bool mr_json_u64(struct mr_span value, uint64_t *out)
{
    return mr_parse_u64(value, UINT64_MAX, out) == MR_OK;
}
