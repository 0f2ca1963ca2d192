/* The side of hload that nobody asked for: a flood of connections, each of which goes through the steps of one way. */
#include "hload.h"
#include <netdb.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define BATCH 64                        /* events, and connections opened, before the others have their turn */
#define LINE_END "\r\n\r\n"

typedef enum { END, SHAKE, SEND, DRIP, TAKE, HOLD, GO_TO } Kind;

/* END: closes, and comes again. SHAKE: the TLS handshake. SEND: the text at once. DRIP: the text a byte at a time, but its last.
 * TAKE: as many bytes as the text has, or up to an empty line or the end. HOLD: nothing, until it is closed. GO_TO: that step. */
typedef struct { Kind kind; const Blob *text; int step; } Step;

static Blob hello, asking, preamble, identity, both, next, proceed, request, reply;

#define DO(kind) {kind, NULL, 0}
#define WITH(kind, text) {kind, &text, 0}
#define IDENTIFY DO(SHAKE), WITH(SEND, both), DO(TAKE)
static const struct { const char *name; Step steps[8]; } WAYS[] = {     /* END is what stands behind the last step */
    {"connect", {DO(HOLD)}},
    {"hello", {WITH(DRIP, hello)}},
    {"half", {WITH(SEND, hello), DO(HOLD)}},
    {"header", {WITH(DRIP, asking)}},
    {"ask", {WITH(SEND, asking), DO(TAKE)}},
    {"handshake", {DO(SHAKE)}},
    {"stranger", {DO(SHAKE), WITH(SEND, preamble), DO(TAKE)}},
    {"preamble", {DO(SHAKE), WITH(DRIP, preamble)}},
    {"identity", {DO(SHAKE), WITH(SEND, preamble), WITH(DRIP, identity)}},
    {"envelope", {IDENTIFY, WITH(DRIP, request)}},
    {"idle", {IDENTIFY, WITH(SEND, request), WITH(TAKE, reply), DO(HOLD)}},
    {"fresh", {IDENTIFY}},
    {"calls", {IDENTIFY, WITH(SEND, request), WITH(TAKE, reply), WITH(SEND, next), WITH(TAKE, proceed), {GO_TO, NULL, 3}}},
};

typedef struct {
    int fd, number, connected;          /* fd: -1 where it is closed */
    SSL *tls;
    const Step *at;
    long done;                          /* bytes of this step */
    double due;                         /* when the next byte is */
    char tail[4];                       /* the last ones of an answer */
} Conn;

static const Step *steps;
static int ring;
static struct { long connected, shaken, dripped, taken, rounds, closed, failed; } count;

static Blob text(const char *from) { return (Blob){(char *)from, strlen(from)}; }

static SSL *new_tls(int number) {
    char name[128];
    SSL *s = SSL_new(ctx);
    fill_in(name, sizeof name, opt.sni, number);
    SSL_set_tlsext_host_name(s, name);
    SSL_set_connect_state(s);
    return s;
}

static Blob make_hello(void) {
    SSL *s = new_tls(0);
    BIO *out = BIO_new(BIO_s_mem());
    Blob b = {malloc(4096), 0};
    SSL_set_bio(s, BIO_new(BIO_s_mem()), out);
    SSL_do_handshake(s);
    b.len = BIO_read(out, b.bytes, 4096);
    SSL_free(s);
    return b;
}

static void make_texts(void) {
    static char header[512];
    snprintf(header, sizeof header, "CONNECT %s HTTP/1.1\r\nHost: %s" LINE_END, opt.target, opt.target);
    asking = text(header);
    hello = make_hello();
    preamble = text("MX" LINE_END), identity = text("MX-CLIENT 1.0" LINE_END);
    both = text("MX" LINE_END "MX-CLIENT 1.0" LINE_END);
    next = text("NEXT\r\n"), proceed = text("PROCEED\r\n");
    if (opt.n_exchanges) request = opt.exchanges[0].request, reply = opt.exchanges[0].reply;
}

static void come(Conn *c) {                             /* again, or for the first time */
    c->fd = start_connect(c->number);
    if (c->fd < 0) { count.failed++; return; }
    c->at = steps, c->done = c->due = c->connected = 0, c->tls = NULL;
    memset(c->tail, 0, sizeof c->tail);
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    epoll_ctl(ring, EPOLL_CTL_ADD, c->fd, &e);
}

static void leave(Conn *c) {
    SSL_free(c->tls);
    close(c->fd);
    c->fd = -1, c->tls = NULL;
}

static void step(Conn *c, const Step *to) { c->at = to, c->done = 0, c->due = now(); }

static long put(Conn *c, const char *from, long n) {    /* 0 where it has to wait, -1 where it is over */
    int r = c->tls ? SSL_write(c->tls, from, n) : send(c->fd, from, n, MSG_NOSIGNAL);
    if (r > 0) return r;
    return (c->tls ? SSL_get_error(c->tls, r) == SSL_ERROR_WANT_WRITE : errno == EAGAIN) ? 0 : -1;
}

static long get(Conn *c, char *into, long n) {          /* the same */
    int r = c->tls ? SSL_read(c->tls, into, n) : recv(c->fd, into, n, 0);
    if (r > 0) return r;
    if (c->tls && SSL_get_error(c->tls, r) == SSL_ERROR_WANT_READ) return 0;
    return !c->tls && r < 0 && errno == EAGAIN ? 0 : -1;
}

static int shake(Conn *c) {                             /* 1 where it is done; so with the others below */
    if (!c->tls) {
        c->tls = new_tls(c->number);
        SSL_set_fd(c->tls, c->fd);
    }
    int r = SSL_do_handshake(c->tls);
    if (r == 1) { count.shaken++; return 1; }
    int why = SSL_get_error(c->tls, r);
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static int take(Conn *c, const Blob *wanted) {
    char got[16384];
    for (long n; (n = get(c, got, wanted ? wanted->len - c->done : (long)sizeof got)); ) {
        if (n < 0) return wanted ? -1 : 1;
        c->done += n;
        for (long i = n > 4 ? n - 4 : 0; i < n; i++) memmove(c->tail, c->tail + 1, 3), c->tail[3] = got[i];
        if (wanted ? c->done == wanted->len : !memcmp(c->tail, LINE_END, 4)) { count.taken++; return 1; }
    }
    return 0;
}

static int throw_away(Conn *c) {                        /* what comes unasked; -1 where it was closed */
    char got[4096];
    long n;
    while ((n = get(c, got, sizeof got)) > 0) {}
    return n;
}

static int drip(Conn *c, const Blob *from) {
    if (throw_away(c)) return -1;
    while (c->done < from->len - 1) {
        if (now() < c->due) return 0;
        long n = put(c, from->bytes + c->done, 1);
        if (n <= 0) return n;
        c->done++, count.dripped++;
        c->due = now() + opt.pause;
    }
    return 1;
}

static void go_on(Conn *c) {                            /* as far as it can now */
    for (int done = 1; done > 0;) {
        const Step *s = c->at;
        switch (s->kind) {
            case END: count.rounds++; leave(c); return;
            case SHAKE: done = shake(c); break;
            case SEND: done = put(c, s->text->bytes, s->text->len) == s->text->len ? 1 : -1; break;
            case DRIP: done = drip(c, s->text); break;
            case TAKE: done = take(c, s->text); break;
            case HOLD: done = throw_away(c); break;
            case GO_TO: count.rounds++; step(c, steps + s->step); continue;
        }
        if (done > 0) step(c, s + 1);
        if (done < 0) { count.closed++; leave(c); }
    }
}

static void flood_on(Conn *all, const sigset_t *term) {
    struct epoll_event events[BATCH];
    double end = now() + opt.seconds;
    for (int opener = 0; now() < end && sigtimedwait(term, NULL, &(struct timespec){0, 0}) < 0;) {
        int opened = 0;
        for (int i = 0; i < opt.conns && opened < BATCH; i++, opener = (opener + 1) % opt.conns)
            if (all[opener].fd < 0) come(&all[opener]), opened++;
        int n = epoll_wait(ring, events, BATCH, opened ? 0 : 1);
        for (int i = 0; i < n; i++) {
            Conn *c = events[i].data.ptr;
            if (c->fd < 0) continue;
            if (events[i].events & EPOLLERR) { count.closed++; leave(c); continue; }
            if (events[i].events & EPOLLOUT && !c->connected) count.connected += c->connected = 1;
            go_on(c);
        }
        double at = now();
        for (int i = 0; i < opt.conns; i++)
            if (all[i].fd >= 0 && all[i].at->kind == DRIP && all[i].due && all[i].due <= at) go_on(&all[i]);
    }
}

int flood(void) {
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &term, NULL);
    for (size_t i = 0; i < sizeof WAYS / sizeof *WAYS; i++)
        if (!strcmp(WAYS[i].name, opt.way)) steps = WAYS[i].steps;
    if (!steps) { fprintf(stderr, "hload: no such way: %s\n", opt.way); return 2; }
    make_texts();
    ring = epoll_create1(0);
    Conn *all = calloc(opt.conns, sizeof *all);
    for (int i = 0; i < opt.conns; i++) all[i].fd = -1, all[i].number = i;
    puts("flooding");
    fflush(stdout);
    double start = now();
    flood_on(all, &term);
    int held = 0;
    for (int i = 0; i < opt.conns; i++) held += all[i].fd >= 0;
    printf("{\"seconds\": %.3f, \"connected\": %ld, \"handshakes\": %ld, \"dripped\": %ld, \"answers\": %ld, \"rounds\": %ld, "
           "\"closed\": %ld, \"failed\": %ld, \"held\": %d}\n",
           now() - start, count.connected, count.shaken, count.dripped, count.taken, count.rounds, count.closed, count.failed, held);
    return 0;
}
