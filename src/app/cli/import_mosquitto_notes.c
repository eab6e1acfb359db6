/* import_mosquitto_notes.c - options of mosquitto.conf(5), 2.0 and 2.1, that have no key of ours:
 * what to do instead.
 */
#include "app/cli/import_mosquitto_internal.h"

#define PLUGIN_ADVICE                                                                   \
    "plugins of Mosquitto are not loaded; users are in `auth.password_file`, rules in " \
    "`auth.acl_file`"
#define SYSTEMD "of the service, not of the gateway: see its systemd unit"
#define JOURNALED "not needed: every change is on disk before it is acknowledged"
#define GONE "of Mosquitto 1; Mosquitto 2 does not use it either"

static const struct {
    const char *name;
    const char *advice;
} notes[] = {
    {"capath", "put the certificates of that folder into one file (cat FOLDER/*.pem > ca.pem) and "
               "name it in `tls.cacertfile`"},
    {"ciphers_tls1.3", "the suites of TLS 1.3 are OpenSSL's own choice; none of them is weak"},
    {"dhparamfile",
     "not needed: keys are agreed on by elliptic curves, or by groups of OpenSSL's own"},
    {"psk_file",
     "there are no pre-shared keys; give the devices certificates, or passwords over TLS"},
    {"psk_hint", "there are no pre-shared keys"},
    {"tls_engine", "keys are read from files (`tls.keyfile`)"},
    {"tls_engine_kpass_sha1", "keys are read from files (`tls.keyfile`)"},
    {"tls_keyform", "keys are PEM files (`tls.keyfile`)"},
    {"mount_point",
     "topics are as the device names them; an ACL pattern can keep groups apart, and a "
     "bridge's `from` and `topic` can tell them by their topics"},
    {"bind_interface", "name the interface's address in the listener's `bind`"},
    {"http_dir", "no files are served; let a web server do that"},
    {"websockets_log_level", "see `log.level`"},
    {"websockets_headers_size", "its bound is fixed"},
    {"accept_protocol_versions", "3.1, 3.1.1 and 5.0 are served on every listener"},
    {"auto_id_prefix", "ids that the gateway gives have a form of their own"},
    {"listener_auto_id_prefix", "ids that the gateway gives have a form of their own"},
    {"auth_plugin", PLUGIN_ADVICE},
    {"plugin", PLUGIN_ADVICE},
    {"global_plugin", PLUGIN_ADVICE},
    {"plugin_load", PLUGIN_ADVICE},
    {"plugin_use", PLUGIN_ADVICE},
    {"auth_plugin_deny_special_chars", PLUGIN_ADVICE},
    {"enable_control_api", "see `millrace clients` and `/api/` of `admin.bind`"},
    {"max_inflight_bytes",
     "what is under way is bounded in messages (`mqtt.max_inflight_messages`) and by "
     "256 KiB a connection that wait to be sent"},
    {"global_max_clients", "see `listeners.NAME.max_connections` and `mqtt.max_sessions`"},
    {"global_max_connections", "see `listeners.NAME.max_connections`"},
    {"retain_expiry_interval",
     "a retained message stays until it is cleared, or its own Message Expiry is over"},
    {"packet_buffer_size", "buffers are the gateway's matter"},
    {"queue_qos0_messages",
     "messages of QoS 0 are not queued for clients that are away; use QoS 1"},
    {"upgrade_outgoing_qos",
     "a message is sent with the lower QoS of the publish and of the subscription"},
    {"set_tcp_nodelay", "always so here"},
    {"persistence_location",
     "the data folder is `gateway.data`; choose one on a disk with room for what has to "
     "wait while Kafka is away"},
    {"persistence_file", "see `gateway.data`, which is a folder"},
    {"autosave_interval", JOURNALED},
    {"autosave_on_changes", JOURNALED},
    {"retained_persistence", JOURNALED},
    {"store_clean_interval", GONE},
    {"retry_interval", GONE},
    {"log_facility", SYSTEMD " (SyslogFacility=)"},
    {"log_timestamp", "every line has its time, unless systemd puts it there"},
    {"log_timestamp_format", "times are RFC 3339, in UTC"},
    {"pid_file", SYSTEMD},
    {"user", SYSTEMD " (User=); the gateway keeps the user that starts it"},
};

const char *mosquitto_advice(const char *key)
{
    for (size_t i = 0; i < MR_COUNT_OF(notes); i++) {
        if (strcmp(notes[i].name, key) == 0) {
            return notes[i].advice;
        }
    }
    bool of_plugin = strncmp(key, "plugin_opt_", 11) == 0 || strncmp(key, "auth_opt_", 9) == 0;

    return of_plugin ? PLUGIN_ADVICE : NULL;
}
