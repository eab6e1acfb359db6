/* limits_internal.h - the limits of a listener's clients, worked out (limits.c).
 *
 * Thread: a shard's own copy.   Memory: one per listener.   Time: ns that an event costs.
 */
#ifndef MR_BROKER_LIMITS_INTERNAL_H
#define MR_BROKER_LIMITS_INTERNAL_H

#include "base/base.h"

/* What the clients of a listener may, in this shard (limits.c). */
struct client_limits {
    uint32_t packet_max;  /* bytes */
    uint32_t connect_max; /* of a CONNECT, and of all before it is let in; not above packet_max */
    uint32_t topic_bytes_max;
    uint32_t topic_levels_max;
    uint32_t client_id_max;
    uint32_t subscriptions_max; /* UINT32_MAX: any number */
    uint32_t topic_aliases_max; /* what a 5.0 client is told at its CONNECT, and may then use */
    int64_t message_ns;         /* what a PUBLISH costs; 0: nothing */
    int64_t messages_ahead_ns;  /* how far it may be ahead of that */
    int64_t kibibyte_ns;        /* what 1,024 bytes cost; 0: nothing */
    int64_t bytes_ahead_ns;
    uint32_t connections_per_address; /* a second; 0: any number */
    uint32_t address_connections_max; /* ... at a time */
    uint8_t gate;                     /* enum gate: what acknowledgements wait for */
};

#endif
