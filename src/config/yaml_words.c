/* yaml_words.c - see yaml_words_internal.h.
 *
 * A table from libyaml's sentence (and its context, where that tells two
 * mistakes apart) to ours.  What is not in the table is passed on as libyaml
 * says it: a new version may know mistakes we do not.
 */
#include "config/yaml_words_internal.h"

struct translation {
    const char *context; /* the beginning of libyaml's context; NULL: any */
    const char *problem; /* the beginning of libyaml's problem */
    const char *text;
    const char *hint;
    bool at_context; /* point to where it began, not to where it was noticed */
};

static const struct translation translations[] = {
    {NULL, "mapping values are not allowed in this context", "a ':' is not expected here",
     "either this line or the one above is indented wrongly,\n"
     "or the text before it contains ': ' and needs quotes",
     false},
    {"while parsing a block mapping", "did not find expected key",
     "this line does not fit the lines above it",
     "keys that belong together begin in the same column", false},
    {"while parsing a block collection", "did not find expected '-' indicator",
     "this line does not fit the list above it",
     "the items of a list begin with '- ' in the same column", false},
    {"while scanning a simple key", "could not find expected ':'",
     "this line is neither 'key: value' nor a list item",
     "a ':' with a blank behind it is missing, or the line is indented wrongly", true},
    {"while scanning a quoted scalar", "found unexpected end of stream",
     "this quote is never closed", NULL, true},
    {"while scanning a quoted scalar", "found unexpected document indicator",
     "this quote is never closed", NULL, true},
    {"while parsing a quoted scalar", "found unknown escape character",
     "unknown escape after '\\' in double quotes",
     "write '\\\\' for a backslash, or use single quotes", false},
    {"while parsing a quoted scalar", "did not find expected hexdecimal number",
     "unknown escape after '\\' in double quotes",
     "write '\\\\' for a backslash, or use single quotes", false},
    {"while parsing a flow sequence", "did not find expected ',' or ']'",
     "this '[' is never closed, or a ',' is missing between its items", NULL, true},
    {"while parsing a flow mapping", "did not find expected ',' or '}'",
     "this '{' is never closed, or a ',' is missing between its keys", NULL, true},
    {NULL, "block sequence entries are not allowed in this context",
     "a list item is not expected here", "begin the list in a line of its own below its key",
     false},
    {NULL, "block mapping entries are not allowed in this context", "a key is not expected here",
     NULL, false},
    {NULL, "did not find expected node content", "a value is expected here",
     "put it in quotes if it begins with a special character", false},
    {"while scanning an alias", "did not find expected alphabetic or numeric character",
     "a value that begins with '*' needs quotes", NULL, true},
    {"while scanning an anchor", "did not find expected alphabetic or numeric character",
     "a value that begins with '&' needs quotes", NULL, true},
    {NULL, "found character that cannot start any token",
     "a value cannot begin with this character", "put the value in quotes", false},
};

static bool begins(const char *text, const char *with)
{
    return with == NULL || (text != NULL && strncmp(text, with, strlen(with)) == 0);
}

static struct config_place place_of_mark(const struct config_source *source, yaml_mark_t mark)
{
    return (struct config_place){
        .source = source,
        .line = (uint32_t)mark.line + 1,
        .col = (uint32_t)mark.column + 1,
        .len = 1,
        .end_line = (uint32_t)mark.line + 1,
    };
}

/* A tab where only blanks may stand: at the mark, or before the first character
 * of its line (libyaml sometimes notices it one token later).  0: none.
 */
static uint32_t tab_column(const struct config_source *source, struct config_place place)
{
    size_t at = config_byte_of(source, place.line, 1);
    uint32_t col = 1;

    for (; at < source->len && (source->text[at] == ' ' || source->text[at] == '\t'); at++) {
        if (source->text[at] == '\t') {
            return col;
        }
        col += 1;
    }
    return at < source->len && config_byte_of(source, place.line, place.col) < source->len &&
                   source->text[config_byte_of(source, place.line, place.col)] == '\t'
               ? place.col
               : 0;
}

static struct config_words words_of_reader(struct mr_config *config,
                                           const struct config_source *source,
                                           const yaml_parser_t *parser)
{
    size_t at = parser->problem_offset < source->len ? parser->problem_offset : source->len;

    return (struct config_words){
        .place = config_place_of(source, at),
        .text = config_format(config, "the character U+%04X is not allowed",
                              (unsigned)parser->problem_value),
        .hint = "it cannot be seen in most editors; remove it",
    };
}

struct config_words config_yaml_words(struct mr_config *config, const struct config_source *source,
                                      const yaml_parser_t *parser)
{
    if (parser->error == YAML_READER_ERROR) {
        return words_of_reader(config, source, parser);
    }

    const char *problem = parser->problem == NULL ? "not valid YAML" : parser->problem;
    struct config_words words = {
        .place = place_of_mark(source, parser->problem_mark),
        .text = NULL,
        .hint = NULL,
    };
    uint32_t tab = tab_column(source, words.place);
    if (tab != 0) {
        words.place.col = tab;
        words.text = "a tab is used to indent";
        words.hint = "YAML takes blanks only; replace it by blanks";
        return words;
    }

    for (size_t i = 0; i < MR_COUNT_OF(translations); i++) {
        const struct translation *row = &translations[i];
        if (begins(parser->context, row->context) && begins(problem, row->problem)) {
            words.text = row->text;
            words.hint = row->hint;
            if (row->at_context) {
                words.place = place_of_mark(source, parser->context_mark);
            }
            return words;
        }
    }
    words.text = parser->context == NULL
                     ? config_format(config, "%s", problem)
                     : config_format(config, "%s (%s)", problem, parser->context);
    return words;
}
