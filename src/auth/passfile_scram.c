/* passfile_scram.c - a password file's lines of SCRAM; see passfile.h for their form.
 *
 * Who asks for a user that does not exist gets a salt all the same, and the same one each time:
 * an HMAC of the name under the file's own key, so that it stays when the gateway restarts, the
 * file is changed, or moves.  A file without that key gets one from the keys of its users.
 */
#include "auth/passfile_internal.h"

#include "auth/base64.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

struct scram_user {
    struct mr_span name; /* in the file's text */
    struct mr_scram_keys keys;
};

struct passfile_scrams {
    struct scram_user *users; /* by name */
    size_t count;
    uint32_t iterations; /* of decoys: the most that a user has */
    uint32_t salt_len;
    bool has_key;
    uint8_t key[MR_SCRAM_KEY_BYTES]; /* of decoys */
};

const char *passfile_scram_take(struct passfile_scrams **scrams, size_t lines,
                                const struct pass_line *line)
{
    if (*scrams == NULL) {
        *scrams = mr_alloc(sizeof(**scrams));
        (*scrams)->users = mr_alloc(lines * sizeof(*(*scrams)->users));
        (*scrams)->salt_len = MR_SCRAM_SALT_BYTES;
    }
    struct passfile_scrams *all = *scrams;
    struct scram_user *user = &all->users[all->count];
    if (line->scram_key) {
        size_t len = 0;
        all->has_key =
            mr_base64_take(line->secret, MR_BASE64_PLAIN, all->key, sizeof(all->key), &len) &&
            len == sizeof(all->key);
        return all->has_key ? NULL : "its key is not 32 bytes in base64; remove the line";
    }
    if (line->user.len == 0 || !mr_scram_read(line->secret, &user->keys)) {
        return "it is not `" PASSFILE_SCRAM "USER:ITERATIONS:SALT:STOREDKEY:SERVERKEY`; "
               "`millrace passwd --scram` makes such lines";
    }
    user->name = line->user;
    if (user->keys.iterations > all->iterations) {
        all->iterations = user->keys.iterations;
        all->salt_len = user->keys.salt_len;
    }
    all->count += 1;
    return NULL;
}

static int user_order(const void *a, const void *b)
{
    const struct scram_user *x = a;
    const struct scram_user *y = b;

    return passfile_name_order(x->name, y->name);
}

/* The key of decoys, where the file has none: nobody who does not know the file knows it. */
static void key_make(struct passfile_scrams *scrams)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool done = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1;

    for (size_t i = 0; i < scrams->count && done; i++) {
        const struct mr_scram_keys *keys = &scrams->users[i].keys;
        done = EVP_DigestUpdate(ctx, keys->server_key, sizeof(keys->server_key)) == 1;
    }
    done = done && EVP_DigestFinal_ex(ctx, scrams->key, NULL) == 1;
    mr_assert(done);
    EVP_MD_CTX_free(ctx);
}

enum mr_err passfile_scrams_sort(struct passfile_scrams *scrams, const char *path,
                                 struct mr_error *why)
{
    if (scrams == NULL) {
        return MR_OK;
    }
    qsort(scrams->users, scrams->count, sizeof(*scrams->users), user_order);
    for (size_t i = 1; i < scrams->count; i++) {
        struct mr_span name = scrams->users[i].name;
        if (mr_span_equal(name, scrams->users[i - 1].name)) {
            return mr_error_set(why, MR_ERR_CONFIG,
                                "password file %s: user '%.*s' has two lines of SCRAM; remove one "
                                "of them",
                                path, (int)(name.len > 64 ? 64 : name.len), (const char *)name.at);
        }
    }
    if (!scrams->has_key) {
        key_make(scrams);
    }
    return MR_OK;
}

void passfile_scrams_free(struct passfile_scrams *scrams)
{
    if (scrams != NULL) {
        mr_secret_wipe(scrams->key, sizeof(scrams->key));
        mr_free(scrams->users);
        mr_free(scrams);
    }
}

size_t passfile_scrams_count(const struct passfile_scrams *scrams)
{
    return scrams == NULL ? 0 : scrams->count;
}

static void decoy_make(const struct passfile_scrams *scrams, struct mr_span user,
                       struct mr_scram_keys *out)
{
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    const uint8_t *done =
        HMAC(EVP_sha512(), scrams->key, sizeof(scrams->key), user.at, user.len, mac, &len);

    mr_assert(done != NULL && len >= MR_SCRAM_SALT_MAX);
    *out = (struct mr_scram_keys){.iterations = scrams->iterations, .salt_len = scrams->salt_len};
    memcpy(out->salt, mac, out->salt_len);
}

bool passfile_scrams_find(const struct passfile_scrams *scrams, struct mr_span user,
                          struct mr_scram_keys *out)
{
    struct scram_user wanted = {.name = user};

    if (scrams == NULL) { /* the file was read again since SCRAM was offered */
        *out = (struct mr_scram_keys){.iterations = MR_SCRAM_ITERATIONS_MIN,
                                      .salt_len = MR_SCRAM_SALT_BYTES};
        return false;
    }
    decoy_make(scrams, user, out); /* always, so that it takes as long for those who exist */
    const struct scram_user *found =
        scrams->count == 0
            ? NULL
            : bsearch(&wanted, scrams->users, scrams->count, sizeof(*scrams->users), user_order);
    if (found != NULL) {
        *out = found->keys;
    }
    return found != NULL;
}
