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
        {&auth->realms[request->realm].number, sizeof(uint64_t)},
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

void request_answer(struct mr_auth *auth, struct mr_auth_request *request,
                    enum mr_auth_answer answer)
{
    struct mr_auth_port *port = request->port;

    realm_let_go(&auth->realms[request->realm]);
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

enum mr_err mr_auth_open(struct mr_auth **out, const struct mr_auth_realm *realms, uint32_t count,
                         struct mr_error *why)
{
    struct mr_auth *auth = mr_alloc(sizeof(*auth));
    struct mr_auth_plan *plan = NULL;

    *out = NULL;
    mr_assert(count != 0 && count <= MR_AUTH_REALMS_MAX);
    mr_os_random(auth->mac_key, sizeof(auth->mac_key));
    mr_os_random(&auth->address_key, sizeof(auth->address_key));
    auth->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    mr_assert(auth->hmac != NULL);
    mr_mutex_init(&auth->mutex);
    enum mr_err err = mr_auth_plan(auth, realms, count, &plan, why);
    if (err == MR_OK) {
        mr_auth_commit(plan);
        err = workers_start(auth, why);
    }
    if (err != MR_OK) {
        mr_auth_close(auth);
        return err;
    }
    *out = auth;
    return MR_OK;
}

size_t mr_auth_user_count(struct mr_auth *auth)
{
    size_t count = 0;

    mr_mutex_lock(&auth->mutex);
    for (uint32_t i = 0; i < REALMS_ROOM; i++) {
        const struct mr_passfile *file =
            auth->realms[i].state == REALM_IN_FORCE ? auth->realms[i].files.passfile : NULL;
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

bool mr_auth_knows_key(struct mr_auth *auth, uint32_t realm, uint64_t key)
{
    struct realm_files files = realm_files_hold(auth, realm);
    bool known = files.keys != NULL && mr_jwt_keys_have(files.keys, key);

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
    for (uint32_t i = 0; i < REALMS_ROOM; i++) {
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
    for (uint32_t i = 0; i < REALMS_ROOM; i++) {
        realm_close(auth, &auth->realms[i]);
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
    realm_pin(&auth->realms[request->realm]);
    enum mr_err err = queue_put(auth, request);

    if (err != MR_OK) {
        realm_let_go(&auth->realms[request->realm]);
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
    bool known = false;

    *out = (struct mr_scram_keys){0};
    if (files.passfile != NULL) { /* a reload may have taken it away since it was offered */
        known = mr_passfile_scram_find(files.passfile, user, out);
    }
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
