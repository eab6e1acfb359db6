/* partitions.c - how many partitions a destination has, asked of the worker that knows. */
#include "pipeline/bridge_internal.h"

struct counting {
    struct bridge_call call;
    const char *dest;
    uint32_t count;
};

static bool counting_turn(struct mr_bridge *b, struct bridge_call *call)
{
    struct counting *counting = (struct counting *)call;

    counting->count = b->options.sink->partitions(b->sink_state, counting->dest);
    return true;
}

uint32_t mr_bridge_partitions(struct mr_bridge *b, const char *dest)
{
    struct counting counting = {.call = {.run = counting_turn}, .dest = dest};

    if (b->options.sink->partitions == NULL) {
        return 0;
    }
    return mr_worker_call(b, &counting.call, NULL) == MR_OK ? counting.count : 0;
}
