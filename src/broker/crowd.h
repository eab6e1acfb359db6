/* crowd.h - how many connections an address has at each listener (`max_connections_per_address`).
 *
 *     accept ─▶ crowd_enter() ── SHUT: close it   BEYOND: tell it so at its CONNECT
 *     end    ─▶ crowd_leave()
 *
 * An address is what peer_name.h says: of v6 the network of 64 bits.  Some more than allowed
 * are let in to be told that they are too many; beyond them an address is not answered.
 *
 * Thread: any; one mutex, taken when a connection comes or goes at a listener with such a limit.
 * Memory: 16 bytes for each address that is connected there, and as much again.
 * Time:   ~100 ns.
 */
#ifndef MR_BROKER_CROWD_H
#define MR_BROKER_CROWD_H

#include "base/base.h"

struct crowd;

enum { CROWD_SURPLUS = 8 };

enum crowd_says {
    CROWD_FITS,   /* counted */
    CROWD_BEYOND, /* counted, and more than `max` */
    CROWD_SHUT,   /* not counted: there are CROWD_SURPLUS more than `max` */
    CROWD_NOBODY, /* not counted: a peer without an address */
};

struct crowd *crowd_open(void);
void crowd_close(struct crowd *crowd); /* NULL is allowed */

/* One more from `peer`, as mr_conn_peer() says it. */
enum crowd_says crowd_enter(struct crowd *crowd, uint32_t listener, const char *peer, uint32_t max);

/* One that was counted has gone. */
void crowd_leave(struct crowd *crowd, uint32_t listener, const char *peer);

/* Are there more than `max` from that address, now? */
bool crowd_is_beyond(struct crowd *crowd, uint32_t listener, const char *peer, uint32_t max);

#endif
