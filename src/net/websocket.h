/* websocket.h - WebSocket for the listeners of net.h, over TCP or TLS (RFC 6455).
 *
 *     mr_net_websocket(net, listener, options)
 *         └▶ every connection accepted there begins with an HTTP upgrade
 *
 * Who uses connections sees no difference: the payload of binary frames comes as bytes,
 * and what is sent in a turn leaves as one frame.  The upgrade counts as time before the
 * first byte.  Pings are answered here, frames that break the rules end the connection
 * with the close code that says why (MR_CLOSE_WEBSOCKET).
 *
 * Thread: the net's.
 * Memory: some 400 bytes a connection; 8 KiB of the pool while a request is incomplete,
 *         4 KiB of the heap while a frame is.
 * Time:   one more copy of what is received, by wslay; none of what is sent.
 */
#ifndef MR_NET_WEBSOCKET_H
#define MR_NET_WEBSOCKET_H

#include "base/base.h"

struct mr_net;

/* The strings outlive the net. */
struct mr_websocket_options {
    const char *path;           /* "/mqtt" */
    const char *const *origins; /* web pages that may connect; whoever names no page may */
    size_t origin_count;        /* 0: all */
    uint64_t frame_max;         /* bytes of payload of one frame */
};

/* From now on connections of listener `index` speak WebSocket; `options` outlives the net. */
void mr_net_websocket(struct mr_net *net, uint32_t index,
                      const struct mr_websocket_options *options);

#endif
