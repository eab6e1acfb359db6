/* realm.c - whom a listener asks who its clients are, and how that changes while they do.
 *
 * DESIGN
 *
 * A realm lies in a slot, whose number is what event loops and requests know.  A change is
 * planned beside what is in force: realms that are the same keep their slots and get new
 * files, others get free ones.  Those that are not wanted any more have left: requests on
 * their way and workers pin them, and a slot is free again when there are none.
 *
 * A realm has copies of its texts, because it may outlive the configuration it was made from.
 *
 * Rejected: stopping the workers for a change.  A storm of logins would stand still behind
 * every reload.
 */
#include "auth/auth_internal.h"

#include "auth/passhash.h"
#include "base/log.h"

/* ---- what a realm says ---- */

/* All its texts. */
static const size_t texts[] = {
    offsetof(struct mr_auth_realm, password_file),
    offsetof(struct mr_auth_realm, jwt.secret_file),
    offsetof(struct mr_auth_realm, jwt.public_key_file),
    offsetof(struct mr_auth_realm, jwt.jwks_file),
    offsetof(struct mr_auth_realm, jwt.issuer),
    offsetof(struct mr_auth_realm, jwt.audience),
    offsetof(struct mr_auth_realm, jwt.username_claim),
    offsetof(struct mr_auth_realm, jwt.clientid_claim),
    offsetof(struct mr_auth_realm, jwt.acl_claim),
    offsetof(struct mr_auth_realm, http.url),
    offsetof(struct mr_auth_realm, http.authorization),
    offsetof(struct mr_auth_realm, http.cacertfile),
    offsetof(struct mr_auth_realm, http.certfile),
    offsetof(struct mr_auth_realm, http.keyfile),
};

static const char *text_of(const struct mr_auth_realm *realm, size_t offset)
{
    return *(const char *const *)(const void *)((const char *)realm + offset);
}

static bool texts_equal(const struct mr_auth_realm *a, const struct mr_auth_realm *b)
{
    for (size_t i = 0; i < MR_COUNT_OF(texts); i++) {
        const char *x = text_of(a, texts[i]);
        const char *y = text_of(b, texts[i]);
        if ((x == NULL) != (y == NULL) || (x != NULL && strcmp(x, y) != 0)) {
            return false;
        }
    }
    return true;
}

static bool jwt_equal(const struct mr_jwt_conf *a, const struct mr_jwt_conf *b)
{
    return a->leeway_us == b->leeway_us && a->from == b->from &&
           a->secret_base64_encoded == b->secret_base64_encoded &&
           a->disconnect_after_expire == b->disconnect_after_expire;
}

static bool http_equal(const struct mr_http_conf *a, const struct mr_http_conf *b)
{
    return a->request_timeout_us == b->request_timeout_us && a->max_requests == b->max_requests &&
           a->cache_ttl_us == b->cache_ttl_us;
}

bool mr_auth_realm_equal(const struct mr_auth_realm *a, const struct mr_auth_realm *b)
{
    return texts_equal(a, b) && jwt_equal(&a->jwt, &b->jwt) && http_equal(&a->http, &b->http) &&
           a->order_count == b->order_count && memcmp(a->order, b->order, a->order_count) == 0;
}

static bool realm_has(const struct mr_auth_realm *realm, uint8_t who)
{
    return who == MR_AUTHN_PASSWORD_FILE ? realm->password_file != NULL
           : who == MR_AUTHN_JWT         ? mr_jwt_is_configured(&realm->jwt)
                                         : realm->http.url != NULL;
}

bool mr_auth_realm_asks(const struct mr_auth_realm *realm)
{
    for (uint32_t i = 0; i < realm->order_count; i++) {
        if (realm_has(realm, realm->order[i])) {
            return true;
        }
    }
    return false;
}

/* ---- files ---- */

static enum mr_err files_read(const struct mr_auth_realm *realm, struct realm_files *out,
                              void (*warn)(void *arg, const char *text), void *arg,
                              struct mr_error *why)
{
    enum mr_err err = MR_OK;

    *out = (struct realm_files){.passfile = NULL};
    if (realm->password_file != NULL) {
        err = mr_passfile_read(&out->passfile, realm->password_file, why);
    }
    if (err == MR_OK && mr_jwt_is_configured(&realm->jwt)) {
        err = mr_jwt_keys_read(&out->keys, &realm->jwt, warn, arg, why);
    }
    if (err != MR_OK) {
        realm_files_drop(*out);
        *out = (struct realm_files){.passfile = NULL};
    }
    return err;
}

enum mr_err mr_auth_realm_check(const struct mr_auth_realm *realm, const char **key,
                                void (*warn)(void *arg, const char *text), void *arg,
                                struct mr_error *why)
{
    struct mr_auth_realm one = {.password_file = realm->password_file};
    struct realm_files files;

    *key = "password_file";
    enum mr_err err = files_read(&one, &files, warn, arg, why);
    realm_files_drop(files);
    if (err == MR_OK) {
        *key = "jwt";
        one = (struct mr_auth_realm){.jwt = realm->jwt};
        err = files_read(&one, &files, warn, arg, why);
        realm_files_drop(files);
    }
    if (err == MR_OK && realm->http.url != NULL) {
        *key = "http";
        err = http_conf_check(&realm->http, why);
    }
    return err;
}

struct realm_files realm_files_hold(struct mr_auth *auth, uint32_t realm)
{
    mr_assert(realm < REALMS_ROOM);
    mr_mutex_lock(&auth->mutex);
    struct realm_files files = auth->realms[realm].files;
    if (files.passfile != NULL) {
        (void)mr_passfile_hold(files.passfile);
    }
    if (files.keys != NULL) {
        (void)mr_jwt_keys_hold(files.keys);
    }
    mr_mutex_unlock(&auth->mutex);
    return files;
}

void realm_files_drop(struct realm_files files)
{
    mr_passfile_drop(files.passfile);
    mr_jwt_keys_drop(files.keys);
}

/* ---- one realm ---- */

/* A copy of `from`, whose texts are the realm's own. */
static void conf_copy(struct realm *realm, const struct mr_auth_realm *from)
{
    size_t len = 1;

    for (size_t i = 0; i < MR_COUNT_OF(texts); i++) {
        const char *text = text_of(from, texts[i]);
        len += text == NULL ? 0 : strlen(text) + 1;
    }
    realm->conf = *from;
    realm->text = mr_alloc(len);
    realm->text_len = len;
    char *at = realm->text;
    for (size_t i = 0; i < MR_COUNT_OF(texts); i++) {
        const char *text = text_of(from, texts[i]);
        if (text != NULL) {
            size_t size = strlen(text) + 1;
            memcpy(at, text, size);
            *(const char **)(void *)((char *)&realm->conf + texts[i]) = at;
            at += size;
        }
    }
}

static enum mr_err realm_open(struct mr_auth *auth, struct realm *realm,
                              const struct mr_auth_realm *conf, struct mr_error *why)
{
    conf_copy(realm, conf);
    realm->state = REALM_PLANNED;
    realm->number = ++auth->numbers;
    for (uint32_t i = 0; i < conf->order_count; i++) {
        if (realm_has(conf, conf->order[i])) {
            realm->order[realm->count++] = conf->order[i];
        }
    }
    return conf->http.url == NULL
               ? MR_OK
               : http_open(&realm->http, &realm->conf.http, worker_http_answered, auth, why);
}

void realm_close(struct mr_auth *auth, struct realm *realm)
{
    http_close(realm->http);
    /* A client that came in by it, and to whose listener nobody says any more who is who, may
     * still look for its files, and finds none.
     */
    mr_mutex_lock(&auth->mutex);
    struct realm_files files = realm->files;
    char *text = realm->text;
    size_t text_len = realm->text_len;
    *realm = (struct realm){.state = REALM_FREE};
    mr_mutex_unlock(&auth->mutex);
    realm_files_drop(files);
    if (text != NULL) { /* a service's `authorization` is in it */
        mr_secret_wipe(text, text_len);
        mr_free(text);
    }
}

/* ---- changes ---- */

struct mr_auth_plan {
    struct mr_auth *auth;
    struct realm_files files[REALMS_ROOM];
    bool wanted[REALMS_ROOM];
    uint32_t numbers[MR_AUTH_REALMS_MAX];
    uint32_t count;
};

static void log_warning(void *arg, const char *text)
{
    (void)arg;
    mr_log(MR_LOG_WARN, "auth", "%s", text);
}

/* Those that have left, and that nobody is in any more. */
static void realms_sweep(struct mr_auth *auth)
{
    for (uint32_t i = 0; i < REALMS_ROOM; i++) {
        struct realm *realm = &auth->realms[i];
        if (realm->state == REALM_LEFT && atomic_load(&realm->pins) == 0) {
            realm_close(auth, realm);
        }
    }
}

/* The slot of a realm that is the same; REALMS_ROOM: there is none. */
static uint32_t slot_same(const struct mr_auth *auth, const struct mr_auth_realm *conf)
{
    uint32_t slot = 0;

    while (slot < REALMS_ROOM && !((auth->realms[slot].state == REALM_IN_FORCE ||
                                    auth->realms[slot].state == REALM_PLANNED) &&
                                   mr_auth_realm_equal(&auth->realms[slot].conf, conf))) {
        slot += 1;
    }
    return slot;
}

static enum mr_err plan_add(struct mr_auth_plan *plan, const struct mr_auth_realm *conf,
                            struct mr_error *why)
{
    struct mr_auth *auth = plan->auth;
    uint32_t slot = slot_same(auth, conf);
    enum mr_err err = MR_OK;

    if (slot == REALMS_ROOM) {
        for (slot = 0; slot < REALMS_ROOM && auth->realms[slot].state != REALM_FREE;) {
            slot += 1;
        }
        if (slot == REALMS_ROOM) {
            return mr_error_set(why, MR_ERR_CONFIG,
                                "logins of the last reload are still under way; reload again");
        }
        err = realm_open(auth, &auth->realms[slot], conf, why);
    }
    if (err == MR_OK && !plan->wanted[slot]) {
        plan->wanted[slot] = true;
        err = files_read(conf, &plan->files[slot], log_warning, NULL, why);
    }
    plan->numbers[plan->count++] = slot;
    return err;
}

enum mr_err mr_auth_plan(struct mr_auth *auth, const struct mr_auth_realm *realms, uint32_t count,
                         struct mr_auth_plan **out, struct mr_error *why)
{
    struct mr_auth_plan *plan = mr_alloc(sizeof(*plan));
    enum mr_err err = MR_OK;

    *out = NULL;
    mr_assert(count <= MR_AUTH_REALMS_MAX);
    realms_sweep(auth);
    plan->auth = auth;
    for (uint32_t i = 0; i < count && err == MR_OK; i++) {
        err = plan_add(plan, &realms[i], why);
    }
    if (err != MR_OK) {
        mr_auth_abandon(plan);
        return err;
    }
    *out = plan;
    return MR_OK;
}

uint32_t mr_auth_plan_number(const struct mr_auth_plan *plan, uint32_t index)
{
    mr_assert(index < plan->count);
    return plan->numbers[index];
}

static void plan_free(struct mr_auth_plan *plan)
{
    for (uint32_t i = 0; i < REALMS_ROOM; i++) {
        realm_files_drop(plan->files[i]);
    }
    mr_free(plan);
}

void mr_auth_commit(struct mr_auth_plan *plan)
{
    struct mr_auth *auth = plan->auth;

    mr_mutex_lock(&auth->mutex);
    for (uint32_t i = 0; i < REALMS_ROOM; i++) {
        struct realm *realm = &auth->realms[i];
        if (plan->wanted[i]) {
            struct realm_files before = realm->files;
            realm->files = plan->files[i];
            realm->state = REALM_IN_FORCE;
            plan->files[i] = before;
        } else if (realm->state == REALM_IN_FORCE) {
            realm->state = REALM_LEFT;
        }
    }
    known_forget_all(&auth->knowns);
    mr_mutex_unlock(&auth->mutex);
    plan_free(plan);
}

void mr_auth_abandon(struct mr_auth_plan *plan)
{
    if (plan == NULL) {
        return;
    }
    for (uint32_t i = 0; i < REALMS_ROOM; i++) {
        if (plan->auth->realms[i].state == REALM_PLANNED) {
            realm_close(plan->auth, &plan->auth->realms[i]);
        }
    }
    plan_free(plan);
}

void mr_auth_settle(struct mr_auth *auth)
{
    for (uint32_t i = 0; i < REALMS_ROOM; i++) {
        if (auth->realms[i].state == REALM_LEFT && auth->realms[i].http != NULL) {
            http_stop(auth->realms[i].http);
        }
    }
    realms_sweep(auth);
}
