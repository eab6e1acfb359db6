/* passfile_write.c - changing password files; see passfile.h.
 *
 * The new file is made completely beside the old one, synced, and renamed.  Comments and
 * the order of lines stay.
 */
#include "auth/passfile_internal.h"

#include "base/text.h"
#include "codec/json.h"
#include "os/file.h"
#include "os/process.h"

enum { PATH_BYTES = 4096, LINE_MORE = MR_PASSHASH_TEXT_MAX + 8 };

/* The new text, growing. */
struct pass_out {
    uint8_t *at;
    size_t len;
    size_t size;
    size_t changed;
    bool found;       /* the user had a line */
    bool found_scram; /* ... of SCRAM */
    bool found_key;   /* there is a key of decoys */
};

const char *mr_passfile_user_fault(const char *user)
{
    size_t len = strlen(user);

    if (len == 0) {
        return "it is empty";
    }
    if (len > UINT16_MAX) {
        return "MQTT allows 65,535 bytes";
    }
    if (user[0] == '#') {
        return "it begins with #, and such a line of the file is a comment";
    }
    if (strpbrk(user, ":\r\n") != NULL) {
        return "a colon or a line end cannot stand in it";
    }
    return mr_utf8_valid(mr_span_of(user)) ? NULL : "it is not UTF-8";
}

static void out_add(struct pass_out *out, const void *at, size_t len)
{
    if (out->len + len > out->size) {
        out->size = (out->len + len) * 2;
        out->at = mr_realloc(out->at, out->size);
    }
    if (len != 0) {
        memcpy(out->at + out->len, at, len);
    }
    out->len += len;
}

static void out_line(struct pass_out *out, struct mr_span user, const char *hash)
{
    out_add(out, user.at, user.len);
    out_add(out, ":", 1);
    out_add(out, hash, strlen(hash));
    out_add(out, "\n", 1);
    out->changed += 1;
}

static void out_hashed(struct pass_out *out, const struct pass_line *line, uint32_t iterations)
{
    uint8_t salt[MR_PASSHASH_SALT_BYTES];
    char hash[MR_PASSHASH_TEXT_MAX];

    mr_os_random(salt, sizeof(salt));
    mr_passhash_make(line->secret, iterations, salt, hash);
    out_line(out, line->user, hash);
}

static void out_scram(struct pass_out *out, struct mr_span user, const char *scram)
{
    out_add(out, PASSFILE_SCRAM, strlen(PASSFILE_SCRAM));
    out_line(out, user, scram);
}

static void out_scram_key(struct pass_out *out)
{
    uint8_t key[MR_SCRAM_KEY_BYTES];
    char text[MR_BASE64_SIZE(MR_SCRAM_KEY_BYTES) + 1];

    mr_os_random(key, sizeof(key));
    *mr_base64_put(text, mr_span_make(key, sizeof(key))) = 0;
    out_add(out, PASSFILE_SCRAM_KEY, strlen(PASSFILE_SCRAM_KEY));
    out_add(out, text, strlen(text));
    out_add(out, "\n", 1);
    mr_secret_wipe(key, sizeof(key));
    mr_secret_wipe(text, sizeof(text));
}

/* A line of the user that is changed. */
static void user_change(struct pass_out *out, const struct pass_line *line,
                        const struct mr_passfile_change *change)
{
    bool *found = line->scram ? &out->found_scram : &out->found;
    bool again = *found; /* a second line of the same user goes */

    *found = true;
    if (change->how == MR_PASSFILE_DELETE) {
        out->changed += 1;
    } else if (line->scram && !again) {
        out_scram(out, line->user, change->scram);
    } else if (!again) {
        out_line(out, line->user, change->hash);
    }
}

static void line_change(struct pass_out *out, const struct pass_line *line,
                        const struct mr_passfile_change *change)
{
    bool is_user = (line->says || (line->scram &&
                                   (change->scram != NULL || change->how == MR_PASSFILE_DELETE))) &&
                   change->user != NULL && mr_span_is(line->user, change->user);

    out->found_key = out->found_key || line->scram_key;
    if (change->how == MR_PASSFILE_UPGRADE && line->says && line->secret.at != NULL &&
        line->secret.len != 0 && line->secret.at[0] != '$') {
        out_hashed(out, line, change->iterations);
        return;
    }
    if (is_user && (change->how == MR_PASSFILE_DELETE || change->how == MR_PASSFILE_SET)) {
        user_change(out, line, change);
        return;
    }
    out_add(out, line->whole.at, line->whole.len);
    out_add(out, "\n", 1);
}

/* The line that a user did not have. */
static void line_new(struct pass_out *out, const struct mr_passfile_change *change)
{
    if (change->scram_wanted && !out->found_scram) {
        if (!out->found_key) {
            out_scram_key(out);
        }
        out_scram(out, mr_span_of(change->user), change->scram);
    } else if (!change->scram_wanted && !out->found) {
        out_line(out, mr_span_of(change->user), change->hash);
    }
}

/* The old lines, changed. */
static enum mr_err lines_change(const char *path, struct pass_out *out,
                                const struct mr_passfile_change *change, struct mr_error *why)
{
    uint8_t *text = NULL;
    size_t len = 0;
    struct pass_line line;
    enum mr_err err = passfile_load(path, &text, &len, why);

    if (err != MR_OK) {
        return err;
    }
    struct mr_span rest = mr_span_make(text, len);
    while (passfile_line(&rest, &line)) {
        line_change(out, &line, change);
    }
    mr_secret_wipe(text, len);
    mr_free(text);
    return MR_OK;
}

/* Make `beside` with these bytes, on the medium. */
static enum mr_err file_make(const char *beside, const char *path, struct mr_span bytes)
{
    struct mr_file file = {.fd = -1};
    enum mr_err err = mr_file_open(&file, beside, MR_FILE_CREATE, NULL);

    if (err != MR_OK) {
        return err;
    }
    mr_path_own_as(beside, path);
    err = bytes.len == 0 ? MR_OK : mr_file_write(&file, &bytes, 1, 0);
    if (err == MR_OK) {
        err = mr_file_sync(&file);
    }
    mr_file_close(&file);
    return err;
}

/* The folder a path is in. */
static const char *folder_of(const char *path, char out[PATH_BYTES])
{
    struct mr_text text = mr_text_over(out, PATH_BYTES);
    const char *slash = strrchr(path, '/');

    if (slash == NULL) {
        return ".";
    }
    mr_text_bytes(&text, path, slash == path ? 1 : (size_t)(slash - path));
    return out;
}

static enum mr_err file_replace(const char *path, struct mr_span bytes, struct mr_error *why)
{
    char beside[PATH_BYTES];
    char folder[PATH_BYTES];
    uint32_t random = 0;
    struct mr_text text = mr_text_over(beside, sizeof(beside));

    mr_os_random(&random, sizeof(random));
    mr_text_fmt(&text, "%s.%08x", path, random);
    if (text.truncated) {
        return mr_error_set(why, MR_ERR_CONFIG, "the path %s is too long", path);
    }
    enum mr_err err = file_make(beside, path, bytes);
    if (err == MR_OK) {
        err = mr_path_rename(beside, path);
    }
    if (err != MR_OK) {
        (void)mr_error_set(why, MR_ERR_IO, "cannot write %s: %s; what was there is unchanged", path,
                           mr_file_last_cause());
        (void)!mr_path_remove(beside);
        return MR_ERR_IO;
    }
    if (mr_dir_sync(folder_of(path, folder)) != MR_OK) {
        return mr_error_set(why, MR_ERR_IO, "%s is written, but its folder could not be synced: %s",
                            path, mr_file_last_cause());
    }
    return MR_OK;
}

enum mr_err mr_passfile_write(const char *path, const struct mr_passfile_change *change,
                              size_t *changed, struct mr_error *why)
{
    struct pass_out out = {.size = LINE_MORE};
    enum mr_err err = MR_OK;

    *changed = 0;
    out.at = mr_alloc(out.size);
    if (change->how != MR_PASSFILE_CREATE) {
        err = lines_change(path, &out, change, why);
    }
    if (err == MR_OK && change->how == MR_PASSFILE_DELETE && !out.found && !out.found_scram) {
        err = mr_error_set(why, MR_ERR_REJECT, "%s has no user '%s'", path, change->user);
    }
    if (err == MR_OK && (change->how == MR_PASSFILE_SET || change->how == MR_PASSFILE_CREATE)) {
        line_new(&out, change);
    }
    if (err == MR_OK && out.changed != 0) {
        err = file_replace(path, mr_span_make(out.at, out.len), why);
    }
    *changed = out.changed;
    mr_free(out.at);
    return err;
}
