/* inbound.c - QoS 2 from clients: which packet ids await their PUBREL.
 *
 * A PUBLISH whose id is in the set is a repetition and makes no second event
 * [MQTT-4.3.3-10].  The set is sorted, so that a device which counts its ids upwards
 * appends at the end and takes from the front.
 *
 * INVARIANTS (inbound_check)
 *
 *   (1) ids ascend, none twice.
 *   (2) count <= capacity.
 */
#include "broker/broker_internal.h"

enum { INBOUND_FIRST = 32 }; /* ids; the pool's smallest buffer */

/* The first place whose id is not below `id`. */
static uint32_t inbound_place(const struct inbound *inbound, uint16_t id)
{
    uint32_t low = 0;
    uint32_t high = inbound->count;

    if (high != 0 && inbound->ids[high - 1] < id) {
        return high;
    }
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (inbound->ids[middle] < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool inbound_has(const struct inbound *inbound, uint16_t id)
{
    uint32_t place = inbound_place(inbound, id);

    return place < inbound->count && inbound->ids[place] == id;
}

bool inbound_reserve(struct mr_bufpool *pool, struct inbound *inbound)
{
    size_t bytes = 0;

    if (inbound->count < inbound->capacity) {
        return true;
    }
    uint32_t wanted = inbound->capacity == 0 ? INBOUND_FIRST : inbound->capacity * 2;
    uint16_t *ids = (uint16_t *)(void *)mr_bufpool_take(pool, wanted * sizeof(*ids), &bytes);
    if (ids == NULL) {
        return false;
    }
    if (inbound->count != 0) {
        memcpy(ids, inbound->ids, inbound->count * sizeof(*ids));
    }
    inbound_drop_ids(pool, inbound);
    inbound->ids = ids;
    inbound->capacity = (uint32_t)(bytes / sizeof(*ids));
    return true;
}

void inbound_add(struct inbound *inbound, uint16_t id)
{
    uint32_t place = inbound_place(inbound, id);

    mr_assert(inbound->count < inbound->capacity);
    if (place < inbound->count && inbound->ids[place] == id) {
        return;
    }
    memmove(inbound->ids + place + 1, inbound->ids + place,
            (inbound->count - place) * sizeof(*inbound->ids));
    inbound->ids[place] = id;
    inbound->count += 1;
}

bool inbound_remove(struct inbound *inbound, uint16_t id)
{
    uint32_t place = inbound_place(inbound, id);

    if (place == inbound->count || inbound->ids[place] != id) {
        return false;
    }
    inbound->count -= 1;
    memmove(inbound->ids + place, inbound->ids + place + 1,
            (inbound->count - place) * sizeof(*inbound->ids));
    return true;
}

void inbound_drop_ids(struct mr_bufpool *pool, struct inbound *inbound)
{
    if (inbound->ids != NULL) {
        mr_bufpool_give(pool, (uint8_t *)inbound->ids, inbound->capacity * sizeof(*inbound->ids));
        inbound->ids = NULL;
        inbound->capacity = 0;
    }
}
