/* ws_upgrade_internal.h - the HTTP request that a WebSocket begins with, and its answer.
 *
 *     GET /mqtt HTTP/1.1 … ─▶ ws_upgrade() ─▶ 101, or the status that says what is wrong
 *
 * RFC 6455 section 4.2, strictly: one request, its head at most WS_HEAD_MAX bytes, no body,
 * lines that end with CR LF, no folding.  MQTT adds that the client offers the subprotocol
 * "mqtt" [MQTT-6.0.0-3]; old clients of 3.1 call it "mqttv3.1".
 *
 * Thread: any.   Memory: the caller's.   Time: linear in the head.
 */
#ifndef MR_NET_WS_UPGRADE_INTERNAL_H
#define MR_NET_WS_UPGRADE_INTERNAL_H

#include "base/span.h"

enum {
    WS_HEAD_MAX = 8 << 10,   /* as much as common servers take */
    WS_ANSWER_MAX = 1 << 10, /* status line, header and a sentence */
};

struct ws_upgrade {
    const char *path;           /* "/mqtt": the only one that is served; its query is ignored */
    const char *const *origins; /* pages that may connect; a client that names none may */
    size_t origin_count;        /* 0: all */
};

struct ws_answer {
    char text[WS_ANSWER_MAX];
    size_t len;
};

/* How long the head at the beginning of `bytes` is, its empty line included; 0: not complete. */
size_t ws_head_len(struct mr_span bytes);

/* Judge a whole head.  MR_OK: it is a WebSocket from the answer on.  REJECT: `why` says what
 * is wrong, for people; so does `answer`, after which the connection ends.
 */
enum mr_err ws_upgrade(const struct ws_upgrade *rules, struct mr_span head,
                       struct ws_answer *answer, struct mr_error *why) MR_MUST_USE;

/* Refuse what is no head at all: longer than WS_HEAD_MAX, or no HTTP from its first byte. */
enum mr_err ws_upgrade_refuse_head(struct mr_span bytes, struct ws_answer *answer,
                                   struct mr_error *why) MR_MUST_USE;

/* Can `bytes` be the beginning of a request?  False as soon as it is certain. */
bool ws_head_may_begin(struct mr_span bytes);

#endif
