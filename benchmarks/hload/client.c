/* The dialling side of hload: Octopus, one exchange after another on each of its connections. */
#include "hload.h"

typedef struct {
    pthread_t thread;
    int number;
    long rpc, errors, capacity;         /* rpc: exchanges, and entries of latency */
    int64_t bytes;
    double *latency;
    const char *first_error, *tls;
} Worker;

static double t_measure, t_end;         /* end of the warm-up, end of the run */

static int send_stream(SSL *s, void *arg) {
    Worker *w = arg;
    if (write_all(s, stream_id, 16) || write_all(s, &opt.stream, 8)) return -1;
    for (int64_t left = opt.stream; left > 0;) {
        long n = left > CHUNK ? CHUNK : left;
        if (write_all(s, pattern, n)) return -1;
        left -= n;
        if (now() >= t_measure) w->bytes += n;
    }
    return write_all(s, &opt.stream, 8);
}

const char *call(SSL *s, const Exchange *x, int first, char *reply, int (*stream)(SSL *, void *), void *arg) {
    if (!first && (write_text(s, "NEXT\r\n") || read_text(s, "PROCEED\r\n"))) return "no PROCEED";
    if (write_all(s, x->request.bytes, x->request.len)) return "request not written";
    if (x->upload && stream(s, arg)) return "stream not written";
    if (read_all(s, reply, x->reply.len)) return "no reply";
    return memcmp(reply, x->reply.bytes, x->reply.len) ? "reply differs" : NULL;
}

static void record(Worker *w, double latency) {
    if (w->rpc == w->capacity) {
        w->capacity = w->capacity ? 2 * w->capacity : 1024;
        if (!(w->latency = realloc(w->latency, sizeof(double) * w->capacity))) die("realloc");
    }
    w->latency[w->rpc++] = latency;
}

static void *drive(void *arg) {         /* one connection, exchange after exchange, until the time is up */
    Worker *w = arg;
    SSL *s = NULL;
    const Exchange *x = &opt.exchanges[0];
    char *reply = malloc(x->reply.len);
    for (double start = now(); start < t_end; pause_for(opt.pause), start = now()) {
        const char *why = NULL;
        int first = !s;
        if (first && (s = dial(w->number, &why))) why = NULL, w->tls = SSL_get_version(s);
        if (s) why = call(s, x, first, reply, send_stream, w);
        double end = now();
        if (!why && end >= t_measure) record(w, end - start);
        if (why) {
            w->errors++;
            if (!w->first_error) w->first_error = why;
            if (!s) pause_for(.001);
        }
        if (s && (why || opt.new_connection)) { hang_up(s); s = NULL; }
    }
    if (s) hang_up(s);
    free(reply);
    return NULL;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile_ms(const double *sorted, long n, double p) { return n ? sorted[(long)((n - 1) * p)] * 1e3 : 0; }

int client(void) {
    Worker *w = calloc(opt.conns, sizeof *w);
    const char *first_error = "", *tls = "";
    long rpc = 0, errors = 0;
    int64_t bytes = 0;
    t_measure = now() + opt.warmup;
    t_end = t_measure + opt.seconds;
    for (int i = 0; i < opt.conns; i++) {
        w[i].number = i;
        start_thread(drive, &w[i], &w[i].thread);
    }
    pause_for(t_measure - now());
    puts("measuring");
    fflush(stdout);
    for (int i = 0; i < opt.conns; i++) {
        pthread_join(w[i].thread, NULL);
        rpc += w[i].rpc, errors += w[i].errors, bytes += w[i].bytes;
        if (w[i].first_error) first_error = w[i].first_error;
        if (w[i].tls) tls = w[i].tls;
    }
    double elapsed = now() - t_measure, *all = malloc(sizeof(double) * (rpc + 1));
    for (long i = 0, at = 0; i < opt.conns; at += w[i++].rpc)
        if (w[i].rpc) memcpy(all + at, w[i].latency, sizeof(double) * w[i].rpc);
    qsort(all, rpc, sizeof(double), ascending);
    printf("{\"rpc\": %ld, \"errors\": %ld, \"first_error\": \"%s\", \"tls\": \"%s\", \"seconds\": %.3f, "
           "\"rpc_per_s\": %.1f, \"mb\": %.3f, \"mb_per_s\": %.1f, "
           "\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"p999_ms\": %.3f, \"max_ms\": %.3f}\n",
           rpc, errors, first_error, tls, elapsed, rpc / elapsed, bytes / 1e6, bytes / elapsed / 1e6,
           percentile_ms(all, rpc, .5), percentile_ms(all, rpc, .99), percentile_ms(all, rpc, .999),
           percentile_ms(all, rpc, 1));
    return 0;
}
