/* report.c - the list of problems, and how a person gets to see it.
 *
 * DESIGN
 *
 * Problems are collected with a place and are sorted only when they are
 * reported: by file in the order of reading, then line, column and order of
 * being found.  What is wrong with a line is thus said in one place, whoever
 * found it.
 *
 * The line is shown as it stands, so a caret fits below it; tabs are shown as
 * one blank.  A line that may hold a secret is cut behind its colon: messages
 * end up in journals and tickets.
 *
 * Lines end where libyaml thinks they do (LF, CR, CRLF, NEL, LS, PS), or else
 * its line numbers would not be ours.
 */
#include "config/config_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* Bytes of the line break at `at`, 0 if there is none. */
static size_t break_bytes(const struct config_source *source, size_t at)
{
    const unsigned char *text = (const unsigned char *)source->text + at;
    size_t left = source->len - at;

    if (left == 0) {
        return 0;
    }
    if (text[0] == '\r') {
        return left > 1 && text[1] == '\n' ? 2 : 1;
    }
    if (text[0] == '\n') {
        return 1;
    }
    if (left >= 2 && text[0] == 0xc2 && text[1] == 0x85) { /* NEL */
        return 2;
    }
    if (left >= 3 && text[0] == 0xe2 && text[1] == 0x80 && (text[2] == 0xa8 || text[2] == 0xa9)) {
        return 3; /* LS, PS */
    }
    return 0;
}

static bool is_continuation(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

/* First byte of `line`; the end of the text if there are fewer. */
static size_t line_begin(const struct config_source *source, uint32_t line)
{
    size_t at = 0;

    while (line > 1 && at < source->len) {
        size_t ending = break_bytes(source, at);
        if (ending > 0) {
            line -= 1;
        }
        at += ending > 0 ? ending : 1;
    }
    return at;
}

size_t config_byte_of(const struct config_source *source, uint32_t line, uint32_t col)
{
    size_t at = line_begin(source, line);

    while (col > 1 && at < source->len && break_bytes(source, at) == 0) {
        at += 1;
        while (at < source->len && is_continuation(source->text[at])) {
            at += 1;
        }
        col -= 1;
    }
    return at;
}

struct config_place config_place_of(const struct config_source *source, size_t byte)
{
    struct config_place place = {.source = source, .line = 1, .col = 1, .len = 1};
    size_t at = 0;

    while (at < byte && at < source->len) {
        size_t ending = break_bytes(source, at);
        if (ending > 0) {
            place.line += 1;
            place.col = 1;
            at += ending;
        } else {
            place.col += is_continuation(source->text[at]) ? 0 : 1;
            at += 1;
        }
    }
    place.end_line = place.line;
    return place;
}

struct config_problem *config_problem_add(struct mr_config *config, struct config_place place,
                                          const char *text, const char *hint)
{
    if (config->problem_count == CONFIG_PROBLEMS_MAX) {
        config->problems_dropped += 1;
        return &config->dropped;
    }
    if (config->problem_count == config->problem_capacity) {
        config->problem_capacity = config->problem_capacity * 2 + 8;
        config->problems =
            mr_realloc(config->problems, config->problem_capacity * sizeof(*config->problems));
    }
    struct config_problem *problem = &config->problems[config->problem_count];
    *problem = (struct config_problem){
        .place = place,
        .text = text,
        .hint = hint,
        .order = (unsigned)config->problem_count,
    };
    config->problem_count += 1;
    return problem;
}

void mr_config_problem(struct mr_config *config, struct mr_node *node, const char *name,
                       const char *fmt, ...)
{
    char text[1024];
    struct config_place place = {.source = config->main_source};
    struct config_entry *entry = name == NULL ? NULL : config_entry_find(node, name);
    va_list args;

    if (entry != NULL) {
        place = entry->place;
    } else if (node != NULL) {
        bool show_key = node->kind != CONFIG_SCALAR && node->key.line != 0;
        place = show_key ? node->key : node->place;
    }
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);

    /* "what is wrong; what to do" in the first line, further lines as hints. */
    char *more = strchr(text, '\n');
    const char *hint = NULL;
    if (more != NULL) {
        *more = '\0';
        hint = config_copy(config, more + 1, strlen(more + 1));
    }
    (void)config_problem_add(config, place, config_copy(config, text, strlen(text)), hint);
}

size_t mr_config_problem_count(const struct mr_config *config)
{
    return config->problem_count + config->problems_dropped;
}

/* ---- the picture ---- */

struct printer {
    void (*write)(void *arg, const char *text, size_t len);
    void *arg;
    bool color;
};

static void print(struct printer *to, const char *fmt, ...) MR_PRINTF(2, 3);

static void print(struct printer *to, const char *fmt, ...)
{
    char text[1536];
    va_list args;

    va_start(args, fmt);
    int wanted = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    size_t len = wanted < 0 ? 0 : (size_t)wanted;
    to->write(to->arg, text, len < sizeof(text) ? len : sizeof(text) - 1);
}

static void paint(struct printer *to, const char *code)
{
    if (to->color) {
        print(to, "\033[%sm", code);
    }
}

/* Where the value behind the word at `word_end` begins: after its colon (in a
 * --set its '=').  A group in braces is not the value itself but holds it.
 */
static size_t value_begin(const char *line, size_t len, size_t word_end)
{
    const char *end = memchr(line + word_end, ':', len - word_end);

    end = end == NULL ? memchr(line + word_end, '=', len - word_end) : end;
    return end == NULL ? word_end : (size_t)(end - line) + 1;
}

/* Where the value in a line that may show a secret begins; `len` if it does not. */
static size_t secret_begin(const char *line, size_t len)
{
    static const char *const words[] = {"pass", "secret", "token", "private", "psk"};

    for (size_t at = 0; at < len; at++) {
        for (size_t i = 0; i < MR_COUNT_OF(words); i++) {
            size_t word_len = strlen(words[i]);
            if (len - at < word_len || strncasecmp(line + at, words[i], word_len) != 0) {
                continue;
            }
            size_t begin = value_begin(line, len, at + word_len);
            size_t first = begin;
            while (first < len && line[first] == ' ') {
                first += 1;
            }
            if (first < len && line[first] != '{') {
                return begin;
            }
        }
    }
    return len;
}

/* The line with its number, and the caret below what is meant. */
static void print_excerpt(struct printer *to, const struct config_problem *problem)
{
    enum { SHOWN_MAX = 160 };
    const struct config_source *source = problem->place.source;
    size_t begin = line_begin(source, problem->place.line);
    size_t end = begin;
    size_t columns = 0; /* shown */
    char shown[SHOWN_MAX * 4 + 8];
    size_t len = 0;

    while (end < source->len && break_bytes(source, end) == 0) {
        end += 1;
    }
    size_t secret = begin + secret_begin(source->text + begin, end - begin);
    if (problem->hide && secret == end) {
        secret = config_byte_of(source, problem->place.line, problem->place.col);
        const char *colon = memchr(source->text + secret, ':', end - secret);
        secret = colon == NULL ? secret : (size_t)(colon - source->text) + 1;
    }
    for (size_t at = begin; at < end && at < secret; at++) {
        if (!is_continuation(source->text[at])) {
            if (columns == SHOWN_MAX) {
                break;
            }
            columns += 1;
        }
        unsigned char byte = (unsigned char)source->text[at];
        shown[len] = (char)(byte < 0x20 || byte == 0x7f ? ' ' : byte);
        len += 1;
    }
    if (secret < end && columns < SHOWN_MAX) {
        const char *stars = len > 0 && shown[len - 1] == ' ' ? "***" : " ***";
        memcpy(shown + len, stars, strlen(stars));
        len += strlen(stars);
        columns += strlen(stars);
    }
    print(to, "%5u | %.*s\n", problem->place.line, (int)len, shown);

    if (problem->place.col > columns + 1) {
        return; /* the caret would stand under nothing */
    }
    uint32_t carets = problem->place.len == 0 ? 1 : problem->place.len;
    uint32_t room = (uint32_t)columns + 1 - problem->place.col;
    if (carets > room) {
        carets = room == 0 ? 1 : room;
    }
    print(to, "      | %*s", (int)problem->place.col - 1, "");
    paint(to, "1;31");
    for (uint32_t i = 0; i < carets; i++) {
        print(to, "^");
    }
    paint(to, "0");
    print(to, "\n");
}

static void print_problem(struct printer *to, const struct config_problem *problem)
{
    const struct config_source *source = problem->place.source;

    paint(to, "1");
    if (problem->place.line == 0 || source->is_set) {
        print(to, "%s:", source->name);
    } else {
        print(to, "%s:%u:%u:", source->name, problem->place.line, problem->place.col);
    }
    paint(to, "0");
    print(to, " %s\n", problem->text);
    if (problem->place.line != 0) {
        print_excerpt(to, problem);
    }
    for (const char *hint = problem->hint; hint != NULL && hint[0] != '\0';) {
        size_t len = strcspn(hint, "\n");
        print(to, "  %.*s\n", (int)len, hint);
        hint += len + (hint[len] == '\n' ? 1 : 0);
    }
}

static int problem_order(const void *left, const void *right)
{
    const struct config_problem *a = left;
    const struct config_problem *b = right;

    if (a->place.source->index != b->place.source->index) {
        return a->place.source->index < b->place.source->index ? -1 : 1;
    }
    if (a->place.line != b->place.line) {
        return a->place.line < b->place.line ? -1 : 1;
    }
    if (a->place.col != b->place.col) {
        return a->place.col < b->place.col ? -1 : 1;
    }
    return a->order < b->order ? -1 : 1;
}

void mr_config_report(struct mr_config *config, bool color,
                      void (*write)(void *arg, const char *text, size_t len), void *arg)
{
    struct printer to = {.write = write, .arg = arg, .color = color};

    if (config->problem_count > 0) {
        qsort(config->problems, config->problem_count, sizeof(*config->problems), problem_order);
    }
    for (size_t i = 0; i < config->problem_count; i++) {
        print_problem(&to, &config->problems[i]);
    }
    if (config->problems_dropped > 0) {
        print(&to, "and %zu more problems\n", config->problems_dropped);
    }
}
