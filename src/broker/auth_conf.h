/* auth_conf.h - `auth` in the configuration: of all listeners, and of each.
 *
 * Thread: values.   Memory: strings are the configuration's.   Time: none.
 */
#ifndef MR_BROKER_AUTH_CONF_H
#define MR_BROKER_AUTH_CONF_H

#include "config/option.h"

/* Who may come in on a listener, and who may do what; rows in mr_auth_options.  Every listener
 * has one of its own: what the configuration says under `auth` for all, key by key replaced
 * by what it says under the listener's `auth` (mr_config_inherit).
 */
struct mr_auth_conf {
    const char *password_file; /* NULL: nobody is asked for a password */
};
extern const struct mr_option mr_auth_options[];

#endif
