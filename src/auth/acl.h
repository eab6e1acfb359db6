/* acl.h - who may publish and subscribe to what: a file of rules in Mosquitto's syntax.
 *
 *     mr_acl_read(path) ─▶ struct mr_acl, constant
 *     mr_acl_who(client id, user) ─▶ whose rules hold ─▶ mr_acl_may(topic, right)
 *                                                     └▶ mr_acl_covers(filter)
 *
 *     topic read $SYS/#                  of anonymous clients, before any `user`
 *     user press-7                       from here on: of this user
 *     topic [read|write|readwrite|subscribe|deny] plant/press/#
 *     pattern readwrite plant/%u/%c/#    of every client; %c its id, %u its user name
 *
 * What no rule grants is denied.  A user's own rules come first: if a deny matches it is
 * denied, else if a grant matches it is granted; else the patterns say, in the same way.
 * Within a list the order of lines means nothing.
 *
 *     read       subscribe, and get messages       subscribe  only the SUBSCRIBE is granted
 *     write      publish, and have a will          readwrite  all of it, also if no right is given
 *
 * A client id or user name with + or # has nothing from any pattern, as with Mosquitto
 * (CVE-2017-7650).  One with / never satisfies a pattern that it is put into, and if a deny
 * is among these it has nothing from any pattern.  A first level that begins with $ is
 * matched by rules only whose text begins so, never by what was put in.
 *
 * Thread: a file that has been read is constant and counted; any.
 * Memory: some 70 bytes per level of a rule that no rule before shares; checks take none.
 * Time:   may ~100 ns for three levels and a user of 10,000 rules (test_acl); reading these
 *         10 ms.
 */
#ifndef MR_AUTH_ACL_H
#define MR_AUTH_ACL_H

#include "base/span.h"

struct mr_acl;

enum {
    MR_ACL_READ = 1,
    MR_ACL_WRITE = 2,
    MR_ACL_SUBSCRIBE = 4,
    MR_ACL_LEVELS_MAX = 200, /* of a rule's topic */
};

/* Read the file, counted once.  CONFIG: it cannot be read, or has faults; `fault` is told of
 * each of them ("acl file acl.conf, line 7: …") with what to do, `why` of the first.
 */
typedef void mr_acl_fault(void *arg, const char *text);
enum mr_err mr_acl_read(struct mr_acl **out, const char *path, mr_acl_fault *fault, void *arg,
                        struct mr_error *why) MR_MUST_USE;

/* The same from text that stands for the file `name`. */
enum mr_err mr_acl_parse(struct mr_acl **out, const char *name, struct mr_span text,
                         mr_acl_fault *fault, void *arg, struct mr_error *why) MR_MUST_USE;

struct mr_acl *mr_acl_hold(struct mr_acl *acl);
void mr_acl_drop(struct mr_acl *acl); /* NULL is allowed */

/* Lines that grant or deny; does one of them stand behind a `user`? */
size_t mr_acl_rule_count(const struct mr_acl *acl);
bool mr_acl_names_users(const struct mr_acl *acl);

/* Somebody who asks: borrows the file and both names.  An empty `user` is an anonymous one. */
struct mr_acl_who {
    const struct mr_acl *acl;
    struct mr_span client;
    struct mr_span user;
    uint32_t own;  /* its own rules */
    bool patterns; /* pattern lines hold for it */
};
struct mr_acl_who mr_acl_who(const struct mr_acl *acl, struct mr_span client, struct mr_span user);

/* Has it the right (one of them) to this valid topic name? */
bool mr_acl_may(const struct mr_acl_who *who, struct mr_span topic, unsigned right);

/* A valid filter, without $share: how much of what it matches may be read?
 *
 * NONE   nothing that could be named: the SUBSCRIBE is refused
 * SOME   it is granted, and each message has to be looked at
 * ALL    whatever it matches
 */
enum mr_acl_cover { MR_ACL_COVERS_NONE, MR_ACL_COVERS_SOME, MR_ACL_COVERS_ALL };
enum mr_acl_cover mr_acl_covers(const struct mr_acl_who *who, struct mr_span filter);

#endif
