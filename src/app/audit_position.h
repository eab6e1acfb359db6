/* audit_position.h - are the position records in Kafka what the books say?
 *
 * With exactly_once each lane has one, and another one while fresh events overtake a backlog
 * (journal/live.h).  It must lie between the cursor and the journal's newest record.
 *
 * Thread: the caller's.   Memory: none.   Time: the topic of positions is read once for each.
 */
#ifndef MR_APP_AUDIT_POSITION_H
#define MR_APP_AUDIT_POSITION_H

#include "app/audit.h"
#include "app/settings.h"

/* Of every lane of `bridge` in `before`; `after`: the books as they were read since then, which
 * know the newest records.  An exit code: not OK, Kafka could not be read, as was said.
 * *failed: becomes true where one does not fit, as was said.
 */
int mr_audit_positions(const struct mr_audit *before, const struct mr_audit *after,
                       const struct mr_bridge_settings *bridge, bool *failed);

#endif
