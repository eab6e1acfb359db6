/* admin.h - what a person or Prometheus asks over HTTP.
 *
 *     GET  /healthz   200 while the process does its work, else 503
 *     GET  /readyz    200 when devices can be served, else 503; JSON of checks
 *     GET  /metrics   Prometheus text format 0.0.4
 *     GET  /api/...   JSON; what there is, is the owner's
 *     POST /api/...   changes something; needs the header X-Millrace
 *
 * HTTP itself is libmicrohttpd's.  There is no authentication yet, so only
 * loopback addresses are accepted (checked by the configuration), and a browser on
 * this machine must not become somebody else's hand:
 *
 *   - /api/ answers only to a Host that is this machine (a foreign name that was made
 *     to point here, "DNS rebinding", is refused);
 *   - a POST needs a header X-Millrace, which no page of another origin may send
 *     without asking first, and asking is not answered; and if it has an Origin, that
 *     must be the Host.
 *
 * X-Millrace is `1`, or the identity of the gateway that is meant: another one answers
 * 421 then, so that a command never reaches a stranger on a port that was free again.
 *
 *     a request ──▶ admin thread ──▶ its page, at once
 *                     └─ `waits` ──▶ clerk, or operator thread ──▶ its page, when it is there
 *
 * Whoever watches the gateway is answered at once, whatever an operator's command waits for:
 * requests that may have to wait stand in a queue, and a thread of its own answers them, one after
 * the other, in the order they came.  There are two such queues, so that what takes a moment
 * does not stand behind what may take as long as a disk is full.
 *
 * Thread: start/stop by the main thread; requests are served by the three threads above, which
 *         call the functions given in the options.
 * Memory: one page per request, bounded by MR_ADMIN_PAGE_BYTES; each queue by MR_ADMIN_QUEUE_MAX.
 * Time:   nothing while nobody asks.
 */
#ifndef MR_ADMIN_ADMIN_H
#define MR_ADMIN_ADMIN_H

#include "base/text.h"

struct mr_admin;
struct mr_admin_request;

enum { MR_ADMIN_PAGE_BYTES = 1 << 20 };

/* So many requests may wait in a queue; further ones are refused, so that connections are left for
 * others.
 */
enum { MR_ADMIN_QUEUE_MAX = 16 };

/* What an api function answers; the page is JSON in any case. */
enum mr_admin_status {
    MR_ADMIN_OK = 200,
    MR_ADMIN_BAD_REQUEST = 400,
    MR_ADMIN_NOT_FOUND = 404,
    MR_ADMIN_WRONG_METHOD = 405,
    MR_ADMIN_CONFLICT = 409,
    MR_ADMIN_FAILED = 500,
    MR_ADMIN_UNAVAILABLE = 503,
};

/* What a request may have to wait for. */
enum mr_admin_wait {
    MR_ADMIN_NOTHING, /* the admin thread answers */
    MR_ADMIN_MOMENT,  /* another thread, or a disk that works: the clerk */
    MR_ADMIN_ROOM,    /* perhaps room on the disk: the operator thread */
};

struct mr_admin_options {
    const char *bind;     /* "127.0.0.1:8080"; port 0: any free one */
    const char *identity; /* for X-Millrace; outlives the server */

    /* Append the page; the result says whether all is well.  Called in the
     * admin thread with `arg`; none of the three waits for anything.
     */
    bool (*health)(void *arg, struct mr_text *page);
    bool (*ready)(void *arg, struct mr_text *page);
    void (*refresh)(void *arg); /* before metrics are rendered */

    /* What is below /api/; in the thread that is for what `waits` says. */
    enum mr_admin_wait (*waits)(void *arg, const struct mr_admin_request *request);
    enum mr_admin_status (*api)(void *arg, const struct mr_admin_request *request,
                                struct mr_text *page);
    void *arg;
};

/* Afterwards requests are answered.  CONFIG with a sentence: the address is in
 * use or not to be had, or there are too few threads or descriptors.
 */
enum mr_err mr_admin_start(struct mr_admin **out, const struct mr_admin_options *options,
                           struct mr_error *why) MR_MUST_USE;

/* "127.0.0.1:8080", valid until stop. */
const char *mr_admin_address(const struct mr_admin *admin);

/* Close the port, free.  The requests that clerk and operator thread are at are finished, so let
 * them know before that nothing is to be waited for any more; those behind are answered 503.
 */
void mr_admin_stop(struct mr_admin *admin);

/* ---- for api functions: about the request they were given ---- */

/* The path behind "/api/", decoded. */
const char *mr_admin_path(const struct mr_admin_request *request);
bool mr_admin_is_post(const struct mr_admin_request *request); /* else it is a GET */

/* Value of `name` in the query, decoded; NULL if it is not there. */
const char *mr_admin_argument(const struct mr_admin_request *request, const char *name);

#endif
