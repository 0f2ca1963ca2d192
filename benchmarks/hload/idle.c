/* The dialling side of hload with nothing to say: idle callers, and parked pollers. */
#include "hload.h"
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>

#define OPENERS 8                       /* threads that open the connections */
#define TRIES 3                         /* of each: what is measured is how they rest, not how they come */

static atomic_int next_number, retried;
static SSL **held;
static long nulls;

static SSL *open_one(int number, char *reply, const char **why) {       /* NULL, and why, where it failed */
    const Exchange *x = opt.n_exchanges ? &opt.exchanges[0] : NULL;
    SSL *s = dial(number, why);
    if (s && x && (*why = call(s, x, 1, reply, NULL, NULL))) { hang_up(s); s = NULL; }
    return s;
}

static void *open_some(void *arg) {
    char *reply = malloc(opt.n_exchanges ? opt.exchanges[0].reply.len : 1);
    for (int i; (i = next_number++) < opt.conns;) {
        const char *why;
        for (int try = 1; !(held[i] = open_one(i, reply, &why)) && try < TRIES; try++) retried++;
        if (!held[i]) *(const char **)arg = why;
    }
    free(reply);
    return NULL;
}

enum { PARKED, TURNING };                /* what the next thing to be read of a poller is: a null, or PROCEED behind its NEXT */

static int take_one(SSL *s, char *state) {              /* none of them waits for another one's */
    if (*state == TURNING) { *state = PARKED; return read_text(s, "PROCEED\r\n"); }
    char got[sizeof NULL_ENVELOPE - 1];
    *state = TURNING;
    return read_all(s, got, sizeof got) || memcmp(got, NULL_ENVELOPE, sizeof got) || write_text(s, "NEXT\r\n") ? -1 : 0;
}

static int told_to_end(const sigset_t *term, double within) {
    return sigtimedwait(term, NULL, &(struct timespec){(time_t)within, (long)((within - (time_t)within) * 1e9)}) > 0;
}

static void hold_pollers(const sigset_t *term) {        /* they take up what they are sent */
    struct pollfd *p = calloc(opt.conns, sizeof *p);
    char *state = calloc(opt.conns, 1);
    double end = now() + opt.seconds;
    for (int i = 0; i < opt.conns; i++) p[i] = (struct pollfd){.fd = held[i] ? SSL_get_fd(held[i]) : -1, .events = POLLIN};
    while (now() < end && !told_to_end(term, 0)) {
        if (poll(p, opt.conns, 500) <= 0) continue;
        for (int i = 0; i < opt.conns; i++) {
            if (!p[i].revents) continue;
            if (take_one(held[i], &state[i])) p[i].fd = -1;      /* closed, or not what is due: it counts as closed */
            else nulls += state[i] == PARKED;
        }
        for (int i = 0; i < opt.conns; i++)
            if (p[i].fd < 0 && held[i]) { hang_up(held[i]); held[i] = NULL; }
    }
    free(p);
    free(state);
}

static int count_open(void) {
    int open = 0;
    for (int i = 0; i < opt.conns; i++) {
        struct pollfd p = {.fd = held[i] ? SSL_get_fd(held[i]) : -1, .events = POLLRDHUP};
        open += held[i] && poll(&p, 1, 0) == 0;
    }
    return open;
}

int idle(void) {
    pthread_t t[OPENERS];
    const char *why[OPENERS] = {0}, *first_error = "";
    int opened = 0;
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &term, NULL);            /* so that sigtimedwait gets it */
    held = calloc(opt.conns, sizeof *held);
    double start = now();
    for (int i = 0; i < OPENERS; i++) start_thread(open_some, &why[i], &t[i]);
    for (int i = 0; i < OPENERS; i++) {
        pthread_join(t[i], NULL);
        if (why[i]) first_error = why[i];
    }
    for (int i = 0; i < opt.conns; i++) opened += !!held[i];
    printf("{\"opened\": %d, \"failed\": %d, \"retried\": %d, \"first_error\": \"%s\", \"seconds\": %.3f}\n", opened,
           opt.conns - opened, retried, first_error, now() - start);
    fflush(stdout);
    if (opt.subscription) hold_pollers(&term);
    else told_to_end(&term, opt.seconds);
    printf("{\"still_open\": %d, \"nulls\": %ld}\n", count_open(), nulls);
    return 0;                                           /* the kernel closes them all */
}

