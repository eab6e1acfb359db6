/* import_emqx_row.c - tables of keys of emqx.conf, and values in our words. */
#include "app/cli/import_emqx_internal.h"

#include <inttypes.h>

const char *emqx_path(struct emqx_path *path, const char *outer, const char *name)
{
    struct mr_text text = mr_text_over(path->text, sizeof(path->text));

    mr_text_fmt(&text, "%s%s%s", outer, outer[0] == '\0' || name == NULL ? "" : ".",
                name == NULL ? "" : name);
    return path->text;
}

const char *emqx_text(const struct hocon_value *object, const char *name)
{
    const struct hocon_value *value = object == NULL ? NULL : hocon_find(object, name);

    return value == NULL || value->kind != HOCON_TEXT ? NULL : value->text;
}

bool emqx_is(const struct hocon_value *object, const char *name, const char *text)
{
    const char *value = emqx_text(object, name);

    return value != NULL && strcmp(value, text) == 0;
}

bool emqx_is_off(const struct hocon_value *object)
{
    return emqx_is(object, "enable", "false") || emqx_is(object, "enabled", "false");
}

void emqx_name(const char *name, char *out, size_t size)
{
    struct mr_text text = mr_text_over(out, size);

    for (const char *c = name; *c != '\0'; c++) {
        bool fits = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                    (*c >= '0' && *c <= '9') || *c == '-' || *c == '_';
        mr_text_bytes(&text, fits ? c : "_", 1);
    }
}

/* A value as one line of a note. */
static void show(struct mr_text *out, const struct hocon_value *value)
{
    if (value->kind == HOCON_TEXT) {
        size_t len = strcspn(value->text, "\n");
        mr_text_bytes(out, value->text, len < 120 ? len : 120);
        mr_text_add(out, value->text[len] == '\0' && len <= 120 ? "" : " ...");
    } else {
        mr_text_add(out, value->first == NULL        ? "empty"
                         : value->kind == HOCON_LIST ? "[ ... ]"
                                                     : "{ ... }");
    }
}

void emqx_note(struct emqx *emqx, const struct hocon_value *value, const char *path,
               const char *advice)
{
    char what[800];
    struct mr_text text = mr_text_over(what, sizeof(what));

    mr_text_fmt(&text, "%s = ", path);
    if (import_is_secret(path)) {
        mr_text_add(&text, "***");
    } else {
        show(&text, value);
    }
    import_note(emqx->import, value->place, what, "%s", advice);
}

/* ---- values ---- */

/* 1MB of EMQX is 1,048,576 bytes, our 1MiB. */
static bool size_of(const char *value, struct mr_text *out)
{
    static const char *const units[][2] = {{"KB", "KiB"}, {"MB", "MiB"}, {"GB", "GiB"},
                                           {"kb", "KiB"}, {"mb", "MiB"}, {"gb", "GiB"},
                                           {"B", ""},     {"", ""}};
    size_t digits = strspn(value, "0123456789");

    for (size_t i = 0; digits != 0 && i < MR_COUNT_OF(units); i++) {
        if (strcmp(value + digits, units[i][0]) == 0) {
            mr_text_bytes(out, value, digits);
            mr_text_add(out, units[i][1]);
            return true;
        }
    }
    return false;
}

/* "1h30m" and "15s" as one number with a unit; bare digits are milliseconds. */
static bool duration_of(const char *value, struct mr_text *out)
{
    static const struct unit {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1},      {"s", 1000},     {"m", 60000},
                 {"h", 3600000}, {"d", 86400000}, {"w", 604800000}};
    uint64_t ms = 0;

    for (const char *at = value; *at != '\0';) {
        size_t digits = strspn(at, "0123456789");
        size_t len = strcspn(at + digits, "0123456789");
        uint64_t number = 0;
        uint64_t unit = len == 0 ? 1 : 0;
        if (mr_parse_u64(mr_span_make(at, digits), 1u << 31, &number) != MR_OK) {
            return false;
        }
        for (size_t i = 0; i < MR_COUNT_OF(units); i++) {
            if (len == strlen(units[i].name) && strncmp(at + digits, units[i].name, len) == 0) {
                unit = units[i].ms;
            }
        }
        if (unit == 0) {
            return false;
        }
        ms += number * unit;
        at += digits + len;
    }
    mr_text_fmt(out, "%" PRIu64 "%s", ms % 1000 == 0 ? ms / 1000 : ms, ms % 1000 == 0 ? "s" : "ms");
    return value[0] != '\0';
}

/* "1000/s", "100/10s", "1MB/s" as one number a second, at least 1; "infinity" as 0. */
static bool rate_of(const char *value, struct mr_text *out)
{
    const char *slash = strchr(value, '/');
    char amount[32];
    struct mr_text text = mr_text_over(amount, sizeof(amount));
    uint64_t number = 0;
    uint64_t span_us = 1000000;

    if (strcmp(value, "infinity") == 0) {
        mr_text_add(out, "0");
        return true;
    }
    char head[32];
    struct mr_text copy = mr_text_over(head, sizeof(head));
    mr_text_bytes(&copy, value, slash == NULL ? strlen(value) : (size_t)(slash - value));
    if (copy.truncated || !size_of(head, &text) ||
        mr_parse_size(mr_span_of(amount), &number) != MR_OK) {
        return false;
    }
    if (slash != NULL && slash[1] >= '0' && slash[1] <= '9') {
        char span[32];
        struct mr_text written = mr_text_over(span, sizeof(span));
        if (!duration_of(slash + 1, &written) ||
            mr_parse_duration(mr_span_of(span), &span_us) != MR_OK || span_us == 0) {
            return false;
        }
    } else if (slash != NULL && strcmp(slash, "/s") != 0) {
        span_us = strcmp(slash, "/m") == 0   ? UINT64_C(60000000)
                  : strcmp(slash, "/h") == 0 ? UINT64_C(3600000000)
                                             : 0;
    }
    if (span_us == 0 || number > (uint64_t)1 << 40) {
        return false;
    }
    uint64_t rate = number * 1000000 / span_us;
    mr_text_fmt(out, "%" PRIu64, rate == 0 && number != 0 ? 1 : rate);
    return true;
}

void emqx_set(struct emqx *emqx, const struct hocon_value *value, const char *path,
              enum emqx_how how, struct import_node *into, const char *key)
{
    char converted[64];
    struct mr_text text = mr_text_over(converted, sizeof(converted));
    enum import_form form = how == EMQX_TEXT ? IMPORT_TEXT : IMPORT_PLAIN;

    if (value->kind != HOCON_TEXT) {
        emqx_note(emqx, value, path, "a single value was expected");
        return;
    }
    if (value->has_substitution) {
        emqx_note(
            emqx, value, path,
            "nothing has this name, neither a key here nor a variable of the environment; put "
            "the value in by hand, or write ${env:NAME}");
        return;
    }
    const char *out = value->text;
    if (how == EMQX_SIZE || how == EMQX_DURATION || how == EMQX_RATE) {
        if (!(how == EMQX_SIZE   ? size_of(out, &text)
              : how == EMQX_RATE ? rate_of(out, &text)
                                 : duration_of(out, &text))) {
            emqx_note(emqx, value, path, "this value cannot be taken over; the default holds");
            return;
        }
        out = converted;
    }
    import_set(emqx->import, into, key, form, out, value->place);
}

/* ---- tables ---- */

static const struct emqx_row *row_of(const struct emqx_row *rows, const char *name)
{
    for (const struct emqx_row *row = rows; row->name != NULL; row++) {
        size_t len = strlen(row->name);
        bool all = len > 2 && strcmp(row->name + len - 2, ".*") == 0;

        if (strcmp(row->name, name) == 0 || (all && strncmp(row->name, name, len - 1) == 0)) {
            return row;
        }
    }
    return NULL;
}

static void rows_below(struct emqx *emqx, const struct hocon_value *object, const char *path,
                       const char *below, const struct emqx_row *rows, struct import_node *into,
                       const char *otherwise)
{
    for (const struct hocon_value *value = object->first; value != NULL; value = value->next) {
        struct emqx_path whole;
        struct emqx_path inner;
        const char *name = emqx_path(&inner, below, value->name);
        const struct emqx_row *row = row_of(rows, name);

        (void)emqx_path(&whole, path, name);
        if (row == NULL && value->kind == HOCON_OBJECT) {
            rows_below(emqx, value, path, name, rows, into, otherwise);
        } else if (row == NULL) {
            emqx_note(emqx, value, whole.text, otherwise);
        } else if (row->how == EMQX_NOTE) {
            emqx_note(emqx, value, whole.text, row->advice);
        } else if (row->how == EMQX_CALL) {
            if (row->call != NULL) { /* else another file's, by itself */
                row->call(emqx, value, into);
            }
        } else {
            emqx_set(emqx, value, whole.text, row->how, into, row->key);
        }
    }
}

void emqx_rows(struct emqx *emqx, const struct hocon_value *object, const char *path,
               const struct emqx_row *rows, struct import_node *into, const char *otherwise)
{
    rows_below(emqx, object, path, "", rows, into, otherwise);
}
