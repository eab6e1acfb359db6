/* hocon.c - see hocon_internal.h.
 *
 * One pass, by recursion that is bounded.  A value ends at the end of its line, at a comma or
 * at the bracket that closes what is around it; the parts on the way are put together, blanks
 * between them included.
 */
#include "app/cli/hocon_internal.h"

#include "os/file.h"

enum { TEXT_BYTES = 16 << 10, KEY_BYTES = 256, FILE_PATH_BYTES = 4096 };

struct parser {
    struct hocon *hocon;
    const struct parser *outer; /* that included this file */
    const char *path;
    const char *at;
    struct import_place *place;
    const char *why;
    bool said; /* on stderr, what is wrong */
    unsigned depth;
    char text[TEXT_BYTES]; /* the value that is being read */
    size_t text_len;
};

/* ---- the tree ---- */

struct hocon_value *hocon_find(const struct hocon_value *object, const char *name)
{
    for (struct hocon_value *value = object->first; value != NULL; value = value->next) {
        if (value->name != NULL && strcmp(value->name, name) == 0) {
            return value;
        }
    }
    return NULL;
}

struct hocon_value *hocon_add(struct hocon_value *parent, const char *name,
                              struct import_place place)
{
    struct hocon_value *value = mr_alloc(sizeof(*value));

    value->name = name == NULL ? NULL : mr_strdup(name);
    value->place = place;
    if (parent->last != NULL) {
        parent->last->next = value;
    } else {
        parent->first = value;
    }
    parent->last = value;
    return value;
}

void hocon_empty(struct hocon_value *value)
{
    while (value->first != NULL) {
        struct hocon_value *child = value->first;
        value->first = child->next;
        hocon_empty(child);
        mr_free(child->name);
        mr_free(child);
    }
    value->last = NULL;
    mr_free(value->text);
    mr_free(value->before);
    value->text = NULL;
    value->before = NULL;
    value->has_substitution = false;
}

void hocon_close(struct hocon *hocon)
{
    hocon_empty(&hocon->root);
}

/* ---- characters ---- */

static bool fail(struct parser *parser, const char *why)
{
    if (parser->why == NULL) {
        parser->why = why;
    }
    return false;
}

static bool at_comment(const struct parser *parser)
{
    return parser->at[0] == '#' || (parser->at[0] == '/' && parser->at[1] == '/');
}

static void skip_blanks(struct parser *parser)
{
    while (*parser->at == ' ' || *parser->at == '\t' || *parser->at == '\r') {
        parser->at += 1;
    }
}

/* Blanks, line ends, comments, and commas where they only separate. */
static void skip_space(struct parser *parser, bool commas)
{
    for (;;) {
        skip_blanks(parser);
        if (at_comment(parser)) {
            parser->at += strcspn(parser->at, "\n");
        } else if (*parser->at == '\n') {
            parser->place->line += 1;
            parser->at += 1;
        } else if (commas && *parser->at == ',') {
            parser->at += 1;
        } else {
            return;
        }
    }
}

static bool put(struct parser *parser, const char *at, size_t len)
{
    if (len >= sizeof(parser->text) - parser->text_len) {
        return fail(parser, "a value of more than 16 KiB");
    }
    memcpy(parser->text + parser->text_len, at, len);
    parser->text_len += len;
    parser->text[parser->text_len] = '\0';
    return true;
}

/* ---- text ---- */

static bool read_escape(struct parser *parser)
{
    static const char from[] = "nrtbf\"\\/";
    static const char to[] = "\n\r\t\b\f\"\\/";
    const char *found = *parser->at == '\0' ? NULL : strchr(from, *parser->at);

    if (found == NULL) {
        return fail(parser, "a \\ that escapes nothing known");
    }
    parser->at += 1;
    return put(parser, &to[found - from], 1);
}

static bool read_triple(struct parser *parser)
{
    const char *end = strstr(parser->at + 3, "\"\"\"");

    if (end == NULL) {
        return fail(parser, "a text in \"\"\" that does not end");
    }
    while (end[3] == '"') {
        end += 1; /* further quotes are of the text */
    }
    for (const char *c = parser->at; c < end; c++) {
        parser->place->line += *c == '\n' ? 1 : 0;
    }
    bool ok = put(parser, parser->at + 3, (size_t)(end - parser->at - 3));
    parser->at = end + 3;
    return ok;
}

static bool read_quoted(struct parser *parser)
{
    if (strncmp(parser->at, "\"\"\"", 3) == 0) {
        return read_triple(parser);
    }
    parser->at += 1;
    while (*parser->at != '"') {
        if (*parser->at == '\0' || *parser->at == '\n') {
            return fail(parser, "a quoted text that does not end");
        }
        const char *c = parser->at;
        parser->at += 1;
        if (!(*c == '\\' ? read_escape(parser) : put(parser, c, 1))) {
            return false;
        }
    }
    parser->at += 1;
    return true;
}

/* A dotted key, made below `*object`: *object is then the object of its last part. */
static bool read_key(struct parser *parser, struct hocon_value **object, char *name)
{
    for (;;) {
        parser->text_len = 0;
        parser->text[0] = '\0';
        if (*parser->at == '"') {
            if (!read_quoted(parser)) {
                return false;
            }
        } else {
            size_t len = strcspn(parser->at, " \t\r\n.:={}[],+\"#$");
            if (len == 0) {
                return fail(parser, "a key was expected");
            }
            if (!put(parser, parser->at, len)) {
                return false;
            }
            parser->at += len;
        }
        if (parser->text_len >= KEY_BYTES) {
            return fail(parser, "a key of more than 255 bytes");
        }
        memcpy(name, parser->text, parser->text_len + 1);
        if (*parser->at != '.') {
            return true;
        }
        parser->at += 1;
        struct hocon_value *child = hocon_find(*object, name);
        if (child == NULL) {
            child = hocon_add(*object, name, *parser->place);
        }
        if (child->has_substitution) {
            import_note(parser->hocon->import, child->place, name,
                        "an object from elsewhere to which keys are added is not put together; "
                        "only the keys are taken, add its own by hand");
        }
        if (child->kind != HOCON_OBJECT) {
            hocon_empty(child);
            child->kind = HOCON_OBJECT;
        }
        *object = child;
    }
}

/* ---- values ---- */

static bool read_members(struct parser *parser, struct hocon_value *object, char end);
static bool read_value(struct parser *parser, struct hocon_value *value);

static bool read_object(struct parser *parser, struct hocon_value *value)
{
    if (value->kind != HOCON_OBJECT) {
        hocon_empty(value);
        value->kind = HOCON_OBJECT;
    }
    parser->at += 1;
    return read_members(parser, value, '}');
}

static bool read_list(struct parser *parser, struct hocon_value *value)
{
    value->kind = HOCON_LIST;
    parser->at += 1;
    for (;;) {
        skip_space(parser, true);
        if (*parser->at == ']') {
            parser->at += 1;
            return true;
        }
        if (*parser->at == '\0') {
            return fail(parser, "a list that does not end");
        }
        if (!read_value(parser, hocon_add(value, NULL, *parser->place))) {
            return false;
        }
    }
}

/* One part of a text: quoted, a substitution, or what stands there. */
static bool read_part(struct parser *parser, struct hocon_value *value)
{
    if (*parser->at == '"') {
        return read_quoted(parser);
    }
    if (strncmp(parser->at, "${", 2) == 0) {
        size_t len = strcspn(parser->at, "}\n");
        if (parser->at[len] != '}') {
            return fail(parser, "a substitution that does not end");
        }
        value->has_substitution = true;
        bool ok = put(parser, (const char[]){HOCON_MARK}, 1) && put(parser, parser->at, len + 1);
        parser->at += len + 1;
        return ok;
    }
    size_t len = 0;
    while (strchr(" \t\r\n,{}[]\"#", parser->at[len]) == NULL &&
           strncmp(parser->at + len, "${", 2) != 0 && strncmp(parser->at + len, "//", 2) != 0) {
        len += 1;
    }
    if (len == 0) {
        return fail(parser, "a character that cannot stand in a value");
    }
    bool ok = put(parser, parser->at, len);
    parser->at += len;
    return ok;
}

static bool at_end_of_value(const struct parser *parser)
{
    return strchr("\n,}]", *parser->at) != NULL || at_comment(parser);
}

static bool read_text(struct parser *parser, struct hocon_value *value)
{
    char *before = value->kind == HOCON_TEXT ? value->text : NULL;

    value->text = before == NULL ? value->text : NULL;
    hocon_empty(value);
    value->before = before;
    value->kind = HOCON_TEXT;
    parser->text_len = 0;
    parser->text[0] = '\0';
    for (;;) {
        const char *blanks = parser->at;
        skip_blanks(parser);
        if (at_end_of_value(parser)) {
            break;
        }
        size_t gap = parser->text_len == 0 ? 0 : (size_t)(parser->at - blanks);
        if (!put(parser, blanks, gap) || !read_part(parser, value)) {
            return false;
        }
    }
    value->text = mr_strdup(parser->text);
    return true;
}

static bool read_value(struct parser *parser, struct hocon_value *value)
{
    bool ok = true;

    if (parser->depth == HOCON_DEPTH_MAX) {
        return fail(parser, "more than 64 objects and lists within each other");
    }
    parser->depth += 1;
    if (*parser->at == '{' || *parser->at == '[') {
        if (*parser->at == '[') {
            hocon_empty(value);
        }
        while (ok && (*parser->at == '{' || *parser->at == '[')) { /* put together */
            ok = *parser->at == '{' ? read_object(parser, value) : read_list(parser, value);
            skip_blanks(parser);
        }
        if (ok && !at_end_of_value(parser)) {
            ok = fail(parser, "something behind an object or a list in the same line");
        }
    } else {
        ok = read_text(parser, value);
    }
    parser->depth -= 1;
    return ok;
}

/* ---- included files ---- */

static bool read_file(struct hocon *hocon, const char *path, const struct parser *outer,
                      struct hocon_value *object);

static void note_include(const struct parser *parser, const char *what, const char *advice)
{
    char shown[300];
    struct mr_text text = mr_text_over(shown, sizeof(shown));

    mr_text_fmt(&text, "include = %s", what);
    import_note(parser->hocon->import, *parser->place, shown, "%s", advice);
}

/* `name`, from where the including file is. */
static void path_of(const struct parser *parser, const char *name, struct mr_text *out)
{
    const char *slash = strrchr(parser->path, '/');

    if (name[0] != '/' && slash != NULL) {
        mr_text_bytes(out, parser->path, (size_t)(slash - parser->path) + 1);
    }
    mr_text_add(out, name);
}

static bool includes_itself(const struct parser *parser, const char *path)
{
    while (parser != NULL && strcmp(parser->path, path) != 0) {
        parser = parser->outer;
    }
    return parser != NULL;
}

static bool include(struct parser *parser, const char *name, bool required,
                    struct hocon_value *object)
{
    char path[FILE_PATH_BYTES];
    struct mr_text text = mr_text_over(path, sizeof(path));
    struct mr_file file = {.fd = -1};
    struct mr_error why;

    path_of(parser, name, &text);
    if (text.truncated) {
        return fail(parser, "a path of more than 4 KiB");
    }
    if (includes_itself(parser, path)) {
        return fail(parser, "a file that includes itself, by way of others perhaps");
    }
    if (mr_file_open(&file, path, MR_FILE_READ, &why) != MR_OK) {
        note_include(parser, name, why.text);
        return required ? fail(parser, "an included file that is required is not there") : true;
    }
    mr_file_close(&file);
    if (!read_file(parser->hocon, path, parser, object)) {
        parser->said = true;
        return false;
    }
    return true;
}

/* `include "x"`, `include file("x")`, `include required(file("x"))`. */
static bool read_include(struct parser *parser, struct hocon_value *object)
{
    struct hocon_value what = {.name = NULL};

    parser->at += sizeof("include") - 1;
    skip_blanks(parser);
    bool required = strncmp(parser->at, "required(", 9) == 0;
    parser->at += required ? 9 : 0;
    bool by_file = strncmp(parser->at, "file(", 5) == 0;
    parser->at += by_file ? 5 : 0;
    const char *begin = parser->at;
    if (*parser->at != '"') {
        bool ok = read_text(parser, &what);
        if (ok) {
            note_include(parser, what.text, "only files are included; give it as an argument");
        }
        hocon_empty(&what);
        return ok;
    }
    parser->text_len = 0;
    if (!read_quoted(parser)) {
        return false;
    }
    parser->at += strspn(parser->at, ")");
    bool ok = parser->at - begin > 2 && include(parser, parser->text, required, object);
    return ok || parser->said || parser->why != NULL ? ok : fail(parser, "an include of nothing");
}

static bool read_member(struct parser *parser, struct hocon_value *object)
{
    char name[KEY_BYTES];
    struct import_place place = *parser->place;

    if (strncmp(parser->at, "include", 7) == 0 && (parser->at[7] == ' ' || parser->at[7] == '"')) {
        return read_include(parser, object);
    }
    if (!read_key(parser, &object, name)) {
        return false;
    }
    skip_blanks(parser);
    bool more = strncmp(parser->at, "+=", 2) == 0;
    if (more || *parser->at == '=' || *parser->at == ':') {
        parser->at += more ? 2 : 1;
        skip_space(parser, false);
    } else if (*parser->at != '{') {
        return fail(parser, "no `=`, `:` or `{` behind a key");
    }
    struct hocon_value *value = hocon_find(object, name);
    if (value == NULL) {
        value = hocon_add(object, name, place);
    }
    value->place = place;
    if (more) {
        if (value->kind != HOCON_LIST) {
            hocon_empty(value);
            value->kind = HOCON_LIST;
        }
        value = hocon_add(value, NULL, place);
    }
    return read_value(parser, value);
}

static bool read_members(struct parser *parser, struct hocon_value *object, char end)
{
    for (;;) {
        skip_space(parser, true);
        if (*parser->at == end) {
            parser->at += end == '\0' ? 0 : 1;
            return true;
        }
        if (*parser->at == '\0') {
            return fail(parser, "an object that does not end");
        }
        if (!read_member(parser, object)) {
            return false;
        }
    }
}

/* The whole text of a file, into `object`. */
static bool read_all(struct parser *parser, struct hocon_value *object)
{
    object->kind = HOCON_OBJECT;
    skip_space(parser, false);
    bool braced = *parser->at == '{';
    parser->at += braced ? 1 : 0;
    return read_members(parser, object, braced ? '}' : '\0');
}

static bool read_file(struct hocon *hocon, const char *path, const struct parser *outer,
                      struct hocon_value *object)
{
    char *text = import_read(hocon->import, path);

    if (text == NULL) {
        return false;
    }
    struct import_place place = {.file = import_file_name(hocon->import, path), .line = 1};
    struct parser *parser = mr_alloc(sizeof(*parser));
    parser->hocon = hocon;
    parser->outer = outer;
    parser->path = path;
    parser->at = text;
    parser->place = &place;
    bool ok = read_all(parser, object);
    if (!ok && !parser->said) {
        (void)mr_cli_fail(hocon->import->cli, 0,
                          "%s:%u: %s; is this a configuration of EMQX? (--format mosquitto)",
                          place.file, place.line, parser->why);
    }
    mr_free(parser);
    mr_free(text);
    return ok;
}

bool hocon_read(struct hocon *hocon, const char *path)
{
    return read_file(hocon, path, NULL, &hocon->root);
}
