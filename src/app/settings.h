/* settings.h - the whole configuration, checked and typed.
 *
 * Every component declares its own option table; this file only says where in the
 * YAML each table stands, and checks what lies between components (two bridges,
 * a listener without a way in, ...).
 *
 *     millrace.yaml ─▶ config/ (tree, tables) ─▶ struct mr_settings ─▶ wire.c
 *
 * Thread: main.   Memory: lives until mr_settings_close().   Time: start-up.
 */
#ifndef MR_APP_SETTINGS_H
#define MR_APP_SETTINGS_H

#include "broker/broker.h"
#include "config/config.h"
#include "pipeline/bridge.h"

struct mr_gateway_conf {
    const char *name;
    const char *data;
    uint64_t memory_bytes; /* 0: a quarter of the machine's */
    uint64_t shards;       /* 0: half of the cores for a new journal, else as it is */
    uint64_t drain_us;     /* how long SIGTERM lets bridges deliver */
    uint32_t loop;         /* enum mr_loop_choice */
};

struct mr_journal_conf {
    uint64_t max_bytes; /* 0: half of the free space when the journal is made */
    uint64_t keep_us;
    uint64_t segment_bytes;   /* 0: chosen from max_bytes */
    uint64_t commit_delay_us; /* 0: batches do not gather */
    struct mr_list exclude;
    uint32_t when_full;              /* enum mr_when_full */
    uint64_t dead_letters_bytes_max; /* per bridge */
};

struct mr_admin_conf {
    const char *bind; /* NULL: the default, and it may be taken */
    bool enable;
};

struct mr_log_conf {
    uint32_t level; /* enum mr_log_level */
    bool connections;
};

struct mr_bridge_settings {
    const char *name;
    struct mr_bridge_conf conf;
    const struct mr_sink_ops *sink;
    void *sink_conf;
};

struct mr_settings {
    struct mr_config *config; /* owns the strings */
    struct mr_gateway_conf gateway;
    struct mr_journal_conf journal;
    struct mr_admin_conf admin;
    struct mr_log_conf log;
    struct mr_broker_limits broker;
    struct mr_auth_conf auth; /* what listeners have in force is theirs */
    struct mr_listener_conf *listeners;
    uint32_t listener_count;
    bool data_given;        /* --data */
    bool listeners_default; /* no `listeners:`: this machine only, a log line says so */
    struct mr_bridge_settings *bridges;
    uint32_t bridge_count;
};

struct mr_settings_source {
    const char *path;             /* NULL: no file, all defaults */
    const char *data;             /* --data; NULL: not given */
    const char *const *set_paths; /* --set, taken apart */
    const char *const *set_values;
    size_t set_count;
};

/* Read and check everything.  Always fills `out` (call close); the result says
 * whether it may be used.  CONFIG: mr_config_problem_count(out->config) > 0, and
 * mr_config_report() says what.
 */
enum mr_err mr_settings_open(struct mr_settings *out,
                             const struct mr_settings_source *source) MR_MUST_USE;
/* Look into the files that run would need: certificates, keys, passwords.  For the user
 * the gateway runs as, so not part of open().  CONFIG: more problems than before, as above;
 * `warn` gets what is worth knowing and no problem.
 */
enum mr_err mr_settings_check_files(struct mr_settings *settings,
                                    void (*warn)(void *arg, const char *text),
                                    void *arg) MR_MUST_USE;
void mr_settings_close(struct mr_settings *settings);

/* Every value in force and its origin, in the order of docs/CONFIG.md. */
void mr_settings_show(struct mr_settings *settings,
                      void (*each)(void *arg, const struct mr_config_shown *shown), void *arg);

/* The same of two bridges with one name; `each` may be NULL. */
size_t mr_settings_compare_bridge(const struct mr_bridge_settings *before,
                                  const struct mr_bridge_settings *after,
                                  void (*each)(void *arg, const struct mr_config_changed *changed),
                                  void *arg);

const struct mr_listener_conf *mr_settings_listener(const struct mr_settings *settings,
                                                    const char *name); /* NULL: there is none */

/* How many values of the fixed sections and the listeners differ. */
size_t mr_settings_compare(const struct mr_settings *before, const struct mr_settings *after,
                           void (*each)(void *arg, const struct mr_config_changed *changed),
                           void *arg);

/* A JSON schema (2020-12) of the configuration file, from the tables. */
void mr_settings_schema(void (*write)(void *arg, const char *text, size_t len), void *arg);

/* docs/CONFIG.md, from the tables. */
void mr_settings_document(void (*write)(void *arg, const char *text, size_t len), void *arg);

#endif
