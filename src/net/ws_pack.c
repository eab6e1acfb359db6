/* ws_pack.c - see ws_pack_internal.h for the contract. */
#include "net/ws_pack_internal.h"

#include "base/bytes.h"

enum { FIRST_BYTE = 0x82 }; /* a binary frame, and the whole message */

/* Three cases of a header without a mask; wslay would want the payload with it. */
static size_t head_make(uint64_t len, uint8_t into[WS_DATA_HEAD_MAX])
{
    into[0] = FIRST_BYTE;
    if (len < 126) {
        into[1] = (uint8_t)len;
        return 2;
    }
    if (len <= UINT16_MAX) {
        into[1] = 126;
        mr_put_be16(into + 2, (uint16_t)len);
        return 4;
    }
    into[1] = 127;
    mr_put_be32(into + 2, (uint32_t)(len >> 32));
    mr_put_be32(into + 6, (uint32_t)len);
    return 10;
}

/* What is left of the header of the packet that *queue begins with; at most `wire` bytes. */
static size_t head_pass(struct ws_pack *pack, struct mr_span queue, uint8_t *into, size_t wire)
{
    uint8_t head[WS_DATA_HEAD_MAX];
    uint64_t packet = pack->packet_len(queue);

    mr_assert(packet != 0);
    size_t len = head_make(packet, head);
    size_t part = len - pack->head_sent;
    part = part < wire ? part : wire;
    if (into != NULL) {
        memcpy(into, head + pack->head_sent, part);
    }
    pack->head_sent = (uint8_t)(pack->head_sent + part);
    if (pack->head_sent == len) {
        pack->head_sent = 0;
        pack->left = packet;
    }
    return part;
}

size_t ws_pack(struct ws_pack *pack, struct mr_span *queue, uint8_t *into, size_t wire)
{
    size_t done = 0;

    while (done < wire && queue->len != 0) {
        if (pack->left == 0) {
            done += head_pass(pack, *queue, into == NULL ? NULL : into + done, wire - done);
            continue;
        }
        size_t part = queue->len < wire - done ? queue->len : wire - done;
        part = part < pack->left ? part : (size_t)pack->left;
        if (into != NULL) {
            memcpy(into + done, queue->at, part);
        }
        pack->left -= part;
        *queue = mr_span_make(queue->at + part, queue->len - part);
        done += part;
    }
    return done;
}
