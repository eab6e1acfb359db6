/* accept_rate.c - how many connections a second a listener takes.
 *
 * Counted in time: each connection moves `due` on by one interval, and while `due` is
 * further ahead than the burst is long nobody is accepted.  One number, which the shards
 * move by compare and exchange, so the rate holds for all of them together; they touch it
 * once per accepted connection, and only where there is a limit.
 *
 * Who has to wait waits in the kernel's backlog, as at every other limit (accept.c).
 */
#include "net/net_internal.h"

#include "os/clock.h"

enum { SECOND_NS = 1000000000 };

void mr_net_limit(struct mr_net *net, uint32_t index, const struct mr_net_limits *limits)
{
    net->listeners[index].limits = *limits;
    if (net->listeners[index].used) {
        listeners_watch(net);
    }
}

void mr_net_set_max(struct mr_net *net, uint32_t index, uint64_t connections_max)
{
    net->listeners[index].connections_max = connections_max;
    if (net->listeners[index].used) {
        listeners_watch(net);
    }
}

static _Atomic int64_t *accept_due(struct mr_net *net, uint32_t index)
{
    struct mr_net_shared *shared = net->options.shared;

    return shared != NULL ? &shared->accept_due_ns[index] : &net->listeners[index].accept_due_ns;
}

void accept_rate_return(struct mr_net *net, uint32_t index)
{
    const struct net_listener *listener = &net->listeners[index];

    if (listener->limits.rate != 0) {
        atomic_fetch_sub_explicit(accept_due(net, index),
                                  SECOND_NS / (int64_t)listener->limits.rate, memory_order_relaxed);
    }
}

bool accept_rate_take(struct mr_net *net, uint32_t index)
{
    struct net_listener *listener = &net->listeners[index];
    _Atomic int64_t *due_ns = accept_due(net, index);

    if (MR_LIKELY(listener->limits.rate == 0)) {
        return true;
    }
    int64_t interval_ns = SECOND_NS / (int64_t)listener->limits.rate;
    int64_t burst = listener->limits.burst != 0 ? listener->limits.burst : listener->limits.rate;
    /* Looked at once per tick: what came due within one must not be lost. */
    int64_t ahead_ns = (burst - 1) * interval_ns;
    ahead_ns = ahead_ns < 2 * MR_NET_TICK_NS ? 2 * MR_NET_TICK_NS : ahead_ns;
    int64_t now_ns = mr_clock_mono_ns();
    int64_t due = atomic_load_explicit(due_ns, memory_order_relaxed);
    int64_t next;

    do {
        if (due - now_ns > ahead_ns) {
            listener->again = net->tick + 1;
            return false;
        }
        next = (due > now_ns ? due : now_ns) + interval_ns;
    } while (!atomic_compare_exchange_weak_explicit(due_ns, &due, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}
