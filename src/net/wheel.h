/* wheel.h - many deadlines, cheaply moved.
 *
 * A hashed timer wheel: a deadline lies in slot `tick % slots`.  The owner does
 * not touch the wheel when a client shows life; it stores the tick of that in
 * its own memory, and when the node comes up early it is set again for later.
 * So a keep-alive costs nothing per packet and one visit per period.
 *
 *     mr_wheel_set(&wheel, &node, tick)
 *     while ((node = mr_wheel_expired(&wheel, now_tick)) != NULL) ...
 *
 * Thread: owned by one event loop.
 * Memory: nodes lie in their owners and must be cancelled before they go.
 * Time:   ticks of any length, counted by the owner from any start.
 */
#ifndef MR_NET_WHEEL_H
#define MR_NET_WHEEL_H

#include "base/base.h"

enum { MR_WHEEL_SLOTS = 4096 };

struct mr_wheel_node {
    struct mr_wheel_node *next; /* NULL: not set */
    struct mr_wheel_node *prev;
    uint32_t due; /* tick */
};

struct mr_wheel {
    struct mr_wheel_node slots[MR_WHEEL_SLOTS]; /* heads of rings */
    uint32_t tick;                              /* everything due before it has been handed out */
    uint32_t count;
};

void mr_wheel_init(struct mr_wheel *wheel, uint32_t now_tick);

/* Set or move; a tick in the past comes up next.  At most 2^31 ticks ahead. */
void mr_wheel_set(struct mr_wheel *wheel, struct mr_wheel_node *node, uint32_t due);

/* Does nothing if it is not set.  A zeroed node is not set. */
void mr_wheel_cancel(struct mr_wheel *wheel, struct mr_wheel_node *node);

/* So many ticks from the next one on, at most `most`, in which nothing is due. */
uint32_t mr_wheel_quiet(const struct mr_wheel *wheel, uint32_t most);

/* Take out one node with due <= now_tick, NULL if there is none (any more). */
struct mr_wheel_node *mr_wheel_expired(struct mr_wheel *wheel, uint32_t now_tick);

#endif
