/* rules.h - what one client may do, as its token or a service says: EMQX's `acl`.
 *
 *     {"pub": ["plant/%c/#"], "sub": ["orders/+"], "all": ["chat/%u"]}
 *         these and nothing else
 *     [{"permission": "allow" | "deny", "action": "publish" | "subscribe" | "all",
 *       "topic": "plant/${clientid}/#" | "eq plant/#"}, …]
 *         the first that matches holds; where none does, the listener's ACL file says
 *
 * `%c` and `${clientid}` are the client id, `%u` and `${username}` the user name.  A name that
 * has a slash or a wildcard never satisfies a rule that allows, and a rule that denies it then
 * denies everything.  A rule with further conditions, which are not known here, never allows,
 * and denies whatever they say.
 *
 * Thread: constant once it is read; whoever has it owns it.
 * Memory: some 50 bytes a rule and its topic; at most MR_RULES_MAX.
 * Time:   ~50 ns a rule.
 */
#ifndef MR_AUTH_RULES_H
#define MR_AUTH_RULES_H

#include "base/span.h"

struct mr_rules;

enum { MR_RULES_MAX = 256 };

/* `acl` is valid JSON.  NULL, or what is wrong with it: then nothing is to be allowed. */
const char *mr_rules_read(struct mr_rules **out, struct mr_span acl, struct mr_span client_id,
                          struct mr_span user);
void mr_rules_free(struct mr_rules *rules); /* NULL is allowed */

enum mr_rules_say {
    MR_RULES_NOTHING, /* ask somebody else */
    MR_RULES_ALLOW,
    MR_RULES_DENY,
    MR_RULES_SOME, /* of a filter: some of what it matches, so each message has to be asked for */
};

/* May it publish to this valid name, or get what is published there? */
enum mr_rules_say mr_rules_topic(const struct mr_rules *rules, struct mr_span topic, bool publish);

/* May it subscribe to this valid filter, without $share? */
enum mr_rules_say mr_rules_filter(const struct mr_rules *rules, struct mr_span filter);

#endif
