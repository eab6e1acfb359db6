/* auth_conf.h - `auth` in the configuration: of all listeners, and of each.
 *
 * Thread: values.   Memory: strings are the configuration's.   Time: checking reads files.
 */
#ifndef MR_BROKER_AUTH_CONF_H
#define MR_BROKER_AUTH_CONF_H

#include "auth/auth.h"
#include "config/option.h"

/* Who may go on with a session, or take over its connection, that a user has made. */
enum mr_takeover { MR_TAKEOVER_SAME_USER, MR_TAKEOVER_ANYONE };

/* Who may come in on a listener, and who may do what; rows in mr_auth_options.  Every listener
 * has one of its own: what the configuration says under `auth` for all, key by key replaced
 * by what it says under the listener's `auth` (mr_config_inherit).
 */
struct mr_auth_conf {
    const char *password_file;     /* NULL: nobody is asked for a password */
    const char *acl_file;          /* auth/acl.h; NULL: everyone may do everything */
    const char *client_id_pattern; /* with %u and *, that client ids must fit; NULL: any */
    uint32_t session_takeover;     /* enum mr_takeover */
    bool use_username_as_clientid;
    bool check_retain_source; /* where there are ACL files */
    struct mr_list order;     /* who is asked first; names of its sections */
    struct mr_jwt_conf jwt;
    struct mr_http_conf http;
};
extern const struct mr_option mr_auth_options[];

/* Can what is said of logins be used?  CONFIG: `why` says what is wrong, and *key under which key.
 * `warn` (or NULL) gets what is worth knowing.
 */
enum mr_err mr_auth_conf_check(const struct mr_auth_conf *conf, const char **key,
                               void (*warn)(void *arg, const char *text), void *arg,
                               struct mr_error *why) MR_MUST_USE;
/* Does anybody ask who a client is? */
bool mr_auth_conf_asks(const struct mr_auth_conf *conf);
/* Is it the same as another one's, so that its faults have been told? */
bool mr_auth_conf_equal(const struct mr_auth_conf *a, const struct mr_auth_conf *b);

#endif
