/*
 * hload: a small, fast Halibut peer for benchmarks. It plays either side of the wire with canned bytes, so that what
 * is measured is whatever stands between the two sides.
 *
 *   hload serve  --listener FD --cert PEM [--rpc REQ:RESP]... [--upload REQ:RESP]... [--pause S]
 *       Plays listening Tentacles: mutual TLS, MX handshake, then for each exchange recognises one of the given
 *       requests, reads the data stream after it (--upload), writes that request's reply, expects NEXT, answers PROCEED.
 *       --pause: it reads slowly, and waits so long before each 64 KiB of a stream.
 *   hload nodes  --listener FD --cert PEM
 *       Plays Octopus nodes that have no request for whoever polls them: mutual TLS, MX handshake, then a null every 30 s,
 *       each of which has to be answered with NEXT.
 *   hload client --port P --cert PEM --conns N --seconds S [--warmup S] [--new-connection] [--pause S]
 *                --rpc REQ:RESP | --upload REQ:RESP --stream BYTES
 *       Plays Octopus on N connections at once, one exchange after another on each. A reply must equal RESP byte for
 *       byte; anything else is an error. --new-connection connects anew for each exchange; --pause waits between two.
 *   hload idle   --port P --cert PEM --conns N --seconds S [--rpc REQ:RESP]
 *       Opens N connections, identifies on each, makes one call on each if --rpc says which, prints a JSON line, holds them
 *       for S seconds or until SIGTERM, prints a second JSON line that says how many were still open.
 *   hload pollers --port P --cert PEM --conns N --seconds S --subscription NAME
 *       The same for polling Tentacles: each says MX-SUBSCRIBER poll://NAME/ and takes up each null that it is sent.
 *   hload flood  --port P --cert PEM --conns N --seconds S --way WAY [--pause S] [--rpc REQ:RESP] [--target HOST:PORT]
 *       Keeps N connections coming, each of which goes through the steps that flood.c has for WAY: holds what it has got so
 *       far, or drips a byte each --pause, or closes and comes again at once. --target: of its CONNECT. Prints "flooding", and
 *       after S seconds or at SIGTERM a JSON line of what came of it.
 *
 *   FD is a socket that listens, and that it has inherited: who looks for a free port first may find it taken then.
 *   For all: --host ADDRESS (default 127.0.0.1), --sni NAME (default tentacle.test), --stream-id 32 HEX DIGITS,
 *   --sources N: connections come from the N addresses 127.0.1.1, 127.0.1.2 and so on, because one has 28 000 ports only.
 *   --from ADDRESS: they come from this one. --anonymous: they show no certificate.
 *   --names N: a "#" in --sni and --subscription is replaced by the connection's number, modulo N.
 *   --stride N: that number grows by N from one connection to the next (default 1), so that they spread over all names.
 *   PEM holds a private key and its certificate. REQ and RESP are files that hold one envelope each.
 *
 * The wire, as the dialling side (O) and the listening side (T) speak it:
 *   O: MX\r\n\r\n  MX-CLIENT 1.0\r\n\r\n      T: MX-SERVER 1.0\r\n\r\n
 *   O: request (raw deflate of BSON)           [O: stream id (16), length (int64 LE), the bytes, length again]
 *   T: reply (raw deflate of BSON)
 *   O: NEXT\r\n                                T: PROCEED\r\n       ... and the next request.
 * A poller dials, says MX-SUBSCRIBER 1.0 and its subscription, and answers a null (an empty envelope) with NEXT.
 *
 * The stream id and the length are also inside the upload's envelope, where hload does not look: messages.py makes an
 * envelope for a length, and holds the id that belongs to it.
 *
 * client prints "measuring" on a line when the warm-up ends, and one JSON object at the end. All its figures are of the
 * time after the warm-up (an exchange counts where it ends, a byte when it is written), but "errors" counts them all.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK 65536                     /* bytes per SSL_read and SSL_write of a stream */
#define TIMEOUT_S 20                    /* a peer that says nothing to the client for this long is an error */
#define MAX_EXCHANGES 8
#define NULL_ENVELOPE "\xe3\x63\x60\x60\xe0\xf2\x4d\x2d\x2e\x4e\x4c\x4f\x65\x60\x00\x00"     /* 16 bytes, without the last */
#define KEEP_ALIVE_S 30                 /* between two nulls of a node */

typedef struct { char *bytes; long len; } Blob;
typedef struct { Blob request, reply; int upload; } Exchange;

typedef struct {
    const char *host, *port, *sni, *cert, *subscription, *from, *way, *target;
    int listener, conns, new_connection, anonymous, sources, names, stride;
    double seconds, warmup, pause;
    int64_t stream;
    Exchange exchanges[MAX_EXCHANGES];
    int n_exchanges;
} Options;

extern Options opt;
extern SSL_CTX *ctx;
extern struct addrinfo *address;
extern unsigned char pattern[CHUNK];    /* the bytes of a stream, repeated */
extern unsigned char stream_id[16];

/* peer.c: what both sides need. Functions that return an int return 0, or -1 where it went wrong. */
double now(void);
void pause_for(double seconds);
_Noreturn void die(const char *what);
void start_thread(void *(*run)(void *), void *arg, pthread_t *joinable);
void make_context(int server);
int read_all(SSL *s, void *into, long n);
int write_all(SSL *s, const void *from, long n);
int write_text(SSL *s, const char *text);
int read_text(SSL *s, const char *text);
void hang_up(SSL *s);
int start_connect(int number);          /* a nonblocking socket that connects, or -1 */
void fill_in(char *into, size_t size, const char *name, int number);      /* "#" stands for a number */
SSL *dial(int number, const char **why);  /* connected, handshaken, identified; or NULL, and why. number: of the connection */

/* The modes. */
_Noreturn void serve(void (*whom)(SSL *));         /* what is done with each connection: one of the next two */
void be_tentacle(SSL *s);
void be_node(SSL *s);
int client(void);
int idle(void);                         /* callers, or pollers where --subscription is given */
int flood(void);

/* client.c */
const char *call(SSL *s, const Exchange *x, int first, char *reply, int (*stream)(SSL *, void *), void *arg);
