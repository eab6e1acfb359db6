/* refusal.c - what Kafka refuses, in words that end in a command.
 *
 * An operator who reads the line should not have to know which of Kafka's operations a
 * producer needs: the text names the user as Kafka sees it, what it lacks, and how to
 * give it.  docs/KAFKA.md has the whole list.
 */
#include "sink/kafka/kafka_internal.h"

#include "os/clock.h"

#include <stdio.h>

/* Is it about the topic, rather than a record or the cluster's health? */
bool mr_kafka_is_refusal(rd_kafka_resp_err_t err)
{
    switch (err) {
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
        return true;
    default:
        return false;
    }
}

bool mr_kafka_is_final(rd_kafka_resp_err_t err)
{
    switch (err) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION:
    case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
        return true;
    default:
        return false;
    }
}

void mr_kafka_put_grant(const struct mr_kafka_conf *conf, struct mr_text *out, const char *what,
                        const char *topic)
{
    char principal[TEXT_MAX];

    mr_kafka_principal(conf, principal, sizeof(principal));
    mr_text_fmt(out,
                "kafka-acls.sh --bootstrap-server %s --add --allow-principal '%s' --operation %s",
                conf->servers, principal, what);
    if (topic != NULL) {
        mr_text_fmt(out, " --topic %s", topic);
    }
}

static void say_missing(const struct kafka *k, const struct topic *topic, const char *name,
                        struct mr_text *out)
{
    if (k->conf->auto_create.enable && topic != NULL && topic->may_not_create) {
        char principal[TEXT_MAX];
        mr_kafka_principal(k->conf, principal, sizeof(principal));
        mr_text_fmt(out, "topic '%s' does not exist, and '%s' may not create it; allow it: ", name,
                    principal);
        mr_kafka_put_grant(k->conf, out, "Create", name);
        return;
    }
    mr_text_fmt(out,
                "topic '%s' does not exist on the cluster (or lost partitions); create it: "
                "kafka-topics.sh --bootstrap-server %s --create --topic %s, or set "
                "auto_create.enable",
                name, k->conf->servers, name);
}

static void put_clock(struct mr_text *out)
{
    mr_text_add(out, ", which is that of its receipt: this machine says that it is ");
    mr_text_time_us(out, mr_clock_wall_us());
    mr_text_add(out,
                "; set its clock if that is wrong, else look at message.timestamp.after.max.ms "
                "and before.max.ms of the topic");
}

void mr_kafka_refusal(const struct kafka *k, rd_kafka_resp_err_t err, const struct topic *topic,
                      const char *name, char *text, size_t size)
{
    struct mr_text out = mr_text_over(text, size);
    char principal[TEXT_MAX];

    mr_kafka_principal(k->conf, principal, sizeof(principal));
    switch (err) {
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
        say_missing(k, topic, name, &out);
        break;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        /* Kafka hides a topic from those who may not describe it, so that "is not
         * there" and "is not for you" look the same; Write contains Describe. */
        mr_text_fmt(&out,
                    "topic '%s' may not be written to by '%s', or is not there and may not be "
                    "created by it; allow it: ",
                    name, principal);
        mr_kafka_put_grant(k->conf, &out, "Write", name);
        break;
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        mr_text_fmt(&out,
                    "'%s' may write to no topic at all (InitProducerId); allow it: ", principal);
        mr_kafka_put_grant(k->conf, &out, "Write", name);
        mr_text_add(&out, " (brokers before 2.8 want --operation IdempotentWrite --cluster too)");
        break;
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
        mr_text_fmt(&out, "topic '%s' has a name that the cluster refuses", name);
        break;
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
        mr_text_fmt(&out, "topic '%s' refuses the time of a record", name);
        if (mr_sink_times_are_ours(k->port)) {
            put_clock(&out);
        }
        break;
    default:
        mr_text_fmt(&out, "topic '%s' %s", name, rd_kafka_err2str(err));
        break;
    }
}

static const char *accept_hint(const struct mr_kafka_conf *conf)
{
    if (conf->authentication.mechanism == MR_KAFKA_AUTH_OAUTHBEARER) {
        return "check what the brokers expect of a token (issuer, audience, scope)";
    }
    if (mr_kafka_scram_is_old(conf)) {
        return "even if user name and password are right, this librdkafka is too old for SCRAM "
               "with Kafka 4 (2.6.1 is needed); see docs/KAFKA.md";
    }
    return "check user name, password and mechanism in `authentication`";
}

/* An alert of the other side's TLS comes as a lost connection, with OpenSSL's words. */
bool mr_kafka_is_tls(rd_kafka_resp_err_t err, const char *reason)
{
    return err == RD_KAFKA_RESP_ERR__SSL || strstr(reason, "SSL routines") != NULL;
}

/* librdkafka's words about a connection, with what to do about them. */
void mr_kafka_connection_text(struct kafka *k, rd_kafka_resp_err_t err, const char *reason,
                              char *text, size_t size)
{
    static const char no_token[] = "Failed to acquire SASL OAUTHBEARER token: ";
    /* "(after 3ms in state CONNECT, ...)" is different each time and helps no one. */
    const char *tail = strstr(reason, " (after ");
    int len = (int)(tail == NULL ? strlen(reason) : (size_t)(tail - reason));
    struct mr_text out = mr_text_over(text, size);
    char principal[TEXT_MAX];

    switch (err) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
        if (strncmp(reason, no_token, sizeof(no_token) - 1) == 0) {
            mr_text_fmt(&out, "no token: %s", reason + sizeof(no_token) - 1);
            break;
        }
        mr_kafka_principal(k->conf, principal, sizeof(principal));
        mr_text_fmt(&out, "Kafka does not accept '%s' (%s): %.*s; ", principal,
                    mr_kafka_mechanism_name(k->conf), len, reason);
        mr_text_add(&out, accept_hint(k->conf));
        break;
    case RD_KAFKA_RESP_ERR__RESOLVE:
        mr_text_fmt(&out, "%.*s; check `servers` and the name server", len, reason);
        break;
    default:
        if (!mr_kafka_is_tls(err, reason)) {
            mr_text_fmt(&out, "%.*s", len, reason);
        } else if (!mr_kafka_certificate_text(k, &out)) {
            mr_text_fmt(&out, "%.*s; check `ssl` and the brokers' certificates", len, reason);
        }
        break;
    }
}
