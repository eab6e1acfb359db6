/* auth.c - see auth.h for the contract.
 *
 * DESIGN
 *
 * One lock over queue, file pointer, what is remembered and what was guessed: it is taken
 * a few times per CONNECT whose password is checked, never while hashing.
 *
 * Requests wait in order of arrival.  A worker pins the file as it is, hashes without the
 * lock, and puts the request to its port.  An address that has become suspicious while its
 * requests waited gets them back unanswered (LATER), so that a burst from one guesser is
 * not worked off before its first failure counts.
 *
 * Rejected: remembering failures.  It would save work for the guesser, and a changed file
 * would have to be told apart from a remembered no.
 */
#include "auth/auth.h"

#include "auth/guess.h"
#include "auth/passfile.h"
#include "base/hash.h"
#include "os/clock.h"
#include "os/process.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

enum {
    WORKERS_MAX = 4,
    WAITING_MAX = 65536, /* a whole large site after a cold start */
    KNOWN_SLOTS = 65536,
    KNOWN_WAYS = 4,
    KNOWN_BYTES = 16,
    KNOWN_S = 3600,
    MAC_KEY_BYTES = 32,
};

/* A verification that succeeded. */
struct known {
    uint8_t mark[KNOWN_BYTES];
    uint32_t until_s; /* 0: none */
};

struct worker {
    struct mr_auth *auth;
    struct mr_thread *thread;
    struct mr_wake wake;
    bool idle;
};

struct mr_auth {
    char *paths[MR_AUTH_FILES_MAX];
    uint32_t file_count;
    EVP_MAC *hmac;
    uint8_t mac_key[MAC_KEY_BYTES];
    struct mr_hash_key address_key;
    struct worker workers[WORKERS_MAX];
    uint32_t worker_count;
    _Atomic bool stop;

    struct mr_mutex mutex; /* over all that follows */
    struct mr_passfile *files[MR_AUTH_FILES_MAX];
    struct mr_auth_request *first;
    struct mr_auth_request *last;
    uint32_t waiting;
    struct known known[KNOWN_SLOTS];
    struct guesses guesses;
};

/* ---- what is remembered ---- */

static uint32_t now_s(void)
{
    return (uint32_t)(mr_clock_mono_ns() / 1000000000) + 1;
}

/* The mark of "this password, for this user, whose stored hash is that one". */
static bool mark_make(const struct mr_auth *auth, const struct mr_passhash *hash,
                      const struct mr_auth_request *request, uint8_t mark[KNOWN_BYTES])
{
    uint8_t mac[EVP_MAX_MD_SIZE];
    size_t mac_len = 0;
    uint64_t user_len = request->user.len;
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", digest, 0),
                           OSSL_PARAM_construct_end()};
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(auth->hmac);
    bool done = ctx != NULL && EVP_MAC_init(ctx, auth->mac_key, MAC_KEY_BYTES, params) == 1 &&
                EVP_MAC_update(ctx, (const uint8_t *)&user_len, sizeof(user_len)) == 1 &&
                EVP_MAC_update(ctx, request->user.at, request->user.len) == 1 &&
                EVP_MAC_update(ctx, (const uint8_t *)hash, sizeof(*hash)) == 1 &&
                EVP_MAC_update(ctx, request->password.at, request->password.len) == 1 &&
                EVP_MAC_final(ctx, mac, &mac_len, sizeof(mac)) == 1 && mac_len >= KNOWN_BYTES;

    EVP_MAC_CTX_free(ctx);
    if (done) {
        memcpy(mark, mac, KNOWN_BYTES);
    }
    return done;
}

/* The places where a mark may lie. */
static struct known *known_set(struct mr_auth *auth, const uint8_t mark[KNOWN_BYTES])
{
    uint32_t place = 0;

    memcpy(&place, mark, sizeof(place));
    return &auth->known[place % (KNOWN_SLOTS / KNOWN_WAYS) * KNOWN_WAYS];
}

static bool known_has(struct mr_auth *auth, const uint8_t mark[KNOWN_BYTES])
{
    const struct known *set = known_set(auth, mark);
    bool found = false;

    for (int i = 0; i < KNOWN_WAYS; i++) {
        bool same = CRYPTO_memcmp(set[i].mark, mark, KNOWN_BYTES) == 0;
        found = found || (same && set[i].until_s > now_s());
    }
    return found;
}

static void known_add(struct mr_auth *auth, const uint8_t mark[KNOWN_BYTES])
{
    struct known *set = known_set(auth, mark);
    struct known *place = &set[0];

    for (int i = 1; i < KNOWN_WAYS; i++) {
        place = set[i].until_s < place->until_s ? &set[i] : place;
    }
    memcpy(place->mark, mark, KNOWN_BYTES);
    place->until_s = now_s() + KNOWN_S;
}

/* ---- the queue ---- */

static void list_push(struct mr_auth_request **first, struct mr_auth_request **last,
                      struct mr_auth_request *request)
{
    request->next = NULL;
    if (*last != NULL) {
        (*last)->next = request;
    } else {
        *first = request;
    }
    *last = request;
}

static struct mr_auth_request *list_pop(struct mr_auth_request **first,
                                        struct mr_auth_request **last)
{
    struct mr_auth_request *request = *first;

    if (request != NULL) {
        *first = request->next;
        *last = *first == NULL ? NULL : *last;
    }
    return request;
}

/* Hand it back to whoever asked.  From here on it is theirs. */
static void request_answer(struct mr_auth_request *request, enum mr_auth_answer answer)
{
    struct mr_auth_port *port = request->port;

    request->answer = answer;
    mr_mutex_lock(&port->mutex);
    list_push(&port->first, &port->last, request);
    atomic_store_explicit(&port->some, true, memory_order_release);
    mr_mutex_unlock(&port->mutex);
    mr_wake_ring(port->wake);
}

struct mr_auth_request *mr_auth_take(struct mr_auth_port *port)
{
    mr_mutex_lock(&port->mutex);
    struct mr_auth_request *request = list_pop(&port->first, &port->last);
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
}

/* ---- workers ---- */

/* The address has its verdict. */
static void verdict_note(struct mr_auth *auth, const struct mr_auth_request *request, bool good,
                         const uint8_t *mark)
{
    int64_t now_ns = mr_clock_mono_ns();

    mr_mutex_lock(&auth->mutex);
    if (request->counted) {
        guess_close(&auth->guesses, request->address);
    }
    if (good) {
        guess_succeeded(&auth->guesses, request->address, now_ns);
    } else {
        guess_failed(&auth->guesses, request->address, now_ns);
    }
    if (mark != NULL) {
        known_add(auth, mark);
    }
    mr_mutex_unlock(&auth->mutex);
}

/* Meanwhile, that is: whoever lost patience in a long queue and came back stands in it
 * twice.
 */
static bool was_verified(struct mr_auth *auth, const uint8_t mark[KNOWN_BYTES])
{
    mr_mutex_lock(&auth->mutex);
    bool known = known_has(auth, mark);
    mr_mutex_unlock(&auth->mutex);
    return known;
}

static void request_check(struct mr_auth *auth, struct mr_passfile *file,
                          struct mr_auth_request *request)
{
    uint8_t mark[KNOWN_BYTES];
    bool known = false;
    const struct mr_passhash *hash = mr_passfile_find(file, request->user, &known);
    bool marked = mark_make(auth, hash, request, mark);
    bool same = (known && marked && was_verified(auth, mark)) ||
                mr_passhash_verify(hash, request->password);
    bool good = same && known;

    verdict_note(auth, request, good, good && marked ? mark : NULL);
    request_answer(request, good ? MR_AUTH_YES : MR_AUTH_NO);
}

/* The next one whose answer somebody waits for, and the file to look into. */
static struct mr_auth_request *worker_take(struct worker *worker, struct mr_passfile **file)
{
    struct mr_auth *auth = worker->auth;

    mr_mutex_lock(&auth->mutex);
    struct mr_auth_request *request = list_pop(&auth->first, &auth->last);
    worker->idle = request == NULL;
    if (request != NULL) {
        auth->waiting -= 1;
        *file = mr_passfile_hold(auth->files[request->file]);
    }
    mr_mutex_unlock(&auth->mutex);
    return request;
}

/* Has its address begun to look like a guesser while this waited? */
static bool is_suspect(struct mr_auth *auth, const struct mr_auth_request *request)
{
    mr_mutex_lock(&auth->mutex);
    bool suspect = !request->counted &&
                   guess_delay_ms(&auth->guesses, request->address, mr_clock_mono_ns()) != 0;
    mr_mutex_unlock(&auth->mutex);
    return suspect;
}

static void worker_run(void *arg)
{
    struct worker *worker = arg;
    struct mr_auth *auth = worker->auth;

    while (!atomic_load(&auth->stop)) {
        struct mr_passfile *file = NULL;
        struct mr_auth_request *request = worker_take(worker, &file);
        if (request == NULL) {
            (void)mr_wake_wait(&worker->wake, -1);
            continue;
        }
        if (atomic_load(&request->cancel)) {
            mr_auth_drop(auth, request);
            request_answer(request, MR_AUTH_NO);
        } else if (is_suspect(auth, request)) {
            request_answer(request, MR_AUTH_LATER);
        } else {
            request_check(auth, file, request);
        }
        mr_passfile_drop(file);
    }
}

static enum mr_err workers_start(struct mr_auth *auth, struct mr_error *why)
{
    uint32_t wanted = mr_cpu_count() / 2;

    wanted = wanted < 1 ? 1 : wanted > WORKERS_MAX ? WORKERS_MAX : wanted;
    for (uint32_t i = 0; i < wanted; i++) {
        struct worker *worker = &auth->workers[i];
        char name[] = {'a', 'u', 't', 'h', '-', (char)('0' + i), 0};
        worker->auth = auth;
        enum mr_err err = mr_wake_open(&worker->wake, why);
        if (err == MR_OK) {
            err = mr_thread_start(&worker->thread, name, worker_run, worker, why);
            if (err != MR_OK) {
                mr_wake_close(&worker->wake);
            }
        }
        if (err != MR_OK) {
            return err;
        }
        auth->worker_count += 1;
    }
    return MR_OK;
}

/* ---- open, reload, close ---- */

/* All of them, or none. */
static enum mr_err files_read(struct mr_passfile **files, char *const *paths, uint32_t count,
                              struct mr_error *why)
{
    for (uint32_t i = 0; i < count; i++) {
        enum mr_err err = mr_passfile_read(&files[i], paths[i], why);
        if (err != MR_OK) {
            while (i-- > 0) {
                mr_passfile_drop(files[i]);
                files[i] = NULL;
            }
            return err;
        }
    }
    return MR_OK;
}

static void paths_free(struct mr_auth *auth)
{
    for (uint32_t i = 0; i < auth->file_count; i++) {
        mr_free(auth->paths[i]);
    }
}

enum mr_err mr_auth_open(struct mr_auth **out, const char *const *password_files, uint32_t count,
                         struct mr_error *why)
{
    struct mr_auth *auth = mr_alloc(sizeof(*auth));

    *out = NULL;
    mr_assert(count != 0 && count <= MR_AUTH_FILES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        auth->paths[i] = mr_strdup(password_files[i]);
    }
    auth->file_count = count;
    enum mr_err err = files_read(auth->files, auth->paths, count, why);
    if (err != MR_OK) {
        paths_free(auth);
        mr_free(auth);
        return err;
    }
    mr_os_random(auth->mac_key, sizeof(auth->mac_key));
    mr_os_random(&auth->address_key, sizeof(auth->address_key));
    auth->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    mr_assert(auth->hmac != NULL);
    mr_mutex_init(&auth->mutex);
    err = workers_start(auth, why);
    if (err != MR_OK) {
        mr_auth_close(auth);
        return err;
    }
    *out = auth;
    return MR_OK;
}

enum mr_err mr_auth_reload(struct mr_auth *auth, struct mr_error *why)
{
    struct mr_passfile *files[MR_AUTH_FILES_MAX] = {NULL};
    enum mr_err err = files_read(files, auth->paths, auth->file_count, why);

    if (err != MR_OK) {
        return err;
    }
    mr_mutex_lock(&auth->mutex);
    for (uint32_t i = 0; i < auth->file_count; i++) {
        struct mr_passfile *before = auth->files[i];
        auth->files[i] = files[i];
        files[i] = before;
    }
    mr_secret_wipe(auth->known, sizeof(auth->known));
    mr_mutex_unlock(&auth->mutex);
    for (uint32_t i = 0; i < auth->file_count; i++) {
        mr_passfile_drop(files[i]);
    }
    return MR_OK;
}

size_t mr_auth_user_count(struct mr_auth *auth)
{
    size_t count = 0;

    mr_mutex_lock(&auth->mutex);
    for (uint32_t i = 0; i < auth->file_count; i++) {
        count += mr_passfile_count(auth->files[i]);
    }
    mr_mutex_unlock(&auth->mutex);
    return count;
}

static struct mr_passfile *file_hold(struct mr_auth *auth, uint32_t index)
{
    mr_assert(index < auth->file_count);
    mr_mutex_lock(&auth->mutex);
    struct mr_passfile *file = mr_passfile_hold(auth->files[index]);
    mr_mutex_unlock(&auth->mutex);
    return file;
}

bool mr_auth_knows(struct mr_auth *auth, uint32_t file, struct mr_span user)
{
    struct mr_passfile *held = file_hold(auth, file);
    struct mr_scram_keys keys;
    bool known = false;

    (void)mr_passfile_find(held, user, &known);
    known = known || mr_passfile_scram_find(held, user, &keys);
    mr_passfile_drop(held);
    return known;
}

void mr_auth_stop(struct mr_auth *auth)
{
    struct mr_auth_request *request;

    atomic_store(&auth->stop, true);
    for (uint32_t i = 0; i < auth->worker_count; i++) {
        mr_wake_ring(&auth->workers[i].wake);
    }
    for (uint32_t i = 0; i < auth->worker_count; i++) {
        mr_thread_join(auth->workers[i].thread);
        mr_wake_close(&auth->workers[i].wake);
    }
    auth->worker_count = 0;
    while ((request = list_pop(&auth->first, &auth->last)) != NULL) {
        request_answer(request, MR_AUTH_NO);
    }
    auth->waiting = 0;
}

void mr_auth_close(struct mr_auth *auth)
{
    if (auth == NULL) {
        return;
    }
    mr_auth_stop(auth);
    for (uint32_t i = 0; i < auth->file_count; i++) {
        mr_passfile_drop(auth->files[i]);
    }
    mr_mutex_fini(&auth->mutex);
    EVP_MAC_free(auth->hmac);
    mr_secret_wipe(auth->mac_key, sizeof(auth->mac_key));
    paths_free(auth);
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

enum mr_auth_answer mr_auth_look(struct mr_auth *auth, struct mr_auth_request *request)
{
    uint8_t mark[KNOWN_BYTES];
    bool known = false;

    struct mr_passfile *file = file_hold(auth, request->file);
    const struct mr_passhash *hash = mr_passfile_find(file, request->user, &known);
    bool marked = mark_make(auth, hash, request, mark);
    mr_passfile_drop(file);

    enum mr_auth_answer answer = MR_AUTH_LATER;
    mr_mutex_lock(&auth->mutex);
    if (known && marked && known_has(auth, mark)) {
        answer = MR_AUTH_YES;
    } else {
        answer = delay_take(auth, request);
    }
    mr_mutex_unlock(&auth->mutex);
    return answer;
}

/* A worker that sleeps, or NULL; it is awake from now on. */
static struct worker *idle_take(struct mr_auth *auth)
{
    for (uint32_t i = 0; i < auth->worker_count; i++) {
        if (auth->workers[i].idle) {
            auth->workers[i].idle = false;
            return &auth->workers[i];
        }
    }
    return NULL;
}

enum mr_err mr_auth_submit(struct mr_auth *auth, struct mr_auth_request *request)
{
    struct worker *worker = NULL;
    bool full = false;

    mr_mutex_lock(&auth->mutex);
    full = auth->waiting >= WAITING_MAX;
    if (!full) {
        list_push(&auth->first, &auth->last, request);
        auth->waiting += 1;
        worker = idle_take(auth);
    }
    mr_mutex_unlock(&auth->mutex);
    if (full) {
        mr_auth_drop(auth, request);
        return MR_ERR_FULL;
    }
    if (worker != NULL) {
        mr_wake_ring(&worker->wake);
    }
    return MR_OK;
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

bool mr_auth_offers_scram(struct mr_auth *auth, uint32_t file)
{
    struct mr_passfile *held = file_hold(auth, file);
    bool some = mr_passfile_scram_count(held) != 0;

    mr_passfile_drop(held);
    return some;
}

bool mr_auth_scram_find(struct mr_auth *auth, uint32_t file, struct mr_span user,
                        struct mr_scram_keys *out)
{
    struct mr_passfile *held = file_hold(auth, file);
    bool known = mr_passfile_scram_find(held, user, out);

    mr_passfile_drop(held);
    return known;
}

enum mr_auth_answer mr_auth_scram_look(struct mr_auth *auth, struct mr_auth_request *request)
{
    mr_mutex_lock(&auth->mutex);
    enum mr_auth_answer answer = delay_take(auth, request);
    mr_mutex_unlock(&auth->mutex);
    return answer == MR_AUTH_LATER && request->delay_ms == 0 ? MR_AUTH_YES : answer;
}
