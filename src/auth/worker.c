/* worker.c - the threads that check, and the chain that each request goes along.
 *
 * Requests wait in order of arrival.  A worker pins the realm's files as they are, works
 * without the lock, and puts the request to its port.  An address that has become suspicious
 * while its requests waited gets them back unanswered (LATER), so that a burst from one guesser
 * is not worked off before its first failure counts.
 *
 * A request that a service is asked about leaves the worker; if the service ignores it and
 * there is somebody behind it in the chain, it comes back into the queue.
 *
 * Rejected: remembering failures.  It would save work for the guesser, and a changed file
 * would have to be told apart from a remembered no.
 */
#include "auth/auth_internal.h"

#include "codec/json_read.h"
#include "os/clock.h"
#include "os/process.h"

/* ---- the queue ---- */

static struct mr_auth_request *queue_take(struct mr_auth *auth)
{
    struct mr_auth_request *request = auth->first;

    if (request != NULL) {
        auth->first = request->next;
        auth->last = auth->first == NULL ? NULL : auth->last;
        auth->waiting -= 1;
    }
    return request;
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

enum mr_err queue_put(struct mr_auth *auth, struct mr_auth_request *request)
{
    struct worker *worker = NULL;

    request->next = NULL;
    mr_mutex_lock(&auth->mutex);
    bool full = auth->waiting >= WAITING_MAX || atomic_load(&auth->stop);
    if (!full) {
        if (auth->last != NULL) {
            auth->last->next = request;
        } else {
            auth->first = request;
        }
        auth->last = request;
        auth->waiting += 1;
        worker = idle_take(auth);
    }
    mr_mutex_unlock(&auth->mutex);
    if (worker != NULL) {
        mr_wake_ring(&worker->wake);
    }
    return full ? MR_ERR_FULL : MR_OK;
}

/* ---- verdicts ---- */

/* The address has its verdict, and so has the asker.  `mark`, or NULL, is remembered. */
static void verdict(struct mr_auth *auth, struct mr_auth_request *request, bool good,
                    const uint8_t *mark, uint32_t seconds)
{
    int64_t now_ns = mr_clock_mono_ns();

    mr_mutex_lock(&auth->mutex);
    if (request->counted) {
        guess_close(&auth->guesses, request->address);
        request->counted = false;
    }
    if (good) {
        guess_succeeded(&auth->guesses, request->address, now_ns);
    } else {
        guess_failed(&auth->guesses, request->address, now_ns);
    }
    if (good && mark != NULL) {
        known_add(&auth->knowns, mark, seconds);
    }
    mr_mutex_unlock(&auth->mutex);
    request_answer(auth, request, good ? MR_AUTH_YES : MR_AUTH_NO);
}

/* No verdict: nobody could say. */
static void give_back(struct mr_auth *auth, struct mr_auth_request *request,
                      enum mr_auth_answer answer)
{
    mr_auth_drop(auth, request);
    request_answer(auth, request, answer);
}

/* Meanwhile, that is: whoever lost patience in a long queue and came back stands in it
 * twice.
 */
static bool was_verified(struct mr_auth *auth, const uint8_t mark[KNOWN_BYTES])
{
    mr_mutex_lock(&auth->mutex);
    bool known = known_has(&auth->knowns, mark);
    mr_mutex_unlock(&auth->mutex);
    return known;
}

/* ---- the chain ---- */

/* Each of these says: true, the request has been answered or is on its way; false: next. */

static bool ask_passwords(struct mr_auth *auth, struct mr_passfile *file,
                          struct mr_auth_request *request, bool last)
{
    uint8_t mark[KNOWN_BYTES];
    bool known = false;
    const struct mr_passhash *hash = mr_passfile_find(file, request->user, &known);

    if (!known && !last) {
        return false;
    }
    bool marked = mark_of_hash(auth, hash, request, mark);
    bool same = (known && marked && was_verified(auth, mark)) ||
                mr_passhash_verify(hash, request->password);
    verdict(auth, request, same && known && request->has_password, marked ? mark : NULL, KNOWN_S);
    return true;
}

static bool ask_token(struct mr_auth *auth, struct mr_jwt_keys *keys,
                      const struct mr_jwt_conf *conf, struct mr_auth_request *request)
{
    struct mr_span token = conf->from == MR_JWT_FROM_USERNAME ? request->user : request->password;
    uint8_t scratch[MR_JWT_BYTES_MAX];
    struct mr_jwt_grant claimed = {.expires_s = 0};
    struct mr_span claims;
    uint64_t key = 0;
    enum mr_jwt_verdict said = mr_jwt_verify(keys, token, scratch, &claims, &key, &request->fault);

    if (said == MR_JWT_OTHER) {
        request->fault = NULL;
        return false;
    }
    if (said == MR_JWT_GOOD) {
        request->fault =
            mr_jwt_judge(conf, claims, mr_clock_wall_us() / 1000000, request->client_id, &claimed);
    }
    if (said == MR_JWT_GOOD && request->fault == NULL) {
        request->grant = mr_auth_grant_make(claimed.username, claimed.acl);
        request->fault = request->grant == NULL ? "the user name in it is none" : NULL;
    }
    if (request->grant != NULL) {
        request->grant->names_user = true;
        request->grant->key = key;
        request->grant->superuser = claimed.superuser;
        request->grant->expires_s = conf->disconnect_after_expire ? claimed.expires_s : 0;
    }
    verdict(auth, request, request->grant != NULL, NULL, 0);
    return true;
}

static bool ask_service(struct mr_auth *auth, struct http *http, struct mr_auth_request *request)
{
    uint8_t mark[KNOWN_BYTES];

    if (mark_of_http(auth, request, mark) && was_verified(auth, mark)) {
        verdict(auth, request, true, NULL, 0);
    } else if (http_ask(http, request) != MR_OK) {
        give_back(auth, request, MR_AUTH_BUSY);
    }
    return true;
}

/* On from where it is. */
static void chain_go(struct mr_auth *auth, const struct realm_files *files,
                     struct mr_auth_request *request)
{
    const struct realm *realm = &auth->realms[request->realm];
    bool done = false;

    while (!done && request->step < realm->count) {
        uint8_t who = realm->order[request->step];
        request->step += 1;
        request->by = who;
        switch ((enum mr_authn)who) {
        case MR_AUTHN_PASSWORD_FILE:
            done = ask_passwords(auth, files->passfile, request, request->step == realm->count);
            break;
        case MR_AUTHN_JWT:
            done = ask_token(auth, files->keys, &realm->conf.jwt, request);
            break;
        case MR_AUTHN_HTTP:
            done = ask_service(auth, realm->http, request);
            break;
        case MR_AUTHN_COUNT:
            break;
        }
    }
    if (!done) {
        verdict(auth, request, false, NULL, 0);
    }
}

void worker_http_answered(void *arg, struct mr_auth_request *request, enum http_answer answer)
{
    struct mr_auth *auth = arg;
    const struct realm *realm = &auth->realms[request->realm];
    uint64_t ttl_s = realm->conf.http.cache_ttl_us / 1000000;
    uint8_t mark[KNOWN_BYTES];

    switch (answer) {
    case HTTP_ALLOW: {
        bool marked = request->grant == NULL && ttl_s != 0 && mark_of_http(auth, request, mark);
        verdict(auth, request, true, marked ? mark : NULL, (uint32_t)ttl_s);
        break;
    }
    case HTTP_DENY:
        verdict(auth, request, false, NULL, 0);
        break;
    case HTTP_IGNORE:
        if (request->step == realm->count) {
            verdict(auth, request, false, NULL, 0);
        } else if (queue_put(auth, request) != MR_OK) {
            give_back(auth, request, MR_AUTH_BUSY);
        }
        break;
    case HTTP_DOWN:
        give_back(auth, request, MR_AUTH_DOWN);
        break;
    }
}

/* ---- threads ---- */

/* The next one whose answer somebody waits for, and the files to look into. */
static struct mr_auth_request *worker_take(struct worker *worker, struct realm_files *files)
{
    struct mr_auth *auth = worker->auth;

    mr_mutex_lock(&auth->mutex);
    struct mr_auth_request *request = queue_take(auth);
    worker->idle = request == NULL;
    mr_mutex_unlock(&auth->mutex);
    if (request != NULL) {
        realm_pin(&auth->realms[request->realm]); /* beyond the answer, while it is looked at */
        *files = realm_files_hold(auth, request->realm);
    }
    return request;
}

/* Has its address begun to look like a guesser while this waited? */
static bool is_suspect(struct mr_auth *auth, const struct mr_auth_request *request)
{
    mr_mutex_lock(&auth->mutex);
    bool suspect = !request->counted && request->step == 0 &&
                   guess_delay_ms(&auth->guesses, request->address, mr_clock_mono_ns()) != 0;
    mr_mutex_unlock(&auth->mutex);
    return suspect;
}

static void worker_run(void *arg)
{
    struct worker *worker = arg;
    struct mr_auth *auth = worker->auth;

    while (!atomic_load(&auth->stop)) {
        struct realm_files files = {.passfile = NULL};
        struct mr_auth_request *request = worker_take(worker, &files);
        if (request == NULL) {
            (void)mr_wake_wait(&worker->wake, -1);
            continue;
        }
        struct realm *realm = &auth->realms[request->realm];
        if (atomic_load(&request->cancel)) {
            give_back(auth, request, MR_AUTH_NO);
        } else if (is_suspect(auth, request)) {
            request_answer(auth, request, MR_AUTH_LATER);
        } else {
            chain_go(auth, &files, request);
        }
        realm_files_drop(files);
        realm_let_go(realm);
    }
}

enum mr_err workers_start(struct mr_auth *auth, struct mr_error *why)
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

void workers_stop(struct mr_auth *auth)
{
    struct mr_auth_request *request;

    mr_mutex_lock(&auth->mutex);
    atomic_store(&auth->stop, true); /* nothing comes in behind it */
    mr_mutex_unlock(&auth->mutex);
    for (uint32_t i = 0; i < auth->worker_count; i++) {
        mr_wake_ring(&auth->workers[i].wake);
    }
    for (uint32_t i = 0; i < auth->worker_count; i++) {
        mr_thread_join(auth->workers[i].thread);
        mr_wake_close(&auth->workers[i].wake);
    }
    auth->worker_count = 0;
    while ((request = queue_take(auth)) != NULL) {
        request_answer(auth, request, MR_AUTH_NO);
    }
}
