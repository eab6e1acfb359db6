/* mqtt_naive.h - may a client send this packet?  A second reading of the specifications.
 *
 * Written from their tables without a look at src/codec/: bytes are eaten from the front,
 * whatever is wrong empties the packet and is remembered.  It knows nothing but yes and no,
 * and is what the decoders are compared with (any_check).
 */
#ifndef MR_TEST_FUZZ_MQTT_NAIVE_H
#define MR_TEST_FUZZ_MQTT_NAIVE_H

#include "base/span.h"

struct naive {
    const uint8_t *at;
    size_t left;
    bool wrong;
    bool is_5;
};

static inline bool naive_wrong(struct naive *n)
{
    n->wrong = true;
    n->left = 0;
    return false;
}

static inline uint32_t naive_number(struct naive *n, size_t bytes)
{
    uint32_t value = 0;

    for (size_t i = 0; i < bytes; i++) {
        if (n->left == 0) {
            naive_wrong(n);
            return 0;
        }
        value = value << 8 | *n->at;
        n->at += 1;
        n->left -= 1;
    }
    return value;
}

/* 1.5.5: at most four bytes, the shortest form. */
static inline uint32_t naive_varint(struct naive *n)
{
    uint32_t value = 0;

    for (uint32_t i = 0; i < 4; i++) {
        uint32_t byte = naive_number(n, 1);
        value |= (byte & 127) << 7 * i;
        if (byte < 128) {
            if (byte == 0 && i != 0) {
                naive_wrong(n);
            }
            return value;
        }
    }
    naive_wrong(n);
    return 0;
}

static inline struct mr_span naive_binary(struct naive *n)
{
    size_t len = naive_number(n, 2);

    if (len > n->left) {
        naive_wrong(n);
        return (struct mr_span){0};
    }
    struct mr_span span = mr_span_make(n->at, len);
    n->at += len;
    n->left -= len;
    return span;
}

/* RFC 3629 by ranges of code points; without U+0000. */
static inline bool naive_is_text(struct mr_span s)
{
    size_t i = 0;

    while (i < s.len) {
        uint32_t first = s.at[i];
        size_t more = first < 0x80 ? 0 : first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
        uint32_t code = more == 0 ? first : first & (0x3Fu >> more);
        static const uint32_t least[] = {1, 0x80, 0x800, 0x10000};
        if ((first >= 0x80 && first < 0xC0) || first > 0xF7 || i + more >= s.len) {
            return false;
        }
        for (size_t j = 1; j <= more; j++) {
            if ((s.at[i + j] & 0xC0) != 0x80) {
                return false;
            }
            code = code << 6 | (s.at[i + j] & 0x3F);
        }
        if (code < least[more] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
            return false;
        }
        i += more + 1;
    }
    return true;
}

static inline struct mr_span naive_text(struct naive *n)
{
    struct mr_span span = naive_binary(n);

    if (!naive_is_text(span)) {
        naive_wrong(n);
    }
    return span;
}

static inline bool naive_has(struct mr_span s, const char *any)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] != 0 && strchr(any, s.at[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* Table 2-4: identifier, kind of value, the packets that clients may send it in, by their
 * letters: C CONNECT, W will, P PUBLISH, A acknowledgements, S SUBSCRIBE, U UNSUBSCRIBE,
 * D DISCONNECT, X AUTH.  Kinds: b 0 or 1, 2 4 v numbers, t text, y binary, n topic name, p pair;
 * capitals: not 0.
 */
static inline const char *naive_property(uint32_t id)
{
    switch (id) {
    case 0x01:
        return "bPW";
    case 0x02:
        return "4PW";
    case 0x03:
        return "tPW";
    case 0x08:
        return "nPW";
    case 0x09:
        return "yPW";
    case 0x0B:
        return "VS";
    case 0x11:
        return "4CD";
    case 0x15:
        return "tCX";
    case 0x16:
        return "yCX";
    case 0x17:
    case 0x19:
        return "bC";
    case 0x18:
        return "4W";
    case 0x1F:
        return "tADX";
    case 0x21:
        return "TC"; /* two bytes, not 0 */
    case 0x22:
        return "2C";
    case 0x23:
        return "TP";
    case 0x26:
        return "pCWPASUDX";
    case 0x27:
        return "FC"; /* four bytes, not 0 */
    default:
        return "";
    }
}

static inline void naive_value(struct naive *n, char kind)
{
    switch (kind) {
    case 'b':
        n->wrong |= naive_number(n, 1) > 1;
        break;
    case '2':
        (void)naive_number(n, 2);
        break;
    case '4':
        (void)naive_number(n, 4);
        break;
    case 'T':
        n->wrong |= naive_number(n, 2) == 0;
        break;
    case 'F':
        n->wrong |= naive_number(n, 4) == 0;
        break;
    case 'V':
        n->wrong |= naive_varint(n) == 0;
        break;
    case 't':
        (void)naive_text(n);
        break;
    case 'y':
        (void)naive_binary(n);
        break;
    case 'n': {
        struct mr_span topic = naive_text(n);
        n->wrong |= topic.len == 0 || naive_has(topic, "+#");
        break;
    }
    default:
        (void)naive_text(n);
        (void)naive_text(n);
        break;
    }
}

/* The properties of a packet of this letter; bit n: property n was there. */
static inline uint64_t naive_properties(struct naive *n, char letter)
{
    uint64_t seen = 0;

    if (!n->is_5) {
        return 0;
    }
    size_t len = naive_varint(n);
    if (len > n->left) {
        naive_wrong(n);
        return 0;
    }
    struct naive part = {.at = n->at, .left = len, .is_5 = true};
    n->at += len;
    n->left -= len;
    while (part.left != 0 && !part.wrong) {
        uint32_t id = naive_varint(&part);
        const char *rule = naive_property(id);
        if (part.wrong || rule[0] == 0 || strchr(rule + 1, letter) == NULL ||
            (id != 0x26 && (seen >> id & 1) != 0)) {
            naive_wrong(&part);
            break;
        }
        seen |= (uint64_t)1 << id;
        naive_value(&part, rule[0]);
    }
    if (part.wrong) {
        naive_wrong(n);
    }
    return seen;
}

static inline void naive_connect(struct naive *n)
{
    struct mr_span name = naive_binary(n);
    uint32_t level = naive_number(n, 1);
    uint32_t flags = naive_number(n, 1);
    bool is_31 = mr_span_is(name, "MQIsdp") && level == 3;

    (void)naive_number(n, 2);
    if (!is_31 && !(mr_span_is(name, "MQTT") && (level == 4 || level == 5))) {
        naive_wrong(n);
        return;
    }
    n->is_5 = level == 5;
    bool has_will = (flags & 4) != 0;
    if ((!is_31 && (flags & 1) != 0) || (flags & 0x18) == 0x18 ||
        (!has_will && (flags & 0x38) != 0) ||
        (!n->is_5 && (flags & 0x40) != 0 && (flags & 0x80) == 0)) {
        naive_wrong(n);
        return;
    }
    uint64_t seen = naive_properties(n, 'C');
    n->wrong |= (seen >> 0x16 & 1) != 0 && (seen >> 0x15 & 1) == 0;
    struct mr_span id = naive_text(n);
    n->wrong |= id.len == 0 && (is_31 || (level == 4 && (flags & 2) == 0));
    if (has_will) {
        (void)naive_properties(n, 'W');
        naive_value(n, 'n');
        (void)naive_binary(n);
    }
    if ((flags & 0x80) != 0) {
        (void)naive_text(n);
    }
    if ((flags & 0x40) != 0) {
        (void)naive_binary(n);
    }
}

static inline void naive_publish(struct naive *n, uint32_t flags)
{
    uint32_t qos = flags >> 1 & 3;
    struct mr_span topic = naive_text(n);

    n->wrong |= qos == 3 || (qos == 0 && (flags & 8) != 0) || naive_has(topic, "+#");
    if (qos != 0) {
        n->wrong |= naive_number(n, 2) == 0;
    }
    uint64_t seen = naive_properties(n, 'P');
    n->wrong |= topic.len == 0 && (seen >> 0x23 & 1) == 0;
    n->left = 0; /* the payload */
}

/* Is it in a list that ends with 0xFF? */
static inline bool naive_is_one_of(uint32_t reason, const uint8_t *list)
{
    while (*list != 0xFF && *list != reason) {
        list += 1;
    }
    return *list != 0xFF;
}

/* A reason and properties at the end of a packet of 5.0, either of them perhaps left away. */
static inline uint64_t naive_reason(struct naive *n, char letter, const uint8_t *list)
{
    uint32_t reason = 0;
    uint64_t seen = 0;

    if (n->is_5 && n->left != 0) {
        reason = naive_number(n, 1);
        seen = n->left == 0 ? 0 : naive_properties(n, letter);
    }
    n->wrong |= !naive_is_one_of(reason, list);
    return seen;
}

/* 4.7.1, 4.8.2; a shared one without a proper group and filter is refused later. */
static inline bool naive_is_filter(struct mr_span filter, bool *is_shared)
{
    struct mr_span rest = filter;
    bool is_sound = filter.len != 0;

    *is_shared = false;
    for (size_t levels = 0; rest.at != NULL; levels++) {
        struct mr_span level = mr_span_split(&rest, '/');
        bool is_wild = mr_span_is(level, "+") || mr_span_is(level, "#");
        if (levels == 1 && *is_shared &&
            (level.len == 0 || naive_has(level, "+#") || rest.at == NULL || rest.len == 0)) {
            *is_shared = false;
            return true;
        }
        is_sound = is_sound && (is_wild || !naive_has(level, "+#")) &&
                   !(mr_span_is(level, "#") && rest.at != NULL);
        *is_shared = *is_shared || (levels == 0 && mr_span_is(level, "$share") && rest.at != NULL);
    }
    return is_sound;
}

static inline void naive_filters(struct naive *n, bool with_options)
{
    n->wrong |= naive_number(n, 2) == 0;
    (void)naive_properties(n, with_options ? 'S' : 'U');
    n->wrong |= n->left == 0;
    while (n->left != 0) {
        bool is_shared = false;
        struct mr_span filter = naive_text(n);
        n->wrong |= !naive_is_filter(filter, &is_shared);
        if (with_options) {
            uint32_t options = naive_number(n, 1);
            n->wrong |= (options & 3) == 3 || (options & 0xC0) != 0 || (options & 0x30) == 0x30 ||
                        (!n->is_5 && options > 2) || (is_shared && (options & 4) != 0);
        }
    }
}

/* Is `body` of a packet with this first byte one that a client of `version` may send?  The
 * first byte's other flags, and that the length fits, are known to be right.
 */
static inline bool naive_accepts(uint8_t first, struct mr_span body, uint8_t version)
{
    static const uint8_t received[] = {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99, 0xFF};
    static const uint8_t released[] = {0x00, 0x92, 0xFF};
    static const uint8_t leaves[] = {0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93,
                                     0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0xFF};
    static const uint8_t goes_on[] = {0x18, 0x19, 0xFF};
    struct naive n = {.at = body.at, .left = body.len, .is_5 = version == 5};
    uint8_t type = first >> 4;

    /* 3.1 lets DUP be set where later versions have a reserved bit. */
    n.wrong = (type == 6 || type == 8 || type == 10) && (first & 8) != 0 && version != 3;
    switch (type) {
    case 1:
        naive_connect(&n);
        break;
    case 3:
        naive_publish(&n, first & 15);
        break;
    case 4:
    case 5:
    case 6:
    case 7:
        n.wrong |= naive_number(&n, 2) == 0;
        (void)naive_reason(&n, 'A', type < 6 ? received : released);
        break;
    case 8:
    case 10:
        naive_filters(&n, type == 8);
        break;
    case 12:
        break;
    case 14:
        (void)naive_reason(&n, 'D', leaves);
        break;
    case 15:
        n.wrong |= !n.is_5 || (naive_reason(&n, 'X', goes_on) >> 0x15 & 1) == 0;
        break;
    default:
        n.wrong = true;
        break;
    }
    return !n.wrong && n.left == 0;
}

#endif
