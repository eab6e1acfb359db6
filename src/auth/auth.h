/* auth.h - may it come in?  Asked by event loops, answered by other threads.
 *
 *     CONNECT ─▶ mr_auth_look() ── YES: verified a short while ago, the usual reconnect
 *                    │ LATER
 *                    ▼
 *                mr_auth_submit(request) ─▶ worker: slow hash ─▶ port ─▶ wake
 *                                             │                  └▶ mr_auth_take()
 *                                             └▶ a service, by HTTP ─▶ port
 *
 * Checking a password is slow by design, so it never runs in a shard: the connection is
 * held, the loop goes on.
 *
 * REALMS: a listener asks the authenticators of its realm in order.  One that does not know
 * the client (no such user, no token, `ignore`) leaves it to the next; the first yes or no
 * holds; who is known to none is refused.  Listeners of one configuration share a realm.  Who
 * is guessing is common to all of them.
 *
 * REMEMBERED: a password that was right holds for an hour, so that a site that reconnects
 * does not pay for it again; a service's plain yes for `cache_ttl`.  What is kept is no
 * password but 128 bits of an HMAC-SHA256 over all that was asked, under a key that is made at
 * start and never leaves the process.  A changed file forgets all of it.
 *
 * GUESSING: an address that keeps failing waits, longer each time up to 4 s, and may have
 * 32 questions open; beyond it the answer is BUSY.  What is remembered is not slowed, so
 * devices behind the same address go on.  A user that does not exist costs as much as a
 * wrong password.
 *
 * Thread: open, plan to settle, close by one thread; look, submit, cancel, take by the thread of
 * the port; all may run at once. Memory: 2 MiB; requests lie in memory that the asker lends. Time:
 * look ~2 us; a check is what the file's hashes cost (passhash.h), in at most half of the cores.
 */
#ifndef MR_AUTH_AUTH_H
#define MR_AUTH_AUTH_H

#include "auth/jwt.h"
#include "auth/scram.h"
#include "os/thread.h"

struct mr_auth;

enum mr_auth_answer {
    MR_AUTH_LATER, /* a worker must look, or look() must be asked again */
    MR_AUTH_YES,
    MR_AUTH_NO,
    MR_AUTH_BUSY, /* too many are waiting */
    MR_AUTH_DOWN, /* the service that would know does not answer */
};

/* `auth.http`; rows in mr_auth_options; see http.h. */
struct mr_http_conf {
    const char *url; /* NULL: there is none */
    const char *authorization;
    const char *cacertfile;
    const char *certfile;
    const char *keyfile;
    uint64_t request_timeout_us;
    uint64_t max_requests; /* open at a time */
    uint64_t cache_ttl_us; /* 0: nothing is remembered */
};

enum mr_authn { MR_AUTHN_JWT, MR_AUTHN_PASSWORD_FILE, MR_AUTHN_HTTP, MR_AUTHN_COUNT };

/* What a listener's clients are asked, by whom. */
struct mr_auth_realm {
    const char *password_file; /* NULL: none */
    struct mr_jwt_conf jwt;
    struct mr_http_conf http;
    uint8_t order[MR_AUTHN_COUNT]; /* enum mr_authn; those that are not configured are not asked */
    uint32_t order_count;
};
bool mr_auth_realm_asks(const struct mr_auth_realm *realm); /* is any configured? */
bool mr_auth_realm_equal(const struct mr_auth_realm *a, const struct mr_auth_realm *b);

/* Can its files be used?  CONFIG: `why` says what is wrong, and *key under which key of `auth`;
 * `warn` (or NULL) gets what is worth knowing.
 */
enum mr_err mr_auth_realm_check(const struct mr_auth_realm *realm, const char **key,
                                void (*warn)(void *arg, const char *text), void *arg,
                                struct mr_error *why) MR_MUST_USE;

/* Where the answers for one thread gather.  Zeroed, then mr_auth_port_open(). */
struct mr_auth_port {
    struct mr_wake *wake;
    struct mr_mutex mutex;
    struct mr_auth_request *first;
    struct mr_auth_request *last;
    _Atomic bool some;
};

/* One question.  Lies in the asker's memory, with the bytes it points to, from look() until
 * take() or drop() has given it back.
 */
struct mr_auth_request {
    struct mr_auth_port *port;
    uint64_t conn_id; /* the asker's */
    struct mr_span client_id;
    struct mr_span user;
    struct mr_span password;
    const char *peer;     /* "10.0.0.7:51812" */
    const char *listener; /* its name */
    uint64_t address;     /* of the peer, from mr_auth_address() */
    uint32_t realm;       /* its number */
    uint32_t delay_ms;    /* out of look(): submit no earlier */
    bool has_user;
    bool has_password;
    bool counted;        /* among the open ones of its address */
    uint8_t step;        /* authenticators of the realm that have been asked */
    uint8_t by;          /* enum mr_authn: who said yes or no */
    _Atomic bool cancel; /* nobody waits for the answer */
    enum mr_auth_answer answer;
    const char *fault;           /* of NO: what is wrong, if there is more to say; static */
    struct mr_auth_grant *grant; /* of YES: what came with it, the asker's now; or NULL */
    int64_t asked_ns;            /* when a service's turn came */
    struct mr_auth_request *next;
};

/* At most MR_AUTH_REALMS_MAX, of which the first gets the number 0, and so on; those that are
 * equal get one.  CONFIG: a file cannot be read or used, or no thread can be started.
 */
enum { MR_AUTH_REALMS_MAX = 64 };
enum mr_err mr_auth_open(struct mr_auth **out, const struct mr_auth_realm *realms, uint32_t count,
                         struct mr_error *why) MR_MUST_USE;

/* Other realms than before, or the same with their files read again, in three steps, so that
 * it can go together with other changes.  A realm that stays as it was keeps its number.
 *
 *     plan     all files are read.  CONFIG: as in open, or so many logins are still under way
 *              in realms that have left that there is no room; nothing has changed.
 *     commit   they are in force; nothing is remembered.  Or abandon: all is as before.
 *     settle   nobody uses the numbers of realms any more that have left: what is asked there
 *              is given back, perhaps as DOWN.
 */
struct mr_auth_plan;
enum mr_err mr_auth_plan(struct mr_auth *auth, const struct mr_auth_realm *realms, uint32_t count,
                         struct mr_auth_plan **out, struct mr_error *why) MR_MUST_USE;
uint32_t mr_auth_plan_number(const struct mr_auth_plan *plan,
                             uint32_t index); /* of realms[index] */
void mr_auth_commit(struct mr_auth_plan *plan);
void mr_auth_abandon(struct mr_auth_plan *plan); /* NULL is allowed */
void mr_auth_settle(struct mr_auth *auth);
size_t mr_auth_user_count(struct mr_auth *auth); /* of all password files */

/* Does the realm's password file have that user (now)?  Any thread. */
bool mr_auth_knows(struct mr_auth *auth, uint32_t realm, struct mr_span user);

/* Is the key of a token (grant.h) still among the realm's? */
bool mr_auth_knows_key(struct mr_auth *auth, uint32_t realm, uint64_t key);

/* Can a client without a password come in: by a token in its user name, by a service? */
bool mr_auth_needs_no_password(const struct mr_auth *auth, uint32_t realm);
/* May a user name be a token, that is: a secret? */
bool mr_auth_name_is_secret(const struct mr_auth *auth, uint32_t realm);

/* End the workers.  What they had not done is answered with NO and waits at its port. */
void mr_auth_stop(struct mr_auth *auth);
void mr_auth_close(struct mr_auth *auth); /* NULL is allowed; stops first */

void mr_auth_port_open(struct mr_auth_port *port, struct mr_wake *wake);
void mr_auth_port_close(struct mr_auth_port *port); /* everything has been taken */

/* The address of "10.0.0.7:51812", without the port; of v6 the network of 64 bits. */
uint64_t mr_auth_address(const struct mr_auth *auth, const char *peer);

/* YES or BUSY: it is decided.  LATER: submit it after request->delay_ms. */
enum mr_auth_answer mr_auth_look(struct mr_auth *auth, struct mr_auth_request *request);

/* FULL: too many wait; the request is the caller's again. */
enum mr_err mr_auth_submit(struct mr_auth *auth, struct mr_auth_request *request) MR_MUST_USE;

/* A request that look() said LATER to will not be submitted. */
void mr_auth_drop(struct mr_auth *auth, struct mr_auth_request *request);

/* A user without a password, or another failure that no worker has seen. */
void mr_auth_note_failure(struct mr_auth *auth, uint64_t address);

/* ---- SCRAM (scram.h): the asker holds the exchange, here are the keys ---- */

/* Has the realm's password file any user for it? */
bool mr_auth_offers_scram(struct mr_auth *auth, uint32_t realm);

/* The keys of `user`; false: they are a decoy (passfile.h). */
bool mr_auth_scram_find(struct mr_auth *auth, uint32_t realm, struct mr_span user,
                        struct mr_scram_keys *out);

/* May its address begin an exchange?  YES: now; LATER: after request->delay_ms, then drop() the
 * request; BUSY: no.  Of the request, `address` alone is looked at.
 */
enum mr_auth_answer mr_auth_scram_look(struct mr_auth *auth, struct mr_auth_request *request);
void mr_auth_note_success(struct mr_auth *auth, uint64_t address);

/* The next answered request, NULL: none.  LATER: its address has become one that waits;
 * look() again.  Cancelled ones come too, so that their memory can go.
 */
struct mr_auth_request *mr_auth_take(struct mr_auth_port *port);
static inline bool mr_auth_has_some(struct mr_auth_port *port)
{
    return atomic_load_explicit(&port->some, memory_order_acquire);
}

/* Overwrite user and password; before the memory goes elsewhere. */
void mr_auth_forget(struct mr_auth_request *request);

#endif
