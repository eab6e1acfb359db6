/* bridge_internal.h - what the files of `millrace bridge` share.
 *
 * Thread: main.   Memory: none.   Time: none.
 */
#ifndef MR_APP_CLI_BRIDGE_INTERNAL_H
#define MR_APP_CLI_BRIDGE_INTERNAL_H

#include "app/cli/cli.h"
#include "journal/journal.h"

extern const struct mr_command mr_command_bridge_seek;

/* The table of cursors of a gateway that does not run, locked; close the journal.
 * Anything but MR_EXIT_OK: why was said.
 */
int mr_bridge_cursors_open(struct mr_cli *cli, struct mr_journal **out);

#endif
