/* wheel.c - see wheel.h for the contract.
 *
 * DESIGN
 *
 * Each slot is a ring with the slot itself as its head, so that linking and
 * unlinking have no special cases.  A slot also holds nodes of later rounds
 * (due + n * slots); they are passed over, which costs one comparison per
 * round: with 4,096 slots of 25 ms a keep-alive of 60 s never meets it.
 *
 * Rejected: a heap.  Every re-arming would be O(log n) with cache misses, and
 * a million idle connections re-arm 17,000 times a second.
 *
 * INVARIANTS
 *
 *   (1) A set node lies in slot due % slots, and was not due when it was set.
 *   (2) Between calls no set node is due before `tick`, except after a jump over
 *       more than a round, which the following full round finds.
 */
#include "net/wheel.h"

/* Ticks wrap; what counts is which of two is ahead. */
static bool tick_is_after(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0;
}

void mr_wheel_init(struct mr_wheel *wheel, uint32_t now_tick)
{
    for (size_t i = 0; i < MR_WHEEL_SLOTS; i++) {
        wheel->slots[i].next = &wheel->slots[i];
        wheel->slots[i].prev = &wheel->slots[i];
    }
    wheel->tick = now_tick;
    wheel->count = 0;
}

void mr_wheel_set(struct mr_wheel *wheel, struct mr_wheel_node *node, uint32_t due)
{
    mr_wheel_cancel(wheel, node);
    node->due = tick_is_after(wheel->tick, due) ? wheel->tick : due;

    struct mr_wheel_node *head = &wheel->slots[node->due % MR_WHEEL_SLOTS];
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
    wheel->count += 1;
}

void mr_wheel_cancel(struct mr_wheel *wheel, struct mr_wheel_node *node)
{
    if (node->next == NULL) {
        return;
    }
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->next = NULL;
    node->prev = NULL;
    wheel->count -= 1;
}

/* A node of a later round ends it too early, which costs a look. */
uint32_t mr_wheel_quiet(const struct mr_wheel *wheel, uint32_t most)
{
    uint32_t ticks = 0;

    while (ticks < most) {
        const struct mr_wheel_node *head = &wheel->slots[(wheel->tick + ticks) % MR_WHEEL_SLOTS];
        if (head->next != head) {
            break;
        }
        ticks += 1;
    }
    return ticks;
}

struct mr_wheel_node *mr_wheel_expired(struct mr_wheel *wheel, uint32_t now_tick)
{
    /* After a long sleep one round sees every node; more would see them twice. */
    if (tick_is_after(now_tick, wheel->tick + MR_WHEEL_SLOTS)) {
        wheel->tick = now_tick - MR_WHEEL_SLOTS + 1;
    }
    while (!tick_is_after(wheel->tick, now_tick)) {
        struct mr_wheel_node *head = &wheel->slots[wheel->tick % MR_WHEEL_SLOTS];
        for (struct mr_wheel_node *node = head->next; node != head; node = node->next) {
            if (!tick_is_after(node->due, now_tick)) {
                mr_wheel_cancel(wheel, node);
                return node;
            }
        }
        wheel->tick += 1;
    }
    return NULL;
}
