/* target.h - what the two kinds of model targets have in common.
 *
 * Thread: one.   Memory: static; it outlives the gateway.   Time: os/sim.h.
 */
#ifndef MR_TEST_SIM_TARGET_H
#define MR_TEST_SIM_TARGET_H

#include "world.h"

struct mr_sink_port;
struct mr_record;

/* A worker that is to be woken. */
struct waiting {
    struct mr_sink_port *port; /* NULL: no sink is open in this lane */
    int64_t due_ns;
};

struct target {
    bool away;
    bool trouble; /* requests fail now and then */
    struct waiting waiting[LANES_MAX][STREAMS_MAX];
};
extern struct target targets[BRIDGES_MAX];

bool target_is_away(const struct target *target);
bool target_fails(const struct target *target); /* this request, as the dice say */
int64_t target_answer_ns(void);                 /* when it is answered */
struct stream target_stream(uint32_t bridge, struct mr_sink_port *port);
bool target_is_marked(const struct mr_record *record); /* as of the backlog */
struct event_id target_event(const struct mr_record *record);

/* The sink's worker has something to do at `due_ns`. */
void target_wakes(uint32_t bridge, struct mr_sink_port *port, int64_t due_ns);
void target_closed(uint32_t bridge, struct mr_sink_port *port);

#endif
