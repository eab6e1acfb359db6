/* show.h - how commands print an event: for people, for scripts, or raw.
 *
 *     line   0  17  2026-11-23T18:00:00.123456Z  dev-1  plant/temp  q1  {"v": 21}
 *     short  plant/temp {"v": 21}                            as mosquitto_sub -v does
 *     json   {"lane":0,"seq":17,...,"payload":{"v":21},"encoding":"json"}
 *     raw    the payload's bytes and a line end
 *
 * A payload is shown as it is when it is printable text; else control characters
 * and bytes that are not UTF-8 are escaped (and '\' doubled), so that no device
 * can send commands to the terminal of whoever looks.
 *
 * Thread: main.   Memory: none.   Time: none.
 */
#ifndef MR_APP_CLI_SHOW_H
#define MR_APP_CLI_SHOW_H

#include "app/cli/walk.h"

enum mr_show { MR_SHOW_LINE, MR_SHOW_SHORT, MR_SHOW_JSON, MR_SHOW_RAW };

/* False: stdout is gone. */
bool mr_show_event(struct mr_cli *cli, enum mr_show how, const struct mr_walk_event *event);

/* A range that is lost or was removed meanwhile: a sentence on stderr. */
void mr_show_damage(struct mr_cli *cli, uint32_t lane, const struct mr_walk_damage *damage);

/* Text from outside, escaped as above. */
bool mr_show_text(struct mr_cli *cli, struct mr_span text);

#endif
