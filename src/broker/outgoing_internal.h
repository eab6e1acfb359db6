/* outgoing_internal.h - what a PUBLISH to a client needs beside the message.
 *
 *     merge.c      overlapping subscriptions of a session in one copy
 *     alias_out.c  topic aliases towards a client
 *
 * Thread: the shard's.   Memory: the shard's pool.   Time: none.
 */
#ifndef MR_BROKER_OUTGOING_INTERNAL_H
#define MR_BROKER_OUTGOING_INTERNAL_H

#include "broker/shard_internal.h"

/* ---- deliver.c ---- */

/* May a retained message be sent now, of a session that is not persistent, or with QoS 0?  Else
 * outbound_drain() is called when it may.
 */
bool deliver_may_bring(struct client *client, uint8_t qos);

/* Send one, if deliver_may_bring(): neither dropped nor queued.  FULL: not now. */
enum mr_err deliver_retained(struct client *client, struct outgoing *outgoing) MR_MUST_USE;

/* ---- merge.c ---- */

/* Each delivery that the message means here: a subscription, or all of a session in one.  Of the
 * latter those are left out that are not older than `seq`; 0: none.
 */
void merge_match(struct mr_shard *shard, const struct mr_message *message, uint64_t seq,
                 void (*found)(void *arg, const struct mr_sub *sub), void *arg);

/* What is in force from this record on; at start, when there is room in the journal: what is
 * configured, by a record.
 */
void merge_set(struct mr_shard *shard, bool merges);
void merge_follow(struct mr_shard *shard);

/* The identifiers of all its subscriptions that match, as properties; as many as fit. */
struct mr_span merge_ids(const struct session *session, struct mr_subtree *tree,
                         struct mr_span topic, uint8_t *out, size_t size);

/* ---- alias_out.c ---- */

/* How `topic` is sent: with which alias (0: none), and whether the client knows it. */
struct alias_out {
    uint64_t hash;
    uint16_t number;
    bool known;
};
struct alias_out alias_out(struct client *client, struct mr_span topic);
void alias_out_sent(struct client *client, const struct alias_out *alias, struct mr_span topic);
void alias_out_drop(struct client *client);

#endif
