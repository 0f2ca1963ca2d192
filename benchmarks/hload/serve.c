/* The listening side of hload: Tentacles, and Octopus nodes. A thread for each connection. */
#include "hload.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static int read_identity(SSL *s) {      /* MX, a blank line, MX-CLIENT or MX-SUBSCRIBER, a blank line */
    char c;
    int blank_lines = 0, at_line_start = 1;
    for (int n = 0; n < 20000 && blank_lines < 2; n++) {
        if (read_all(s, &c, 1)) return -1;
        if (c == '\n') { blank_lines += at_line_start; at_line_start = 1; }
        else if (c != '\r') at_line_start = 0;
    }
    return blank_lines == 2 ? 0 : -1;
}

/* Reads until the bytes equal one of the known requests. They are whole deflate streams: none is a prefix of another. */
static Exchange *read_request(SSL *s, char *buffer) {
    long got = 0;
    for (;;) {
        long missing = 0;               /* of the shortest request that the bytes so far may become */
        for (int i = 0; i < opt.n_exchanges; i++) {
            Exchange *x = &opt.exchanges[i];
            if (got > x->request.len || memcmp(buffer, x->request.bytes, got)) continue;
            if (got == x->request.len) return x;
            if (!missing || x->request.len - got < missing) missing = x->request.len - got;
        }
        if (!missing) return NULL;
        int r = SSL_read(s, buffer + got, missing > CHUNK ? CHUNK : missing);
        if (r <= 0) return NULL;
        got += r;
    }
}

static int read_stream(SSL *s, char *buffer) {
    unsigned char id[16];
    int64_t length, again;
    if (read_all(s, id, 16) || memcmp(id, stream_id, 16) || read_all(s, &length, 8)) return -1;
    for (int64_t at = 0; at < length;) {
        long room = CHUNK - at % CHUNK;                 /* stay inside one repetition of the pattern */
        if (room == CHUNK) pause_for(opt.pause);
        int r = SSL_read(s, buffer, length - at < room ? length - at : room);
        if (r <= 0 || memcmp(buffer, pattern + at % CHUNK, r)) return -1;
        at += r;
    }
    return read_all(s, &again, 8) || again != length ? -1 : 0;
}

void be_tentacle(SSL *s) {
    long longest = CHUNK;
    char first;
    for (int i = 0; i < opt.n_exchanges; i++)
        if (opt.exchanges[i].request.len > longest) longest = opt.exchanges[i].request.len;
    if (SSL_peek(s, &first, 1) <= 0) return;            /* an idle connection waits here, and has no buffer */
    char *buffer = malloc(longest);
    for (;;) {
        Exchange *x = read_request(s, buffer);
        if (!x || (x->upload && read_stream(s, buffer))) break;
        if (write_all(s, x->reply.bytes, x->reply.len)) break;
        if (read_text(s, "NEXT\r\n") || write_text(s, "PROCEED\r\n")) break;
    }
    free(buffer);
}

void be_node(SSL *s) {
    do pause_for(KEEP_ALIVE_S);
    while (!write_all(s, NULL_ENVELOPE, sizeof NULL_ENVELOPE - 1) && !read_text(s, "NEXT\r\n") && !write_text(s, "PROCEED\r\n"));
}

static void (*be)(SSL *);

static void *serve_connection(void *arg) {
    SSL *s = SSL_new(ctx);
    int fd = (int)(intptr_t)arg;
    SSL_set_fd(s, fd);
    if (SSL_accept(s) > 0 && !read_identity(s) && !write_text(s, "MX-SERVER 1.0\r\n\r\n")) be(s);
    SSL_free(s);
    close(fd);
    return NULL;
}

static int from_here(int fd) {          /* it may listen on every address, and yet is for this machine alone */
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    return !getsockname(fd, (struct sockaddr *)&at, &size) && ntohl(at.sin_addr.s_addr) >> 24 == 127;
}

_Noreturn void serve(void (*whom)(SSL *)) {
    be = whom;
    int one = 1;
    for (;;) {
        int fd = accept(opt.listener, NULL, NULL);
        if (fd < 0) { pause_for(.001); continue; }
        if (!from_here(fd)) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        start_thread(serve_connection, (void *)(intptr_t)fd, NULL);
    }
}
