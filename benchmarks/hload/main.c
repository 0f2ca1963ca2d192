/* The command line of hload; hload.h says how to call it. */
#include "hload.h"
#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

Options opt = {.host = "127.0.0.1", .sni = "tentacle.test", .target = "nowhere.test:10933", .conns = 1, .seconds = 3, .stride = 1};
SSL_CTX *ctx;
struct addrinfo *address;
unsigned char pattern[CHUNK];
unsigned char stream_id[16];

static _Noreturn void usage(const char *what, const char *arg) {
    fprintf(stderr, "hload: %s%s; hload.h says how to call it\n", what, arg);
    exit(2);
}

static Blob slurp(const char *name) {
    FILE *f = fopen(name, "rb");
    Blob b;
    if (!f) die(name);
    fseek(f, 0, SEEK_END);
    b.len = ftell(f);
    rewind(f);
    b.bytes = malloc(b.len + 1);
    if (fread(b.bytes, 1, b.len, f) != (size_t)b.len) die(name);
    fclose(f);
    return b;
}

static void add_exchange(char *files, int upload) {
    char *colon = strrchr(files, ':');
    if (!colon || opt.n_exchanges == MAX_EXCHANGES) usage("want REQ:RESP, and at most 8, not ", files);
    *colon = 0;
    opt.exchanges[opt.n_exchanges++] = (Exchange){slurp(files), slurp(colon + 1), upload};
}

static void set_stream_id(const char *hex) {
    if (strlen(hex) != 32 || strspn(hex, "0123456789abcdefABCDEF") != 32) usage("not 32 hex digits: ", hex);
    for (int i = 0; i < 16; i++) sscanf(hex + 2 * i, "%2hhx", &stream_id[i]);
}

static void read_options(int argc, char **argv) {
    static const struct option longs[] = {
        {"host", 1, 0, 'h'}, {"port", 1, 0, 'p'}, {"listener", 1, 0, 'l'}, {"cert", 1, 0, 'c'}, {"sni", 1, 0, 'n'}, {"conns", 1, 0, 'k'},
        {"seconds", 1, 0, 's'}, {"warmup", 1, 0, 'w'}, {"stream", 1, 0, 'b'}, {"stream-id", 1, 0, 'i'},
        {"rpc", 1, 0, 'r'}, {"upload", 1, 0, 'u'}, {"new-connection", 0, 0, 'N'}, {"pause", 1, 0, 'P'},
        {"sources", 1, 0, 'S'}, {"names", 1, 0, 'm'}, {"stride", 1, 0, 'd'}, {"subscription", 1, 0, 'q'},
        {"from", 1, 0, 'f'}, {"anonymous", 0, 0, 'a'}, {"way", 1, 0, 'W'}, {"target", 1, 0, 't'}, {0, 0, 0, 0}};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) switch (c) {
        case 'h': opt.host = optarg; break;
        case 'p': opt.port = optarg; break;
        case 'l': opt.listener = atoi(optarg); break;
        case 'c': opt.cert = optarg; break;
        case 'n': opt.sni = optarg; break;
        case 'k': opt.conns = atoi(optarg); break;
        case 's': opt.seconds = atof(optarg); break;
        case 'w': opt.warmup = atof(optarg); break;
        case 'b': opt.stream = atoll(optarg); break;
        case 'i': set_stream_id(optarg); break;
        case 'r': add_exchange(optarg, 0); break;
        case 'u': add_exchange(optarg, 1); break;
        case 'N': opt.new_connection = 1; break;
        case 'P': opt.pause = atof(optarg); break;
        case 'S': opt.sources = atoi(optarg); break;
        case 'm': opt.names = atoi(optarg); break;
        case 'd': opt.stride = atoi(optarg); break;
        case 'q': opt.subscription = optarg; break;
        case 'f': opt.from = optarg; break;
        case 'a': opt.anonymous = 1; break;
        case 'W': opt.way = optarg; break;
        case 't': opt.target = optarg; break;
        default: usage("unknown option", "");
    }
}

static void raise_descriptor_limit(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

static void make_pattern(void) {                        /* xorshift: a stream that does not compress */
    uint32_t x = 2463534242u;
    for (int i = 0; i < CHUNK; i++) {
        x ^= x << 13; x ^= x >> 17; x ^= x << 5;
        pattern[i] = x;
    }
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    const char *mode = optind < argc ? argv[optind] : "";
    int server = !strcmp(mode, "serve"), polls = !strcmp(mode, "pollers"), idles = !strcmp(mode, "idle");
    int node = !strcmp(mode, "nodes"), floods = !strcmp(mode, "flood");
    if (!opt.cert || !(server || node ? opt.listener > 0 : !!opt.port))
        usage("--cert is needed, and --listener to serve, --port to dial", "");
    if (!opt.n_exchanges && !polls && !idles && !node && !floods) usage("--rpc or --upload is needed", "");
    if (polls != !!opt.subscription) usage("--subscription is for pollers, and needed there", "");
    if (floods != !!opt.way) usage("--way is for flood, and needed there", "");
    if (opt.conns < 1 || opt.stride < 1 || opt.sources < 0 || opt.names < 0) usage("a number is too small", "");
    struct addrinfo want = {.ai_socktype = SOCK_STREAM};
    if (opt.port && getaddrinfo(opt.host, opt.port, &want, &address)) usage("no such address: ", opt.host);
    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    make_pattern();
    make_context(server || node);
    if (server) serve(be_tentacle);
    if (node) serve(be_node);
    if (idles || polls) return idle();
    if (floods) return flood();
    if (!strcmp(mode, "client")) return client();
    usage("serve, nodes, client, idle, flood or pollers, not ", mode);
}
