/* gateway_internal.h - the running gateway, as the files of this folder share it.
 *
 *     wire.c     start, wait, stop
 *     status.c   what it tells: health, readiness, /api/v1/status
 *     control.c  what it can be told while it runs: /api/v1/...
 *     reload.c   a changed configuration
 *     turns.c    whose turn it is to work on the bridges
 *     letters.c  dead letters, retried or dropped
 *
 * Thread: main owns it.  The admin thread reads, and waits for nothing.  The clerk (admin.h) does
 *         what takes a moment.  The operator thread works on bridges as operators say, and may
 *         wait for as long as a disk is full.
 * Locks:  1. the turn (turns.c): bridges stay where they are for as long as it is held.  Taken by
 *            the operator thread for a command, by main for a reload; each may wait with it.  The
 *            clerk's look, beside a command, keeps bridges where they are, too.
 *         2. `mutex`: what lies under it, for a moment.  Nothing is waited for under it, and of
 *            other locks only those are taken that are held for a moment too (bridge.h: stats).
 *         The list of bridges is changed by main under both, so others read it under either.
 * Memory: one per process.   Time: none on the event path.
 */
#ifndef MR_APP_GATEWAY_INTERNAL_H
#define MR_APP_GATEWAY_INTERNAL_H

#include "admin/admin.h"
#include "app/settings.h"
#include "app/wire.h"
#include "base/metric.h"
#include "net/net.h"
#include "os/file.h"

enum { GATEWAY_PATH_BYTES = 4096 };

/* A configuration, alive as long as it is the newest, or some bridge was made from it or some
 * listener has its rules from it.
 */
struct gateway_conf {
    struct mr_settings settings;
    struct gateway_conf *older; /* a reload came while the gateway ended; it goes with this one */
    uint32_t uses;
};

/* What a listener lets its clients do, as it is in force. */
struct gateway_listener {
    const struct mr_listener_conf *conf; /* NULL: as at the start */
    struct gateway_conf *from;           /* NULL: `settings` */
};

struct gateway {
    struct mr_settings settings; /* of the start: what a reload cannot change */
    struct gateway_conf *newest; /* NULL: there was no reload */
    struct gateway_listener listeners[MR_NET_LISTENERS_MAX]; /* in the order of `settings` */
    struct mr_cli *cli; /* of `run`: where the configuration is to be found */
    struct mr_file lock;
    struct mr_journal *journal;
    char journal_id[37];
    struct mr_broker *broker;
    struct mr_mutex mutex;      /* what follows, up to the next blank line */
    struct mr_bridge **bridges; /* one per bridge of the configuration and lane, a bridge's
                                   lanes side by side */
    struct mr_bridge_group **bridge_groups; /* the one of each, the same for all its lanes */
    struct gateway_conf **bridge_confs;     /* that each was made from; NULL: `settings` */
    uint32_t bridge_count;
    struct {
        enum { TURN_OF_NOBODY, TURN_OF_COMMAND, TURN_OF_RELOAD } of;
        bool looks;             /* the clerk does */
        bool reload_waits;      /* it is the next */
        struct mr_wake command; /* rung when a turn is over; the operator thread waits */
        struct mr_wake look;    /* the same; the clerk */
    } turns;

    struct mr_admin *admin;
    struct mr_wake wake; /* signals, failures */
    int64_t started_ns;
    _Atomic bool ready;
    _Atomic bool stopping; /* from here on nobody waits for a disk or a target any more */
    struct {
        struct mr_metric *resident;
        struct mr_metric *cpu_us;
        struct mr_metric *descriptors;
        struct mr_metric *uptime;
        struct mr_metric *reload_ok;
        struct mr_metric *reload_time;
    } metrics;
    struct mr_broker_bridge *ack_bridges; /* what the broker knows of the bridges */
    char sessions_path[GATEWAY_PATH_BYTES];
};

/* wire.c: the configuration as -c, --set and --data say; what is wrong has been
 * reported on stderr.  `warn` (may be NULL) hears what is odd.  Close it in any case.
 */
enum mr_err mr_wire_settings(struct mr_cli *cli, struct mr_settings *out,
                             void (*warn)(void *arg, const char *text)) MR_MUST_USE;

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

/* wire.c: make and start a bridge in all lanes that need it.  `bridges` and `groups` have
 * room for as many as there are lanes; *count rises by those made.  After an error none is.
 */
enum mr_err mr_gateway_bridge_start(struct gateway *gateway, const struct mr_settings *settings,
                                    const struct mr_bridge_settings *bridge,
                                    struct mr_bridge **bridges, struct mr_bridge_group **groups,
                                    uint32_t *count, struct mr_error *why) MR_MUST_USE;

/* Stop whole bridges, their lanes side by side, and free them. */
void mr_gateway_bridges_stop(struct mr_bridge **bridges, struct mr_bridge_group **groups,
                             uint32_t count, int64_t patience_ns);

/* ---- turns.c ---- */

enum mr_err mr_turns_open(struct gateway *gateway, struct mr_error *why) MR_MUST_USE;
void mr_turns_close(struct gateway *gateway);

/* Wait for the turn; the operator thread.  False: the gateway ends. */
bool mr_turn_command(struct gateway *gateway) MR_MUST_USE;

/* The main thread.  False: a command has it, or the clerk looks; when that is over, `wake` rings,
 * and the turn is for nobody else.
 */
bool mr_turn_reload(struct gateway *gateway) MR_MUST_USE;

void mr_turn_over(struct gateway *gateway);

/* Wait until no reload is made, or is the next; the clerk.  Bridges stay where they are until
 * mr_turn_looked().  False: the gateway ends.
 */
bool mr_turn_look(struct gateway *gateway) MR_MUST_USE;
void mr_turn_looked(struct gateway *gateway);

/* `stopping` is set, and whoever waits for the turn or a look is told. */
void mr_turns_end(struct gateway *gateway);

/* ---- reload.c: SIGHUP.  Main thread ---- */

/* Or, while a command has the turn, remember it; mr_reload_again() makes it then. */
void mr_reload(struct gateway *gateway);
void mr_reload_again(struct gateway *gateway);
void mr_reload_free(struct gateway *gateway); /* configurations, when nothing runs any more */

/* ---- letters.c: dead letters are appended again, addressed to their bridge ---- */

/* Retry (append, wait until durable, take out) or drop (take out) those letters of
 * `bridge` whose seq is in `ranges` and that are still there.  *count: so many are done, also
 * after an error; `why` says then what was done, what was not, and the cause, as does the log.
 * Waits for the disk until the gateway ends.  The turn is the caller's.
 */
enum mr_err mr_letters_handle(struct gateway *gateway, struct mr_bridge *bridge,
                              const struct mr_seq_range *ranges, size_t range_count, bool retry,
                              uint64_t *count, struct mr_error *why) MR_MUST_USE;

bool mr_letters_among(const struct mr_seq_range *ranges, size_t count, uint64_t seq);

/* ---- letters_resume.c: letters whose copies a crash left behind are taken out ---- */

enum mr_err mr_letters_resume(struct gateway *gateway, struct mr_bridge *bridge,
                              struct mr_error *why) MR_MUST_USE;

/* ---- control.c ---- */

enum mr_admin_wait mr_control_waits(void *arg, const struct mr_admin_request *request);
enum mr_admin_status mr_control_answer(void *arg, const struct mr_admin_request *request,
                                       struct mr_text *page);

/* Write where the admin server listens into the data folder, so that commands find it,
 * and take that away again.
 */
void mr_control_announce(struct gateway *gateway);
void mr_control_withdraw(struct gateway *gateway);

#endif
