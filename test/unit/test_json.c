/* test_json.c
 *
 * links: codec base
 *
 * Goal:   the validator accepts exactly RFC 8259, and what the writers write is
 *         accepted by it.
 * Method: documents grouped by the rule they keep or break; every document also
 *         with each of its prefixes, in memory that ends where the document ends.
 */
#include "codec/json.h"

#include "base/rng.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>

#define T(literal) literal, sizeof(literal) - 1

struct document {
    const char *text;
    size_t len;
};

static const struct document valid[] = {
    /* Any value may stand alone. */
    {T("null")},
    {T("true")},
    {T("false")},
    {T("0")},
    {T("\"\"")},
    {T("[]")},
    {T("{}")},
    {T(" \t\r\n1\n\r\t ")},
    {T("[ ]")},
    {T("{ }")},
    /* Numbers. */
    {T("-0")},
    {T("-1")},
    {T("123")},
    {T("0.0")},
    {T("1.50")},
    {T("0e1")},
    {T("1E+2")},
    {T("1e-2")},
    {T("-0.1e00")},
    {T("123456789012345678901234567890.123e99999")},
    {T("[0,-0,1e5]")},
    /* Strings. */
    {T("\"a\"")},
    {T("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"")},
    {T("\"\\u00e4\\uD834\\udd1e\"")},
    {T("\"\\ud800\"")},
    {T("\"\xc3\xa4\xe2\x82\xac\xf0\xaa\x9b\x94\"")},
    {T("\"\x7f\"")},
    {T("\"eight888\"")},
    {T("\"sixteen_6_sixteen\"")},
    {T("\"1234567\\n1234567\"")},
    {T("\"\\u0000\"")},
    {T("\"\xef\xbf\xbf\"")},
    {T("\"http:\\/\\/x\"")},
    /* Structure. */
    {T("[1,2]")},
    {T("[[[]]]")},
    {T("[{},{}]")},
    {T("{\"a\":1}")},
    {T("{\"\":0}")},
    {T("{\"a\":1,\"a\":2}")},
    {T("{\"a\":{\"b\":[1,{\"c\":null}]}}")},
    {T(" { \"a\" : [ 1 , 2 ] , \"b\" : { } } ")},
    {T("[null,true,false,\"x\",1.5]")},
};

static const struct document invalid[] = {
    {T("")},
    {T(" ")},
    {T("nul")},
    {T("nulll")},
    {T("True")},
    {T("NaN")},
    {T("Infinity")},
    {T("undefined")},
    {T("'a'")},
    {T("a")},
    {T("\xef\xbb\xbf"
       "1")},
    {T("1 2")},
    {T("[]]")},
    {T("{}}")},
    {T("[][]")},
    {T("\f1")},
    {T("\xc2\xa0"
       "1")},
    {T("1\0")},
    {T("[1]\0")},
    /* Numbers. */
    {T("-")},
    {T("+1")},
    {T("01")},
    {T("-01")},
    {T("00")},
    {T("1.")},
    {T(".5")},
    {T("-.5")},
    {T("1.e1")},
    {T("1e")},
    {T("1e+")},
    {T("1E-")},
    {T("0x1")},
    {T("1.2.3")},
    {T("1e5.0")},
    {T("--1")},
    {T("1_000")},
    {T("1a")},
    {T("0e")},
    {T("- 1")},
    {T("[0 1]")},
    {T("1,")},
    /* Strings. */
    {T("\"")},
    {T("\"a")},
    {T("\"\\\"")},
    {T("\"\\x41\"")},
    {T("\"\\a\"")},
    {T("\"\\u12\"")},
    {T("\"\\u12G4\"")},
    {T("\"\\u\"")},
    {T("\"\\U0041\"")},
    {T("\"\n\"")},
    {T("\"\t\"")},
    {T("\"\0\"")},
    {T("\"\x1f\"")},
    {T("\"1234567\n1234567\"")},
    {T("\"12345678\x01\"")},
    {T("\"\xff\"")},
    {T("\"\xc0\x80\"")},
    {T("\"\xed\xa0\x80\"")},
    {T("\"\xc3\"")},
    {T("\"\xff"
       "1234567890\"")},
    {T("\"1234567\xe2\x82\"")},
    {T("\"\xf4\x90\x80\x80\"")},
    {T("\"a\"b")},
    {T("\"\\")},
    {T("\"\\u123")},
    /* Arrays. */
    {T("[")},
    {T("]")},
    {T("[1")},
    {T("[1,")},
    {T("[1,]")},
    {T("[,1]")},
    {T("[,]")},
    {T("[1,,2]")},
    {T("[1 2]")},
    {T("[1}")},
    {T("[\"a\":1]")},
    {T("[1;2]")},
    {T("[-]")},
    {T("[a]")},
    {T("[[]")},
    {T("[1/*c*/]")},
    {T("[1]//")},
    {T("[#]")},
    /* Objects. */
    {T("{")},
    {T("}")},
    {T("{\"a\"")},
    {T("{\"a\":")},
    {T("{\"a\":1")},
    {T("{\"a\":1,")},
    {T("{\"a\":1,}")},
    {T("{,}")},
    {T("{\"a\"}")},
    {T("{\"a\" 1}")},
    {T("{\"a\"::1}")},
    {T("{a:1}")},
    {T("{1:1}")},
    {T("{\"a\":1]")},
    {T("{\"a\",1}")},
    {T("{null:1}")},
    {T("{'a':1}")},
    {T("{\"a\":1 \"b\":2}")},
    {T("{\"a\":1,\"b\"}")},
    {T("{[]:1}")},
    {T("{\"a\":}")},
    {T("{:1}")},
    {T("{\"a\":1,,\"b\":2}")},
};

/* In memory that ends with the document. */
static bool is_valid(const char *text, size_t len)
{
    char *copy = malloc(len != 0 ? len : 1);

    mr_assert(copy != NULL);
    memcpy(copy, text, len);
    bool answer = mr_json_valid(mr_span_make(copy, len));
    free(copy);
    return answer;
}

static void test_documents(void)
{
    for (size_t i = 0; i < MR_COUNT_OF(valid); i++) {
        if (!is_valid(valid[i].text, valid[i].len)) {
            printf("refused: %s\n", valid[i].text);
        }
        mr_assert(is_valid(valid[i].text, valid[i].len));
        /* No prefix of an array, object or string is a document. */
        if (strchr("[{\"", valid[i].text[0]) != NULL) {
            for (size_t cut = 0; cut < valid[i].len; cut++) {
                mr_assert(!is_valid(valid[i].text, cut));
            }
        }
    }
    for (size_t i = 0; i < MR_COUNT_OF(invalid); i++) {
        if (is_valid(invalid[i].text, invalid[i].len)) {
            printf("accepted: %s\n", invalid[i].text);
        }
        mr_assert(!is_valid(invalid[i].text, invalid[i].len));
        /* Nor does it become one inside something else. */
        char wrapped[64];
        wrapped[0] = '[';
        memcpy(wrapped + 1, invalid[i].text, invalid[i].len);
        wrapped[invalid[i].len + 1] = ']';
        bool blank = invalid[i].len == 0 || strcmp(invalid[i].text, " ") == 0;
        bool pair = strcmp(invalid[i].text, "[]]") == 0 || strcmp(invalid[i].text, "1,") == 0;
        mr_assert(blank || pair || !is_valid(wrapped, invalid[i].len + 2));
    }
}

static void test_depth(void)
{
    char text[6 * (MR_JSON_DEPTH_MAX + 1)];

    for (size_t depth = MR_JSON_DEPTH_MAX; depth <= MR_JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        mr_assert(is_valid(text, 2 * depth) == (depth == MR_JSON_DEPTH_MAX));
        /* Objects and arrays in turn: every bit of the stack matters. */
        size_t at = 0;
        for (size_t i = 0; i < depth; i++) {
            memcpy(text + at, i % 2 == 0 ? "{\"\":" : "[", i % 2 == 0 ? 4 : 1);
            at += i % 2 == 0 ? 4 : 1;
        }
        text[at++] = '1';
        for (size_t i = depth; i-- != 0;) {
            text[at++] = i % 2 == 0 ? '}' : ']';
        }
        mr_assert(is_valid(text, at) == (depth == MR_JSON_DEPTH_MAX));
        text[at - 1] = ']';
        mr_assert(!is_valid(text, at));
    }
    /* An attacker's million brackets cost nothing. */
    static char deep[1 << 20];
    memset(deep, '[', sizeof(deep));
    mr_assert(!is_valid(deep, sizeof(deep)));
    /* Depth comes back: many shallow ones are not deep. */
    for (size_t i = 0; i + 3 < sizeof(deep); i += 3) {
        memcpy(deep + i, "[],", 3);
    }
    deep[0] = '[';
    deep[1] = '1';
    deep[sizeof(deep) - 4] = '1';
    memcpy(deep + sizeof(deep) - 3, "   ", 3);
    deep[sizeof(deep) - 1] = ']';
    char *end = deep + sizeof(deep) - 5;
    while (*end != ',') {
        end -= 1;
    }
    memset(end + 1, ' ', (size_t)(deep + sizeof(deep) - 1 - (end + 1)));
    end[1] = '1';
    mr_assert(is_valid(deep, sizeof(deep)));
}

static void test_put_string(void)
{
    static const struct {
        const char *text;
        size_t len;
        const char *written;
    } rows[] = {
        {T(""), "\"\""},
        {T("plain"), "\"plain\""},
        {T("long enough for two words"), "\"long enough for two words\""},
        {T("a\"b\\c/"), "\"a\\\"b\\\\c/\""},
        {T("\b\f\n\r\t"), "\"\\b\\f\\n\\r\\t\""},
        {T("\x01\x1f\x7f\0z"), "\"\\u0001\\u001f\x7f\\u0000z\""},
        {T("\xc3\xa4\xf0\xaa\x9b\x94"), "\"\xc3\xa4\xf0\xaa\x9b\x94\""},
        {T("1234567\n12345678\n"), "\"1234567\\n12345678\\n\""},
    };
    char out[256];

    for (size_t i = 0; i < MR_COUNT_OF(rows); i++) {
        struct mr_span text = mr_span_make(rows[i].text, rows[i].len);
        char *end = mr_json_put_string(out, text);
        mr_assert(mr_span_is(mr_span_make(out, (size_t)(end - out)), rows[i].written));
        mr_assert(mr_json_string_size(text) == (size_t)(end - out));
        mr_assert(is_valid(out, (size_t)(end - out)));
    }
}

static void test_base64(void)
{
    static const char *const rows[][2] = {
        /* RFC 4648 section 10. */
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xfb\xff\xfe", "+//+"},
    };
    char out[32];

    for (size_t i = 0; i < MR_COUNT_OF(rows); i++) {
        struct mr_span bytes = mr_span_of(rows[i][0]);
        char *end = mr_base64_put(out, bytes);
        mr_assert(mr_span_is(mr_span_make(out, (size_t)(end - out)), rows[i][1]));
        mr_assert((size_t)(end - out) == MR_BASE64_SIZE(bytes.len));
    }
}

static void test_i64(void)
{
    static const struct {
        int64_t number;
        const char *written;
    } rows[] = {
        {0, "0"},
        {9, "9"},
        {10, "10"},
        {-1, "-1"},
        {1763920561123, "1763920561123"},
        {INT64_MAX, "9223372036854775807"},
        {INT64_MIN, "-9223372036854775808"},
    };
    char out[20];

    for (size_t i = 0; i < MR_COUNT_OF(rows); i++) {
        char *end = mr_json_put_i64(out, rows[i].number);
        mr_assert(mr_span_is(mr_span_make(out, (size_t)(end - out)), rows[i].written));
    }
}

/* Any UTF-8, escaped, is a JSON string of the size foretold. */
static void test_random_strings(uint64_t seed)
{
    struct mr_rng rng;

    mr_rng_seed(&rng, seed);
    for (int step = 0; step < 20000; step++) {
        size_t len = mr_rng_below(&rng, 40);
        uint8_t *text = malloc(len + 1);
        char *out = malloc(MR_JSON_STRING_MAX(len));
        mr_assert(text != NULL && out != NULL);
        for (size_t i = 0; i < len; i++) {
            text[i] = (uint8_t)(mr_rng_below(&rng, 4) == 0 ? mr_rng_below(&rng, 0x24)
                                                           : mr_rng_below(&rng, 0x80));
        }
        char *end = mr_json_put_string(out, mr_span_make(text, len));
        mr_assert(mr_json_string_size(mr_span_make(text, len)) == (size_t)(end - out));
        mr_assert(is_valid(out, (size_t)(end - out)));
        free(out);
        free(text);
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    printf("seed %llu\n", (unsigned long long)seed);
    test_documents();
    test_depth();
    test_put_string();
    test_base64();
    test_i64();
    test_random_strings(seed);
    return 0;
}
