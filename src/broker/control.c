/* control.c - control records into the journal, and answers that wait for them. */
#include "broker/gates_internal.h"
#include "broker/keep_internal.h"

enum { CONTROL_STACK_BYTES = 256 };

enum mr_err control_append(struct mr_shard *shard, const struct mr_control *control, uint64_t *seq)
{
    size_t size = mr_control_size(control);
    uint8_t small[CONTROL_STACK_BYTES];
    uint8_t *bytes = small;
    size_t capacity = 0;
    struct mr_appended at;

    if (size > sizeof(small)) {
        bytes = mr_bufpool_take(&shard->pool, size, &capacity);
        if (bytes == NULL) {
            shard_stall(shard);
            return MR_ERR_FULL;
        }
    }
    (void)mr_control_put(bytes, control);
    struct mr_record_raw record = {.type = mr_control_record_type(control->kind),
                                   .received_us = shard->wall_us,
                                   .body = mr_span_make(bytes, size)};
    enum mr_err err = mr_lane_append(shard->lane, &record, NULL, &at);
    if (bytes != small) {
        mr_bufpool_give(&shard->pool, bytes, capacity);
    }
    if (err == MR_OK) {
        *seq = at.seq;
    } else if (err == MR_ERR_FULL) {
        shard_stall(shard);
    } else if (err == MR_ERR_IO) {
        shard_fail(shard);
    }
    return err;
}

enum mr_err answer_reserve(struct client *client, size_t len)
{
    return mr_ackgate_reserve(client->shard->gates[gate_of_answer(client)], &client->acks,
                              (uint32_t)len);
}

void answer_hold_at(struct client *client, uint8_t gate, uint64_t seq, const void *bytes,
                    size_t len)
{
    uint64_t last = mr_ackgate_seq_last(client->shard->gates[gate]);

    gate_hold(client, gate, seq < last ? last : seq, bytes, len);
    mr_ackgate_note_plain(client->shard->gates[gate]);
}

void answer_hold(struct client *client, uint64_t seq, const void *bytes, size_t len)
{
    answer_hold_at(client, gate_of_answer(client), seq, bytes, len);
}
