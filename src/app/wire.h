/* wire.h - the gateway put together: what `millrace run` and `check` do.
 *
 *     settings ─▶ lock ─▶ journal (recover) ─▶ bridges ─▶ broker ─▶ admin ─▶ ready
 *     SIGTERM  ─▶ broker stops ─▶ bridges drain ─▶ journal closes ─▶ exit 0
 *
 * The only place that names every plugin.
 *
 * Thread: main.   Memory: lives as long as the process.   Time: start-up.
 */
#ifndef MR_APP_WIRE_H
#define MR_APP_WIRE_H

#include "app/cli/cli.h"
#include "plugin/sink.h"

extern const struct mr_command mr_command_run;
extern const struct mr_command mr_command_check;
extern const struct mr_command mr_command_config;
extern const struct mr_command mr_command_explain;  /* explain.c */
extern const struct mr_command mr_command_audit;    /* audit.c */
extern const struct mr_command mr_command_simulate; /* cli/simulate.c */

/* Every kind of sink; ends with NULL. */
extern const struct mr_sink_ops *const mr_sinks[];

/* gateway.data of a configuration, for commands that look at a folder. */
const char *mr_wire_data_path(const char *config_path, char *buffer, size_t size);

#endif
