/* json_naive.h - the dumbest reader of one field of a JSON text: the model that
 * codec/json_fields is held against.  Recursive, a byte at a time, for valid texts
 * without a place for speed.
 */
#ifndef MR_TEST_JSON_NAIVE_H
#define MR_TEST_JSON_NAIVE_H

#include "codec/json.h"

#include <stdlib.h>

struct naive_step {
    const char *name; /* NULL: index */
    size_t index;
};

/* Where a value lies in the text. */
struct naive_text {
    const uint8_t *at;
    const uint8_t *end;
};

static void naive_space(struct naive_text *t)
{
    while (t->at != t->end && strchr(" \t\r\n", *t->at) != NULL && *t->at != 0) {
        t->at++;
    }
}

static unsigned naive_hex(const uint8_t *at)
{
    char digits[5] = {0};

    memcpy(digits, at, 4);
    return (unsigned)strtoul(digits, NULL, 16);
}

static size_t naive_utf8(unsigned code, uint8_t *out)
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xc0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 63));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (uint8_t)(0xe0 | code >> 12);
        out[1] = (uint8_t)(0x80 | (code >> 6 & 63));
        out[2] = (uint8_t)(0x80 | (code & 63));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | code >> 18);
    out[1] = (uint8_t)(0x80 | (code >> 12 & 63));
    out[2] = (uint8_t)(0x80 | (code >> 6 & 63));
    out[3] = (uint8_t)(0x80 | (code & 63));
    return 4;
}

/* The string at t->at, which is moved behind it, decoded into `out`.  False: it names
 * half a surrogate pair, which has no UTF-8.
 */
static bool naive_string(struct naive_text *t, uint8_t *out, size_t *len)
{
    static const char letters[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    bool fine = true;

    *len = 0;
    for (t->at++; *t->at != '"'; t->at++) {
        if (*t->at != '\\') {
            out[(*len)++] = *t->at;
            continue;
        }
        t->at++;
        if (*t->at != 'u') {
            const char *letter = letters;
            while (*letter != (char)*t->at) {
                letter += 2;
            }
            out[(*len)++] = (uint8_t)letter[1];
            continue;
        }
        unsigned code = naive_hex(t->at + 1);
        t->at += 4;
        if (code >= 0xd800 && code < 0xdc00 && t->at[1] == '\\' && t->at[2] == 'u') {
            unsigned low = naive_hex(t->at + 3);
            if (low >= 0xdc00 && low < 0xe000) {
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                t->at += 6;
            }
        }
        if (code >= 0xd800 && code < 0xe000) {
            fine = false;
        } else {
            *len += naive_utf8(code, out + *len);
        }
    }
    t->at++;
    return fine;
}

/* Behind the value at t->at. */
static void naive_skip(struct naive_text *t, uint8_t *scratch)
{
    size_t len;

    naive_space(t);
    if (*t->at == '"') {
        (void)naive_string(t, scratch, &len);
    } else if (*t->at == '{' || *t->at == '[') {
        uint8_t close = *t->at == '{' ? '}' : ']';
        t->at++;
        for (naive_space(t); *t->at != close; naive_space(t)) {
            if (*t->at == ',' || *t->at == ':') {
                t->at++;
            } else {
                naive_skip(t, scratch);
            }
        }
        t->at++;
    } else {
        while (t->at != t->end && strchr(",]} \t\r\n", *t->at) == NULL) {
            t->at++;
        }
    }
}

/* Move `t` to the value of `step` in the value at t->at; false: there is none. */
static bool naive_step_into(struct naive_text *t, const struct naive_step *step, uint8_t *scratch)
{
    size_t len;

    naive_space(t);
    if (*t->at != (step->name != NULL ? '{' : '[')) {
        return false;
    }
    uint8_t close = step->name != NULL ? '}' : ']';
    size_t index = 0;
    t->at++;
    for (naive_space(t); *t->at != close; naive_space(t), index++) {
        if (*t->at == ',') {
            t->at++;
            naive_space(t);
        }
        bool hit = step->name == NULL && index == step->index;
        if (step->name != NULL) {
            bool fine = naive_string(t, scratch, &len);
            hit = fine && mr_span_is(mr_span_make(scratch, len), step->name);
            naive_space(t);
            t->at++; /* ':' */
            naive_space(t);
        }
        if (hit) {
            return true;
        }
        naive_skip(t, scratch);
    }
    return false;
}

#endif
