/* What both sides of hload need: time, threads, TLS, lines, and dialling. */
#include "hload.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <time.h>

double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

void pause_for(double seconds) {
    struct timespec t = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (time_t)seconds) * 1e9)};
    if (seconds > 0) nanosleep(&t, NULL);
}

_Noreturn void die(const char *what) {
    perror(what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

void start_thread(void *(*run)(void *), void *arg, pthread_t *joinable) {
    pthread_attr_t a;
    pthread_t ignored;
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, 1 << 18);
    if (!joinable) pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
    if ((errno = pthread_create(joinable ? joinable : &ignored, &a, run, arg))) die("pthread_create");
    pthread_attr_destroy(&a);
}

/* ---- TLS -------------------------------------------------------------------------------------------------------- */

static int accept_any(int ok, X509_STORE_CTX *store) { (void)ok; (void)store; return 1; }

void make_context(int server) {
    ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    SSL_CTX_set_mode(ctx, SSL_MODE_AUTO_RETRY | SSL_MODE_RELEASE_BUFFERS);
    if (opt.anonymous) return;
    if (SSL_CTX_use_certificate_file(ctx, opt.cert, SSL_FILETYPE_PEM) <= 0 ||
        SSL_CTX_use_PrivateKey_file(ctx, opt.cert, SSL_FILETYPE_PEM) <= 0) die(opt.cert);
    if (server) {                       /* ask for a certificate and insist on one, whoever it is of */
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, accept_any);
        SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"hload", 5);
    }
}

int read_all(SSL *s, void *into, long n) {
    for (long got = 0; got < n;) {
        int r = SSL_read(s, (char *)into + got, n - got > CHUNK ? CHUNK : n - got);
        if (r <= 0) return -1;
        got += r;
    }
    return 0;
}

int write_all(SSL *s, const void *from, long n) {
    for (long put = 0; put < n;) {
        int r = SSL_write(s, (const char *)from + put, n - put > CHUNK ? CHUNK : n - put);
        if (r <= 0) return -1;
        put += r;
    }
    return 0;
}

int write_text(SSL *s, const char *text) { return write_all(s, text, strlen(text)); }

int read_text(SSL *s, const char *text) {               /* the next bytes must be exactly these */
    char got[64];
    long n = strlen(text);
    return read_all(s, got, n) || memcmp(got, text, n) ? -1 : 0;
}

void hang_up(SSL *s) {
    int fd = SSL_get_fd(s);
    SSL_shutdown(s);
    SSL_free(s);
    close(fd);
}

/* ---- dialling --------------------------------------------------------------------------------------------------- */

static int come_from(int fd, int number) {              /* --from, or one of the --sources, if there are any */
    struct sockaddr_in from = {.sin_family = AF_INET};
    int one = 1, source = opt.sources ? number % opt.sources : 0;
    if (!opt.from && !opt.sources) return 0;
    from.sin_addr.s_addr = opt.from ? inet_addr(opt.from) : htonl(0x7f000101 + source / 250 * 256 + source % 250);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);     /* its port is chosen with the peer known */
    return bind(fd, (struct sockaddr *)&from, sizeof from);
}

static int connect_tcp(int number) {
    int fd = socket(address->ai_family, SOCK_STREAM, 0), one = 1;
    struct timeval limit = {.tv_sec = TIMEOUT_S};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (!come_from(fd, number) && !connect(fd, address->ai_addr, address->ai_addrlen)) return fd;
    close(fd);
    return -1;
}

int start_connect(int number) {
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!come_from(fd, number) && (!connect(fd, address->ai_addr, address->ai_addrlen) || errno == EINPROGRESS)) return fd;
    close(fd);
    return -1;
}

void fill_in(char *into, size_t size, const char *name, int number) {
    const char *hash = strchr(name, '#');
    long of = opt.names ? (long)number * opt.stride % opt.names : number;
    if (hash) snprintf(into, size, "%.*s%ld%s", (int)(hash - name), name, of, hash + 1);
    else snprintf(into, size, "%s", name);
}

static int identify(SSL *s, int number) {
    char line[256], name[128];
    if (write_text(s, "MX\r\n\r\n")) return -1;
    if (!opt.subscription) return write_text(s, "MX-CLIENT 1.0\r\n\r\n");
    fill_in(name, sizeof name, opt.subscription, number);
    snprintf(line, sizeof line, "MX-SUBSCRIBER 1.0 poll://%s/\r\n\r\n", name);
    return write_text(s, line);
}

SSL *dial(int number, const char **why) {
    char name[128];
    *why = "no connection";
    int fd = connect_tcp(number);
    if (fd < 0) return NULL;
    SSL *s = SSL_new(ctx);
    SSL_set_fd(s, fd);
    fill_in(name, sizeof name, opt.sni, number);
    SSL_set_tlsext_host_name(s, name);
    *why = "TLS handshake failed";
    if (SSL_connect(s) > 0) {
        *why = "no MX-SERVER";
        if (!identify(s, number) && !read_text(s, "MX-SERVER 1.0\r\n\r\n")) return s;
    }
    hang_up(s);
    return NULL;
}
