/* json.c - see json.h for the contract.
 *
 * DESIGN
 *
 * The validator is a loop with two places to be: before a value, and behind one.
 * What encloses the place is a stack of bits, one for each level: 1 = object.
 * Strings are the bulk of most documents; they are skipped eight bytes at a time
 * and only the words that hold a quote, a backslash or a control character are
 * looked at singly.  UTF-8 is judged once, over the whole text, and only if a
 * byte beyond ASCII was seen.
 *
 * Rejected: recursion (a payload must not choose how deep our stack goes); a
 * table of states and characters (smaller source, but every byte of a string
 * costs a dependent load).
 *
 * INVARIANTS
 *
 *   (1) at <= end; no byte at or behind end is read.
 *   (2) depth <= MR_JSON_DEPTH_MAX; bit depth-1 of `objects` is the innermost level.
 */
#include "codec/json.h"

#include "base/bytes.h"

struct json_scan {
    const uint8_t *at;
    const uint8_t *end;
    uint64_t objects[MR_JSON_DEPTH_MAX / 64];
    uint64_t seen; /* every string word OR-ed: top bits tell of bytes beyond ASCII */
    unsigned depth;
};

/* Not zero if one of the eight bytes is a quote, a backslash or below 0x20: the
 * bytes at which both scanning and escaping stop.  (x - n) & ~x has a top bit set
 * where a byte is smaller than n; false positives need a true one below them.
 */
static inline uint64_t json_stops(uint64_t x)
{
    const uint64_t ones = 0x0101010101010101u;
    uint64_t quote = x ^ ones * '"';
    uint64_t slash = x ^ ones * '\\';

    return (((x - ones * 0x20) & ~x) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash)) &
           ones * 0x80;
}

static void json_space(struct json_scan *scan)
{
    while (scan->at != scan->end &&
           (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\r' || *scan->at == '\t')) {
        scan->at += 1;
    }
}

static bool json_is_hex(uint8_t c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* Behind a backslash. */
static bool json_escape(struct json_scan *scan)
{
    if (scan->at == scan->end) {
        return false;
    }
    switch (*scan->at++) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return true;
    case 'u':
        for (int i = 0; i < 4; i++) {
            if (scan->at == scan->end || !json_is_hex(*scan->at)) {
                return false;
            }
            scan->at += 1;
        }
        return true;
    default:
        return false;
    }
}

/* Behind the opening quote; true behind the closing one. */
static bool json_string(struct json_scan *scan)
{
    for (;;) {
        while (scan->end - scan->at >= 8) {
            uint64_t word = mr_get_u64(scan->at);
            if (json_stops(word) != 0) {
                break;
            }
            scan->seen |= word;
            scan->at += 8;
        }
        /* At most eight bytes until the next stop, or the end of the text. */
        uint8_t c = 0;
        while (scan->at != scan->end) {
            c = *scan->at++;
            scan->seen |= c;
            if (c == '"' || c == '\\' || c < 0x20) {
                break;
            }
            c = 0;
        }
        if (c == '"') {
            return true;
        }
        if (c != '\\' || !json_escape(scan)) {
            return false;
        }
    }
}

/* One digit or more. */
static bool json_digits(struct json_scan *scan)
{
    const uint8_t *start = scan->at;

    while (scan->at != scan->end && *scan->at >= '0' && *scan->at <= '9') {
        scan->at += 1;
    }
    return scan->at != start;
}

static bool json_number(struct json_scan *scan)
{
    if (*scan->at == '-') {
        scan->at += 1;
    }
    if (scan->at != scan->end && *scan->at == '0') {
        scan->at += 1; /* no digit may follow: then the value ends here and the rest is garbage */
    } else if (!json_digits(scan)) {
        return false;
    }
    if (scan->at != scan->end && *scan->at == '.') {
        scan->at += 1;
        if (!json_digits(scan)) {
            return false;
        }
    }
    if (scan->at != scan->end && (*scan->at | 0x20) == 'e') {
        scan->at += 1;
        if (scan->at != scan->end && (*scan->at == '+' || *scan->at == '-')) {
            scan->at += 1;
        }
        return json_digits(scan);
    }
    return true;
}

static bool json_literal(struct json_scan *scan, const char *word)
{
    const size_t len = strlen(word);

    if ((size_t)(scan->end - scan->at) < len || memcmp(scan->at, word, len) != 0) {
        return false;
    }
    scan->at += len;
    return true;
}

/* A value that is neither array nor object. */
static bool json_scalar(struct json_scan *scan)
{
    switch (*scan->at) {
    case '"':
        scan->at += 1;
        return json_string(scan);
    case 't':
        return json_literal(scan, "true");
    case 'f':
        return json_literal(scan, "false");
    case 'n':
        return json_literal(scan, "null");
    default:
        return json_number(scan);
    }
}

static bool json_in_object(const struct json_scan *scan)
{
    unsigned level = scan->depth - 1;
    return (scan->objects[level / 64] >> level % 64 & 1) != 0;
}

static bool json_push(struct json_scan *scan, bool is_object)
{
    unsigned level = scan->depth;

    if (level == MR_JSON_DEPTH_MAX) {
        return false;
    }
    uint64_t bit = (uint64_t)1 << level % 64;
    scan->objects[level / 64] &= ~bit;
    scan->objects[level / 64] |= is_object ? bit : 0;
    scan->depth += 1;
    return true;
}

/* One given character. */
static bool json_take(struct json_scan *scan, uint8_t wanted)
{
    if (scan->at == scan->end || *scan->at != wanted) {
        return false;
    }
    scan->at += 1;
    return true;
}

/* "key" and its colon. */
static bool json_key(struct json_scan *scan)
{
    json_space(scan);
    if (!json_take(scan, '"') || !json_string(scan)) {
        return false;
    }
    json_space(scan);
    return json_take(scan, ':');
}

/* Begins an array or an object; *is_empty if it ended at once. */
static bool json_open(struct json_scan *scan, bool *is_empty)
{
    const bool is_object = *scan->at == '{';

    scan->at += 1;
    if (!json_push(scan, is_object)) {
        return false;
    }
    json_space(scan);
    *is_empty = scan->at != scan->end && *scan->at == (is_object ? '}' : ']');
    return *is_empty || !is_object || json_key(scan);
}

/* Behind a value inside an array or object: close what closes, and come to stand
 * before the next value, or at depth 0.
 */
static bool json_after(struct json_scan *scan)
{
    while (scan->depth != 0) {
        const bool is_object = json_in_object(scan);
        json_space(scan);
        if (scan->at == scan->end) {
            return false;
        }
        uint8_t c = *scan->at++;
        if (c == ',') {
            return !is_object || json_key(scan);
        }
        if (c != (is_object ? '}' : ']')) {
            return false;
        }
        scan->depth -= 1;
    }
    return true;
}

bool mr_json_valid(struct mr_span text)
{
    if (text.len == 0) {
        return false;
    }
    struct json_scan scan = {.at = text.at, .end = text.at + text.len};
    do {
        bool is_empty = true;
        json_space(&scan);
        if (scan.at == scan.end) {
            return false;
        }
        if (*scan.at == '{' || *scan.at == '[') {
            if (!json_open(&scan, &is_empty)) {
                return false;
            }
            if (!is_empty) {
                continue;
            }
        } else if (!json_scalar(&scan)) {
            return false;
        }
        if (!json_after(&scan)) {
            return false;
        }
    } while (scan.depth != 0);
    json_space(&scan);
    return scan.at == scan.end && ((scan.seen & 0x8080808080808080u) == 0 || mr_utf8_valid(text));
}

char *mr_json_put_escaped(char *at, struct mr_span text)
{
    static const char hex[] = "0123456789abcdef";
    /* The letter behind the backslash; 0: \u00XX. */
    static const char letters[0x20] = {
        ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    size_t i = 0;

    while (i < text.len) {
        if (text.len - i >= 8 && json_stops(mr_get_u64(text.at + i)) == 0) {
            memcpy(at, text.at + i, 8);
            at += 8;
            i += 8;
            continue;
        }
        uint8_t c = text.at[i++];
        if (c == '"' || c == '\\') {
            *at++ = '\\';
            *at++ = (char)c;
        } else if (c >= 0x20) {
            *at++ = (char)c;
        } else if (letters[c] != 0) {
            *at++ = '\\';
            *at++ = letters[c];
        } else {
            *at++ = '\\';
            *at++ = 'u';
            *at++ = '0';
            *at++ = '0';
            *at++ = hex[c >> 4];
            *at++ = hex[c & 15];
        }
    }
    return at;
}

char *mr_json_put_string(char *at, struct mr_span text)
{
    *at++ = '"';
    at = mr_json_put_escaped(at, text);
    *at++ = '"';
    return at;
}

size_t mr_json_string_size(struct mr_span text)
{
    size_t size = text.len + 2;

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];
        if (c == '"' || c == '\\' || c == '\b' || c == '\f' || c == '\n' || c == '\r' ||
            c == '\t') {
            size += 1;
        } else if (c < 0x20) {
            size += 5;
        }
    }
    return size;
}

void mr_json_add_string(struct mr_text *text, struct mr_span span)
{
    size_t size = mr_json_string_size(span);

    if (text->size - text->len <= size) {
        text->truncated = true;
        return;
    }
    char *begin = text->at + text->len;
    char *end = mr_json_put_string(begin, span);
    if (!mr_utf8_valid(mr_span_make(begin, (size_t)(end - begin)))) {
        for (char *c = begin; c < end; c++) {
            *c = (*c & 0x80) != 0 ? '?' : *c;
        }
    }
    *end = '\0';
    text->len += size;
}

char *mr_base64_put(char *at, struct mr_span bytes)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t i = 0;

    for (; bytes.len - i >= 3; i += 3) {
        uint32_t v = (uint32_t)bytes.at[i] << 16 | (uint32_t)bytes.at[i + 1] << 8 | bytes.at[i + 2];
        *at++ = alphabet[v >> 18];
        *at++ = alphabet[v >> 12 & 63];
        *at++ = alphabet[v >> 6 & 63];
        *at++ = alphabet[v & 63];
    }
    if (bytes.len - i != 0) {
        const bool two = bytes.len - i == 2;
        uint32_t v = (uint32_t)bytes.at[i] << 16 | (two ? (uint32_t)bytes.at[i + 1] << 8 : 0);
        *at++ = alphabet[v >> 18];
        *at++ = alphabet[v >> 12 & 63];
        *at++ = '=';
        *at++ = '=';
        if (two) {
            at[-2] = alphabet[v >> 6 & 63];
        }
    }
    return at;
}

char *mr_json_put_i64(char *at, int64_t number)
{
    char digits[20];
    size_t count = 0;
    uint64_t left = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;

    do {
        digits[count++] = (char)('0' + left % 10);
        left /= 10;
    } while (left != 0);
    if (number < 0) {
        *at++ = '-';
    }
    while (count != 0) {
        *at++ = digits[--count];
    }
    return at;
}
