/* auth_conf.h - `auth` in the configuration: of all listeners, and of each.
 *
 * Thread: values.   Memory: strings are the configuration's.   Time: none.
 */
#ifndef MR_BROKER_AUTH_CONF_H
#define MR_BROKER_AUTH_CONF_H

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
};
extern const struct mr_option mr_auth_options[];

#endif
