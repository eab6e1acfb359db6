/* inbound.c - QoS 2 from clients: which packet ids await their PUBREL.
 *
 * A PUBLISH whose id is in the set is a repetition and makes no second event
 * [MQTT-4.3.3-10].  The set is sorted, so that a device which counts its ids upwards
 * appends at the end and takes from the front.
 *
 * INVARIANTS (inbound_check)
 *
 *   (1) ids ascend, none twice.
 *   (2) count <= what the buffer has room for.
 */
#include "broker/inbound_internal.h"

#include <string.h>

enum { INBOUND_FIRST_BYTES = 64 }; /* 14 ids; the pool's smallest buffer */

static uint32_t inbound_room(const struct inbound *inbound)
{
    return (uint32_t)((inbound->capacity - sizeof(*inbound)) / sizeof(inbound->ids[0]));
}

/* The first place whose id is not below `id`. */
static uint32_t inbound_place(const struct inbound *inbound, uint16_t id)
{
    uint32_t low = 0;
    uint32_t high = inbound_count(inbound);

    if (high != 0 && inbound->ids[high - 1].id < id) {
        return high;
    }
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (inbound->ids[middle].id < id) {
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

    return place < inbound_count(inbound) && inbound->ids[place].id == id;
}

bool inbound_has_here(const struct inbound *inbound, uint16_t id)
{
    return inbound_has(inbound, id) && inbound->ids[inbound_place(inbound, id)].here;
}

bool inbound_reserve(struct mr_bufpool *pool, struct inbound **inbound)
{
    struct inbound *before = *inbound;
    size_t wanted = before == NULL ? INBOUND_FIRST_BYTES : (size_t)before->capacity * 2;
    size_t capacity = 0;

    if (before != NULL && before->count < inbound_room(before)) {
        return true;
    }
    struct inbound *made = (struct inbound *)(void *)mr_bufpool_take(pool, wanted, &capacity);
    if (made == NULL) {
        return false;
    }
    made->capacity = (uint32_t)capacity;
    made->count = inbound_count(before);
    if (made->count != 0) {
        memcpy(made->ids, before->ids, made->count * sizeof(*made->ids));
    }
    inbound_drop(pool, inbound);
    *inbound = made;
    return true;
}

void inbound_add(struct inbound *inbound, uint16_t id)
{
    uint32_t place = inbound_place(inbound, id);

    mr_assert(inbound != NULL && inbound->count < inbound_room(inbound));
    if (place < inbound->count && inbound->ids[place].id == id) {
        return;
    }
    memmove(inbound->ids + place + 1, inbound->ids + place,
            (inbound->count - place) * sizeof(*inbound->ids));
    inbound->ids[place] = (struct inbound_id){.id = id, .here = true};
    inbound->count += 1;
}

bool inbound_set_here(struct inbound *inbound, uint16_t id)
{
    uint32_t place = inbound_place(inbound, id);

    mr_assert(place < inbound_count(inbound) && inbound->ids[place].id == id);
    bool is_first = !inbound->ids[place].here;
    inbound->ids[place].here = true;
    return is_first;
}

void inbound_resume(struct inbound *inbound)
{
    for (uint32_t i = 0; i < inbound_count(inbound); i++) {
        inbound->ids[i].here = false;
    }
}

bool inbound_remove(struct inbound *inbound, uint16_t id)
{
    uint32_t place = inbound_place(inbound, id);

    if (place == inbound_count(inbound) || inbound->ids[place].id != id) {
        return false;
    }
    inbound->count -= 1;
    memmove(inbound->ids + place, inbound->ids + place + 1,
            (inbound->count - place) * sizeof(*inbound->ids));
    return true;
}

void inbound_drop(struct mr_bufpool *pool, struct inbound **inbound)
{
    if (*inbound != NULL) {
        mr_bufpool_give(pool, (uint8_t *)*inbound, (*inbound)->capacity);
        *inbound = NULL;
    }
}
