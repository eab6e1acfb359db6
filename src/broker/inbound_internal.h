/* inbound_internal.h - QoS 2 from a client: the packet ids that await PUBREL (inbound.c).
 *
 * Thread: the shard's.   Memory: a lent buffer, from the first id on.   Time: none.
 */
#ifndef MR_BROKER_INBOUND_INTERNAL_H
#define MR_BROKER_INBOUND_INTERNAL_H

#include "base/bufpool.h"

struct inbound {
    uint32_t capacity; /* as lent by the pool */
    uint32_t count;
    uint16_t ids[]; /* ascending */
};

/* Where `inbound` is read it may be NULL: no id. */
static inline uint32_t inbound_count(const struct inbound *inbound)
{
    return inbound == NULL ? 0 : inbound->count;
}
bool inbound_has(const struct inbound *inbound, uint16_t id);

/* Make room for one more.  False: no memory. */
bool inbound_reserve(struct mr_bufpool *pool, struct inbound **inbound);

void inbound_add(struct inbound *inbound, uint16_t id); /* reserved before */
bool inbound_remove(struct inbound *inbound, uint16_t id);
void inbound_drop(struct mr_bufpool *pool, struct inbound **inbound);

#endif
