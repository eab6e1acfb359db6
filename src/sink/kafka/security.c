/* security.c - who we are to Kafka: TLS, SASL, and the secrets from files.
 *
 * DESIGN
 *
 * `ssl` and `authentication` together choose librdkafka's security.protocol.  What
 * kafka_options says of the same things is refused beside them: two places for one
 * password are one too many.
 *
 * A password_file is read when a producer is made, and again whenever Kafka has
 * refused the password: an operator corrects the file and the bridge goes on, without
 * a restart.  Secrets are in memory only as long as librdkafka needs them set.
 */
#include "sink/kafka/kafka_internal.h"

#include "base/log.h"
#include "os/file.h"

#include <stdio.h>

static const char *const mechanism_choices[] = {
    [MR_KAFKA_AUTH_NONE] = "none",
    [MR_KAFKA_AUTH_PLAIN] = "plain",
    [MR_KAFKA_AUTH_SCRAM_SHA_256] = "scram_sha_256",
    [MR_KAFKA_AUTH_SCRAM_SHA_512] = "scram_sha_512",
    [MR_KAFKA_AUTH_OAUTHBEARER] = "oauthbearer",
    NULL,
};

/* The same as the protocol names them. */
static const char *const mechanism_names[] = {
    [MR_KAFKA_AUTH_NONE] = "",
    [MR_KAFKA_AUTH_PLAIN] = "PLAIN",
    [MR_KAFKA_AUTH_SCRAM_SHA_256] = "SCRAM-SHA-256",
    [MR_KAFKA_AUTH_SCRAM_SHA_512] = "SCRAM-SHA-512",
    [MR_KAFKA_AUTH_OAUTHBEARER] = "OAUTHBEARER",
};

#define SSL_FIELD(field) \
    .offset = offsetof(struct mr_kafka_conf, ssl.field) - offsetof(struct mr_kafka_conf, ssl)
#define AUTH_FIELD(field) .offset = offsetof(struct mr_kafka_auth, field)

const struct mr_option mr_kafka_ssl_options[] = {
    {.name = "enable",
     .type = MR_OPT_BOOL,
     SSL_FIELD(enable),
     .default_text = "false",
     .help = "Speak TLS to the brokers."},
    {.name = "cacertfile",
     .type = MR_OPT_PATH,
     SSL_FIELD(cacertfile),
     .help = "Certificates of the authorities to trust (PEM); by default the system's."},
    {.name = "certfile",
     .type = MR_OPT_PATH,
     SSL_FIELD(certfile),
     .help = "Our own certificate (PEM), where brokers ask for one."},
    {.name = "keyfile",
     .type = MR_OPT_PATH,
     SSL_FIELD(keyfile),
     .help = "The private key that belongs to `certfile` (PEM)."},
    {.name = "password",
     .type = MR_OPT_SECRET,
     SSL_FIELD(password),
     .help = "The password of `keyfile`, if it has one."},
    {.name = "verify",
     .type = MR_OPT_BOOL,
     SSL_FIELD(verify),
     .default_text = "true",
     .help = "Check the brokers' certificates and host names."},
    {.name = NULL},
};

const struct mr_option mr_kafka_auth_options[] = {
    {.name = "mechanism",
     .type = MR_OPT_CHOICE,
     AUTH_FIELD(mechanism),
     .default_text = "none",
     .choices = mechanism_choices,
     .help = "How we prove who we are (SASL); none where a certificate does, or nobody asks."},
    {.name = "username",
     .type = MR_OPT_STR,
     AUTH_FIELD(username),
     .help = "Kafka user, for plain and scram."},
    {.name = "password",
     .type = MR_OPT_SECRET,
     AUTH_FIELD(password),
     .help = "Its password; read at start."},
    {.name = "password_file",
     .type = MR_OPT_PATH,
     AUTH_FIELD(password_file),
     .help = "File that holds the password; read again whenever Kafka refuses it."},
    {.name = "token_endpoint_url",
     .type = MR_OPT_STR,
     AUTH_FIELD(token_endpoint_url),
     .help = "oauthbearer: where the identity provider gives out tokens (OAuth 2, client "
             "credentials)."},
    {.name = "token_cacertfile",
     .type = MR_OPT_PATH,
     AUTH_FIELD(token_cacertfile),
     .help = "oauthbearer: authorities to trust for that address (PEM); by default the system's."},
    {.name = "client_id",
     .type = MR_OPT_STR,
     AUTH_FIELD(client_id),
     .help = "oauthbearer: who we are to the identity provider."},
    {.name = "client_secret",
     .type = MR_OPT_SECRET,
     AUTH_FIELD(client_secret),
     .help = "oauthbearer: the secret that belongs to `client_id`; read at start."},
    {.name = "client_secret_file",
     .type = MR_OPT_PATH,
     AUTH_FIELD(client_secret_file),
     .help = "oauthbearer: file that holds the secret; read for each token."},
    {.name = "scope",
     .type = MR_OPT_STR,
     AUTH_FIELD(scope),
     .help = "oauthbearer: scopes to ask for, separated by blanks."},
    {.name = "extensions",
     .type = MR_OPT_PAIRS,
     AUTH_FIELD(extensions),
     .help = "oauthbearer: SASL extensions (RFC 7628) for the broker, such as a cluster's id."},
    {.name = NULL},
};

/* ---- secrets ---- */

enum mr_err mr_kafka_secret_read(const char *option, const char *given, const char *path,
                                 char out[KAFKA_SECRET_MAX], struct mr_error *why)
{
    struct mr_file file;
    size_t got = 0;

    if (path == NULL) {
        snprintf(out, KAFKA_SECRET_MAX, "%s", given == NULL ? "" : given);
        return MR_OK;
    }
    if (mr_file_open(&file, path, MR_FILE_READ, NULL) != MR_OK) {
        return mr_error_set(why, MR_ERR_CONFIG, "authentication.%s: cannot read %s: %s", option,
                            path, mr_file_last_cause());
    }
    enum mr_err err = mr_file_read(&file, out, KAFKA_SECRET_MAX - 1, 0, &got);
    const char *cause = err == MR_OK ? "" : mr_file_last_cause();
    mr_file_close(&file);
    if (err != MR_OK) {
        return mr_error_set(why, MR_ERR_CONFIG, "authentication.%s: cannot read %s: %s", option,
                            path, cause);
    }
    /* A trailing line end belongs to the file, not to the secret. */
    if (got > 0 && out[got - 1] == '\n') {
        got -= got > 1 && out[got - 2] == '\r' ? 2 : 1;
    }
    out[got] = '\0';
    if (got == 0 || strlen(out) != got || got == KAFKA_SECRET_MAX - 1) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "authentication.%s: %s is empty, too long, or holds the character NUL",
                            option, path);
    }
    return MR_OK;
}

/* After Kafka refused the password: has the operator corrected the file? */
void mr_kafka_password_look(struct kafka *k)
{
    const struct mr_kafka_auth *auth = &k->conf->authentication;
    char secret[KAFKA_SECRET_MAX];

    if (auth->password_file == NULL || auth->mechanism == MR_KAFKA_AUTH_OAUTHBEARER ||
        mr_kafka_secret_read("password_file", NULL, auth->password_file, secret, NULL) != MR_OK) {
        return; /* an unreadable file: the old password stays refused */
    }
    rd_kafka_error_t *error = rd_kafka_sasl_set_credentials(k->rk, auth->username, secret);
    if (error != NULL) {
        mr_log(MR_LOG_WARN, "kafka", "%s: librdkafka does not take the new password: %s",
               mr_sink_bridge_name(k->port), rd_kafka_error_string(error));
        rd_kafka_error_destroy(error);
    }
    explicit_bzero(secret, sizeof(secret));
}

/* ---- who we are ---- */

const char *mr_kafka_mechanism_name(const struct mr_kafka_conf *conf)
{
    return mechanism_names[conf->authentication.mechanism];
}

void mr_kafka_principal(const struct mr_kafka_conf *conf, char *out, size_t size)
{
    const struct mr_kafka_auth *auth = &conf->authentication;

    if (auth->mechanism == MR_KAFKA_AUTH_OAUTHBEARER) {
        /* By default the claim "sub", which is the client's id with client credentials. */
        snprintf(out, size, "User:%s", auth->client_id);
    } else if (auth->mechanism != MR_KAFKA_AUTH_NONE) {
        snprintf(out, size, "User:%s", auth->username);
    } else if (conf->ssl.enable && conf->ssl.certfile != NULL) {
        snprintf(out, size, "User:<subject of %s>", conf->ssl.certfile);
    } else if (conf->kafka_options.count != 0) {
        snprintf(out, size, "User:<the user of kafka_options>");
    } else {
        snprintf(out, size, "User:ANONYMOUS");
    }
}

/* Up to 2.6.0 librdkafka sends its nonce twice in SCRAM's last message.  Kafka took that
 * until 3.7 and, told of it, again from 3.8.1 on; Kafka 4 does not (RFC 5802 section 5.1).
 */
bool mr_kafka_scram_is_old(const struct mr_kafka_conf *conf)
{
    enum { FIXED_IN = 0x020601ff };

    return (conf->authentication.mechanism == MR_KAFKA_AUTH_SCRAM_SHA_256 ||
            conf->authentication.mechanism == MR_KAFKA_AUTH_SCRAM_SHA_512) &&
           rd_kafka_version() < FIXED_IN;
}

void mr_kafka_security_warn(const struct mr_kafka_conf *conf, const char *bridge)
{
    if (conf->authentication.mechanism == MR_KAFKA_AUTH_PLAIN && !conf->ssl.enable) {
        mr_log(MR_LOG_WARN, "kafka",
               "%s: the password of user '%s' crosses the network in clear text: mechanism plain "
               "without ssl.enable",
               bridge, conf->authentication.username);
    }
    if (mr_kafka_scram_is_old(conf)) {
        mr_log(MR_LOG_WARN, "kafka",
               "%s: librdkafka %s cannot do SCRAM with Kafka 4 (2.6.1 can; Kafka 3 does not mind); "
               "docs/KAFKA.md has the ways around it",
               bridge, rd_kafka_version_str());
    }
    if (conf->authentication.mechanism == MR_KAFKA_AUTH_OAUTHBEARER &&
        strncmp(conf->authentication.token_endpoint_url, "http://", 7) == 0) {
        mr_log(MR_LOG_WARN, "kafka",
               "%s: the client's secret crosses the network in clear text: "
               "authentication.token_endpoint_url is not https",
               bridge);
    }
    if (conf->ssl.enable && !conf->ssl.verify) {
        mr_log(MR_LOG_WARN, "kafka",
               "%s: the brokers' certificates are not checked (ssl.verify: false): anybody may "
               "pretend to be this Kafka",
               bridge);
    }
}

/* ---- librdkafka's configuration ---- */

struct row {
    const char *name;
    const char *value; /* NULL: not set */
    const char *option;
};

static enum mr_err set_rows(rd_kafka_conf_t *rk_conf, const struct row *rows, size_t count,
                            struct mr_error *why)
{
    for (size_t i = 0; i < count; i++) {
        if (rows[i].value == NULL) {
            continue;
        }
        enum mr_err err =
            mr_kafka_property_set(rk_conf, rows[i].name, rows[i].value, rows[i].option, why);
        if (err != MR_OK) {
            return err;
        }
    }
    return MR_OK;
}

static enum mr_err set_ssl(rd_kafka_conf_t *rk_conf, const struct mr_kafka_conf *conf,
                           struct mr_error *why)
{
    const struct row rows[] = {
        {"ssl.ca.location", conf->ssl.cacertfile, "ssl.cacertfile"},
        {"ssl.certificate.location", conf->ssl.certfile, "ssl.certfile"},
        {"ssl.key.location", conf->ssl.keyfile, "ssl.keyfile"},
        {"ssl.key.password", conf->ssl.password, "ssl.password"},
        {"enable.ssl.certificate.verification", conf->ssl.verify ? "true" : "false", "ssl.verify"},
        {"ssl.endpoint.identification.algorithm", conf->ssl.verify ? "https" : "none",
         "ssl.verify"},
    };

    return conf->ssl.enable ? set_rows(rk_conf, rows, MR_COUNT_OF(rows), why) : MR_OK;
}

static enum mr_err set_sasl(rd_kafka_conf_t *rk_conf, const struct mr_kafka_conf *conf,
                            struct mr_error *why)
{
    const struct mr_kafka_auth *auth = &conf->authentication;
    char secret[KAFKA_SECRET_MAX];

    if (auth->mechanism == MR_KAFKA_AUTH_NONE) {
        return MR_OK;
    }
    enum mr_err err =
        mr_kafka_property_set(rk_conf, "sasl.mechanism", mechanism_names[auth->mechanism],
                              "authentication.mechanism", why);
    if (err != MR_OK || auth->mechanism == MR_KAFKA_AUTH_OAUTHBEARER) {
        return err;
    }
    err = mr_kafka_secret_read("password_file", auth->password, auth->password_file, secret, why);
    if (err == MR_OK) {
        const struct row rows[] = {
            {"sasl.username", auth->username, "authentication.username"},
            {"sasl.password", secret, "authentication.password"},
        };
        err = set_rows(rk_conf, rows, MR_COUNT_OF(rows), why);
    }
    explicit_bzero(secret, sizeof(secret));
    return err;
}

enum mr_err mr_kafka_security_set(rd_kafka_conf_t *rk_conf, const struct mr_kafka_conf *conf,
                                  struct mr_error *why)
{
    static const char *const protocols[2][2] = {{NULL, "ssl"}, {"sasl_plaintext", "sasl_ssl"}};
    bool sasl = conf->authentication.mechanism != MR_KAFKA_AUTH_NONE;
    const struct row row = {"security.protocol", protocols[sasl][conf->ssl.enable], "ssl.enable"};

    enum mr_err err = set_rows(rk_conf, &row, 1, why);
    if (err == MR_OK) {
        err = set_ssl(rk_conf, conf, why);
    }
    return err == MR_OK ? set_sasl(rk_conf, conf, why) : err;
}

/* ---- checks ---- */

static enum mr_err check_files(const struct mr_kafka_conf *conf, struct mr_error *why)
{
    const struct {
        bool used;
        const char *path;
        const char *option;
    } files[] = {
        {conf->ssl.enable, conf->ssl.cacertfile, "ssl.cacertfile"},
        {conf->ssl.enable, conf->ssl.certfile, "ssl.certfile"},
        {conf->ssl.enable, conf->ssl.keyfile, "ssl.keyfile"},
        {true, conf->authentication.token_cacertfile, "authentication.token_cacertfile"},
    };

    for (size_t i = 0; i < MR_COUNT_OF(files); i++) {
        if (files[i].used && files[i].path != NULL && !mr_path_exists(files[i].path)) {
            return mr_error_set(why, MR_ERR_CONFIG, "%s: there is no file %s", files[i].option,
                                files[i].path);
        }
    }
    if (conf->ssl.enable && (conf->ssl.certfile == NULL) != (conf->ssl.keyfile == NULL)) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "ssl.certfile: belongs together with ssl.keyfile; give both or none");
    }
    return MR_OK;
}

/* Exactly one of a secret and its file. */
static enum mr_err check_secret(const char *name, const char *given, const char *path,
                                const char *mechanism, struct mr_error *why)
{
    char secret[KAFKA_SECRET_MAX];
    char file_name[64];

    snprintf(file_name, sizeof(file_name), "%s_file", name);
    if ((given == NULL) == (path == NULL)) {
        return mr_error_set(why, MR_ERR_CONFIG, "authentication.%s: %s needs one of %s and %s_file",
                            given == NULL ? "mechanism" : name, mechanism, name, name);
    }
    enum mr_err err = mr_kafka_secret_read(file_name, given, path, secret, why);
    explicit_bzero(secret, sizeof(secret));
    return err;
}

/* https://user:password@host/path */
static bool has_user_part(const char *url)
{
    const char *host = strstr(url, "://") + 3;

    return memchr(host, '@', strcspn(host, "/?#")) != NULL;
}

static enum mr_err check_sasl(const struct mr_kafka_auth *auth, struct mr_error *why)
{
    const char *mechanism = mechanism_choices[auth->mechanism];

    if (auth->mechanism == MR_KAFKA_AUTH_NONE) {
        const char *lonely = auth->username != NULL             ? "username"
                             : auth->password != NULL           ? "password"
                             : auth->password_file != NULL      ? "password_file"
                             : auth->client_id != NULL          ? "client_id"
                             : auth->token_endpoint_url != NULL ? "token_endpoint_url"
                                                                : NULL;
        return lonely == NULL
                   ? MR_OK
                   : mr_error_set(why, MR_ERR_CONFIG,
                                  "authentication.%s: without a mechanism it is not used; add "
                                  "`mechanism: scram_sha_512` (or plain, scram_sha_256, "
                                  "oauthbearer)",
                                  lonely);
    }
    if (auth->mechanism != MR_KAFKA_AUTH_OAUTHBEARER) {
        if (auth->username == NULL) {
            return mr_error_set(why, MR_ERR_CONFIG, "authentication.mechanism: %s needs a username",
                                mechanism);
        }
        return check_secret("password", auth->password, auth->password_file, mechanism, why);
    }
    if (auth->client_id == NULL || auth->token_endpoint_url == NULL) {
        return mr_error_set(why, MR_ERR_CONFIG, "authentication.mechanism: %s needs %s", mechanism,
                            auth->client_id == NULL ? "a client_id" : "a token_endpoint_url");
    }
    if (strncmp(auth->token_endpoint_url, "https://", 8) != 0 &&
        strncmp(auth->token_endpoint_url, "http://", 7) != 0) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "authentication.token_endpoint_url: '%.128s' is no address; write "
                            "https://host/path",
                            auth->token_endpoint_url);
    }
    if (has_user_part(auth->token_endpoint_url)) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "authentication.token_endpoint_url: a user or password in the address "
                            "would be shown in messages; give client_id and client_secret");
    }
    return check_secret("client_secret", auth->client_secret, auth->client_secret_file, mechanism,
                        why);
}

/* One place for each thing. */
static enum mr_err check_twice(const struct mr_kafka_conf *conf, struct mr_error *why)
{
    bool sasl = conf->authentication.mechanism != MR_KAFKA_AUTH_NONE;

    for (size_t i = 0; i < conf->kafka_options.count; i++) {
        const char *name = conf->kafka_options.items[i].name;
        if (sasl && (strncmp(name, "sasl.", 5) == 0 || strcmp(name, "security.protocol") == 0)) {
            return mr_error_set(why, MR_ERR_CONFIG,
                                "kafka_options: '%s' cannot be set beside `authentication`; use "
                                "one of the two",
                                name);
        }
    }
    return MR_OK;
}

/* Certificates and keys are read only when a producer is made: make one, towards a
 * port where nobody answers.
 */
static enum mr_err check_certificates(const struct mr_kafka_conf *conf, struct mr_error *why)
{
    struct mr_kafka_conf nowhere = *conf;
    char text[TEXT_MAX];

    nowhere.servers = "127.0.0.1:9";
    nowhere.authentication.mechanism = MR_KAFKA_AUTH_NONE;
    rd_kafka_conf_t *rk_conf = mr_kafka_conf_make(&nowhere, BATCH_BYTES_DEFAULT, NULL, why);
    if (rk_conf == NULL) {
        return MR_ERR_CONFIG;
    }
    rd_kafka_conf_set_log_cb(rk_conf, NULL);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, rk_conf, text, sizeof(text));
    if (rk == NULL) {
        rd_kafka_conf_destroy(rk_conf);
        return mr_error_set(why, MR_ERR_CONFIG, "ssl: librdkafka: %s", text);
    }
    rd_kafka_destroy(rk);
    return MR_OK;
}

enum mr_err mr_kafka_security_check(const struct mr_kafka_conf *conf, struct mr_error *why)
{
    enum mr_err err = check_files(conf, why);

    if (err == MR_OK) {
        err = check_sasl(&conf->authentication, why);
    }
    if (err == MR_OK) {
        err = check_twice(conf, why);
    }
    return err == MR_OK && conf->ssl.enable ? check_certificates(conf, why) : err;
}
