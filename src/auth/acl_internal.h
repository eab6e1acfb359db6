/* acl_internal.h - rules as trees of topic levels; see acl_tree.c.
 *
 * Thread: built by one, then constant.   Memory: mr_alloc, at start and reload.   Time: none.
 */
#ifndef MR_AUTH_ACL_INTERNAL_H
#define MR_AUTH_ACL_INTERNAL_H

#include "auth/acl.h"

#include <stdatomic.h>

enum { ACL_DENY = 8 }; /* beside the rights */

/* A line of the file. */
struct acl_rule {
    struct mr_span filter;
    struct mr_span rest; /* of the filter, while the tree is built */
    uint32_t owner;      /* index into users */
    uint8_t rights;      /* MR_ACL_* or ACL_DENY */
};

/* One level.  Its children lie together: literal ones by their text, then those with
 * something to put in, then `+`.
 */
struct acl_node {
    struct mr_span level;
    uint32_t first; /* child */
    uint32_t literals;
    uint32_t templates;
    bool plus;
    bool varies;   /* a template is somewhere below */
    uint8_t ends;  /* rights of rules that end here */
    uint8_t hash;  /* ... that go on with `#` */
    uint8_t below; /* all of both, here and below */
};

struct acl_nodes {
    struct acl_node *at;
    uint32_t count;
    uint32_t capacity;
};

struct acl_user {
    struct mr_span name;
    uint32_t root; /* its node */
};

enum { ACL_NOBODY, ACL_PATTERNS, ACL_USERS_FIRST }; /* indices into users */

struct mr_acl {
    _Atomic uint32_t holders;
    uint8_t *text;          /* all names and levels are in it */
    struct acl_user *users; /* anonymous ones, patterns, then by name */
    uint32_t user_count;
    size_t rule_count;
    struct acl_nodes nodes; /* the first has no rights, for those who have no rules */
    bool denies_client;     /* a `pattern deny` with %c */
    bool denies_user;
};

/* Make a tree of `count` rules, which are sorted meanwhile.  Returns its root. */
uint32_t acl_tree_build(struct acl_nodes *nodes, struct acl_rule *rules, size_t count,
                        bool patterns);

/* What matches a topic or a filter. */
struct acl_found {
    uint8_t some; /* rights of rules that have topics in common with it */
    uint8_t all;  /* ... that contain it */
};
struct acl_found acl_tree_look(const struct acl_nodes *nodes, uint32_t root,
                               const struct mr_acl_who *who, struct mr_span filter);
uint8_t acl_tree_match(const struct acl_nodes *nodes, uint32_t root, const struct mr_acl_who *who,
                       struct mr_span topic);

/* Does a level of a pattern have something to put in? */
bool acl_level_is_template(struct mr_span level);

int acl_text_order(struct mr_span a, struct mr_span b);

#endif
