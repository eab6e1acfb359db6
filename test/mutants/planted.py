"""planted - faults that a developer could make, one each: where it stands and who has to notice.

`old` must stand in the file exactly once (test_planted.py), so a change of the code that takes a
fault's place away is noticed at once.  `tests` are CTest names in the order in which they are
tried; the first that fails has caught it.
"""

import dataclasses


@dataclasses.dataclass
class Mutant:
    name: str
    what: str  # the fault, as a sentence that ends a row of docs/RELIABILITY.md
    file: str
    old: str
    new: str
    tests: tuple


JOURNAL = ("unit/test_journal_model", "unit/test_journal_torn", "unit/test_journal_damage",
           "unit/test_journal_format", "unit/test_journal", "unit/test_journal_pressure",
           "unit/test_journal_epochs")
BROKER = ("unit/test_ackgate", "unit/test_broker", "unit/test_session_qos2", "unit/test_session",
          "unit/test_session_model", "unit/test_broker_pressure")
PIPELINE = ("unit/test_pipeline", "unit/test_pipeline_position", "unit/test_pipeline_epochs",
            "unit/test_pipeline_room")
BOOKS = ("unit/test_books",)
RETIRE = ("unit/test_journal_retire",)
GATES = ("unit/test_gates",)
REPAIR = ("unit/test_journal_repair", "unit/test_cli_journal")
FORECAST = ("unit/test_forecast",)
LEDGER = ("ledger/ledger",)
EXACTLY = ("unit/test_pipeline_position", "unit/test_kafka_exactly", "behaviour/kafka_exactly",
           "behaviour/kafka_exactly_away", *LEDGER)

DROPS = ("unit/test_drops", "unit/test_journal_live", "unit/test_pipeline_drops")
LIVE = ("unit/test_journal_live", "unit/test_pipeline_live")
FENCE = ("unit/test_pipeline_fence",)

MUTANTS = (
    # ---- what is said to be on the disk ----
    Mutant("fsync-skipped", "a commit is reported durable without fdatasync",
           "src/journal/commit.c",
           "err = mr_file_sync(&run->segment->file);",
           "err = MR_OK;", JOURNAL),
    Mutant("fsync-repeated", "a failed fdatasync is tried again, and the second success believed",
           "src/journal/commit.c",
           "err = mr_file_sync(&run->segment->file);",
           "err = mr_file_sync(&run->segment->file) == MR_OK ||\n"
           "                      mr_file_sync(&run->segment->file) == MR_OK\n"
           "                  ? MR_OK\n                  : MR_ERR_IO;", JOURNAL),
    Mutant("full-flush-repeated", "a flush that found no room is repeated without what it was to "
           "flush being written again", "src/journal/commit.c",
           "err = mr_file_sync(&run->segment->file);",
           "do {\n            err = mr_file_sync(&run->segment->file);\n"
           "        } while (err == MR_ERR_FULL);", ("unit/test_journal_flush",)),
    Mutant("full-flush-believed", "a flush of cursors that found no room counts as done",
           "src/journal/cursor.c",
           "err = cursors_flush(journal);\n    if (err != MR_OK) {",
           "err = cursors_flush(journal);\n    if (err == MR_ERR_IO) {",
           ("unit/test_journal_flush",)),
    Mutant("name-not-synced", "a new segment's name is not flushed before its events are durable",
           "src/journal/commit.c",
           "if (mr_dir_flush(&lane->dir) != MR_OK) {\n        return MR_ERR_IO;",
           "if (lane->folder.text[0] == '\\0') {\n        return MR_ERR_IO;", JOURNAL),
    Mutant("full-disk-believed", "a write that found no room counts as written",
           "src/journal/commit.c",
           "if (err == MR_ERR_FULL) {\n            commit_no_room(lane);\n            return true;",
           "if (err == MR_ERR_FULL) {\n            commit_no_room(lane);\n"
           "            commit_done(lane, &run);\n            return true;",
           JOURNAL + ("unit/test_broker_pressure",)),
    Mutant("meta-not-synced", "meta is renamed into place before its bytes are flushed",
           "src/journal/meta.c",
           "if (err == MR_OK && mr_file_sync(&file) != MR_OK) {",
           "if (err == MR_OK && file.fd < 0) {", JOURNAL),
    Mutant("meta-name-not-synced", "the folder is not flushed behind the rename of meta",
           "src/journal/meta.c",
           "err = mr_dir_sync(journal->folder.text);", "err = MR_OK;", JOURNAL),
    # ---- what is believed of the disk ----
    Mutant("crc-ignored", "a batch is accepted whatever its CRC says",
           "src/journal/format.c",
           "mr_crc32c(0, bytes.at + BATCH_LENGTH_AT, out->byte_length - BATCH_LENGTH_AT) "
           "!= out->crc) {",
           "out->crc == 0) {", JOURNAL),
    Mutant("salt-ignored", "a batch of an earlier life of a recycled file is accepted",
           "src/journal/format.c",
           "out->salt != segment->salt ||\n        out->epoch", "out->epoch", JOURNAL),
    Mutant("recovery-cuts-one-byte", "recovery cuts the last segment one byte too early",
           "src/journal/recover.c",
           "r->used = pos + header.byte_length;", "r->used = pos + header.byte_length - 1;",
           JOURNAL),
    Mutant("recovery-numbers-again", "the first seq behind a recovered batch is given twice",
           "src/journal/recover.c",
           "lane->seq_next = seq_end;", "lane->seq_next = seq_end > 1 ? seq_end - 1 : seq_end;",
           JOURNAL),
    Mutant("recovery-not-rewritten", "what recovery accepted from the page cache is not written "
           "once more, so that a failed fdatasync of the last life is believed",
           "src/journal/recover.c",
           "if (r->used != 0) {\n        err = recover_rewrite(r, &file);",
           "if (r->used == 1) {\n        err = recover_rewrite(r, &file);", JOURNAL),
    Mutant("rot-taken-for-torn", "damage before durable batches is cut like a torn tail",
           "src/journal/recover.c",
           "} else if (proof) {", "} else if (proof && first_seq == 0) {", JOURNAL),
    # ---- what is given back ----
    Mutant("segment-retired-early", "a segment is recycled one event before it is settled",
           "src/journal/retire.c",
           "segment->seq_end <= settled + 1;", "segment->seq_end <= settled + 2;", JOURNAL),
    Mutant("segment-retired-under-a-seek", "a segment goes although a cursor was put back in front "
           "of it since the keeper looked", "src/journal/retire.c",
           "is_settled(segment, cursors < passed ? cursors : passed)",
           "is_settled(segment, cursors != 0 ? passed : cursors)", RETIRE),
    Mutant("put-behind-what-is-gone", "a cursor is put back behind records that the lane does not "
           "hold any more", "src/journal/cursor_put.c",
           "if (seq < from && seq < mr_lane_floor(cursor->lane)) {",
           "if (seq > from && seq < mr_lane_floor(cursor->lane)) {", RETIRE),
    Mutant("cursor-in-place", "a cursor overwrites its newer copy, so a torn write loses it",
           "src/journal/cursor.c",
           "uint8_t copy = !cursor->newer_copy;", "uint8_t copy = cursor->newer_copy;", JOURNAL),
    Mutant("cursor-made-once", "a new cursor is written to one copy, so that damage to it is taken "
           "for a first write that was torn", "src/journal/cursor_open.c",
           "err = copy_make(journal, cursor, slot);\n        if (err == MR_ERR_FULL) {",
           "if (err == MR_ERR_FULL) {", ("unit/test_cursor_first",)),
    Mutant("cursor-not-synced", "segments are recycled for cursors that are not on the medium",
           "src/journal/cursor.c",
           "enum mr_err err = mr_file_sync(&journal->cursor_file);",
           "enum mr_err err = MR_OK;", JOURNAL),
    # ---- repair, and what is told before there is no more room ----
    Mutant("repair-silent", "a repair does not name the records of a batch that it gave up",
           "src/journal/repair.c",
           "lose(r, seq_first, seq_first + run->count - 1, run->parsed);\n        return;",
           "return;", REPAIR),
    Mutant("repair-destroys", "a repair replaces a damaged file without putting it aside",
           "src/journal/repair.c",
           "err = aside_copy(r);", "err = MR_OK;\n    (void)aside_copy;", REPAIR),
    Mutant("repair-misnames", "a repair keeps records whose device was named in what was lost",
           "src/journal/repair.c",
           "return record->naming != MR_NAMING_REFERENCE || (*byte & bit) != 0;",
           "return record->naming != MR_NAMING_REFERENCE || byte != NULL;", REPAIR),
    Mutant("forecast-of-the-full", "the time until the journal is full is that of what it holds",
           "src/journal/forecast.c",
           "double seconds = fills ? (double)room / forecast->rate : 0;",
           "double seconds = fills ? (double)held / forecast->rate : 0;\n        (void)room;",
           FORECAST),
    # ---- acknowledgements ----
    Mutant("ack-early", "a PUBACK leaves one event before its own is durable",
           "src/broker/ackgate.c",
           "gate->ring[gate->tail & gate->mask].seq <= durable_seq;",
           "gate->ring[gate->tail & gate->mask].seq <= durable_seq + 1;", BROKER),
    Mutant("connack-early", "CONNACK says that a session is kept before its record is durable",
           "src/broker/send_connack.c",
           "answer_hold(client, seq, bytes, (size_t)len);",
           "answer_hold(client, seq == 0 ? 0 : seq - 1, bytes, (size_t)len);", BROKER),
    Mutant("failure-believed", "a commit that failed for good counts as durable",
           "src/journal/commit.c",
           "commit_failed(lane, run.segment, what);\n            return true;",
           "commit_failed(lane, run.segment, what);\n            commit_done(lane, &run);\n"
           "            return true;", JOURNAL + BROKER),
    Mutant("bridge-not-awaited", "what waits for a bridge is acknowledged as soon as it is "
           "on the disk",
           "src/broker/gates.c",
           "uint64_t seq = settled_seq(&shard->settled[i], gate, durable_seq);",
           "uint64_t seq = settled_seq(&shard->settled[i], gate, durable_seq) == UINT64_MAX ? 0 "
           ": durable_seq;", GATES),
    Mutant("bridge-overtaken", "what speaks for a session overtakes the publishes in front of it "
           "that wait for a bridge",
           "src/broker/gates.c",
           "return held && client->gate >= GATE_BRIDGES ? client->gate : GATE_DISK;",
           "return held && client->gate > GATE_BRIDGES ? client->gate : GATE_DISK;", GATES),
    Mutant("disk-overtaken", "a publish that waits for nothing overtakes an answer in front of it "
           "that waits for the disk",
           "src/broker/gates.c",
           "return held && client->gate == GATE_DISK ? GATE_DISK : GATE_MEMORY;",
           "return held && client->gate > GATE_MEMORY ? GATE_DISK : GATE_MEMORY;", GATES),
    Mutant("run-of-any-topic", "a publish behind another goes to the topic of that one, whatever "
           "its own is, if it is as long",
           "src/broker/publish_run.c",
           "!mr_bytes_equal(at + 2, run->topic->text, topic_len)) {",
           "at[2] != run->topic->text[0]) {", BROKER + ("unit/test_publish_run",)),
    Mutant("flags-unread", "a bridge takes an event with flags of its own for a plain one",
           "src/journal/view_plain.c",
           "p[0] != MR_RECORD_EVENT || p[1] > 1) {", "p[0] != MR_RECORD_EVENT || p[1] > 0x7f) {",
           ("unit/test_view_plain",)),
    # ---- QoS 2 ----
    Mutant("duplicate-check-dropped", "a QoS 2 PUBLISH that comes again makes a second event",
           "src/broker/handle_publish.c",
           "if (MR_UNLIKELY(packet.qos == 2 && inbound_has(client->session->inbound, "
           "packet.packet_id))) {",
           "if (MR_UNLIKELY(packet.qos == 3 && inbound_has(client->session->inbound, "
           "packet.packet_id))) {", BROKER),
    Mutant("qos2-id-forgotten", "a restart forgets which QoS 2 ids await their PUBREL",
           "src/broker/restore.c",
           "if (event->qos == 2 && !event->will) {", "if (event->qos == 3 && !event->will) {",
           BROKER),
    Mutant("qos2-id-kept", "PUBREL is not journaled, so that after a crash a new event under "
           "its id is taken for the old one",
           "src/broker/handle_pubrel.c",
           "if (known && session->keep != NULL) {\n        if (pubrel_record",
           "if (known && session->keep != NULL && seq != 0) {\n        if (pubrel_record", BROKER),
    Mutant("pubcomp-early", "PUBCOMP leaves before the release of its id is durable",
           "src/broker/handle_pubrel.c",
           "gate_hold(client, gate, seq < last ? last : seq,",
           "gate_hold(client, gate, last,", BROKER),
    # ---- the way to Kafka ----
    Mutant("cursor-too-far", "the cursor covers what the sink has not confirmed yet",
           "src/pipeline/flight.c",
           "mr_cursor_settle(b->cursor, b->seq_cursor, columns)",
           "mr_cursor_settle(b->cursor, b->seq_done, columns)", PIPELINE + LEDGER),
    Mutant("skipped-uncounted", "an event that no filter matches is in no column of the books",
           "src/pipeline/fill.c", "flight->skipped += 1;", "(void)flight;", BOOKS),
    Mutant("letter-counted-twice", "a dead letter is in the books as delivered too",
           "src/pipeline/dead.c",
           "mr_port_settled(reject.flight, 1, 0);", "mr_port_settled(reject.flight, 1, 1);", BOOKS),
    Mutant("seek-unbooked", "what an operator passes over is in no column of the books",
           "src/journal/cursor_put.c",
           "step->to > step->from ? step->to - step->from : step->from - step->to;",
           "step->to > step->from ? 0 : step->from - step->to;", BOOKS),
    Mutant("books-forgotten", "the books of a bridge begin anew at each start",
           "src/journal/cursor.c",
           "mr_books_get(slot + SLOT_BOOKS_AT, &cursor->books);", "(void)mr_books_get;", BOOKS),
    Mutant("verdict-ignored", "a span that the target refused for now counts as delivered",
           "src/pipeline/flight.c",
           "atomic_load_explicit(&flight->failed, memory_order_relaxed) ||\n            "
           "!mr_dead",
           "!mr_dead", PIPELINE + LEDGER),
    Mutant("letter-not-awaited", "the cursor passes an event whose dead letter is not durable",
           "src/pipeline/flight.c",
           "!mr_dead_durable(b, flight->dead_seq) ||", "false ||", PIPELINE),
    Mutant("order-after-failure", "the bridge goes back before the sink has settled what it holds",
           "src/pipeline/worker.c",
           "if (b->state == WORKER_DRAINING && mr_flight_settled(b)) {",
           "if (b->state == WORKER_DRAINING) {", PIPELINE + LEDGER),
    Mutant("epoch-not-awaited", "with another number of shards a device's new events overtake "
           "its old ones",
           "src/pipeline/group.c",
           "if (group == NULL || lane == group->lane_count) {",
           "if (group == NULL || lane <= group->lane_count) {", PIPELINE + LEDGER),
    Mutant("kafka-failure-believed", "a record that Kafka did not take counts as delivered",
           "src/sink/kafka/report.c",
           "is_poison(message->err) && !clock ? MR_VERDICT_SUSPECT : MR_VERDICT_RETRY;",
           "is_poison(message->err) && !clock ? MR_VERDICT_SUSPECT : MR_VERDICT_DONE;",
           ("unit/test_kafka", "behaviour/kafka_away", "ledger/ledger")),
    # ---- exactly once ----
    Mutant("position-ignored", "what Kafka has is not asked, the bridge goes on at its own cursor",
           "src/pipeline/position.c",
           "if (cursor_leads(b)) {",
           "if (cursor_leads(b) || p->known) {", EXACTLY),
    Mutant("position-left-out", "a transaction with records is committed without the position",
           "src/sink/kafka/transaction.c",
           "if (tx_put_position(k, seq, epoch)) {",
           "if (k->tx.held_count != 0 || tx_put_position(k, seq, epoch)) {", EXACTLY),
    Mutant("position-uncommitted", "the position is read from transactions that were aborted, too",
           "src/sink/kafka/options.c",
           '{"isolation.level", "read_committed", "kafka"},',
           '{"isolation.level", "read_uncommitted", "kafka"},', EXACTLY),
    Mutant("commit-not-awaited", "a commit that Kafka has not answered yet counts as done",
           "src/sink/kafka/transaction.c",
           "if (error == NULL) {\n        tx_committed(k);",
           "if (error == NULL || rd_kafka_error_is_retriable(error)) {\n        tx_committed(k);",
           EXACTLY),
    Mutant("doubt-believed", "a commit of unknown outcome counts as done without asking",
           "src/sink/kafka/takeover.c",
           "settle(k, tx->in_doubt && found->is && found->seq >= tx->pending);",
           "settle(k, tx->in_doubt);", EXACTLY),
    Mutant("older-copy-accepted", "a data folder restored from a backup goes on behind what was "
           "delivered from the newer one",
           "src/pipeline/position.c",
           "if (is_beyond(b)) {", "if (is_beyond(b) && p->found_seq == 0) {", EXACTLY),
    Mutant("kafka-acks-one", "Kafka is asked to answer before its replicas have the record",
           "src/sink/kafka/options.c",
           '{"acks", "all", "kafka"},', '{"acks", "1", "kafka"},',
           ("unit/test_kafka", "behaviour/kafka")),
    # ---- when_full: drop_oldest ----
    Mutant("drop-not-durable", "a segment is dropped before its range is on the medium",
           "src/journal/drops.c",
           "drops->failed = drops->failed || mr_file_sync(&drops->file) != MR_OK;",
           "drops->failed = drops->failed || drops->file.fd < 0;", DROPS),
    Mutant("drop-against-rank", "what a bridge with `may_drop: false` needs is dropped all "
           "the same",
           "src/journal/drops.c",
           "if (rank == NULL || rank->never_drops || rank->name[0] == '$') {",
           "if (rank == NULL || rank->name[0] == '$') {", DROPS),
    Mutant("drop-of-sessions", "what the gateway needs for its sessions is dropped",
           "src/journal/drops.c",
           "if (rank == NULL || rank->never_drops || rank->name[0] == '$') {",
           "if (rank == NULL || rank->never_drops) {", DROPS),
    Mutant("drop-slot-reused", "the slot of a range of what was dropped is given away before the "
           "range that replaces it is flushed",
           "src/journal/drops.c",
           "drops->slots[i].replaced = true;", "drops->slots[i].number = 0;", DROPS),
    Mutant("drop-called-lost", "what was dropped for want of room is in the books as lost",
           "src/pipeline/worker.c",
           "mr_flight_lose(b, seq_last, count - dropped, dropped);",
           "mr_flight_lose(b, seq_last, count, 0);", DROPS),
    Mutant("drop-beyond-the-split", "a range of what was dropped holds what the second position of "
           "the bridge had delivered",
           "src/journal/drops.c",
           ".seq_last = least(last, mr_cursor_needs_to(cursor)),", ".seq_last = last,", DROPS),
    # ---- drain: live_first ----
    Mutant("live-again-behind-the-join", "fresh events that have overtaken a backlog are delivered "
           "again when it is through",
           "src/pipeline/live.c",
           "uint64_t seq = mr_cursor_get(b->live.worker->cursor);",
           "uint64_t seq = b->live.from;", LIVE),
    Mutant("live-uncounted", "what the second position has delivered is in no column of the books "
           "when the two are one again",
           "src/journal/live.c",
           "books->columns[i] += live->columns[i];", "books->columns[i] += 0 * live->columns[i];",
           LIVE),
    Mutant("live-position-shared", "the two positions of a bridge are one record in the target",
           "src/pipeline/port.c",
           'return port->bridge->main == NULL ? "" : "live";',
           'return port->bridge->main == NULL ? "" : "" + 0;', LIVE),
    Mutant("live-position-left-out", "a transaction of fresh events is committed without their "
           "position",
           "src/sink/kafka/transaction.c",
           "if (tx_put_position(k, seq, epoch)) {",
           "if (mr_sink_stream(k->port)[0] != '\0' || tx_put_position(k, seq, epoch)) {",
           ("ledger/live",)),
    Mutant("live-unmarked", "events of a backlog that fresh ones have overtaken are not marked",
           "src/pipeline/fill.c",
           "if (MR_UNLIKELY(b->live.open) && b->shape.headers == MR_HEADERS_NONE) {",
           "if (b->live.open && count == 0) {", LIVE),
    Mutant("live-slot-kept", "a second position that a full disk did not let go holds the journal "
           "for good",
           "src/journal/cursor.c",
           "err = err == MR_OK ? mr_cursors_free_live(journal) : err;", "(void)journal;", LIVE),
    Mutant("live-not-fenced", "what the second position had under way at a seek is applied among "
           "what is delivered behind the new place",
           "src/pipeline/position.c",
           "mr_flight_settled(b) && mr_live_is_fenced(b) &&", "mr_flight_settled(b) &&", FENCE),
    Mutant("live-fence-forgotten", "a restart behind such a seek leaves it under way",
           "src/pipeline/live.c",
           "if (err == MR_OK && fences) {", "if (false) {", FENCE),
    Mutant("waited-ahead", "what another shard's clock, or rounding, has put a little ahead of a "
           "shard's own has waited since the start",
           "src/broker/clock.c",
           "end_us + AHEAD_US", "end_us",
           ("unit/test_retained_lanes",)),
    Mutant("retained-forgotten", "a message that is retained again after the clock was set back, "
           "at a shard that has forgotten the clear, is passed over by one that remembers it",
           "src/broker/retained.c",
           "known_us = cleared_mark_us(shard);", "known_us = 0;",
           ("unit/test_retained_lanes",)),
    Mutant("retained-life", "a retained message that was set again after the clock was set back "
           "has the age of the one it replaces",
           "src/broker/retained.c",
           "(waited_us + 999999) / 1000000", "0",
           ("unit/test_retained_lanes",)),
    Mutant("retained-by-time-alone", "a retained message that was set again after the clock was "
           "set back is older, for another shard, than the clear before it",
           "src/broker/retained.c",
           " && known_us % SHARDS_MAX != received_us % SHARDS_MAX", "",
           ("unit/test_retained_lanes",)),
)
