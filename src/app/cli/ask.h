/* ask.h - commands talk to the running gateway here.
 *
 *     DATA/admin.address ─▶ "127.0.0.1:8080 <journal id>"
 *     mr_ask("GET", "status") ─▶ HTTP on loopback ─▶ JSON, proven valid
 *
 * The gateway writes the file when its admin server listens.  Its journal id goes
 * with every request, so that whoever else listens there by now is found out.
 *
 * Thread: main.   Memory: one answer, at most as large as the server makes them.
 * Time:   waits for the gateway, half a minute at most.
 */
#ifndef MR_APP_CLI_ASK_H
#define MR_APP_CLI_ASK_H

#include "app/cli/cli.h"
#include "codec/json_read.h"

struct mr_answer {
    struct mr_span json; /* the page */
    char *memory;
    uint64_t count; /* of a refusal: what it says was done before; needs no release */
};

/* Ask `target`, which is what stands behind /api/v1/ ("clients?limit=10"), with `method`
 * ("GET", "POST").  MR_EXIT_OK: release the answer.  Anything else: why was said, end
 * with it: 69 when no gateway runs there, 66 when it knows no such thing, 65 when it
 * refused, 75 when it cannot now.
 */
int mr_ask(struct mr_cli *cli, const char *method, const char *target, struct mr_answer *out);
void mr_answer_free(struct mr_answer *answer);

/* Is a gateway there?  As mr_ask(), but its absence is no failure: *running says it. */
int mr_ask_if_running(struct mr_cli *cli, const char *method, const char *target,
                      struct mr_answer *out, bool *running);

/* Append `text` with everything escaped that could not stand in a query. */
void mr_ask_escape(struct mr_text *target, struct mr_span text);

/* ---- of an answer ---- */

/* A string of `object`, decoded, into `buffer`, which is returned. */
const char *mr_answer_text(struct mr_span object, const char *name, char *buffer, size_t size);
uint64_t mr_answer_u64(struct mr_span object, const char *name); /* 0: not there */

#endif
