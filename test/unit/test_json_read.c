/* test_json_read.c
 *
 * links: codec base
 *
 * Goal:   members, elements, texts and numbers of a valid document are found, whatever
 *         stands between them, and what is not there is found to be missing.
 * Method: documents written by hand; what mr_json_add_string() writes, read back.
 */
#include "codec/json.h"
#include "codec/json_read.h"

#include <stdio.h>

static const char document[] =
    "{ \"a\" : 1 ,\"b\":[ {\"x\":\"}]\\\"\"}, [], -2.5e3 ,null,\"t\" ],\n"
    "  \"nested\": {\"a\": 2, \"deep\": {\"a\": [3]}}, \"e\": {}, \"last\": true}";

static void members_are_found_at_their_own_level(void)
{
    struct mr_span all = mr_span_of(document);
    uint64_t number = 0;

    mr_assert(mr_json_valid(all));
    mr_assert(mr_json_u64(mr_json_member(all, "a"), &number) && number == 1);
    struct mr_span nested = mr_json_member(all, "nested");
    mr_assert(mr_json_u64(mr_json_member(nested, "a"), &number) && number == 2);
    mr_assert(mr_span_is(mr_json_member(mr_json_member(nested, "deep"), "a"), "[3]"));
    mr_assert(mr_span_is(mr_json_member(all, "last"), "true"));
    mr_assert(mr_span_is(mr_json_member(all, "e"), "{}"));
    mr_assert(mr_json_member(all, "deep").len == 0);
    mr_assert(mr_json_member(mr_json_member(all, "e"), "a").len == 0);
    mr_assert(mr_json_member(mr_json_member(all, "b"), "x").len == 0);
    mr_assert(!mr_json_u64(mr_json_member(all, "last"), &number));
}

static void elements_come_in_order(void)
{
    static const char *const expected[] = {"{\"x\":\"}]\\\"\"}", "[]", "-2.5e3", "null", "\"t\""};
    struct mr_span at = mr_json_member(mr_span_of(document), "b");
    struct mr_span element;

    for (size_t i = 0; i < MR_COUNT_OF(expected); i++) {
        mr_assert(mr_json_next(&at, &element));
        mr_assert(mr_span_is(element, expected[i]));
    }
    mr_assert(!mr_json_next(&at, &element));
    at = mr_span_of("[]");
    mr_assert(!mr_json_next(&at, &element));
    at = mr_span_of("{}");
    mr_assert(!mr_json_next(&at, &element));
}

static void check_text(const char *json, const char *expected)
{
    char buffer[64];
    struct mr_text text = mr_text_over(buffer, sizeof(buffer));

    mr_assert(mr_json_valid(mr_span_of(json)));
    mr_json_text(&text, mr_span_of(json));
    mr_assert(strcmp(buffer, expected) == 0);
}

static void texts_are_decoded(void)
{
    check_text("\"\"", "");
    check_text("\"a\\n\\t\\\"\\\\\\/b\"", "a\n\t\"\\/b");
    check_text("\"\\u00e4\\u20AC\"", "\xc3\xa4\xe2\x82\xac");
    check_text("\"\\ud83d\\ude00!\"", "\xf0\x9f\x98\x80!");
    check_text("\"\\ud83dx\"", "\xef\xbf\xbdx");
    check_text("17", "17");
}

static void what_is_written_is_read_back(void)
{
    static const char odd[] = "a\"\\\n\x01/\xc3\xa4";
    char page[64];
    char back[64];
    struct mr_text text = mr_text_over(page, sizeof(page));
    struct mr_text read = mr_text_over(back, sizeof(back));

    mr_json_add_string(&text, mr_span_of(odd));
    mr_assert(mr_json_valid(mr_span_make(page, text.len)) && page[text.len] == '\0');
    mr_json_text(&read, mr_span_make(page, text.len));
    mr_assert(strcmp(back, odd) == 0);

    text = mr_text_over(page, sizeof(page));
    mr_json_add_string(&text, mr_span_of("\xff\xfe"));
    mr_assert(strcmp(page, "\"??\"") == 0);
    text = mr_text_over(page, 4);
    mr_json_add_string(&text, mr_span_of("abc"));
    mr_assert(text.truncated && text.len == 0);
}

int main(void)
{
    members_are_found_at_their_own_level();
    elements_come_in_order();
    texts_are_decoded();
    what_is_written_is_read_back();
    return 0;
}
