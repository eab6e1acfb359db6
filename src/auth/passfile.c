/* passfile.c - reading password files; see passfile.h.  passfile_write.c changes them. */
#include "auth/passfile_internal.h"

#include "os/file.h"

#include <stdatomic.h>
#include <stdlib.h>

struct pass_user {
    struct mr_span name; /* in the file's text */
    uint32_t line;
    struct mr_passhash hash;
};

struct mr_passfile {
    _Atomic uint32_t holders;
    uint8_t *text;
    struct pass_user *users; /* by name */
    size_t count;
    struct mr_passhash decoy;
    struct passfile_scrams *scrams; /* NULL: none */
};

/* ---- text ---- */

enum mr_err passfile_load(const char *path, uint8_t **out, size_t *out_len, struct mr_error *why)
{
    struct mr_file file = {.fd = -1};
    uint64_t size = 0;

    *out = NULL;
    *out_len = 0;
    enum mr_err err = mr_file_open(&file, path, MR_FILE_READ, NULL);
    if (err != MR_OK) {
        return mr_error_set(why, err == MR_ERR_REJECT ? MR_ERR_REJECT : MR_ERR_CONFIG,
                            "password file %s: %s; `millrace passwd -c` makes one", path,
                            mr_file_last_cause());
    }
    err = mr_file_size(&file, &size);
    if (err == MR_OK && size > PASSFILE_BYTES_MAX) {
        mr_file_close(&file);
        return mr_error_set(why, MR_ERR_CONFIG, "password file %s: larger than %d MiB", path,
                            PASSFILE_BYTES_MAX >> 20);
    }
    uint8_t *text = mr_alloc(size + 1);
    if (err == MR_OK) {
        err = mr_file_read(&file, text, size, 0, out_len);
    }
    mr_file_close(&file);
    *out = text;
    if (err != MR_OK) {
        mr_free(text);
        *out = NULL;
        return mr_error_set(why, MR_ERR_CONFIG, "password file %s: %s", path, mr_file_last_cause());
    }
    return MR_OK;
}

static bool begins_with(struct mr_span text, const char *words)
{
    size_t len = strlen(words);

    return text.len >= len && memcmp(text.at, words, len) == 0;
}

bool passfile_line(struct mr_span *rest, struct pass_line *out)
{
    if (rest->at == NULL) {
        return false;
    }
    *out = (struct pass_line){.whole = mr_span_split(rest, '\n')};
    if (rest->at == NULL && out->whole.len == 0) {
        return false; /* behind the last line end */
    }
    if (out->whole.len != 0 && out->whole.at[out->whole.len - 1] == '\r') {
        out->whole.len -= 1;
    }
    out->says = out->whole.len != 0 && out->whole.at[0] != '#';
    out->scram = begins_with(out->whole, PASSFILE_SCRAM);
    out->scram_key = begins_with(out->whole, PASSFILE_SCRAM_KEY);
    if (out->says || out->scram || out->scram_key) {
        out->secret = out->whole;
        out->user = mr_span_split(&out->secret, ':');
    }
    if (out->scram) { /* what was before the first colon says what line it is */
        out->user = mr_span_split(&out->secret, ':');
    }
    return true;
}

/* ---- users ---- */

int passfile_name_order(struct mr_span a, struct mr_span b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter == 0 ? 0 : memcmp(a.at, b.at, shorter);

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int user_order(const void *a, const void *b)
{
    const struct pass_user *x = a;
    const struct pass_user *y = b;
    int order = passfile_name_order(x->name, y->name);

    return order != 0 ? order : (x->line > y->line) - (x->line < y->line);
}

/* One line as a user; NULL or what is wrong with it. */
static const char *user_take(struct mr_passfile *file, const struct pass_line *line,
                             uint32_t number)
{
    struct pass_user *user = &file->users[file->count];
    const char *fault = NULL;

    if (line->user.len == 0 || line->secret.at == NULL || line->secret.len == 0) {
        return "it is not `user:hash`";
    }
    user->name = line->user;
    user->line = number;
    if (mr_passhash_parse(line->secret, &user->hash, &fault) != MR_OK) {
        return fault;
    }
    if (mr_passhash_cost(&user->hash) > mr_passhash_cost(&file->decoy)) {
        file->decoy = user->hash;
    }
    file->count += 1;
    return NULL;
}

static enum mr_err users_take(struct mr_passfile *file, const char *path, size_t len,
                              struct mr_error *why)
{
    struct mr_span rest = mr_span_make(file->text, len);
    struct pass_line line;
    uint32_t number = 0;
    size_t lines = 1;

    for (size_t i = 0; i < len; i++) {
        lines += file->text[i] == '\n';
    }
    file->users = mr_alloc(lines * sizeof(*file->users));
    while (passfile_line(&rest, &line)) {
        number += 1;
        const char *fault = line.says ? user_take(file, &line, number)
                            : line.scram || line.scram_key
                                ? passfile_scram_take(&file->scrams, lines, &line)
                                : NULL;
        if (fault != NULL) {
            return mr_error_set(why, MR_ERR_CONFIG, "password file %s, line %u, user '%.*s': %s",
                                path, number, (int)(line.user.len > 64 ? 64 : line.user.len),
                                (const char *)line.user.at, fault);
        }
    }
    qsort(file->users, file->count, sizeof(*file->users), user_order);
    for (size_t i = 1; i < file->count; i++) {
        const struct pass_user *user = &file->users[i];
        if (mr_span_equal(user->name, user[-1].name)) {
            return mr_error_set(why, MR_ERR_CONFIG,
                                "password file %s, line %u: user '%.*s' stands in line %u already; "
                                "remove one of them",
                                path, user->line, (int)(user->name.len > 64 ? 64 : user->name.len),
                                (const char *)user->name.at, user[-1].line);
        }
    }
    return passfile_scrams_sort(file->scrams, path, why);
}

enum mr_err mr_passfile_read(struct mr_passfile **out, const char *path, struct mr_error *why)
{
    uint8_t *text = NULL;
    size_t len = 0;

    *out = NULL;
    if (passfile_load(path, &text, &len, why) != MR_OK) {
        return MR_ERR_CONFIG;
    }
    mr_assert(text != NULL);
    struct mr_passfile *file = mr_alloc(sizeof(*file));
    atomic_init(&file->holders, 1);
    file->text = text;
    file->decoy = (struct mr_passhash){.kind = MR_PASSHASH_PBKDF2,
                                       .iterations = 1,
                                       .salt_len = MR_PASSHASH_SALT_BYTES,
                                       .hash_len = MR_PASSHASH_BYTES_MAX};
    enum mr_err err = users_take(file, path, len, why);
    if (err != MR_OK) {
        mr_passfile_drop(file);
        return err;
    }
    if (file->count == 0) {
        file->decoy.iterations = MR_PASSHASH_ITERATIONS;
    }
    *out = file;
    return MR_OK;
}

struct mr_passfile *mr_passfile_hold(struct mr_passfile *file)
{
    atomic_fetch_add(&file->holders, 1);
    return file;
}

void mr_passfile_drop(struct mr_passfile *file)
{
    if (file != NULL && atomic_fetch_sub(&file->holders, 1) == 1) {
        passfile_scrams_free(file->scrams);
        mr_free(file->users);
        mr_free(file->text);
        mr_free(file);
    }
}

size_t mr_passfile_scram_count(const struct mr_passfile *file)
{
    return passfile_scrams_count(file->scrams);
}

bool mr_passfile_scram_find(const struct mr_passfile *file, struct mr_span user,
                            struct mr_scram_keys *out)
{
    return passfile_scrams_find(file->scrams, user, out);
}

size_t mr_passfile_count(const struct mr_passfile *file)
{
    return file->count;
}

const struct mr_passhash *mr_passfile_find(const struct mr_passfile *file, struct mr_span user,
                                           bool *known)
{
    size_t begin = 0;
    size_t end = file->count;

    while (begin < end) {
        size_t middle = begin + (end - begin) / 2;
        int order = passfile_name_order(user, file->users[middle].name);
        if (order == 0) {
            *known = true;
            return &file->users[middle].hash;
        }
        begin = order > 0 ? middle + 1 : begin;
        end = order > 0 ? end : middle;
    }
    *known = false;
    return &file->decoy;
}
