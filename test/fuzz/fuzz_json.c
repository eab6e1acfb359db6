/* fuzz_json.c - the JSON validator beside a recursive one, and the envelope.
 *
 * The recursive validator is the grammar of RFC 8259 written down rule by rule,
 * slow and obvious; the two must agree on everything.  Then the same input is put into
 * an envelope as payload, client, topic and user property, and the document must be
 * JSON and no longer than foretold.
 */
#include "codec/envelope.h"
#include "codec/json.h"
#include "codec/mqtt.h"

#include "base/text.h"
#include "fuzz.h"

#include <stdlib.h>

struct naive {
    const uint8_t *at;
    const uint8_t *end;
    unsigned depth;
};

static bool naive_value(struct naive *n);

static int naive_peek(const struct naive *n)
{
    return n->at < n->end ? *n->at : -1;
}

static bool naive_eat(struct naive *n, int c)
{
    if (naive_peek(n) != c) {
        return false;
    }
    n->at += 1;
    return true;
}

static void naive_space(struct naive *n)
{
    while (naive_eat(n, ' ') || naive_eat(n, '\t') || naive_eat(n, '\r') || naive_eat(n, '\n')) {
    }
}

static bool naive_word(struct naive *n, const char *word)
{
    for (; *word != 0; word++) {
        if (!naive_eat(n, *word)) {
            return false;
        }
    }
    return true;
}

static bool naive_digit(struct naive *n)
{
    int c = naive_peek(n);
    return c >= '0' && c <= '9' && naive_eat(n, c);
}

static bool naive_hex(struct naive *n)
{
    int c = naive_peek(n);
    return c > 0 && strchr("0123456789abcdefABCDEF", c) != NULL && naive_eat(n, c);
}

static bool naive_string(struct naive *n)
{
    if (!naive_eat(n, '"')) {
        return false;
    }
    while (!naive_eat(n, '"')) {
        int c = naive_peek(n);
        if (c < 0x20) {
            return false;
        }
        n->at += 1;
        if (c != '\\') {
            continue;
        }
        c = naive_peek(n);
        if (c <= 0 || strchr("\"\\/bfnrtu", c) == NULL) {
            return false;
        }
        n->at += 1;
        if (c == 'u' && !(naive_hex(n) && naive_hex(n) && naive_hex(n) && naive_hex(n))) {
            return false;
        }
    }
    return true;
}

static bool naive_number(struct naive *n)
{
    (void)naive_eat(n, '-');
    if (!naive_eat(n, '0')) {
        if (!naive_digit(n)) {
            return false;
        }
        while (naive_digit(n)) {
        }
    }
    if (naive_eat(n, '.')) {
        if (!naive_digit(n)) {
            return false;
        }
        while (naive_digit(n)) {
        }
    }
    if (naive_eat(n, 'e') || naive_eat(n, 'E')) {
        if (!naive_eat(n, '+')) {
            (void)naive_eat(n, '-');
        }
        if (!naive_digit(n)) {
            return false;
        }
        while (naive_digit(n)) {
        }
    }
    return true;
}

static bool naive_members(struct naive *n, bool is_object)
{
    const int close = is_object ? '}' : ']';

    n->at += 1;
    naive_space(n);
    if (naive_eat(n, close)) {
        return true;
    }
    do {
        naive_space(n);
        if (is_object) {
            if (!naive_string(n)) {
                return false;
            }
            naive_space(n);
            if (!naive_eat(n, ':')) {
                return false;
            }
        }
        if (!naive_value(n)) {
            return false;
        }
    } while (naive_eat(n, ','));
    return naive_eat(n, close);
}

/* A value with the space around it. */
static bool naive_value(struct naive *n)
{
    bool ok;

    naive_space(n);
    switch (naive_peek(n)) {
    case '{':
    case '[':
        if (n->depth == MR_JSON_DEPTH_MAX) {
            return false;
        }
        n->depth += 1;
        ok = naive_members(n, naive_peek(n) == '{');
        n->depth -= 1;
        break;
    case '"':
        ok = naive_string(n);
        break;
    case 't':
        ok = naive_word(n, "true");
        break;
    case 'f':
        ok = naive_word(n, "false");
        break;
    case 'n':
        ok = naive_word(n, "null");
        break;
    default:
        ok = naive_number(n);
    }
    naive_space(n);
    return ok;
}

static void check_envelope(struct mr_span input)
{
    struct mr_span text = mr_utf8_valid(input) ? input : mr_span_of("t");
    uint8_t raw[512];

    if (text.len > 200) {
        text.len = 0;
    }
    ptrdiff_t raw_len = mr_mqtt_user_property_put(text, text, raw, sizeof(raw));
    mr_assert(raw_len > 0);
    struct mr_envelope event = {
        .client = text,
        .topic = text,
        .payload = input,
        .props_raw = mr_span_make(raw, (size_t)raw_len),
    };
    mr_envelope_classify(&event);
    size_t size = mr_envelope_size_max(&event);
    char *out = malloc(size);
    mr_assert(out != NULL);
    ptrdiff_t written = mr_envelope_write(&event, out, size);
    mr_assert(written > 0 && (size_t)written <= size);
    /* A payload at the very limit of depth is one level too deep inside. */
    struct naive n = {.at = (const uint8_t *)out, .end = (const uint8_t *)out + written};
    bool ok = mr_json_valid(mr_span_make(out, (size_t)written));
    mr_assert(ok == (naive_value(&n) && n.at == n.end));
    mr_assert(ok || event.encoding == MR_ENVELOPE_JSON);
    free(out);

    /* As a property section the input is refused or written, nothing else. */
    event.props_raw = input;
    size = mr_envelope_size_max(&event);
    out = malloc(size);
    mr_assert(out != NULL);
    written = mr_envelope_write(&event, out, size);
    mr_assert(written > 0 || written == MR_ERR_CORRUPT || written == MR_ERR_REJECT);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_span input = mr_span_make(data, size);
    struct naive n = {.at = data, .end = size == 0 ? data : data + size};
    /* mr_utf8_valid refuses U+0000, which JSON has no place for either. */
    bool expected = size != 0 && naive_value(&n) && n.at == n.end && mr_utf8_valid(input);

    mr_assert(mr_json_valid(input) == expected);
    check_envelope(input);
    return 0;
}
