/* import_emqx_kafka.c - what EMQX carries to Kafka, as our bridges.
 *
 *     connectors.kafka_producer.C ─┐
 *     actions.kafka_producer.A ────┼─▶ bridges.A
 *     rule_engine.rules: FROM ─────┘      from: [...]
 *
 * Up to EMQX 5.3 `bridges.kafka.A` has what connector and action have, and its `local_topic`.
 */
#include "app/cli/import_emqx_internal.h"

#include <strings.h>

enum { TEMPLATE_BYTES = 2048, NAME_BYTES = 96 };

#define BUFFERED "the journal is the buffer, on disk, for as long as Kafka is away"
#define NOT_NEEDED "the Kafka library chooses it; others by `kafka_options`, in librdkafka's words"

/* ---- templates ---- */

/* EMQX: ${.payload.x}, ours: ${payload.x}.  False: a variable that we do not have. */
static bool translate(const char *given, char *out, size_t size)
{
    static const char *const known[] = {"clientid", "username", "topic", "qos", "payload"};
    struct mr_text text = mr_text_over(out, size);

    for (const char *c = given; *c != '\0';) {
        if (strncmp(c, "${", 2) != 0) {
            mr_text_bytes(&text, c, 1);
            c += 1;
            continue;
        }
        const char *name = c + 2 + (c[2] == '.' ? 1 : 0);
        const char *end = strchr(name, '}');
        size_t len = strcspn(name, ".}[");
        bool fits = false;
        for (size_t i = 0; end != NULL && i < MR_COUNT_OF(known); i++) {
            bool is_this = strlen(known[i]) == len && strncmp(known[i], name, len) == 0;
            fits = fits || (is_this && (name[len] == '}' || strcmp(known[i], "payload") == 0));
        }
        if (!fits) {
            return false;
        }
        mr_text_add(&text, "${");
        mr_text_bytes(&text, name, (size_t)(end - name) + 1);
        c = end + 1;
    }
    return !text.truncated;
}

static void set_template(struct emqx *emqx, const struct hocon_value *value, const char *path,
                         struct import_node *into, const char *key)
{
    char text[TEMPLATE_BYTES];

    if (value->kind != HOCON_TEXT || !translate(value->text, text, sizeof(text))) {
        emqx_note(emqx, value, path,
                  "this template cannot be taken over, the default holds; docs/BRIDGES.md has the "
                  "variables that there are");
        return;
    }
    import_set(emqx->import, into, key, IMPORT_TEXT, text, value->place);
}

static void on_key(struct emqx *emqx, const struct hocon_value *value, struct import_node *into)
{
    set_template(emqx, value, "message.key", into, "message_key");
}

static void on_topic(struct emqx *emqx, const struct hocon_value *value, struct import_node *into)
{
    set_template(emqx, value, "topic", into, "topic");
}

/* ${.} is the whole event, as JSON. */
static void on_value(struct emqx *emqx, const struct hocon_value *value, struct import_node *into)
{
    bool whole =
        value->kind == HOCON_TEXT && (strcmp(value->text, "${.}") == 0 || value->text[0] == '\0');
    bool payload = value->kind == HOCON_TEXT && (strcmp(value->text, "${.payload}") == 0 ||
                                                 strcmp(value->text, "${payload}") == 0);

    import_set(emqx->import, into, "value_encoder", IMPORT_PLAIN, payload ? "raw" : "json",
               value->place);
    if (whole) {
        emqx_note(emqx, value, "message.value",
                  "`value_encoder: json` has topic, client, time and payload too, under names of "
                  "its own: see docs/BRIDGES.md, and let consumers look");
    } else if (!payload) {
        emqx_note(emqx, value, "message.value",
                  "values of a form of your own have no equivalent: json is the whole event, raw "
                  "the payload as it came");
    }
}

static void on_timestamp(struct emqx *emqx, const struct hocon_value *value,
                         struct import_node *into)
{
    if (value->kind == HOCON_TEXT &&
        (strcmp(value->text, "${.timestamp}") == 0 || strcmp(value->text, "${timestamp}") == 0)) {
        import_set(emqx->import, into, "timestamp", IMPORT_TEXT, "received", value->place);
        return;
    }
    set_template(emqx, value, "message.timestamp", into, "timestamp");
}

static void on_compression(struct emqx *emqx, const struct hocon_value *value,
                           struct import_node *into)
{
    bool none = value->kind == HOCON_TEXT && strcmp(value->text, "no_compression") == 0;

    if (none) {
        import_set(emqx->import, into, "compression", IMPORT_PLAIN, "none", value->place);
    } else {
        emqx_set(emqx, value, "compression", EMQX_PLAIN, into, "compression");
    }
}

static void on_acks(struct emqx *emqx, const struct hocon_value *value, struct import_node *into)
{
    (void)into;
    emqx_note(emqx, value, "required_acks",
              value->kind == HOCON_TEXT && strcmp(value->text, "all_isr") == 0
                  ? "always so: an event is delivered when all replicas in sync have it"
                  : "less than all replicas in sync is not offered: acknowledged events would get "
                    "lost with a broker");
}

static void on_partition(struct emqx *emqx, const struct hocon_value *value,
                         struct import_node *into)
{
    (void)into;
    emqx_note(emqx, value, "partition_strategy",
              "the key chooses the partition (murmur2, as the Java client does), so that each "
              "device's events stay in order; without a key the client id does");
}

/* "none", or an object with a mechanism. */
static void on_kafka_auth(struct emqx *emqx, const struct hocon_value *value,
                          struct import_node *into)
{
    static const char *const known[] = {"plain", "scram_sha_256", "scram_sha_512"};
    const char *mechanism = value->kind == HOCON_OBJECT ? emqx_text(value, "mechanism") : NULL;
    bool fits = false;

    if (value->kind == HOCON_TEXT && strcmp(value->text, "none") == 0) {
        import_set(emqx->import, into, "authentication.mechanism", IMPORT_PLAIN, "none",
                   value->place);
        return;
    }
    for (size_t i = 0; mechanism != NULL && i < MR_COUNT_OF(known); i++) {
        fits = fits || strcmp(known[i], mechanism) == 0;
    }
    if (!fits) {
        emqx_note(emqx, value, "authentication",
                  "of what proves who we are there are plain, scram_sha_256, scram_sha_512, "
                  "oauthbearer and certificates: see docs/KAFKA.md");
        return;
    }
    static const struct emqx_row rows[] = {
        {.name = "mechanism", .how = EMQX_PLAIN, .key = "authentication.mechanism"},
        {.name = "username", .how = EMQX_TEXT, .key = "authentication.username"},
        {.name = "password", .how = EMQX_TEXT, .key = "authentication.password"},
        {.name = NULL}};
    emqx_rows(emqx, value, "authentication", rows, into, "it has no equivalent");
    import_note(emqx->import, value->place, "authentication",
                "the password stands in the file that is made; `authentication.password_file` "
                "keeps it out of it");
}

static void on_ssl_verify(struct emqx *emqx, const struct hocon_value *value,
                          struct import_node *into)
{
    bool none = value->kind == HOCON_TEXT && strcmp(value->text, "verify_none") == 0;

    import_set(emqx->import, into, "ssl.verify", IMPORT_PLAIN, none ? "false" : "true",
               value->place);
}

/* A connector, an action's parameters, or all of an older bridge. */
static const struct emqx_row kafka_rows[] = {
    {.name = "bootstrap_hosts", .how = EMQX_TEXT, .key = "servers"},
    {.name = "authentication", .how = EMQX_CALL, .call = on_kafka_auth},
    {.name = "ssl.enable", .how = EMQX_PLAIN, .key = "ssl.enable"},
    {.name = "ssl.cacertfile", .how = EMQX_TEXT, .key = "ssl.cacertfile"},
    {.name = "ssl.certfile", .how = EMQX_TEXT, .key = "ssl.certfile"},
    {.name = "ssl.keyfile", .how = EMQX_TEXT, .key = "ssl.keyfile"},
    {.name = "ssl.password", .how = EMQX_TEXT, .key = "ssl.password"},
    {.name = "ssl.verify", .how = EMQX_CALL, .call = on_ssl_verify},
    {.name = "ssl.*", .how = EMQX_NOTE, .advice = NOT_NEEDED},
    {.name = "topic", .how = EMQX_CALL, .call = on_topic},
    {.name = "message.key", .how = EMQX_CALL, .call = on_key},
    {.name = "message.value", .how = EMQX_CALL, .call = on_value},
    {.name = "message.timestamp", .how = EMQX_CALL, .call = on_timestamp},
    {.name = "compression", .how = EMQX_CALL, .call = on_compression},
    {.name = "max_linger_time", .how = EMQX_DURATION, .key = "linger"},
    {.name = "required_acks", .how = EMQX_CALL, .call = on_acks},
    {.name = "partition_strategy", .how = EMQX_CALL, .call = on_partition},
    {.name = "kafka_headers",
     .how = EMQX_NOTE,
     .advice = "see `headers`: names and templates, written one by one"},
    {.name = "kafka_ext_headers",
     .how = EMQX_NOTE,
     .advice = "see `headers`: names and templates, written one by one"},
    {.name = "kafka_header_value_encode_mode",
     .how = EMQX_NOTE,
     .advice = "the value of a header is the text that its template gives"},
    {.name = "buffer.*", .how = EMQX_NOTE, .advice = BUFFERED},
    {.name = "query_mode", .how = EMQX_NOTE, .advice = BUFFERED},
    {.name = "sync_query_timeout", .how = EMQX_NOTE, .advice = BUFFERED},
    {.name = "max_inflight",
     .how = EMQX_NOTE,
     .advice = "`inflight_records` bounds what is on its way"},
    {.name = "local_topic", .how = EMQX_NOTE, .advice = "it is in `from`"},
    {.name = "connector", .how = EMQX_NOTE, .advice = "the bridge has its own `servers`"},
    {.name = "enable", .how = EMQX_NOTE, .advice = "a bridge that is here runs"},
    {.name = "description", .how = EMQX_NOTE, .advice = "write it as a comment"},
    {.name = "tags", .how = EMQX_NOTE, .advice = "write them as a comment"},
    {.name = "resource_opts.*",
     .how = EMQX_NOTE,
     .advice = "a bridge looks after its connection by itself: `retry_min`, `retry_max`"},
    {.name = NULL}};

/* ---- rules ---- */

/* The quoted names behind FROM: into `from` of the bridge.  How many. */
static size_t rule_topics(struct emqx *emqx, const char *sql, struct import_place place,
                          struct import_node *into)
{
    const char *from = NULL;
    size_t count = 0;

    for (const char *c = sql; *c != '\0' && from == NULL; c++) {
        if ((c == sql || strchr(" \n\t", c[-1]) != NULL) && strncasecmp(c, "from", 4) == 0) {
            from = c + 4;
        }
    }
    while (from != NULL) {
        from += strspn(from, " \n\t,");
        if (*from != '"' && *from != '\'') {
            break;
        }
        const char *end = strchr(from + 1, *from);
        if (end == NULL) {
            break;
        }
        char topic[512];
        struct mr_text text = mr_text_over(topic, sizeof(topic));
        mr_text_bytes(&text, from + 1, (size_t)(end - from - 1));
        if (topic[0] != '$' && !text.truncated) { /* $events/..., $bridges/... are no topics */
            import_add(emqx->import, into, "from", topic, place);
            count += 1;
        }
        from = end + 1;
    }
    return count;
}

/* Is it SELECT * without anything else? */
static bool rule_is_plain(const char *sql)
{
    const char *at = sql + strspn(sql, " \n\t");

    if (strncasecmp(at, "select", 6) != 0) {
        return false;
    }
    at += 6 + strspn(at + 6, " \n\t");
    for (const char *c = sql; *c != '\0'; c++) {
        if (strncasecmp(c, "where", 5) == 0) {
            return false;
        }
    }
    return *at == '*';
}

/* Does the rule lead to the action `name`? */
static bool rule_leads_to(const struct hocon_value *rule, const char *name)
{
    const struct hocon_value *actions = hocon_find(rule, "actions");

    for (const struct hocon_value *one = actions == NULL ? NULL : actions->first; one != NULL;
         one = one->next) {
        const char *colon = one->kind == HOCON_TEXT ? strchr(one->text, ':') : NULL;
        if (colon != NULL && strncmp(one->text, "kafka", 5) == 0 && strcmp(colon + 1, name) == 0) {
            return true;
        }
    }
    return false;
}

static const struct hocon_value *rules_of(const struct emqx *emqx)
{
    const struct hocon_value *engine = hocon_find(&emqx->hocon.root, "rule_engine");

    return engine == NULL ? NULL : hocon_find(engine, "rules");
}

/* Which events go there: what rules and `local_topic` say.  How many filters. */
static size_t bridge_from(struct emqx *emqx, const struct hocon_value *action,
                          struct import_node *into)
{
    const struct hocon_value *rules = rules_of(emqx);
    const struct hocon_value *local = hocon_find(action, "local_topic");
    size_t count = 0;

    if (local != NULL && local->kind == HOCON_TEXT && local->text[0] != '\0') {
        import_add(emqx->import, into, "from", local->text, local->place);
        count += 1;
    }
    for (const struct hocon_value *rule = rules == NULL ? NULL : rules->first; rule != NULL;
         rule = rule->next) {
        const char *sql = emqx_text(rule, "sql");
        if (rule->kind == HOCON_OBJECT && sql != NULL && !emqx_is_off(rule) &&
            rule_leads_to(rule, action->name)) {
            count += rule_topics(emqx, sql, rule->place, into);
        }
    }
    return count;
}

static void rule_note(struct emqx *emqx, const struct hocon_value *rule)
{
    struct emqx_path path;
    const char *sql = emqx_text(rule, "sql");
    const struct hocon_value *actions = hocon_find(rule, "actions");

    (void)emqx_path(&path, "rule_engine.rules", rule->name);
    if (emqx_is_off(rule)) {
        emqx_note(emqx, rule, path.text, "switched off, so it is left out");
        return;
    }
    if (sql == NULL || !rule_is_plain(sql)) {
        import_note(emqx->import, rule->place, path.text,
                    "SQL has no equivalent: its topics are in `from` of the bridge, which carries "
                    "every event of them as it came. Conditions and chosen fields are for the "
                    "consumers in Kafka; templates (docs/BRIDGES.md) can choose topic, key, "
                    "headers and time by fields of the payload");
    } else {
        import_note(emqx->import, rule->place, path.text, "its topics are in `from` of the bridge");
    }
    for (const struct hocon_value *one = actions == NULL ? NULL : actions->first; one != NULL;
         one = one->next) {
        if (one->kind != HOCON_TEXT || strncmp(one->text, "kafka", 5) != 0) {
            emqx_note(emqx, one, path.text, "this action of the rule has no equivalent");
        }
    }
}

/* ---- bridges ---- */

/* An action's own members; those of its `parameters` (before 5.4: `kafka`) as if they were. */
static void bridge_members(struct emqx *emqx, const struct hocon_value *action, const char *path,
                           struct import_node *into)
{
    for (const struct hocon_value *value = action->first; value != NULL; value = value->next) {
        struct emqx_path inner;
        struct hocon_value alone = *value;
        struct hocon_value around = {.kind = HOCON_OBJECT, .first = &alone, .last = &alone};

        alone.next = NULL;
        if (value->kind == HOCON_OBJECT &&
            (strcmp(value->name, "parameters") == 0 || strcmp(value->name, "kafka") == 0)) {
            emqx_rows(emqx, value, emqx_path(&inner, path, value->name), kafka_rows, into,
                      NOT_NEEDED);
        } else {
            emqx_rows(emqx, &around, path, kafka_rows, into, NOT_NEEDED);
        }
    }
}

static void bridge(struct emqx *emqx, const struct hocon_value *action,
                   const struct hocon_value *connector, const char *path)
{
    char name[NAME_BYTES];
    struct emqx_path inner;

    emqx_name(action->name, name, sizeof(name));
    if (action->kind != HOCON_OBJECT || emqx_is_off(action)) {
        emqx_note(emqx, action, path, "switched off, so it is left out");
        return;
    }
    struct import_node *all = import_child(emqx->import, NULL, "bridges");
    struct import_node *into = import_child(emqx->import, all, name);
    import_set(emqx->import, into, "type", IMPORT_PLAIN, "kafka", action->place);
    if (bridge_from(emqx, action, into) == 0) {
        emqx_note(emqx, action, path,
                  "no rule leads there, so it carries nothing and is left out; `bridges.NAME.from` "
                  "would say what it is to carry");
        import_drop(all, name);
        return;
    }
    if (connector != NULL) {
        emqx_rows(emqx, connector, emqx_path(&inner, "connectors.kafka_producer", connector->name),
                  kafka_rows, into, NOT_NEEDED);
    }
    bridge_members(emqx, action, path, into);
    if (import_get(emqx->import, into, "topic") == NULL) {
        emqx_note(emqx, action, path, "it names no topic that can be taken over; fill in `topic`");
        import_set(emqx->import, into, "topic", IMPORT_TEXT, "events", action->place);
    }
    if (import_get(emqx->import, into, "servers") == NULL) {
        emqx_note(emqx, action, path, "its connector is not here; fill in `servers`");
        import_set(emqx->import, into, "servers", IMPORT_TEXT, "localhost:9092", action->place);
    }
}

static bool is_kafka(const char *type)
{
    return strcmp(type, "kafka") == 0 || strcmp(type, "kafka_producer") == 0;
}

/* All of `bridges` or `actions`. */
static void bridges(struct emqx *emqx, const char *top)
{
    const struct hocon_value *types = hocon_find(&emqx->hocon.root, top);
    const struct hocon_value *connectors = hocon_find(&emqx->hocon.root, "connectors");
    const struct hocon_value *producers =
        connectors == NULL ? NULL : hocon_find(connectors, "kafka_producer");

    for (const struct hocon_value *type = types == NULL ? NULL : types->first; type != NULL;
         type = type->next) {
        for (const struct hocon_value *one = type->first; one != NULL; one = one->next) {
            struct emqx_path path;
            struct emqx_path outer;
            const char *wanted = emqx_text(one, "connector");

            (void)emqx_path(&path, emqx_path(&outer, top, type->name), one->name);
            if (is_kafka(type->name)) {
                bridge(emqx, one,
                       wanted == NULL || producers == NULL ? NULL : hocon_find(producers, wanted),
                       path.text);
            } else {
                emqx_note(emqx, one, path.text,
                          "Kafka is the target that there is; what goes elsewhere can be read from "
                          "Kafka");
            }
        }
    }
}

static void other_connectors(struct emqx *emqx)
{
    const struct hocon_value *connectors = hocon_find(&emqx->hocon.root, "connectors");

    for (const struct hocon_value *type = connectors == NULL ? NULL : connectors->first;
         type != NULL; type = type->next) {
        struct emqx_path path;
        if (!is_kafka(type->name)) {
            emqx_note(emqx, type, emqx_path(&path, "connectors", type->name),
                      "Kafka is the target that there is");
        }
    }
}

void emqx_kafka(struct emqx *emqx)
{
    const struct hocon_value *engine = hocon_find(&emqx->hocon.root, "rule_engine");
    const struct hocon_value *rules = rules_of(emqx);

    bridges(emqx, "bridges");
    bridges(emqx, "actions");
    other_connectors(emqx);
    for (const struct hocon_value *rule = rules == NULL ? NULL : rules->first; rule != NULL;
         rule = rule->next) {
        rule_note(emqx, rule);
    }
    for (const struct hocon_value *value = engine == NULL ? NULL : engine->first; value != NULL;
         value = value->next) {
        struct emqx_path path;
        if (value != rules) {
            emqx_note(emqx, value, emqx_path(&path, "rule_engine", value->name),
                      "there is no rule engine");
        }
    }
}
