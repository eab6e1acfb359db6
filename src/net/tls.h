/* tls.h - TLS for the listeners of net.h: certificates in, ready-made contexts out.
 *
 *     mr_tls_open(files) ─▶ mr_net_secure(net, listener, tls)
 *                              └▶ every connection accepted there speaks TLS
 *     mr_tls_reload_begin() ─▶ mr_tls_reload_end(true): new connections get the
 *                              new certificate, those that exist are not touched
 *
 * Who uses connections sees no difference: bytes come decrypted into the same
 * slab, and the time of the handshake counts as time before the first byte.
 *
 * A client that asks for a server by name gets the certificate that is made for it, by its
 * subject alternative names; else, and if no name fits, the first one.
 *
 * TLS 1.2 and 1.3; forward secrecy and authenticated ciphers only, in our order;
 * stateless session tickets whose keys live as long as the certificate that is
 * loaded; no compression, no renegotiation, no early data.
 *
 * Thread: one mr_tls serves any number of nets and threads; reloading is allowed
 *         while they run, by one thread at a time.
 * Memory: what OpenSSL needs, 14 KiB for an idle connection (docs/MEMORY.md);
 *         its record buffers are returned while nothing is on its way.
 * Time:   a handshake is 0.4 ms of CPU with an EC key, over 1 ms with RSA 2048; a lock
 *         per accepted connection, none per read or write.
 */
#ifndef MR_NET_TLS_H
#define MR_NET_TLS_H

#include "base/base.h"

struct mr_conn;
struct mr_net;
struct mr_tls;

enum mr_tls_version { MR_TLS_1_2, MR_TLS_1_3 };

struct mr_tls_certificate {
    const char *certfile;
    const char *keyfile;
};

/* The strings outlive the mr_tls. */
struct mr_tls_options {
    const char *name;                      /* of the listener, for messages */
    const char *certfile;                  /* PEM: our certificate, then its intermediates */
    const char *keyfile;                   /* PEM, not encrypted */
    const struct mr_tls_certificate *more; /* for clients that ask for a name of theirs (SNI) */
    size_t more_count;
    const char *cacertfile;   /* PEM: who signs clients' certificates; NULL: nobody */
    const char *crlfile;      /* PEM: those that were revoked; NULL: none */
    const char *ciphers;      /* of TLS 1.2, in OpenSSL's words; NULL: ours */
    uint32_t version_min;     /* enum mr_tls_version */
    bool require_certificate; /* of the client */

    /* What an operator should know and that is no reason to refuse: an expired
     * certificate, a key that others may read.  May be NULL.
     */
    void (*warn)(void *arg, const char *text);
    void *warn_arg;
};

/* CONFIG: a file is missing, unreadable, not what it should be, or the key is not the
 * certificate's; `why` names file, cause and what to do.
 */
enum mr_err mr_tls_open(struct mr_tls **out, const struct mr_tls_options *options,
                        struct mr_error *why) MR_MUST_USE;

/* After the connections that were made with it. */
void mr_tls_close(struct mr_tls *tls);

/* Read the files again, in two steps, so that several listeners change together or
 * not at all.  CONFIG as in open: then nothing is prepared and the old ones stay.
 */
enum mr_err mr_tls_reload_begin(struct mr_tls *tls, struct mr_error *why) MR_MUST_USE;

/* Use what begin() has prepared for new connections, or forget it.  Nothing prepared:
 * nothing happens.
 */
void mr_tls_reload_end(struct mr_tls *tls, bool use);

/* From now on connections of listener `index` speak TLS.  `tls` outlives the net. */
void mr_net_secure(struct mr_net *net, uint32_t index, struct mr_tls *tls);

/* Which part of a certificate names its owner. */
enum mr_tls_identity {
    MR_TLS_CN,
    MR_TLS_SUBJECT, /* all of it, as "CN=press-7,O=plant" (RFC 2253) */
    MR_TLS_SAN_DNS, /* the first name of this kind */
    MR_TLS_SAN_EMAIL,
    MR_TLS_SAN_URI,
};

/* That name of the certificate with which the client has proven who it is, with a NUL.
 * False: it showed none, the listener did not ask, or the name is empty, longer than `size` or
 * has a NUL inside.
 */
bool mr_conn_tls_identity(const struct mr_conn *conn, enum mr_tls_identity from, char *into,
                          size_t size) MR_MUST_USE;

#endif
