/* inbound_internal.h - QoS 2 from a client: the packet ids that await PUBREL (inbound.c).
 *
 * Thread: the shard's.   Memory: a lent buffer, from the first id on.   Time: none.
 */
#ifndef MR_BROKER_INBOUND_INTERNAL_H
#define MR_BROKER_INBOUND_INTERNAL_H

#include "base/bufpool.h"

struct inbound_id {
    uint16_t id;
    bool here; /* its PUBLISH came over this connection, not only over an earlier one */
};

struct inbound {
    uint32_t capacity; /* as lent by the pool */
    uint32_t count;
    struct inbound_id ids[]; /* ascending */
};

/* Where `inbound` is read it may be NULL: no id. */
static inline uint32_t inbound_count(const struct inbound *inbound)
{
    return inbound == NULL ? 0 : inbound->count;
}
bool inbound_has(const struct inbound *inbound, uint16_t id);
bool inbound_has_here(const struct inbound *inbound, uint16_t id);

/* Make room for one more.  False: no memory. */
bool inbound_reserve(struct mr_bufpool *pool, struct inbound **inbound);

void inbound_add(struct inbound *inbound, uint16_t id); /* reserved before; it came here */

/* An id that is there has come here too.  False: it had before. */
bool inbound_set_here(struct inbound *inbound, uint16_t id);

/* Another connection begins: none of them has come here. */
void inbound_resume(struct inbound *inbound);

bool inbound_remove(struct inbound *inbound, uint16_t id);
void inbound_drop(struct mr_bufpool *pool, struct inbound **inbound);

#endif
