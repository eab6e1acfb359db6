/* outbox.c - see outbox.h for the contract.
 *
 * DESIGN
 *
 * A ring of encoded packets in slots of one size; counters run from the start of
 * the process and never wrap, slot = counter % window.  Packet number n has the id
 * n % 65535 + 1, so an id names one packet of any 65,535 in a row, which is more
 * than the window holds.
 *
 * Rejected: keeping values and encoding again.  A re-sent packet must be the same
 * bytes but for the DUP flag, and that is certain only with the bytes.
 *
 * INVARIANTS (outbox_check)
 *
 *   (1) acked <= written <= begun <= head <= acked + window.
 *   (2) part > 0 only while packet `written` is incomplete; then begun > written.
 */
#include "app/load/outbox.h"

enum { IDS = 65535 };

static void outbox_check(const struct mr_outbox *outbox)
{
    mr_assert(outbox->acked <= outbox->written && outbox->written <= outbox->begun);
    mr_assert(outbox->begun <= outbox->head && outbox->head - outbox->acked <= outbox->window);
    mr_assert(outbox->part == 0 || outbox->begun > outbox->written);
}

static struct mr_outbox_slot *outbox_slot(const struct mr_outbox *outbox, uint64_t n)
{
    return &outbox->slots[n % outbox->window];
}

static uint8_t *outbox_packet(const struct mr_outbox *outbox, uint64_t n)
{
    return outbox->packets + n % outbox->window * MR_OUTBOX_PACKET_MAX;
}

void mr_outbox_open(struct mr_outbox *outbox, uint32_t window)
{
    mr_assert(window > 0 && window <= MR_OUTBOX_WINDOW_MAX);
    *outbox = (struct mr_outbox){.window = window};
    outbox->packets = mr_alloc((size_t)window * MR_OUTBOX_PACKET_MAX);
    outbox->slots = mr_alloc(window * sizeof(*outbox->slots));
}

void mr_outbox_close(struct mr_outbox *outbox)
{
    mr_free(outbox->packets);
    mr_free(outbox->slots);
    *outbox = (struct mr_outbox){.window = 0};
}

uint16_t mr_outbox_next_id(const struct mr_outbox *outbox)
{
    return (uint16_t)(outbox->head % IDS + 1);
}

uint8_t *mr_outbox_next(struct mr_outbox *outbox)
{
    mr_assert(mr_outbox_held(outbox) < outbox->window);
    return outbox_packet(outbox, outbox->head);
}

void mr_outbox_push(struct mr_outbox *outbox, size_t len, int64_t due_ns)
{
    mr_assert(len > 0 && len <= MR_OUTBOX_PACKET_MAX);
    *outbox_slot(outbox, outbox->head) =
        (struct mr_outbox_slot){.due_ns = due_ns, .len = (uint16_t)len, .acked = false};
    outbox->head += 1;
    outbox_check(outbox);
}

size_t mr_outbox_gather(const struct mr_outbox *outbox, uint8_t *into, size_t size)
{
    size_t used = 0;
    size_t skip = outbox->part;

    for (uint64_t n = outbox->written; n < outbox->head && used < size; n++) {
        size_t len = outbox_slot(outbox, n)->len - skip;

        len = len < size - used ? len : size - used;
        memcpy(into + used, outbox_packet(outbox, n) + skip, len);
        used += len;
        skip = 0;
    }
    return used;
}

void mr_outbox_sent(struct mr_outbox *outbox, size_t bytes)
{
    bytes += outbox->part;
    outbox->part = 0;
    while (outbox->written < outbox->head && bytes >= outbox_slot(outbox, outbox->written)->len) {
        bytes -= outbox_slot(outbox, outbox->written)->len;
        outbox->written += 1;
    }
    mr_assert(bytes == 0 || outbox->written < outbox->head);
    outbox->part = (uint32_t)bytes;

    uint64_t begun = outbox->written + (bytes > 0 ? 1 : 0);
    outbox->begun = begun > outbox->begun ? begun : outbox->begun;
    outbox_check(outbox);
}

enum mr_err mr_outbox_ack(struct mr_outbox *outbox, uint16_t packet_id, int64_t *due_ns)
{
    uint64_t behind = ((uint64_t)packet_id + IDS - 1 - outbox->acked % IDS) % IDS;
    uint64_t n = outbox->acked + behind;

    if (packet_id == 0 || n >= outbox->written || outbox_slot(outbox, n)->acked) {
        return MR_ERR_REJECT;
    }
    outbox_slot(outbox, n)->acked = true;
    *due_ns = outbox_slot(outbox, n)->due_ns;
    while (outbox->acked < outbox->written && outbox_slot(outbox, outbox->acked)->acked) {
        outbox->acked += 1;
    }
    outbox_check(outbox);
    return MR_OK;
}

uint64_t mr_outbox_forget_written(struct mr_outbox *outbox)
{
    uint64_t count = outbox->written - outbox->acked;

    outbox->acked = outbox->written;
    outbox_check(outbox);
    return count;
}

uint64_t mr_outbox_rewind(struct mr_outbox *outbox, bool dup)
{
    uint64_t count = 0;

    for (uint64_t n = outbox->acked; n < outbox->begun; n++) {
        /* One acknowledged out of order is done: it would be a second event.  But a
         * hole cannot be skipped over in the ring, so it is sent again too; a server
         * that keeps to [MQTT-4.6.0-2] never makes one.
         */
        outbox_slot(outbox, n)->acked = false;
        uint8_t *first = outbox_packet(outbox, n);
        *first = (uint8_t)(dup ? *first | 0x08 : *first & ~0x08);
        count += 1;
    }
    outbox->written = outbox->acked;
    outbox->part = 0;
    outbox_check(outbox);
    return count;
}
