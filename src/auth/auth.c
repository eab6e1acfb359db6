/* auth.c - see auth.h for the contract.
 *
 * DESIGN
 *
 * One lock over queue, files, what is remembered and what was guessed: it is taken a few times
 * per CONNECT whose password is checked, never while hashing.  worker.c has the rest of it.
 */
#include "auth/auth_internal.h"

#include "auth/passhash.h"
#include "base/log.h"
#include "os/clock.h"
#include "os/process.h"

#include <openssl/params.h>

/* ---- realms ---- */

static bool texts_equal(const char *const *a, const char *const *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if ((a[i] == NULL) != (b[i] == NULL) || (a[i] != NULL && strcmp(a[i], b[i]) != 0)) {
            return false;
        }
    }
    return true;
}

static bool jwt_equal(const struct mr_jwt_conf *a, const struct mr_jwt_conf *b)
{
    const char *const x[] = {a->secret_file, a->public_key_file, a->jwks_file,      a->issuer,
                             a->audience,    a->username_claim,  a->clientid_claim, a->acl_claim};
    const char *const y[] = {b->secret_file, b->public_key_file, b->jwks_file,      b->issuer,
                             b->audience,    b->username_claim,  b->clientid_claim, b->acl_claim};

    return texts_equal(x, y, sizeof(x) / sizeof(x[0])) && a->leeway_us == b->leeway_us &&
           a->from == b->from && a->secret_base64_encoded == b->secret_base64_encoded &&
           a->disconnect_after_expire == b->disconnect_after_expire;
}

static bool http_equal(const struct mr_http_conf *a, const struct mr_http_conf *b)
{
    const char *const x[] = {a->url, a->authorization, a->cacertfile, a->certfile, a->keyfile};
    const char *const y[] = {b->url, b->authorization, b->cacertfile, b->certfile, b->keyfile};

    return texts_equal(x, y, sizeof(x) / sizeof(x[0])) &&
           a->request_timeout_us == b->request_timeout_us && a->max_requests == b->max_requests &&
           a->cache_ttl_us == b->cache_ttl_us;
}

bool mr_auth_realm_equal(const struct mr_auth_realm *a, const struct mr_auth_realm *b)
{
    return texts_equal(&a->password_file, &b->password_file, 1) && jwt_equal(&a->jwt, &b->jwt) &&
           http_equal(&a->http, &b->http) && a->order_count == b->order_count &&
           memcmp(a->order, b->order, a->order_count) == 0;
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
    mr_assert(realm < auth->realm_count);
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

/* ---- marks ---- */

struct mark_part {
    const void *at;
    size_t len;
};

static bool mark_make(const struct mr_auth *auth, const struct mark_part *parts, size_t count,
                      uint8_t mark[KNOWN_BYTES])
{
    uint8_t mac[EVP_MAX_MD_SIZE];
    size_t mac_len = 0;
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", digest, 0),
                           OSSL_PARAM_construct_end()};
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(auth->hmac);
    bool done = ctx != NULL && EVP_MAC_init(ctx, auth->mac_key, MAC_KEY_BYTES, params) == 1;

    for (size_t i = 0; i < count && done; i++) { /* lengths, so that nothing can be shifted */
        uint64_t len = parts[i].len;
        done = EVP_MAC_update(ctx, (const uint8_t *)&len, sizeof(len)) == 1 &&
               EVP_MAC_update(ctx, parts[i].at, parts[i].len) == 1;
    }
    done = done && EVP_MAC_final(ctx, mac, &mac_len, sizeof(mac)) == 1 && mac_len >= KNOWN_BYTES;
    EVP_MAC_CTX_free(ctx);
    if (done) {
        memcpy(mark, mac, KNOWN_BYTES);
    }
    return done;
}

bool mark_of_hash(const struct mr_auth *auth, const struct mr_passhash *hash,
                  const struct mr_auth_request *request, uint8_t mark[KNOWN_BYTES])
{
    const struct mark_part parts[] = {{request->user.at, request->user.len},
                                      {hash, sizeof(*hash)},
                                      {request->password.at, request->password.len}};

    return mark_make(auth, parts, 3, mark);
}

bool mark_of_http(const struct mr_auth *auth, const struct mr_auth_request *request,
                  uint8_t mark[KNOWN_BYTES])
{
    const char given[] = {(char)request->has_user, (char)request->has_password};
    size_t host = strcspn(request->peer, "]");
    const struct mark_part parts[] = {
        {&request->realm, sizeof(request->realm)},
        {given, sizeof(given)},
        {request->client_id.at, request->client_id.len},
        {request->user.at, request->user.len},
        {request->password.at, request->password.len},
        {request->listener, strlen(request->listener)},
        {request->peer, request->peer[0] == '[' ? host : strcspn(request->peer, ":")},
    };

    return mark_make(auth, parts, sizeof(parts) / sizeof(parts[0]), mark);
}

/* ---- ports ---- */

void request_answer(struct mr_auth_request *request, enum mr_auth_answer answer)
{
    struct mr_auth_port *port = request->port;

    request->answer = answer;
    request->next = NULL;
    mr_mutex_lock(&port->mutex);
    if (port->last != NULL) {
        port->last->next = request;
    } else {
        port->first = request;
    }
    port->last = request;
    atomic_store_explicit(&port->some, true, memory_order_release);
    mr_mutex_unlock(&port->mutex);
    mr_wake_ring(port->wake);
}

struct mr_auth_request *mr_auth_take(struct mr_auth_port *port)
{
    mr_mutex_lock(&port->mutex);
    struct mr_auth_request *request = port->first;
    if (request != NULL) {
        port->first = request->next;
        port->last = port->first == NULL ? NULL : port->last;
    }
    atomic_store_explicit(&port->some, port->first != NULL, memory_order_release);
    mr_mutex_unlock(&port->mutex);
    return request;
}

void mr_auth_port_open(struct mr_auth_port *port, struct mr_wake *wake)
{
    port->wake = wake;
    mr_mutex_init(&port->mutex);
}

void mr_auth_port_close(struct mr_auth_port *port)
{
    mr_assert(port->first == NULL);
    mr_mutex_fini(&port->mutex);
}

void mr_auth_forget(struct mr_auth_request *request)
{
    mr_secret_wipe((void *)(uintptr_t)request->user.at, request->user.len);
    mr_secret_wipe((void *)(uintptr_t)request->password.at, request->password.len);
    mr_auth_grant_free(request->grant);
    request->grant = NULL;
}

/* ---- open, reload, close ---- */

static void log_warning(void *arg, const char *text)
{
    (void)arg;
    mr_log(MR_LOG_WARN, "auth", "%s", text);
}

static enum mr_err realm_open(struct mr_auth *auth, struct realm *realm, struct mr_error *why)
{
    for (uint32_t i = 0; i < realm->conf.order_count; i++) {
        if (realm_has(&realm->conf, realm->conf.order[i])) {
            realm->order[realm->count++] = realm->conf.order[i];
        }
    }
    enum mr_err err = files_read(&realm->conf, &realm->files, log_warning, NULL, why);
    if (err == MR_OK && realm->conf.http.url != NULL) {
        err = http_open(&realm->http, &realm->conf.http, worker_http_answered, auth, why);
    }
    return err;
}

enum mr_err mr_auth_open(struct mr_auth **out, const struct mr_auth_realm *realms, uint32_t count,
                         struct mr_error *why)
{
    struct mr_auth *auth = mr_alloc(sizeof(*auth));
    enum mr_err err = MR_OK;

    *out = NULL;
    mr_assert(count != 0 && count <= MR_AUTH_REALMS_MAX);
    mr_os_random(auth->mac_key, sizeof(auth->mac_key));
    mr_os_random(&auth->address_key, sizeof(auth->address_key));
    auth->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    mr_assert(auth->hmac != NULL);
    mr_mutex_init(&auth->mutex);
    auth->realm_count = count;
    for (uint32_t i = 0; i < count && err == MR_OK; i++) {
        auth->realms[i].conf = realms[i];
        err = realm_open(auth, &auth->realms[i], why);
    }
    if (err == MR_OK) {
        err = workers_start(auth, why);
    }
    if (err != MR_OK) {
        mr_auth_close(auth);
        return err;
    }
    *out = auth;
    return MR_OK;
}

enum mr_err mr_auth_reload(struct mr_auth *auth, struct mr_error *why)
{
    struct realm_files files[MR_AUTH_REALMS_MAX] = {{.passfile = NULL}};
    enum mr_err err = MR_OK;

    for (uint32_t i = 0; i < auth->realm_count && err == MR_OK; i++) {
        err = files_read(&auth->realms[i].conf, &files[i], log_warning, NULL, why);
    }
    if (err == MR_OK) {
        mr_mutex_lock(&auth->mutex);
        for (uint32_t i = 0; i < auth->realm_count; i++) {
            struct realm_files before = auth->realms[i].files;
            auth->realms[i].files = files[i];
            files[i] = before;
        }
        known_forget_all(&auth->knowns);
        mr_mutex_unlock(&auth->mutex);
    }
    for (uint32_t i = 0; i < auth->realm_count; i++) {
        realm_files_drop(files[i]);
    }
    return err;
}

size_t mr_auth_user_count(struct mr_auth *auth)
{
    size_t count = 0;

    mr_mutex_lock(&auth->mutex);
    for (uint32_t i = 0; i < auth->realm_count; i++) {
        const struct mr_passfile *file = auth->realms[i].files.passfile;
        count += file == NULL ? 0 : mr_passfile_count(file) + mr_passfile_scram_count(file);
    }
    mr_mutex_unlock(&auth->mutex);
    return count;
}

bool mr_auth_knows(struct mr_auth *auth, uint32_t realm, struct mr_span user)
{
    struct realm_files files = realm_files_hold(auth, realm);
    struct mr_scram_keys keys;
    bool known = false;

    if (files.passfile != NULL) {
        (void)mr_passfile_find(files.passfile, user, &known);
        known = known || mr_passfile_scram_find(files.passfile, user, &keys);
    }
    realm_files_drop(files);
    return known;
}

bool mr_auth_needs_no_password(const struct mr_auth *auth, uint32_t realm)
{
    return auth->realms[realm].http != NULL || mr_auth_name_is_secret(auth, realm);
}

bool mr_auth_name_is_secret(const struct mr_auth *auth, uint32_t realm)
{
    const struct mr_jwt_conf *jwt = &auth->realms[realm].conf.jwt;

    return mr_jwt_is_configured(jwt) && jwt->from == MR_JWT_FROM_USERNAME;
}

void mr_auth_stop(struct mr_auth *auth)
{
    workers_stop(auth);
    for (uint32_t i = 0; i < auth->realm_count; i++) {
        if (auth->realms[i].http != NULL) {
            http_stop(auth->realms[i].http);
        }
    }
}

void mr_auth_close(struct mr_auth *auth)
{
    if (auth == NULL) {
        return;
    }
    mr_auth_stop(auth);
    for (uint32_t i = 0; i < auth->realm_count; i++) {
        http_close(auth->realms[i].http);
        realm_files_drop(auth->realms[i].files);
    }
    mr_mutex_fini(&auth->mutex);
    EVP_MAC_free(auth->hmac);
    mr_secret_wipe(auth->mac_key, sizeof(auth->mac_key));
    mr_free(auth);
}

/* ---- asking ---- */

uint64_t mr_auth_address(const struct mr_auth *auth, const char *peer)
{
    size_t len = strcspn(peer, ":");

    if (peer[0] == '[') { /* "[2001:db8:1:2:...": four groups, or up to the gap */
        len = 1;
        for (int groups = 0; groups < 4 && peer[len] != ':' && peer[len] != 0; groups++) {
            len += strcspn(peer + len, ":");
            len += groups < 3 && peer[len] == ':';
        }
    }
    return mr_siphash(&auth->address_key, peer, len);
}

/* How long the address has to wait; BUSY: too many of its questions do.  Under the mutex. */
static enum mr_auth_answer delay_take(struct mr_auth *auth, struct mr_auth_request *request)
{
    int64_t now_ns = mr_clock_mono_ns();

    request->delay_ms = guess_delay_ms(&auth->guesses, request->address, now_ns);
    request->counted =
        request->delay_ms != 0 && guess_open(&auth->guesses, request->address, now_ns);
    return request->delay_ms != 0 && !request->counted ? MR_AUTH_BUSY : MR_AUTH_LATER;
}

/* The marks under which a yes to this may be remembered; how many.  Behind a service that is to
 * be asked first nothing is.
 */
static size_t marks_of(struct mr_auth *auth, const struct mr_auth_request *request,
                       uint8_t marks[2][KNOWN_BYTES], uint8_t by[2])
{
    const struct realm *realm = &auth->realms[request->realm];
    bool asked = false;
    size_t count = 0;

    for (uint32_t i = 0; i < realm->count && !asked; i++) {
        if (realm->order[i] == MR_AUTHN_PASSWORD_FILE) {
            struct realm_files files = realm_files_hold(auth, request->realm);
            bool known = false;
            const struct mr_passhash *hash =
                mr_passfile_find(files.passfile, request->user, &known);
            by[count] = realm->order[i];
            count += mark_of_hash(auth, hash, request, marks[count]) && known;
            realm_files_drop(files);
        } else if (realm->order[i] == MR_AUTHN_HTTP) {
            asked = true;
            by[count] = realm->order[i];
            count +=
                realm->conf.http.cache_ttl_us != 0 && mark_of_http(auth, request, marks[count]);
        }
    }
    return count;
}

enum mr_auth_answer mr_auth_look(struct mr_auth *auth, struct mr_auth_request *request)
{
    uint8_t marks[2][KNOWN_BYTES];
    uint8_t by[2] = {0};
    size_t count = marks_of(auth, request, marks, by);
    bool known = false;

    request->step = 0;
    mr_mutex_lock(&auth->mutex);
    for (size_t i = 0; i < count && !known; i++) {
        known = known_has(&auth->knowns, marks[i]);
        request->by = by[i];
    }
    enum mr_auth_answer answer = known ? MR_AUTH_YES : delay_take(auth, request);
    mr_mutex_unlock(&auth->mutex);
    return answer;
}

enum mr_err mr_auth_submit(struct mr_auth *auth, struct mr_auth_request *request)
{
    enum mr_err err = queue_put(auth, request);

    if (err != MR_OK) {
        mr_auth_drop(auth, request);
    }
    return err;
}

void mr_auth_drop(struct mr_auth *auth, struct mr_auth_request *request)
{
    if (request->counted) {
        mr_mutex_lock(&auth->mutex);
        guess_close(&auth->guesses, request->address);
        mr_mutex_unlock(&auth->mutex);
        request->counted = false;
    }
}

void mr_auth_note_failure(struct mr_auth *auth, uint64_t address)
{
    mr_mutex_lock(&auth->mutex);
    guess_failed(&auth->guesses, address, mr_clock_mono_ns());
    mr_mutex_unlock(&auth->mutex);
}

void mr_auth_note_success(struct mr_auth *auth, uint64_t address)
{
    mr_mutex_lock(&auth->mutex);
    guess_succeeded(&auth->guesses, address, mr_clock_mono_ns());
    mr_mutex_unlock(&auth->mutex);
}

/* ---- SCRAM ---- */

bool mr_auth_offers_scram(struct mr_auth *auth, uint32_t realm)
{
    struct realm_files files = realm_files_hold(auth, realm);
    bool some = files.passfile != NULL && mr_passfile_scram_count(files.passfile) != 0;

    realm_files_drop(files);
    return some;
}

bool mr_auth_scram_find(struct mr_auth *auth, uint32_t realm, struct mr_span user,
                        struct mr_scram_keys *out)
{
    struct realm_files files = realm_files_hold(auth, realm);
    bool known = mr_passfile_scram_find(files.passfile, user, out);

    realm_files_drop(files);
    return known;
}

enum mr_auth_answer mr_auth_scram_look(struct mr_auth *auth, struct mr_auth_request *request)
{
    mr_mutex_lock(&auth->mutex);
    enum mr_auth_answer answer = delay_take(auth, request);
    mr_mutex_unlock(&auth->mutex);
    return answer == MR_AUTH_LATER && request->delay_ms == 0 ? MR_AUTH_YES : answer;
}
