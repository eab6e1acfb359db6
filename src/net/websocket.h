/* websocket.h - WebSocket for the listeners of net.h, over TCP or TLS (RFC 6455).
 *
 *     mr_net_websocket(net, listener, options)
 *         └▶ every connection accepted there begins with an HTTP upgrade
 *
 * Who uses connections sees no difference: the payload of binary frames comes as bytes
 * however it is cut; what is sent leaves with a frame for each packet, of which the owner
 * knows where they end.  The upgrade counts as time before the first byte.  Pings are answered
 * here, frames that break the rules end the connection with the close code that says why
 * (MR_CLOSE_WEBSOCKET).
 *
 * Thread: the net's.
 * Memory: some 400 bytes a connection; 8 KiB of the pool while a request is incomplete,
 *         4 KiB of the heap while a frame is; 16 KiB a net in which frames are made.
 * Time:   one more copy of what is received, by wslay, and of what is sent but for the most of
 *         large packets; no system call more.
 */
#ifndef MR_NET_WEBSOCKET_H
#define MR_NET_WEBSOCKET_H

#include "base/span.h"

struct mr_net;

/* The strings outlive the net. */
struct mr_websocket_options {
    const char *path;           /* "/mqtt" */
    const char *const *origins; /* web pages that may connect; whoever names no page may */
    size_t origin_count;        /* 0: all */
    uint64_t frame_max;         /* bytes of payload of one frame */

    /* How long the packet is that `bytes` begin with; never 0.  They are what was queued and
     * has not left: whole packets, or the beginning of one.
     */
    uint32_t (*packet_len)(struct mr_span bytes);
};

/* From now on connections of listener `index` speak WebSocket; `options` outlives the net. */
void mr_net_websocket(struct mr_net *net, uint32_t index,
                      const struct mr_websocket_options *options);

#endif
