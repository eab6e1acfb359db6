/* control.c - what a running gateway can be asked and told: /api/v1/...
 *
 * DESIGN
 *
 * One row per page.  A page that changes something answers to POST only; admin.h says
 * what else such a request must bring.  All of them answer JSON; what was refused is
 * {"error": "a sentence"}.
 *
 * Pages that look at counters are answered at once.  Those that ask another thread or the disk are
 * for the clerk.  Those that work on a bridge may have to wait until the disk has room and are for
 * the operator thread, with the turn (turns.c), so that no reload takes the bridge away; the clerk
 * has a look for that.
 *
 * Commands find the server by a small file in the data folder: its address and the
 * journal's id, which they send along, so that they never talk to a stranger that
 * listens there now.
 */
#include "app/gateway_internal.h"
#include "app/ledger.h"

#include "base/log.h"
#include "codec/json.h"
#include "journal/cursor.h"

#include <inttypes.h>

enum page_needs {
    NEEDS_NOTHING,
    NEEDS_MOMENT,
    NEEDS_LOOK, /* a moment, in which no reload takes bridges away */
    NEEDS_TURN,
};

struct page_row {
    const char *path; /* behind /api/v1/ */
    bool changes;     /* POST */
    enum page_needs needs;
    enum mr_admin_status (*answer)(struct gateway *gateway, const struct mr_admin_request *request,
                                   struct mr_text *page);
};

static const char announced_name[] = "admin.address";

/* ---- arguments ---- */

/* False: it is not there, or no number. */
static bool argument_u64(const struct mr_admin_request *request, const char *name, uint64_t *out)
{
    const char *text = mr_admin_argument(request, name);

    return text != NULL && mr_parse_u64(mr_span_of(text), UINT64_MAX, out) == MR_OK;
}

/* It stays as it was if it is not there; false: it is neither true nor false. */
static bool argument_bool(const struct mr_admin_request *request, const char *name, bool *out)
{
    const char *text = mr_admin_argument(request, name);

    if (text == NULL) {
        return true;
    }
    *out = strcmp(text, "true") == 0;
    return *out || strcmp(text, "false") == 0;
}

/* ---- pages ---- */

static enum mr_admin_status answer_error(struct mr_text *page, enum mr_admin_status status,
                                         const char *text)
{
    mr_text_add(page, "{\"error\":");
    mr_json_add_string(page, mr_span_of(text));
    mr_text_add(page, "}\n");
    return status;
}

static enum mr_admin_status answer_status(struct gateway *gateway,
                                          const struct mr_admin_request *request,
                                          struct mr_text *page)
{
    (void)request;
    mr_status_page(gateway, page);
    return MR_ADMIN_OK;
}

static enum mr_admin_status answer_bridges(struct gateway *gateway,
                                           const struct mr_admin_request *request,
                                           struct mr_text *page)
{
    (void)request;
    mr_text_add(page, "{");
    mr_status_bridges(gateway, page);
    mr_text_add(page, "}\n");
    return MR_ADMIN_OK;
}

static enum mr_admin_status answer_ledger(struct gateway *gateway,
                                          const struct mr_admin_request *request,
                                          struct mr_text *page)
{
    (void)request;
    mr_ledger_page(gateway, page);
    return MR_ADMIN_OK;
}

/* An acceptance could not be noted. */
static enum mr_admin_status answer_unwritten(struct gateway *gateway, struct mr_text *page)
{
    const char *full = mr_ledger_full(gateway->journal);

    return full != NULL
               ? answer_error(page, MR_ADMIN_CONFLICT, full)
               : answer_error(page, MR_ADMIN_FAILED, "it cannot be written; check the disk");
}

/* The cursor's books are off, and the operator knows why. */
static enum mr_admin_status ledger_accept(struct gateway *gateway, const char *name, uint32_t lane,
                                          const char *reason, struct mr_text *page)
{
    struct mr_cursor *cursor = mr_ledger_cursor(gateway, name, lane);
    int64_t difference = 0;

    if (cursor == NULL) {
        return answer_error(page, MR_ADMIN_NOT_FOUND, "no bridge of that name has such a lane");
    }
    enum mr_err err = mr_cursor_accept(cursor, reason, &difference);
    if (err == MR_ERR_REJECT) {
        return answer_error(page, MR_ADMIN_CONFLICT,
                            "its books balance; there is nothing to accept");
    }
    if (err != MR_OK) {
        return answer_unwritten(gateway, page);
    }
    mr_log(MR_LOG_WARN, "bridge",
           "%s: the books of lane %" PRIu32 " are off by %" PRId64
           ", and accepted by the operator: "
           "%s",
           name, lane, difference, reason);
    mr_text_fmt(page, "{\"lane\":%" PRIu32 ",\"accepted\":%" PRId64 "}\n", lane, difference);
    return MR_ADMIN_OK;
}

/* What its target has twice up to here was delivered at least once. */
static enum mr_admin_status ledger_accept_repeated(struct gateway *gateway, const char *name,
                                                   uint32_t lane, const char *reason,
                                                   struct mr_text *page)
{
    struct mr_cursor *cursor = mr_ledger_cursor(gateway, name, lane);
    uint64_t seq = 0;

    if (cursor == NULL) {
        return answer_error(page, MR_ADMIN_NOT_FOUND, "no bridge of that name has such a lane");
    }
    if (mr_cursor_accept_repeated(cursor, reason, &seq) != MR_OK) {
        return answer_unwritten(gateway, page);
    }
    mr_log(MR_LOG_INFO, "bridge",
           "%s: repetitions of lane %" PRIu32 " up to record %" PRIu64
           " are accepted by the operator: %s",
           name, lane, seq, reason);
    mr_text_fmt(page, "{\"lane\":%" PRIu32 ",\"accepted\":0,\"to\":%" PRIu64 "}\n", lane, seq);
    return MR_ADMIN_OK;
}

/* ?name=&lane=&reason=, and for what the target has: &repetitions=true */
static enum mr_admin_status answer_accept(struct gateway *gateway,
                                          const struct mr_admin_request *request,
                                          struct mr_text *page)
{
    const char *name = mr_admin_argument(request, "name");
    const char *reason = mr_admin_argument(request, "reason");
    const char *lane_text = mr_admin_argument(request, "lane");
    uint64_t lane = 0;
    bool repetitions = false;

    if (name == NULL || reason == NULL || reason[0] == '\0' || lane_text == NULL ||
        mr_parse_u64(mr_span_of(lane_text), UINT32_MAX, &lane) != MR_OK) {
        return answer_error(page, MR_ADMIN_BAD_REQUEST,
                            "which books, and why? give ?name=, &lane= and &reason=");
    }
    if (!argument_bool(request, "repetitions", &repetitions)) {
        return answer_error(page, MR_ADMIN_BAD_REQUEST, "repetitions is true or false");
    }
    return repetitions ? ledger_accept_repeated(gateway, name, (uint32_t)lane, reason, page)
                       : ledger_accept(gateway, name, (uint32_t)lane, reason, page);
}

/* ---- bridges ---- */

/* Ring the workers of bridge `name`; false: there is none. */
static bool nudge(struct gateway *gateway, const char *name)
{
    struct mr_bridge_stats stats;
    bool found = false;

    mr_mutex_lock(&gateway->mutex);
    for (uint32_t i = 0; i < gateway->bridge_count; i++) {
        mr_bridge_stats(gateway->bridges[i], &stats);
        if (strcmp(stats.name, name) == 0) {
            mr_bridge_nudge(gateway->bridges[i]);
            found = true;
        }
    }
    mr_mutex_unlock(&gateway->mutex);
    return found;
}

static enum mr_admin_status answer_no_bridge(struct mr_text *page, const char *name)
{
    char text[256];
    struct mr_text sentence = mr_text_over(text, sizeof(text));

    if (name == NULL) {
        return answer_error(page, MR_ADMIN_BAD_REQUEST, "which bridge? give it with ?name=");
    }
    mr_text_fmt(&sentence, "there is no bridge '%.128s'; `millrace bridge ls` lists them", name);
    return answer_error(page, MR_ADMIN_NOT_FOUND, text);
}

static enum mr_admin_status bridge_pause(struct gateway *gateway,
                                         const struct mr_admin_request *request,
                                         struct mr_text *page, bool paused)
{
    const char *name = mr_admin_argument(request, "name");

    bool found = name != NULL && nudge(gateway, name);
    enum mr_err err = found ? mr_cursor_pause(gateway->journal, name, paused) : MR_OK;
    if (found) {
        (void)nudge(gateway, name);
    }
    if (!found) {
        return answer_no_bridge(page, name);
    }
    if (err != MR_OK) {
        return answer_error(page, MR_ADMIN_FAILED,
                            "the cursors cannot be written; see the gateway's log");
    }
    mr_text_fmt(page, "{\"paused\":%s}\n", paused ? "true" : "false");
    return MR_ADMIN_OK;
}

static enum mr_admin_status answer_pause(struct gateway *gateway,
                                         const struct mr_admin_request *request,
                                         struct mr_text *page)
{
    return bridge_pause(gateway, request, page, true);
}

static enum mr_admin_status answer_resume(struct gateway *gateway,
                                          const struct mr_admin_request *request,
                                          struct mr_text *page)
{
    return bridge_pause(gateway, request, page, false);
}

/* The worker of bridge `name` in `lane`, or NULL. */
static struct mr_bridge *bridge_find(struct gateway *gateway, const char *name, uint64_t lane)
{
    struct mr_bridge_stats stats;

    for (uint32_t i = 0; name != NULL && i < gateway->bridge_count; i++) {
        mr_bridge_stats(gateway->bridges[i], &stats);
        if (stats.lane == lane && strcmp(stats.name, name) == 0) {
            return gateway->bridges[i];
        }
    }
    return NULL;
}

/* ?name=&lane=&seq=: go on behind record `seq`. */
static enum mr_admin_status answer_seek(struct gateway *gateway,
                                        const struct mr_admin_request *request,
                                        struct mr_text *page)
{
    const char *name = mr_admin_argument(request, "name");
    struct mr_error why = {.text = ""};
    uint64_t lane = 0;
    uint64_t seq = 0;

    if (!argument_u64(request, "lane", &lane) || !argument_u64(request, "seq", &seq)) {
        return answer_error(page, MR_ADMIN_BAD_REQUEST, "lane and seq are numbers");
    }
    struct mr_bridge *bridge = bridge_find(gateway, name, lane);
    enum mr_err err = bridge == NULL ? MR_OK : mr_bridge_seek(bridge, seq, &seq, &why);
    if (bridge == NULL) {
        return answer_no_bridge(page, name);
    }
    if (err != MR_OK) {
        return answer_error(page,
                            err == MR_ERR_REJECT                        ? MR_ADMIN_CONFLICT
                            : err == MR_ERR_AGAIN || err == MR_ERR_FULL ? MR_ADMIN_UNAVAILABLE
                                                                        : MR_ADMIN_FAILED,
                            why.text);
    }
    mr_text_fmt(page, "{\"lane\":%" PRIu64 ",\"seq\":%" PRIu64 "}\n", lane, seq);
    return MR_ADMIN_OK;
}

/* ---- clients ---- */

enum { CLIENTS_PER_CALL = 64, CLIENTS_PAGE_BYTES = 256 << 10, CLIENT_ID_SHOWN = 4096 };

struct clients_page {
    struct mr_text *page;
    const char *filter; /* NULL: all */
    uint64_t count;
};

static void put_client(void *arg, const struct mr_client_info *info)
{
    static const char *const versions[] = {[3] = "3.1", [4] = "3.1.1", [5] = "5.0"};
    struct clients_page *clients = arg;
    struct mr_text *page = clients->page;
    struct mr_span id = info->client;

    if (clients->filter != NULL && !mr_text_glob(clients->filter, id)) {
        return;
    }
    id.len = id.len < CLIENT_ID_SHOWN ? id.len : CLIENT_ID_SHOWN;
    mr_text_add(page, clients->count == 0 ? "{\"client\":" : ",{\"client\":");
    mr_json_add_string(page, id);
    mr_text_add(page, ",\"username\":");
    mr_json_add_string(page, mr_span_make(info->username.at, info->username.len < CLIENT_ID_SHOWN
                                                                 ? info->username.len
                                                                 : CLIENT_ID_SHOWN));
    mr_text_fmt(page, ",\"peer\":\"%s\",\"listener\":", info->peer);
    mr_json_add_string(page, mr_span_of(info->listener == NULL ? "" : info->listener));
    mr_text_fmt(page, ",\"version\":\"%s\",\"connected\":\"",
                info->version < MR_COUNT_OF(versions) && versions[info->version] != NULL
                    ? versions[info->version]
                    : "?");
    mr_text_time_us(page, info->connected_us);
    mr_text_fmt(page,
                "\",\"received\":%" PRIu32 ",\"sent\":%" PRIu32 ",\"inflight\":%" PRIu32
                ",\"queued\":%" PRIu32 ",\"acks_withheld\":%" PRIu32 ",\"paused\":%s}",
                info->received, info->sent, info->inflight, info->queued, info->acks_held,
                info->paused ? "true" : "false");
    clients->count += 1;
}

/* ?filter=&after=: a page of them; "next" is the `after` of the next one, or null. */
static enum mr_admin_status answer_clients(struct gateway *gateway,
                                           const struct mr_admin_request *request,
                                           struct mr_text *page)
{
    struct clients_page clients = {.page = page, .filter = mr_admin_argument(request, "filter")};
    enum mr_err err = MR_OK;
    uint64_t at = 0;

    (void)argument_u64(request, "after", &at); /* absent: from the first */
    mr_text_add(page, "{\"clients\":[");
    while (err == MR_OK && at != MR_CLIENTS_END && page->len < CLIENTS_PAGE_BYTES) {
        err = mr_broker_clients(gateway->broker, &at, CLIENTS_PER_CALL, put_client, &clients);
    }
    if (err != MR_OK) {
        page->len = 0;
        return answer_error(page, MR_ADMIN_UNAVAILABLE, "the gateway is ending");
    }
    if (at == MR_CLIENTS_END) {
        mr_text_add(page, "],\"next\":null}\n");
    } else {
        mr_text_fmt(page, "],\"next\":%" PRIu64 "}\n", at);
    }
    return MR_ADMIN_OK;
}

/* ?client= */
static enum mr_admin_status answer_kick(struct gateway *gateway,
                                        const struct mr_admin_request *request,
                                        struct mr_text *page)
{
    const char *client = mr_admin_argument(request, "client");
    bool found = false;

    if (client == NULL) {
        return answer_error(page, MR_ADMIN_BAD_REQUEST, "which client? give it with ?client=");
    }
    if (mr_broker_kick(gateway->broker, mr_span_of(client), &found) != MR_OK) {
        return answer_error(page, MR_ADMIN_UNAVAILABLE, "the gateway is ending");
    }
    if (!found) {
        return answer_error(page, MR_ADMIN_NOT_FOUND, "no client of that id is connected");
    }
    mr_text_add(page, "{\"kicked\":true}\n");
    return MR_ADMIN_OK;
}

/* ---- bans ---- */

struct bans_page {
    struct mr_text *page;
    uint64_t count;
};

static void put_ban(void *arg, const struct mr_ban_info *info)
{
    struct bans_page *bans = arg;

    mr_text_fmt(bans->page, "%s{\"kind\":\"%s\",\"who\":", bans->count == 0 ? "" : ",",
                info->is_client ? "client" : "address");
    mr_json_add_string(bans->page, info->who);
    mr_text_fmt(bans->page, ",\"seconds\":%" PRIi64 ",\"times\":%" PRIu32 "}",
                info->left_ns / 1000000000 + 1, info->times);
    bans->count += 1;
}

static enum mr_admin_status answer_bans(struct gateway *gateway,
                                        const struct mr_admin_request *request,
                                        struct mr_text *page)
{
    struct bans_page bans = {.page = page};

    (void)request;
    mr_text_add(page, "{\"bans\":[");
    mr_broker_bans(gateway->broker, put_ban, &bans);
    mr_text_add(page, "]}\n");
    return MR_ADMIN_OK;
}

/* ?who=; everyone without it. */
static enum mr_admin_status answer_bans_clear(struct gateway *gateway,
                                              const struct mr_admin_request *request,
                                              struct mr_text *page)
{
    const char *who = mr_admin_argument(request, "who");
    uint64_t count = mr_broker_bans_clear(
        gateway->broker, who == NULL ? (struct mr_span){.at = NULL} : mr_span_of(who));

    if (who != NULL && count == 0) {
        return answer_error(page, MR_ADMIN_NOT_FOUND,
                            "nobody of that name is banned; `millrace bans ls` shows who is");
    }
    mr_text_fmt(page, "{\"count\":%" PRIu64 "}\n", count);
    return MR_ADMIN_OK;
}

/* ---- dead letters ---- */

enum { RANGES_MAX = 1024 };

/* "1-5,9"; 0: it is not of this form, or too long. */
static size_t ranges_parse(const char *text, struct mr_seq_range *ranges)
{
    struct mr_span rest = mr_span_of(text);
    size_t count = 0;

    while (rest.at != NULL) {
        struct mr_span last = mr_span_split(&rest, ',');
        struct mr_span first = mr_span_split(&last, '-');
        struct mr_seq_range *range = &ranges[count];
        if (count == RANGES_MAX || mr_parse_u64(first, UINT64_MAX, &range->first) != MR_OK) {
            return 0;
        }
        range->last = range->first;
        if ((last.at != NULL && mr_parse_u64(last, UINT64_MAX, &range->last) != MR_OK) ||
            range->last < range->first || range->first == 0) {
            return 0;
        }
        count += 1;
    }
    return count;
}

/* ?name=&letters=1-5,9 */
static enum mr_admin_status letters_page(struct gateway *gateway,
                                         const struct mr_admin_request *request,
                                         struct mr_text *page, bool retry)
{
    const char *name = mr_admin_argument(request, "name");
    const char *letters = mr_admin_argument(request, "letters");
    struct mr_seq_range *ranges = mr_alloc(RANGES_MAX * sizeof(*ranges));
    size_t range_count = letters == NULL ? 0 : ranges_parse(letters, ranges);
    struct mr_error why = {.text = ""};
    enum mr_admin_status status = MR_ADMIN_OK;
    struct mr_bridge *bridge = bridge_find(gateway, name, 0);
    uint64_t count = 0;

    if (range_count == 0) {
        status = answer_error(page, MR_ADMIN_BAD_REQUEST, "letters is a list like 1-5,9");
    } else if (bridge == NULL) {
        status = answer_no_bridge(page, name);
    } else if (mr_letters_handle(gateway, bridge, ranges, range_count, retry, &count, &why) !=
               MR_OK) {
        status = MR_ADMIN_UNAVAILABLE;
        mr_text_fmt(page, "{\"count\":%" PRIu64 ",\"error\":", count);
        mr_json_add_string(page, mr_span_of(why.text));
        mr_text_add(page, "}\n");
    } else {
        mr_text_fmt(page, "{\"count\":%" PRIu64 "}\n", count);
    }
    mr_free(ranges);
    return status;
}

static enum mr_admin_status answer_retry(struct gateway *gateway,
                                         const struct mr_admin_request *request,
                                         struct mr_text *page)
{
    return letters_page(gateway, request, page, true);
}

static enum mr_admin_status answer_drop(struct gateway *gateway,
                                        const struct mr_admin_request *request,
                                        struct mr_text *page)
{
    return letters_page(gateway, request, page, false);
}

/* ?name=&topic=: of a topic of the target, by whichever lane of the bridge knows; 0: none does. */
static enum mr_admin_status answer_partitions(struct gateway *gateway,
                                              const struct mr_admin_request *request,
                                              struct mr_text *page)
{
    const char *name = mr_admin_argument(request, "name");
    const char *topic = mr_admin_argument(request, "topic");
    struct mr_bridge_stats stats;
    uint32_t most = 0;

    if (name == NULL || topic == NULL) {
        return answer_error(page, MR_ADMIN_BAD_REQUEST, "name and topic are needed");
    }
    for (uint32_t i = 0; i < gateway->bridge_count; i++) {
        mr_bridge_stats(gateway->bridges[i], &stats);
        uint32_t count =
            strcmp(stats.name, name) == 0 ? mr_bridge_partitions(gateway->bridges[i], topic) : 0;
        most = count > most ? count : most;
    }
    mr_text_fmt(page, "{\"partitions\":%" PRIu32 "}\n", most);
    return MR_ADMIN_OK;
}

static const struct page_row pages[] = {
    {"status", false, NEEDS_NOTHING, answer_status}, /* of the gateway, then of its parts */
    {"ledger", false, NEEDS_MOMENT, answer_ledger},
    {"ledger/accept", true, NEEDS_MOMENT, answer_accept},
    {"bridges", false, NEEDS_NOTHING, answer_bridges},
    {"bridges/partitions", false, NEEDS_LOOK, answer_partitions},
    {"bridges/pause", true, NEEDS_MOMENT, answer_pause},
    {"bridges/resume", true, NEEDS_MOMENT, answer_resume},
    {"bridges/seek", true, NEEDS_TURN, answer_seek},
    {"clients", false, NEEDS_MOMENT, answer_clients},
    {"clients/kick", true, NEEDS_MOMENT, answer_kick},
    {"bans", false, NEEDS_NOTHING, answer_bans},
    {"bans/clear", true, NEEDS_NOTHING, answer_bans_clear},
    {"dead-letters/drop", true, NEEDS_TURN, answer_drop},
    {"dead-letters/retry", true, NEEDS_TURN, answer_retry},
};

/* NULL: there is no such page. */
static const struct page_row *page_find(const struct mr_admin_request *request)
{
    static const char version[] = "v1/";
    const char *path = mr_admin_path(request);

    for (size_t i = 0; i < MR_COUNT_OF(pages) && strncmp(path, version, 3) == 0; i++) {
        if (strcmp(path + sizeof(version) - 1, pages[i].path) == 0) {
            return &pages[i];
        }
    }
    return NULL;
}

enum mr_admin_wait mr_control_waits(void *arg, const struct mr_admin_request *request)
{
    static const enum mr_admin_wait waits[] = {
        [NEEDS_NOTHING] = MR_ADMIN_NOTHING,
        [NEEDS_MOMENT] = MR_ADMIN_MOMENT,
        [NEEDS_LOOK] = MR_ADMIN_MOMENT,
        [NEEDS_TURN] = MR_ADMIN_ROOM,
    };
    const struct page_row *row = page_find(request);

    (void)arg;
    return row == NULL ? MR_ADMIN_NOTHING : waits[row->needs];
}

/* So that no reload takes bridges away; false: the gateway ends. */
static bool bridges_hold(struct gateway *gateway, enum page_needs needs)
{
    return needs == NEEDS_TURN   ? mr_turn_command(gateway)
           : needs == NEEDS_LOOK ? mr_turn_look(gateway)
                                 : true;
}

static void bridges_let_go(struct gateway *gateway, enum page_needs needs)
{
    if (needs == NEEDS_TURN) {
        mr_turn_over(gateway);
    } else if (needs == NEEDS_LOOK) {
        mr_turn_looked(gateway);
    }
}

enum mr_admin_status mr_control_answer(void *arg, const struct mr_admin_request *request,
                                       struct mr_text *page)
{
    struct gateway *gateway = arg;
    const struct page_row *row = page_find(request);

    if (row == NULL) {
        return answer_error(page, MR_ADMIN_NOT_FOUND, "there is no such page");
    }
    if (mr_admin_is_post(request) != row->changes) {
        return answer_error(page, MR_ADMIN_WRONG_METHOD,
                            row->changes ? "this page changes something: POST"
                                         : "this page changes nothing: GET");
    }
    if (!bridges_hold(gateway, row->needs)) {
        return answer_error(page, MR_ADMIN_UNAVAILABLE,
                            "the gateway is ending; nothing was changed");
    }
    enum mr_admin_status status = row->answer(gateway, request, page);
    bridges_let_go(gateway, row->needs);
    return status;
}

/* ---- being found ---- */

static enum mr_err announce(const char *path, const char *unfinished, const char *line)
{
    struct mr_file file;
    struct mr_span part = mr_span_of(line);
    enum mr_err err = mr_path_remove(unfinished);

    if (err != MR_OK && err != MR_ERR_REJECT) {
        return err;
    }
    err = mr_file_open(&file, unfinished, MR_FILE_CREATE, NULL);
    if (err != MR_OK) {
        return err;
    }
    err = mr_file_write(&file, &part, 1, 0);
    mr_file_close(&file);
    return err == MR_OK ? mr_path_rename(unfinished, path) : err;
}

void mr_control_announce(struct gateway *gateway)
{
    char path[GATEWAY_PATH_BYTES];
    char unfinished[GATEWAY_PATH_BYTES];
    char line[256];
    struct mr_text text = mr_text_over(line, sizeof(line));

    if (gateway->admin == NULL) {
        return;
    }
    mr_gateway_path(gateway, announced_name, path);
    mr_gateway_path(gateway, "admin.address.tmp", unfinished);
    mr_text_fmt(&text, "%s %s\n", mr_admin_address(gateway->admin), gateway->journal_id);
    if (announce(path, unfinished, line) != MR_OK) {
        mr_log(MR_LOG_WARN, "admin",
               "%s cannot be written: %s; commands like `millrace bridge ls` will not find this "
               "gateway",
               path, mr_file_last_cause());
    }
}

void mr_control_withdraw(struct gateway *gateway)
{
    char path[GATEWAY_PATH_BYTES];

    if (gateway->admin != NULL) {
        mr_gateway_path(gateway, announced_name, path);
        (void)!mr_path_remove(path);
    }
}
