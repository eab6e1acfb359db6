/* auth_internal.h - the inside of the service that says who may come in; see auth.h.
 *
 *     auth.c    opened, asked, closed      worker.c  the queue, and the chain of each request
 *     realm.c   who is asked, and how that changes
 *     known.c   what was verified          guess.c   who guesses
 *     passfile*, passhash, scram           jwt*, jwk http*
 *
 * Thread: what stands behind `mutex` is touched with it held, by anyone.
 * Memory: see auth.h.   Time: see auth.h.
 */
#ifndef MR_AUTH_AUTH_INTERNAL_H
#define MR_AUTH_AUTH_INTERNAL_H

#include "auth/auth.h"
#include "auth/grant.h"
#include "auth/guess.h"
#include "auth/http.h"
#include "auth/known.h"
#include "auth/passfile.h"
#include "base/hash.h"

#include <openssl/evp.h>

enum {
    WORKERS_MAX = 4,
    WAITING_MAX = 65536, /* a whole large site after a cold start */
    KNOWN_S = 3600,
    MAC_KEY_BYTES = 32,
};

struct worker {
    struct mr_auth *auth;
    struct mr_thread *thread;
    struct mr_wake wake;
    bool idle;
};

/* What was read of a realm's files; constant, counted by whoever looks into it. */
struct realm_files {
    struct mr_passfile *passfile; /* NULL: none */
    struct mr_jwt_keys *keys;     /* NULL: none */
};

enum {
    REALMS_ROOM = 2 * MR_AUTH_REALMS_MAX, /* those in force, and those that are on their way out */
};

enum realm_state {
    REALM_FREE,
    REALM_PLANNED,
    REALM_IN_FORCE,
    REALM_LEFT, /* not asked any more; goes with the last request that is in it */
};

/* One way to come in: the authenticators that a listener asks, in order. */
struct realm {
    struct mr_auth_realm conf; /* with texts of its own, */
    char *text;                /* in here */
    size_t text_len;
    uint64_t number; /* no other has it, nor had */
    uint8_t order[MR_AUTHN_COUNT];
    uint32_t count;
    struct http *http;        /* NULL: none */
    struct realm_files files; /* under the mutex */
    uint8_t state;            /* enum realm_state; changed under the mutex, by one thread */
    _Atomic uint32_t pins;    /* requests on their way, and workers that look at it */
};

struct mr_auth {
    struct realm realms[REALMS_ROOM];
    uint64_t numbers; /* that were given to realms */
    EVP_MAC *hmac;
    uint8_t mac_key[MAC_KEY_BYTES];
    struct mr_hash_key address_key;
    struct worker workers[WORKERS_MAX];
    uint32_t worker_count;
    _Atomic bool stop;

    struct mr_mutex mutex; /* over all that follows, and the realms' files */
    struct mr_auth_request *first;
    struct mr_auth_request *last;
    uint32_t waiting;
    struct knowns knowns;
    struct guesses guesses;
};

/* ---- realm.c ---- */

/* Keep it from being freed; it is known already that it is not. */
static inline void realm_pin(struct realm *realm)
{
    atomic_fetch_add(&realm->pins, 1);
}
static inline void realm_let_go(struct realm *realm)
{
    atomic_fetch_sub(&realm->pins, 1);
}
/* Its files as they are now; realm_files_drop() when done. */
struct realm_files realm_files_hold(struct mr_auth *auth, uint32_t realm);
void realm_files_drop(struct realm_files files);
void realm_close(struct mr_auth *auth, struct realm *realm); /* free; nobody asks it any more */

/* ---- auth.c ---- */

/* The mark of "this password, for this user, whose stored hash is that one", and of "the
 * service said yes to this".  False: OpenSSL has no memory.
 */
bool mark_of_hash(const struct mr_auth *auth, const struct mr_passhash *hash,
                  const struct mr_auth_request *request, uint8_t mark[KNOWN_BYTES]);
bool mark_of_http(const struct mr_auth *auth, const struct mr_auth_request *request,
                  uint8_t mark[KNOWN_BYTES]);

/* ---- worker.c ---- */

enum mr_err workers_start(struct mr_auth *auth, struct mr_error *why) MR_MUST_USE;
void workers_stop(struct mr_auth *auth);

/* FULL: too many wait; the request is the caller's again. */
enum mr_err queue_put(struct mr_auth *auth, struct mr_auth_request *request) MR_MUST_USE;

/* Hand it back to whoever asked.  From here on it is theirs. */
void request_answer(struct mr_auth *auth, struct mr_auth_request *request,
                    enum mr_auth_answer answer);

/* A service has answered: http_on_answer. */
void worker_http_answered(void *arg, struct mr_auth_request *request, enum http_answer answer);

#endif
