/* kafka_internal.h - what the files of this folder share; never leaves it.
 *
 *     options.c   the table, checks, librdkafka's configuration
 *     security.c  TLS, SASL, secrets; who we are to Kafka
 *     certificate.c  certificates: refused, expired, renewed
 *     token.c     tokens of an identity provider, for OAUTHBEARER
 *     kafka.c     life cycle of the producer, submit, tick, close
 *     report.c    delivery reports, errors
 *     watch.c     is Kafka there, and does it take anything?
 *     refusal.c   what Kafka refuses, in words
 *     topic.c     topics: legal names, partitions
 *     admin.c     topics that are made, looked at for limits, and grow
 *     transaction.c  exactly once: transactions
 *     takeover.c  exactly once: a new producer, and what became of the one before
 *     finder.c    exactly once: the position record, read back
 *
 * Thread: everything on the bridge's worker, except the log callback and token.c.
 */
#ifndef MR_SINK_KAFKA_KAFKA_INTERNAL_H
#define MR_SINK_KAFKA_KAFKA_INTERNAL_H

#include "base/log.h"
#include "base/metric.h"
#include "base/text.h"
#include "os/thread.h"
#include "sink/kafka/kafka.h"

#include <librdkafka/rdkafka.h>

enum {
    TEXT_MAX = 512,
    KAFKA_SECRET_MAX = 4096,
    HEADERS_MAX = MR_RECORD_HEADERS_MAX,
    BATCH_BYTES_DEFAULT = 1000000,
    BATCH_BYTES_MIN = 2048,
    POSITIONS_PARTITIONS = 16,       /* of the topic of positions, if we make it */
    MESSAGE_BYTES_DEFAULT = 1048588, /* as a topic's max.message.bytes, by Kafka's default */
};

#define NS_PER_MS ((int64_t)1000000)
#define NS_PER_S ((int64_t)1000000000)

/* A topic we produce to: dest->sink_data. */
struct topic {
    struct topic *next;
    const char *name; /* the destination's */
    rd_kafka_topic_t *rkt;
    uint64_t generation; /* of the producer `rkt` belongs to */
    int32_t partitions;  /* 0: not read yet */
    uint32_t count_age;  /* rises when `partitions` changes; see kafka_partition() */
    int32_t grown_to;    /* the count that was told last */
    bool created;        /* auto_create has done what it could */
    bool may_not_create; /* Kafka refused it for lack of permission */
    bool limits_asked;
    int64_t limits_failed_ns; /* when the last error came instead; 0: none */
    int64_t create_at_ns;     /* not before, after a failure */
    char impossible[256];     /* why Kafka will never make it; empty: nothing is known of that */
    int64_t missing_since_ns;
};

/* ---- exactly once ---- */

enum {
    TX_HELD_MAX = 256, /* batches in a transaction; the pipeline has no more spans */
    TX_NAME_MAX = 256,
    TX_BY_CHARS = 16,
    TX_ROOM_MIN = 65536, /* bytes of a transaction, however slow Kafka is */
};

enum tx_state {
    TX_OFF,     /* at least once */
    TX_CLOSED,  /* no producer; a new one at again_at_ns */
    TX_INIT,    /* it fences those before it and finishes what they left */
    TX_FIND,    /* the position is being read */
    TX_FOUND,   /* and told; the pipeline says where to go on */
    TX_READY,   /* no transaction */
    TX_OPEN,    /* batches are in it */
    TX_COMMIT,  /* it is being committed */
    TX_FENCED,  /* a newer producer has our id, or the broker has given our transaction up */
    TX_STOPPED, /* for the operator */
};

/* A batch, and how many of its records are in the transaction. */
struct held {
    void *token;
    uint32_t count;
    bool suspect;
};

/* The position record as it was read. */
struct found {
    bool is; /* there is one */
    uint64_t seq;
    uint32_t epoch;
    uint64_t number;    /* rises with each; 0: an older version wrote it */
    int32_t partitions; /* that the topic had then, as its writer knew; 0: not known */
    char by[TX_BY_CHARS + 1];
    char gateway[64];
};

struct finder; /* finder.c */

struct tx {
    enum tx_state state;
    char id[TX_NAME_MAX];     /* transactional.id */
    char key[TX_NAME_MAX];    /* of the position record */
    char by[TX_BY_CHARS + 1]; /* which of all producers of this id we are */
    bool claimed;             /* some position record is by us */
    struct topic positions;   /* where those are */
    struct finder *finder;    /* NULL: nothing is being read */
    struct held held[TX_HELD_MAX];
    uint32_t held_count;
    uint64_t seq_last; /* of the last batch held */
    uint64_t bytes;    /* of their values */
    uint64_t room;     /* how many of those Kafka takes in time, by what it took last */
    uint64_t position; /* that Kafka has */
    uint64_t number;   /* of the last position record that was read or written */
    uint64_t pending;  /* that the commit on its way brings */
    bool flushed;
    bool in_doubt; /* the commit may have been sent: only Kafka knows */
    bool fenced;
    bool blocked; /* not even a transaction can be begun; the port was told why */
    bool place_wanted;
    uint64_t place_seq;
    uint32_t place_epoch;
    uint32_t failures;   /* since the last commit with records */
    int64_t again_at_ns; /* CLOSED, FENCED: when to go on */
    int64_t fenced_ns;
    bool looked_again; /* for a position that is behind the cursor */
    int64_t opened_ns;
    int64_t commit_ns;
    int64_t behind_ns; /* since when the position could be moved without records; 0: not */
    char reason[TEXT_MAX];
    struct mr_mutex said_mutex; /* librdkafka's threads write: */
    char said[TEXT_MAX];        /* why a partition could not take part in the transaction */
    struct mr_metric *committed;
    struct mr_metric *aborted;
    struct mr_metric *seconds;
};

enum admin_task { ADMIN_NONE, ADMIN_CREATE, ADMIN_LIMITS };

struct token_source; /* token.c */

struct kafka {
    const struct mr_kafka_conf *conf;
    struct mr_sink_port *port;
    rd_kafka_t *rk; /* NULL: closed */
    rd_kafka_queue_t *queue;
    uint64_t generation; /* of rk; rises with each */
    struct topic *topics;
    struct topic *denied;   /* records of it were refused, none delivered since */
    uint64_t offered_seq;   /* the last record of the batch that was offered last */
    uint64_t refused_seq;   /* offered_seq as a topic was refused or missing; 0: none was */
    bool may_write_nothing; /* not even a producer id was given, nothing delivered since */
    uint64_t inflight;      /* produced, no report yet */
    uint32_t batch_bytes;   /* batch.size; halves when a broker finds it too large */

    /* one after the other, on a failure */
    bool failing; /* give back all there is, take nothing */
    bool purged;  /* librdkafka was told */
    bool shrunk;  /* batch_bytes, for the next producer; once in each one's life */
    bool stale;   /* a new producer before the next record */
    bool renew;   /* not only then, but at once */

    /* one request to the cluster's administration at a time (admin.c) */
    rd_kafka_queue_t *admin_queue; /* NULL: none made for this producer */
    enum admin_task admin_task;
    struct topic *admin_topic;
    int64_t growth_at_ns; /* when to look for new partitions; 0: never */
    int64_t growth_every_ns;
    bool limits_wanted;      /* some topic's are not known */
    int64_t limits_at_ns;    /* not before, after an error */
    int64_t limits_pause_ns; /* behind the last error; 0: behind it came an answer */

    struct mr_log_limit throttle_limit;

    struct token_source *token; /* NULL: no OAUTHBEARER */
    struct {
        struct mr_mutex mutex;
        char said[TEXT_MAX]; /* why a broker's was refused; librdkafka's threads write */
        uint64_t files_hash; /* of what this producer has read */
        int64_t look_at_ns;
    } certificate;
    struct tx tx;

    /* reports of one batch that follow each other, told as one verdict */
    void *told_token;
    uint32_t told_count;

    bool heard;            /* a broker confirmed something since the last tick */
    bool answered;         /* the last thing known of the cluster is that it answers */
    int64_t away_since_ns; /* all brokers down; 0: no */
    int64_t progress_ns;   /* a record was confirmed then, or nothing was on its way */
    int64_t stall_ns;      /* how long there need be none */
    bool stalled;          /* none for long, and the port was told; until the next one is */
    int64_t probe_at_ns;   /* when to look again */
    int64_t opened_ns;
    int64_t now_ns;              /* of the last tick */
    char broker_error[TEXT_MAX]; /* what librdkafka said last of a connection, since we were up */
    bool broker_refuses;         /* it was for the operator: credentials, certificates */

    rd_kafka_vu_t fields[6 + HEADERS_MAX]; /* of produceva, patched per record */
};

/* options.c */
extern const struct mr_option mr_kafka_options[];
enum mr_err mr_kafka_check(const void *conf, struct mr_error *why) MR_MUST_USE;
rd_kafka_conf_t *mr_kafka_conf_make(const struct mr_kafka_conf *conf, uint32_t batch_bytes,
                                    const char *transactional_id, struct mr_error *why);
rd_kafka_conf_t *mr_kafka_conf_make_reader(const struct mr_kafka_conf *conf, struct mr_error *why);
uint32_t mr_kafka_message_bytes_max(const struct mr_kafka_conf *conf);
enum mr_err mr_kafka_property_set(rd_kafka_conf_t *rk_conf, const char *name, const char *value,
                                  const char *option, struct mr_error *why) MR_MUST_USE;

/* security.c */
extern const struct mr_option mr_kafka_ssl_options[];
extern const struct mr_option mr_kafka_auth_options[];
enum mr_err mr_kafka_security_check(const struct mr_kafka_conf *conf,
                                    struct mr_error *why) MR_MUST_USE;
enum mr_err mr_kafka_security_set(rd_kafka_conf_t *rk_conf, const struct mr_kafka_conf *conf,
                                  struct mr_error *why) MR_MUST_USE;
bool mr_kafka_scram_is_old(const struct mr_kafka_conf *conf);
void mr_kafka_security_warn(const struct mr_kafka_conf *conf, const char *bridge);
/* `path` NULL: the text as given.  MR_ERR_CONFIG: `why` begins with the option's name. */
enum mr_err mr_kafka_secret_read(const char *option, const char *given, const char *path,
                                 char out[KAFKA_SECRET_MAX], struct mr_error *why) MR_MUST_USE;
void mr_kafka_password_look(struct kafka *k);
/* "User:press", as ACLs name it. */
void mr_kafka_principal(const struct mr_kafka_conf *conf, char *out, size_t size);
const char *mr_kafka_mechanism_name(const struct mr_kafka_conf *conf);

/* certificate.c */
void mr_kafka_certificate_warn(const struct mr_kafka_conf *conf, const char *bridge);
void mr_kafka_certificate_attach(rd_kafka_conf_t *rk_conf,
                                 struct kafka *k); /* before rd_kafka_new */
/* Why a handshake failed, if it is known; false: nothing was added. */
bool mr_kafka_certificate_text(struct kafka *k, struct mr_text *out);
void mr_kafka_certificate_look(struct kafka *k); /* after a refusal: were the files renewed? */

/* token.c */
void mr_kafka_token_attach(rd_kafka_conf_t *rk_conf, struct kafka *k); /* before rd_kafka_new */
void mr_kafka_token_begin(struct kafka *k, rd_kafka_t *rk);            /* after it */
void mr_kafka_token_end(struct kafka *k);  /* a request is not waited for any longer */
void mr_kafka_token_free(struct kafka *k); /* when the producer is gone */

/* kafka.c */
enum mr_err mr_kafka_producer_make(struct kafka *k, struct mr_error *why) MR_MUST_USE;
void mr_kafka_producer_drop(struct kafka *k); /* librdkafka holds no value any more */

/* transaction.c */
void mr_tx_init(struct kafka *k);
void mr_tx_fini(struct kafka *k);
void mr_tx_opened(struct kafka *k); /* there is a new producer */
bool mr_tx_takes(const struct kafka *k);
bool mr_tx_enter(struct kafka *k, const struct mr_batch *batch); /* before its first record */
void mr_tx_entered(struct kafka *k, const struct mr_batch *batch, uint32_t count);
void mr_tx_place(void *state, uint64_t seq, uint32_t epoch);
void mr_tx_tick(struct kafka *k, int64_t now_ns);
void mr_tx_close(struct kafka *k, int64_t patience_ns);
/* How many bytes the next transaction may have, at most `most`, when this one may have had `room`,
 * had `bytes`, and needed `took_ns` behind its last record; Kafka takes that in time then. */
uint64_t mr_tx_room(uint64_t room, uint64_t most, uint64_t bytes, int64_t took_ns);

/* takeover.c */
void mr_tx_note(struct kafka *k, void *token, enum mr_verdict verdict, const char *reason);
void mr_tx_note_error(struct kafka *k, rd_kafka_resp_err_t err);
void mr_tx_note_partition(struct kafka *k, const char *text); /* any thread */
/* Takes `error`; false: the same call is to be made again. */
bool mr_tx_failed(struct kafka *k, rd_kafka_error_t *error, const char *doing);
void mr_tx_settle(struct kafka *k, bool done);
void mr_tx_fail_over(struct kafka *k, int64_t now_ns);
void mr_tx_take_over(struct kafka *k, int64_t now_ns); /* a step on the way to FOUND */

/* finder.c */
enum find_result {
    FIND_MORE, /* come again */
    FIND_DONE,
    FIND_BLOCKED, /* cannot be read; `why` */
};
enum mr_err mr_finder_begin(struct kafka *k, struct mr_error *why) MR_MUST_USE;
enum find_result mr_finder_step(struct kafka *k, struct found *out, struct mr_error *why);
void mr_finder_end(struct kafka *k);
void mr_finder_put(const struct kafka *k, uint64_t seq, uint32_t epoch, struct mr_text *out);

/* topic.c */
const char *mr_kafka_topic_refused(struct mr_span name);
bool mr_kafka_topic_ready(struct kafka *k, struct mr_dest *dest);
void mr_kafka_topics_release(struct kafka *k); /* before the producer goes */
void mr_kafka_topics_free(struct kafka *k);
bool mr_kafka_probe(struct kafka *k, rd_kafka_topic_t *rkt, int timeout_ms);

/* admin.c */
bool mr_kafka_topic_create(struct kafka *k, struct topic *topic); /* true: done what can be */
void mr_kafka_admin_begin(struct kafka *k);
void mr_kafka_admin_tick(struct kafka *k, int64_t now_ns);
void mr_kafka_admin_end(struct kafka *k); /* before the producer goes */
/* The value of `name` in an answer to DescribeConfigs, borrowed from it; NULL: it is not there. */
const char *mr_kafka_config_of(rd_kafka_event_t *event, const char *name, rd_kafka_resp_err_t *err);

/* refusal.c: sentences for the operator */
bool mr_kafka_is_refusal(rd_kafka_resp_err_t err);
/* Asked the same again, Kafka would say the same. */
bool mr_kafka_is_final(rd_kafka_resp_err_t err);
/* "kafka-acls.sh ... --operation WHAT", on `topic` (may be NULL). */
void mr_kafka_put_grant(const struct mr_kafka_conf *conf, struct mr_text *out, const char *what,
                        const char *topic);
bool mr_kafka_is_tls(rd_kafka_resp_err_t err, const char *reason);
void mr_kafka_refusal(const struct kafka *k, rd_kafka_resp_err_t err, const struct topic *topic,
                      const char *name, char *text, size_t size);
void mr_kafka_connection_text(struct kafka *k, rd_kafka_resp_err_t err, const char *reason,
                              char *text, size_t size);

/* A broker confirmed something.  At once, for what librdkafka tells in the same turn may be that
 * all brokers are gone since: it says so once, not again until one was there.
 */
static inline void mr_kafka_heard(struct kafka *k)
{
    k->heard = true;
    k->away_since_ns = 0;
}

/* watch.c */
void mr_kafka_watch_begin(struct kafka *k); /* there is a new producer */
void mr_kafka_watch(struct kafka *k, int64_t now_ns);
void mr_kafka_answered(struct kafka *k); /* up, if nothing but an answer was missing */
/* It cannot be had, and keeps us down until it can, or is passed over. */
void mr_kafka_topic_missing(struct kafka *k, struct topic *topic);
void mr_kafka_away(struct kafka *k); /* tell the port, with the best reason there is */

/* report.c */
void mr_kafka_reports_to(rd_kafka_conf_t *rk_conf, struct kafka *k);
void mr_kafka_flush_told(struct kafka *k);
bool mr_kafka_is_consequence(rd_kafka_resp_err_t err);
void mr_kafka_fail(struct kafka *k);
/* Kafka is there and refuses us; only an operator can change that. */
void mr_kafka_refused(struct kafka *k, rd_kafka_resp_err_t err, struct topic *topic,
                      const char *name);

#endif
