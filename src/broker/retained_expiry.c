/* retained_expiry.c - retained messages whose life is over [MQTT-3.3.2-5].
 *
 * Nobody is sent them (send_publish.c), and they may not keep the place of others: they would
 * count against `max_retained_messages` for ever.  The table is gone through a piece at each
 * tick, as long as there is one with an end in it, so that a million cost no turn much; and at
 * once for a message that has no room.  No record says that one went, so a start finds the same
 * room for the same messages: it goes by the times at which they were received.
 *
 * With several shards one goes only when all lanes have been read to their ends and for a while,
 * like what is known of those that were cleared (cleared.c): until then an older one of another
 * lane could take its place.
 */
#include "broker/retained_internal.h"

enum {
    SWEEP_SLOTS = 1024, /* in a tick */
    PAID_SLOTS = 64,    /* by each message without room: so many such make a pass through all */
    LATER_S = 10,
};

uint32_t retained_life(const struct mr_message *message)
{
    struct mr_mqtt_props props;
    bool ends =
        message_props(message, &props) != NULL && mr_mqtt_has(&props, MR_MQTT_PROP_MESSAGE_EXPIRY);

    return ends ? props.message_expiry_s : UINT32_MAX;
}

/* Was it over `ago_us` before now?  A life is counted in whole seconds (send_publish.c). */
static bool is_over(const struct mr_shard *shard, const struct kept *kept, int64_t ago_us)
{
    int64_t life_s = kept->expiry_s == 0 ? 1 : kept->expiry_s;

    life_s += shard->foreign == NULL ? 0 : LATER_S;
    return kept->expiry_s != UINT32_MAX &&
           shard_waited_us(shard, kept->received_us) - ago_us >= life_s * 1000000;
}

/* One of the slot, or NULL.  One at a time, for what goes may take others of it along. */
static struct retained_node *over_in(const struct mr_shard *shard, size_t slot, int64_t ago_us)
{
    struct retained_node *node = shard->retained->table[slot];

    while (node != NULL && (node->kept == NULL || !is_over(shard, node->kept, ago_us))) {
        node = node->table_next;
    }
    return node;
}

static void sweep(struct mr_shard *shard, size_t count, int64_t ago_us)
{
    struct retained *tree = shard->retained;

    for (size_t i = 0; i < count && tree->mortal != 0; i++) {
        struct retained_node *node;
        tree->swept = (tree->swept + 1) & (tree->slots - 1);
        while ((node = over_in(shard, tree->swept, ago_us)) != NULL) {
            retained_node_clear(shard, node);
            retained_prune(shard, node);
        }
    }
}

void retained_expire(struct mr_shard *shard)
{
    const struct retained *tree = shard->retained;

    if (tree != NULL && tree->mortal != 0 && foreign_is_read_up(shard)) {
        sweep(shard, tree->slots < SWEEP_SLOTS ? tree->slots : SWEEP_SLOTS, 0);
    }
}

void retained_expire_for(struct mr_shard *shard, const struct mr_message *message)
{
    struct retained *tree = shard->retained;

    tree->unpaid -= tree->unpaid < PAID_SLOTS ? tree->unpaid : PAID_SLOTS;
    if (tree->mortal != 0 && tree->unpaid == 0 && (shard->restoring || foreign_is_read_up(shard))) {
        tree->unpaid = tree->slots;
        sweep(shard, tree->slots, shard_waited_us(shard, message->received_us));
    }
}
