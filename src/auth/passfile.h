/* passfile.h - who may come in: a file of lines "user:hash".
 *
 *     mr_passfile_read(path) ─▶ mr_passfile_find(user) ─▶ its hash, or the decoy
 *     mr_passfile_change(path) : `millrace passwd`; a new file takes the old one's place
 *
 * The format is that of mosquitto_passwd; lines that are empty or begin with # say
 * nothing.  Both programs may write the same file.
 *
 * Credentials of SCRAM stand in lines that are comments to Mosquitto:
 *
 *     #scram-sha-256:USER:ITERATIONS:SALT:STOREDKEY:SERVERKEY
 *     #scram-decoy-key:KEY         what salts of users that do not exist are made from
 *
 * Thread: a passfile that has been read is constant and counted.
 * Memory: about 200 bytes a user.   Time: reading 10,000 users takes 10 ms.
 */
#ifndef MR_AUTH_PASSFILE_H
#define MR_AUTH_PASSFILE_H

#include "auth/passhash.h"
#include "auth/scram.h"

struct mr_passfile;

/* Counted once.  CONFIG: it cannot be read, or a line is wrong; `why` says which, and what
 * to do.
 */
enum mr_err mr_passfile_read(struct mr_passfile **out, const char *path,
                             struct mr_error *why) MR_MUST_USE;
struct mr_passfile *mr_passfile_hold(struct mr_passfile *file);
void mr_passfile_drop(struct mr_passfile *file); /* NULL is allowed */

size_t mr_passfile_count(const struct mr_passfile *file);

/* The hash of `user`.  *known false: there is no such user, and the hash is a decoy that
 * takes as long to check as the costliest of the file.
 */
const struct mr_passhash *mr_passfile_find(const struct mr_passfile *file, struct mr_span user,
                                           bool *known);

/* Users that may log in by SCRAM. */
size_t mr_passfile_scram_count(const struct mr_passfile *file);

/* The keys of `user`.  False: it has none, and *out is a decoy, the same one each time, which
 * looks like those of this file.
 */
bool mr_passfile_scram_find(const struct mr_passfile *file, struct mr_span user,
                            struct mr_scram_keys *out);

/* ---- changing ---- */

enum mr_passfile_how {
    MR_PASSFILE_SET,     /* this user gets this password, in a new line if there is none */
    MR_PASSFILE_CREATE,  /* the same in a file of its own; what was there is gone */
    MR_PASSFILE_DELETE,  /* this user's lines go; REJECT: there are none */
    MR_PASSFILE_UPGRADE, /* all passwords that are plain text become hashes */
};

struct mr_passfile_change {
    enum mr_passfile_how how;
    const char *user;
    const char *hash;    /* of SET and CREATE */
    const char *scram;   /* ... of the same password; NULL: lines of SCRAM stay as they are */
    bool scram_wanted;   /* a new line is one of SCRAM, beside the hash if there is one */
    uint32_t iterations; /* of UPGRADE */
};

/* Write a new file beside `path`, mode 0600, sync it and let it take the place of the old
 * one, whose owner and group it gets as far as we may: whoever reads sees the old or the new
 * one.  *changed: lines that are new or different.
 * REJECT: the user or the file is not there.  CONFIG, IO: it cannot be read or written.
 */
enum mr_err mr_passfile_write(const char *path, const struct mr_passfile_change *change,
                              size_t *changed, struct mr_error *why) MR_MUST_USE;

/* Why this is no user name for a file; NULL: it is one. */
const char *mr_passfile_user_fault(const char *user);

#endif
