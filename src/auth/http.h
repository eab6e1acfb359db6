/* http.h - ask a service by HTTP whether a client may come in.
 *
 *     worker ─▶ http_ask(request) ─▶ thread auth-http: POST, JSON ─▶ on_answer(request)
 *
 * The forms are those of EMQX's HTTP authenticator.  The question:
 *
 *     {"clientid": …, "username": …, "password": …, "peerhost": …, "peername": …,
 *      "listener": …, "protocol": "mqtt"}
 *
 * The answer: 204, or 200 and {"result": "allow" | "deny" | "ignore", "is_superuser": …,
 * "expire_at": …, "acl": …}.  4xx is `ignore`, as with EMQX.  Anything else, and no answer
 * within the time, means that the service is down: nobody comes in by it.
 *
 * Thread: open, stop, close by one thread; ask by any; on_answer in the http's own.
 * Memory: at most max_requests times 128 KiB; requests are the asker's.
 * Time:   asking ~1 us.
 */
#ifndef MR_AUTH_HTTP_H
#define MR_AUTH_HTTP_H

#include "auth/auth.h"

struct http;

enum http_answer { HTTP_ALLOW, HTTP_DENY, HTTP_IGNORE, HTTP_DOWN };

/* request->grant is what the service said beside ALLOW, or NULL. */
typedef void http_on_answer(void *arg, struct mr_auth_request *request, enum http_answer answer);

/* `conf` outlives it.  CONFIG: a file or the address cannot be used, or there is no thread. */
enum mr_err http_open(struct http **out, const struct mr_http_conf *conf, http_on_answer *on_answer,
                      void *arg, struct mr_error *why) MR_MUST_USE;

/* FULL: too many wait; the request is the caller's again. */
enum mr_err http_ask(struct http *http, struct mr_auth_request *request) MR_MUST_USE;

void http_stop(struct http *http);  /* what is open is answered: DOWN */
void http_close(struct http *http); /* NULL is allowed; stops first */

/* CONFIG: as in open. */
enum mr_err http_conf_check(const struct mr_http_conf *conf, struct mr_error *why) MR_MUST_USE;

/* What a body of the status 200 says; the grant, or NULL, is the caller's.  DOWN: it is no
 * answer.  For tests and the fuzzer, too.
 */
enum http_answer http_body_read(struct mr_span body, struct mr_auth_grant **grant);

#endif
