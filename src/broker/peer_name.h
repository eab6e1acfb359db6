/* peer_name.h - what of a peer's address counts as one: of v6 the network of 64 bits.
 *
 * Thread: pure.   Memory: the caller's.   Time: ~50 ns.
 */
#ifndef MR_BROKER_PEER_NAME_H
#define MR_BROKER_PEER_NAME_H

#include "base/span.h"

enum { MR_PEER_NAME_BYTES = 64 };

/* "10.0.0.7" of "10.0.0.7:51812", "2001:db8:1:2::/64" of "[2001:db8:1:2::7]:51812", in `name`;
 * empty for a peer without an address.
 */
struct mr_span mr_peer_name(const char *peer, char name[MR_PEER_NAME_BYTES]);
bool mr_peer_name_is_loopback(struct mr_span name);

#endif
