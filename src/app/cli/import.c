/* import.c - `millrace import`: another broker's configuration, as one of ours. */
#include "app/cli/import_internal.h"
#include "os/file.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { FILE_BYTES_MAX = 16 << 20, KEY_BYTES = 160, NOTE_BYTES = 1024, INDENT = 2 };

/* A key of ours.  A mapping has children; a list has them without names. */
struct import_node {
    struct import_node *next;
    struct import_node *first;
    char *name;
    char *value; /* NULL: a mapping, or a list */
    enum import_form form;
    bool is_list;
    struct import_place place;
};

struct import_note {
    struct import_note *next;
    struct import_place place;
    char *what; /* may be NULL */
    char *advice;
};

/* ---- the tree ---- */

static struct import_node *find(const struct import_node *parent, const char *name)
{
    for (struct import_node *node = parent->first; node != NULL; node = node->next) {
        if (node->name != NULL && strcmp(node->name, name) == 0) {
            return node;
        }
    }
    return NULL;
}

static void node_free(struct import_node *node)
{
    while (node->first != NULL) {
        struct import_node *child = node->first;
        node->first = child->next;
        node_free(child);
    }
    mr_free(node->name);
    mr_free(node->value);
    mr_free(node);
}

static struct import_node *append(struct import_node *parent, const char *name)
{
    struct import_node *node = mr_alloc(sizeof(*node));
    struct import_node **at = &parent->first;

    node->name = name == NULL ? NULL : mr_strdup(name);
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = node;
    return node;
}

struct import_node *import_child(struct import *import, struct import_node *parent,
                                 const char *name)
{
    struct import_node *from = parent == NULL ? import->root : parent;
    struct import_node *node = find(from, name);

    return node != NULL ? node : append(from, name);
}

/* The node of a dotted key; made if `make`, else NULL if it is not there. */
static struct import_node *walk(struct import_node *from, const char *key, bool make)
{
    struct mr_span rest = mr_span_of(key);
    struct import_node *node = from;

    while (node != NULL && rest.at != NULL) {
        struct mr_span part = mr_span_split(&rest, '.');
        char name[KEY_BYTES];
        struct mr_text text = mr_text_over(name, sizeof(name));

        mr_text_bytes(&text, part.at, part.len);
        struct import_node *child = find(node, name);
        node = child == NULL && make ? append(node, name) : child;
    }
    return node;
}

void import_set(struct import *import, struct import_node *parent, const char *key,
                enum import_form form, const char *value, struct import_place place)
{
    struct import_node *node = walk(parent == NULL ? import->root : parent, key, true);
    char *before = node->value;

    if (before != NULL && node->place.file != NULL) {
        import_note(import, node->place, key, "it is set again further down, and that holds");
    }
    node->value = mr_strdup(value);
    node->form = form;
    node->place = place;
    mr_free(before);
}

void import_add(struct import *import, struct import_node *parent, const char *key,
                const char *value, struct import_place place)
{
    struct import_node *list = walk(parent == NULL ? import->root : parent, key, true);
    struct import_node *item = append(list, NULL);

    list->is_list = true;
    list->place = place;
    item->value = mr_strdup(value);
}

const char *import_get(const struct import *import, const struct import_node *parent,
                       const char *key)
{
    struct import_node *from = parent == NULL ? import->root : (struct import_node *)parent;
    const struct import_node *node = walk(from, key, false);

    return node == NULL ? NULL : node->value == NULL ? "" : node->value;
}

void import_drop(struct import_node *parent, const char *key)
{
    struct import_node **at = &parent->first;

    while (*at != NULL && strcmp((*at)->name, key) != 0) {
        at = &(*at)->next;
    }
    if (*at != NULL) {
        struct import_node *gone = *at;
        *at = gone->next;
        node_free(gone);
    }
}

void import_rename(struct import_node *node, const char *name)
{
    mr_free(node->name);
    node->name = mr_strdup(name);
}

/* ---- notes ---- */

void import_note(struct import *import, struct import_place place, const char *what,
                 const char *fmt, ...)
{
    struct import_note *note = mr_alloc(sizeof(*note));
    char advice[NOTE_BYTES];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(advice, sizeof(advice), fmt, args);
    va_end(args);
    note->place = place;
    note->what = what == NULL ? NULL : mr_strdup(what);
    note->advice = mr_strdup(advice);
    if (import->note_last != NULL) {
        import->note_last->next = note;
    } else {
        import->note_first = note;
    }
    import->note_last = note;
}

static void note_leaves(struct import *import, const struct import_node *node, const char *advice)
{
    if (node->value != NULL) {
        import_note(import, node->place, node->name, "%s", advice);
    }
    for (const struct import_node *child = node->first; child != NULL; child = child->next) {
        note_leaves(import, child, advice);
    }
}

void import_drop_noting(struct import *import, struct import_node *parent, const char *key,
                        const char *advice)
{
    struct import_node *node = find(parent, key);

    if (node != NULL) {
        note_leaves(import, node, advice);
        import_drop(parent, key);
    }
}

bool import_is_secret(const char *key)
{
    static const char *const words[] = {"password", "secret", "psk", "token", "cookie", "api_key"};

    for (size_t i = 0; i < MR_COUNT_OF(words); i++) {
        if (strstr(key, words[i]) != NULL && strstr(key, "_file") == NULL) {
            return true;
        }
    }
    return false;
}

/* ---- files ---- */

char *import_read(struct import *import, const char *path)
{
    struct mr_file file = {.fd = -1};
    struct mr_error why;
    uint64_t bytes = 0;
    size_t got = 0;
    char *text = NULL;

    if (mr_file_open(&file, path, MR_FILE_READ, &why) != MR_OK) {
        (void)mr_cli_fail(import->cli, 0, "%s", why.text);
        return NULL;
    }
    if (mr_file_size(&file, &bytes) != MR_OK || bytes > FILE_BYTES_MAX) {
        (void)mr_cli_fail(import->cli, 0, "'%s' is larger than 16 MiB, that is no configuration",
                          path);
    } else {
        text = mr_alloc((size_t)bytes + 1);
        if (mr_file_read(&file, text, (size_t)bytes, 0, &got) != MR_OK) {
            (void)mr_cli_fail(import->cli, 0, "'%s' cannot be read: %s", path,
                              mr_file_last_cause());
            mr_free(text);
            text = NULL;
        } else {
            text[got] = '\0';
        }
    }
    mr_file_close(&file);
    return text;
}

const char *import_file_name(struct import *import, const char *path)
{
    const char *slash = strrchr(path, '/');
    char **names = mr_alloc((import->name_count + 1) * sizeof(char *));

    if (import->name_count != 0) {
        memcpy(names, import->names, import->name_count * sizeof(char *));
    }
    mr_free(import->names);
    import->names = names;
    names[import->name_count] = mr_strdup(slash == NULL ? path : slash + 1);
    import->name_count += 1;
    return names[import->name_count - 1];
}

/* ---- a folder's files ---- */

enum { FOLDER_FILES_MAX = 1000 };

struct folder {
    const char *path;
    char *files[FOLDER_FILES_MAX];
    size_t count;
};

static void folder_add(void *arg, const char *name)
{
    struct folder *folder = arg;
    size_t len = strlen(name);
    char path[4096];
    struct mr_text text = mr_text_over(path, sizeof(path));

    if (len < 6 || strcmp(name + len - 5, ".conf") != 0 || name[0] == '.' ||
        folder->count == FOLDER_FILES_MAX) {
        return;
    }
    mr_text_fmt(&text, "%s/%s", folder->path, name);
    if (!text.truncated) {
        folder->files[folder->count] = mr_strdup(path);
        folder->count += 1;
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

bool import_folder(const char *path, bool (*each)(void *arg, const char *path), void *arg)
{
    struct folder *folder = mr_alloc(sizeof(*folder));

    folder->path = path;
    bool ok = mr_dir_list(path, folder_add, folder) == MR_OK;
    qsort(folder->files, folder->count, sizeof(folder->files[0]), by_name);
    for (size_t i = 0; i < folder->count; i++) {
        ok = ok && each(arg, folder->files[i]);
        mr_free(folder->files[i]);
    }
    mr_free(folder);
    return ok;
}

/* ---- as YAML ---- */

static void out_quoted(struct mr_cli *cli, const char *value)
{
    char text[8192];
    struct mr_text out = mr_text_over(text, sizeof(text));

    for (const char *c = value; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\') {
            mr_text_fmt(&out, "\\%c", *c);
        } else if ((unsigned char)*c < ' ' || *c == 0x7f) {
            mr_text_fmt(&out, "\\x%02X", (unsigned char)*c);
        } else if (strncmp(c, "${env:", 6) == 0) {
            mr_text_add(&out, "$$");
        } else {
            mr_text_bytes(&out, c, 1);
        }
    }
    (void)mr_cli_out(cli, "\"%s\"", text);
}

static void out_place(struct mr_cli *cli, struct import_place place)
{
    if (place.file != NULL) {
        (void)mr_cli_out(cli, "  # %s:%u", place.file, place.line);
    }
    (void)mr_cli_out(cli, "\n");
}

static void out_list(struct mr_cli *cli, const struct import_node *list)
{
    (void)mr_cli_out(cli, " [");
    for (const struct import_node *item = list->first; item != NULL; item = item->next) {
        out_quoted(cli, item->value);
        (void)mr_cli_out(cli, item->next == NULL ? "]" : ", ");
    }
    out_place(cli, list->place);
}

static bool node_is_empty(const struct import_node *node)
{
    return node->value == NULL && node->first == NULL;
}

static void out_children(struct mr_cli *cli, const struct import_node *parent, int indent)
{
    for (const struct import_node *node = parent->first; node != NULL; node = node->next) {
        if (node_is_empty(node)) {
            continue;
        }
        (void)mr_cli_out(cli, "%*s%s:", indent, "", node->name);
        if (node->is_list) {
            out_list(cli, node);
        } else if (node->value == NULL) {
            (void)mr_cli_out(cli, "\n");
            out_children(cli, node, indent + INDENT);
        } else {
            (void)mr_cli_out(cli, " ");
            if (node->form == IMPORT_PLAIN) {
                (void)mr_cli_out(cli, "%s", node->value);
            } else {
                out_quoted(cli, node->value);
            }
            out_place(cli, node->place);
        }
    }
}

static void out_notes(const struct import *import)
{
    struct mr_cli *cli = import->cli;

    for (const struct import_note *note = import->note_first; note != NULL; note = note->next) {
        char where[KEY_BYTES];
        struct mr_text text = mr_text_over(where, sizeof(where));

        if (note->place.file != NULL) {
            mr_text_fmt(&text, "%s:%u: ", note->place.file, note->place.line);
        }
        const char *what = note->what == NULL ? "" : note->what;
        const char *gap = note->what == NULL ? "" : ": ";
        (void)mr_cli_out(cli, "# %s%s%s%s\n", where, what, gap, note->advice);
        mr_cli_note(cli, "%s%s%s%s", where, what, gap, note->advice);
    }
}

/* ---- the command ---- */

static const char *const formats[] = {"auto", "mosquitto", "emqx", "emqx-acl", NULL};
enum format { FORMAT_AUTO, FORMAT_MOSQUITTO, FORMAT_EMQX, FORMAT_ACL };

static bool ends_in(const char *text, const char *end)
{
    size_t len = strlen(text);
    size_t end_len = strlen(end);

    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

static enum format format_of(struct mr_cli *cli, const char *path)
{
    enum format format = (enum format)mr_cli_number(cli, "format");

    if (format != FORMAT_AUTO) {
        return format;
    }
    if (ends_in(path, "acl.conf")) {
        return FORMAT_ACL;
    }
    return strstr(path, "emqx") != NULL || ends_in(path, ".hocon") ? FORMAT_EMQX : FORMAT_MOSQUITTO;
}

static bool read_mosquitto_file(void *arg, const char *path)
{
    return import_mosquitto(arg, path);
}

static bool read_all(struct import *import)
{
    struct mr_cli *cli = import->cli;
    size_t count = mr_cli_argument_count(cli);
    const char *paths[64];
    bool ok = true;

    if (format_of(cli, mr_cli_argument(cli, 0)) == FORMAT_EMQX) {
        for (size_t i = 0; i < count; i++) {
            paths[i] = mr_cli_argument(cli, i);
        }
        return import_emqx(import, paths, count);
    }
    import_mosquitto_begin(import);
    for (size_t i = 0; i < count && ok; i++) {
        const char *path = mr_cli_argument(cli, i);

        if (!import_folder(path, read_mosquitto_file, import)) {
            ok = import_mosquitto(import, path);
        }
    }
    import_mosquitto_end(import);
    return ok;
}

static void import_close(struct import *import)
{
    while (import->note_first != NULL) {
        struct import_note *note = import->note_first;
        import->note_first = note->next;
        mr_free(note->what);
        mr_free(note->advice);
        mr_free(note);
    }
    for (size_t i = 0; i < import->name_count; i++) {
        mr_free(import->names[i]);
    }
    mr_free(import->names);
    node_free(import->root);
}

static int import_run(struct mr_cli *cli)
{
    struct import import = {.cli = cli, .root = mr_alloc(sizeof(struct import_node))};
    int code = MR_EXIT_DATA;

    if (format_of(cli, mr_cli_argument(cli, 0)) == FORMAT_ACL) {
        if (import_acl(&import, mr_cli_argument(cli, 0))) {
            code = MR_EXIT_OK;
            out_notes(&import);
        }
    } else if (read_all(&import)) {
        code = MR_EXIT_OK;
        (void)mr_cli_out(cli,
                         "# Made by `millrace import` from %s.\n"
                         "# Read it, then: millrace check -c FILE\n",
                         mr_cli_argument(cli, 0));
        if (import.note_first != NULL) {
            (void)mr_cli_out(cli, "#\n# What has no equivalent, and what to do instead:\n#\n");
            out_notes(&import);
        }
        (void)mr_cli_out(cli, "\n");
        out_children(cli, import.root, 0);
    }
    import_close(&import);
    return code;
}

static const struct mr_cli_option import_options[] = {
    {.name = "format",
     .type = MR_OPT_CHOICE,
     .value = "FORMAT",
     .default_text = "auto",
     .choices = formats,
     .help = "Whose configuration it is; auto goes by the file's name."},
    {.name = NULL},
};

const struct mr_command mr_command_import = {
    .name = "import",
    .group = "Gateway",
    .summary = "make a configuration from another broker's",
    .arguments = "FILE...",
    .help =
        "Mosquitto: mosquitto.conf, with what its include_dir names, or a folder of .conf files.\n"
        "EMQX 5: emqx.conf, and cluster.hocon if there is one; later files win.\n"
        "EMQX's acl.conf becomes an ACL file, by itself.\n"
        "\n"
        "The configuration goes to stdout, with the line behind each key that it comes from. A\n"
        "line that has no equivalent is named on stderr, and as a comment at the top, with what\n"
        "to do instead (-q: only as a comment). Nothing else is read or changed.\n"
        "\n"
        "  millrace import /etc/mosquitto/mosquitto.conf > millrace.yaml\n"
        "  millrace import /etc/emqx/acl.conf > rules.acl\n"
        "  millrace check -c millrace.yaml\n",
    .options = import_options,
    .arguments_min = 1,
    .arguments_max = 64,
    .run = import_run,
};
