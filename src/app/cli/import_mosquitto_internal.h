/* import_mosquitto_internal.h - what the reader of mosquitto.conf and its options share.
 *
 * Thread: main.   Memory: between import_mosquitto_begin() and _end().   Time: none.
 */
#ifndef MR_APP_CLI_IMPORT_MOSQUITTO_INTERNAL_H
#define MR_APP_CLI_IMPORT_MOSQUITTO_INTERNAL_H

#include "app/cli/import_internal.h"

/* `key value`, as it stands in a file. */
struct mosquitto_line {
    char *key;
    char *value;      /* "" if there is none */
    const char *text; /* for notes: both, without a secret */
    struct import_place place;
};

/* What a listener is known by only when all of it has been read. */
struct mosquitto_listener {
    struct mosquitto_listener *next;
    struct import_node *node;
    char name[32]; /* the node's until the listener gets its own */
    struct import_place place;
    char host[256]; /* "": all addresses */
    uint32_t port;
    bool used;     /* the default listener: something has been said about it */
    bool ipv6;     /* socket_domain */
    bool is_path;  /* `host` is a Unix socket */
    bool is_http;  /* not one of MQTT */
    bool web;      /* WebSocket */
    int anonymous; /* said of it alone; -1: not said */
    struct import_place anonymous_place;
};

struct mosquitto {
    struct import *import;
    struct mosquitto_listener *first; /* the default one */
    struct mosquitto_listener *last;  /* the one that lines are about */
    unsigned count;
    int anonymous; /* -1: not said */
    bool per_listener;
    int log_level; /* of `log_type`: 0 debug, 1 info, 2 warn, 3 error; -1: not said */
    struct import_place anonymous_place;
    struct import_place log_place;
    char log_text[64];
    const char *folder; /* of the file that is being read, for include_dir */
    unsigned depth;     /* of include_dir */
    bool ok;            /* what was included could be read */
};

/* Handle one line: a key of ours, or a note. */
void mosquitto_option(struct mosquitto *reader, struct mosquitto_line *line);

/* What to do about an option that has no key; NULL: it is not known. */
const char *mosquitto_advice(const char *key);

/* Read `path` too; false after having said why. */
bool mosquitto_file(struct mosquitto *reader, const char *path);

/* A further listener; what follows is about it. */
struct mosquitto_listener *mosquitto_listener_new(struct mosquitto *reader,
                                                  struct import_place place);

#endif
