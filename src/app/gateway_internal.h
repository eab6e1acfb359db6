/* gateway_internal.h - the running gateway, as the files of this folder share it.
 *
 *     wire.c     start, wait, stop
 *     status.c   what it tells: health, readiness, /api/v1/status
 *     control.c  what it can be told while it runs: /api/v1/...
 *     letters.c  dead letters, retried or dropped
 *
 * Thread: main owns it.  The admin thread reads; what it and the main thread both
 *         change lies under `mutex`, which neither holds while it waits for long.
 * Memory: one per process.   Time: none on the event path.
 */
#ifndef MR_APP_GATEWAY_INTERNAL_H
#define MR_APP_GATEWAY_INTERNAL_H

#include "admin/admin.h"
#include "app/settings.h"
#include "app/wire.h"
#include "base/metric.h"
#include "os/file.h"

enum { GATEWAY_PATH_BYTES = 4096 };

struct gateway {
    struct mr_settings settings;
    struct mr_file lock;
    struct mr_journal *journal;
    char journal_id[37];
    struct mr_broker *broker;
    struct mr_mutex mutex;      /* what follows, up to the next blank line */
    struct mr_bridge **bridges; /* one per bridge of the configuration and lane */
    uint32_t bridge_count;

    struct mr_admin *admin;
    struct mr_wake wake; /* signals, failures */
    int64_t started_ns;
    _Atomic bool ready;
    _Atomic bool stopping;
    struct {
        struct mr_metric *resident;
        struct mr_metric *cpu_us;
        struct mr_metric *descriptors;
        struct mr_metric *uptime;
    } metrics;
};

/* wire.c: the configuration as -c, --set and --data say; what is wrong has been
 * reported on stderr.  Close it in any case.
 */
enum mr_err mr_wire_settings(struct mr_cli *cli, struct mr_settings *out) MR_MUST_USE;

/* "DATA/name" */
void mr_gateway_path(const struct gateway *gateway, const char *name, char out[GATEWAY_PATH_BYTES]);

/* ---- status.c: pages of the admin server; `arg` is the gateway ---- */

void mr_status_make_metrics(struct gateway *gateway);
bool mr_status_health(void *arg, struct mr_text *page);
bool mr_status_ready(void *arg, struct mr_text *page);
void mr_status_refresh(void *arg);
void mr_status_page(struct gateway *gateway, struct mr_text *page);
void mr_status_bridges(struct gateway *gateway, struct mr_text *page);

/* SIGUSR1: the same for the log. */
void mr_status_log(struct gateway *gateway);

/* ---- letters.c: dead letters are appended again, addressed to their bridge ---- */

/* Retry (append, wait until durable, take out) or drop (take out) those letters of
 * `bridge` whose seq is in `ranges`.  *count: so many are done, also after an error.
 */
enum mr_err mr_letters_handle(struct gateway *gateway, struct mr_bridge *bridge,
                              const struct mr_seq_range *ranges, size_t range_count, bool retry,
                              uint64_t *count, struct mr_error *why) MR_MUST_USE;

/* ---- control.c ---- */

enum mr_admin_status mr_control_answer(void *arg, const struct mr_admin_request *request,
                                       struct mr_text *page);

/* Write where the admin server listens into the data folder, so that commands find it,
 * and take that away again.
 */
void mr_control_announce(struct gateway *gateway);
void mr_control_withdraw(struct gateway *gateway);

#endif
