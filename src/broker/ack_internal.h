/* ack_internal.h - what acknowledgements wait for (gates.c).
 *
 * Thread: the shard's.   Memory: in the shard.   Time: none.
 */
#ifndef MR_BROKER_ACK_INTERNAL_H
#define MR_BROKER_ACK_INTERNAL_H

#include "broker/ackgate.h"
#include "journal/cursor.h"

/* GATE_BRIDGES and up: a bridge, in the order of mr_broker.ack_bridges. */
enum gate { GATE_DISK, GATE_MEMORY, GATE_BRIDGES, GATES_MAX = GATE_BRIDGES + 8 };

/* How far a bridge is, as this shard has seen it. */
struct settled {
    struct mr_cursor *cursor;
    uint64_t seq;
    uint64_t ahead;   /* up to here what is not in the backlog counted, while that was under way */
    uint64_t again;   /* newest ack held for a QoS 2 PUBLISH that came again; 0: none waits */
    bool past_epochs; /* it has settled what is of earlier epochs, in all lanes */
};

#endif
