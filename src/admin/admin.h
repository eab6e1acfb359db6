/* admin.h - what a person or Prometheus asks over HTTP.
 *
 *     GET /healthz   200 while the process does its work, else 503
 *     GET /readyz    200 when devices can be served, else 503; JSON of checks
 *     GET /metrics   Prometheus text format 0.0.4
 *
 * HTTP itself is libmicrohttpd's.  There is no authentication yet, so only
 * loopback addresses are accepted (checked by the configuration).
 *
 * Thread: start/stop by the main thread; requests are served by one thread of
 *         its own, which calls the functions given in the options.
 * Memory: one page per request, bounded by MR_ADMIN_PAGE_BYTES.
 * Time:   nothing while nobody asks.
 */
#ifndef MR_ADMIN_ADMIN_H
#define MR_ADMIN_ADMIN_H

#include "base/text.h"

struct mr_admin;

enum { MR_ADMIN_PAGE_BYTES = 1 << 20 };

struct mr_admin_options {
    const char *bind; /* "127.0.0.1:8080"; port 0: any free one */

    /* Append the page; the result says whether all is well.  Called in the
     * admin thread with `arg`.
     */
    bool (*health)(void *arg, struct mr_text *page);
    bool (*ready)(void *arg, struct mr_text *page);
    void (*refresh)(void *arg); /* before metrics are rendered */
    void *arg;
};

/* Afterwards requests are answered.  CONFIG with a sentence: the address is in
 * use or not to be had.
 */
enum mr_err mr_admin_start(struct mr_admin **out, const struct mr_admin_options *options,
                           struct mr_error *why) MR_MUST_USE;

/* "127.0.0.1:8080", valid until stop. */
const char *mr_admin_address(const struct mr_admin *admin);

/* Finish running requests, close the port, free. */
void mr_admin_stop(struct mr_admin *admin);

#endif
