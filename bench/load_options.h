/* The load generator's command line. */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

enum {
    O_PORT = 256, O_SUB_PATH, O_PUB_PATH, O_POST_PATH, O_POLL_PATH, O_POLL_FIRST, O_POLL_KIND, O_PROTOCOL, O_HELLO,
    O_PUB_HELLO, O_READY, O_PUB_READY, O_REPLY, O_PREFIX, O_SUFFIX, O_BINARY, O_CONNECTIONS, O_INFLIGHT, O_SIZE, O_WINDOW,
    O_BURST, O_MESSAGES, O_SECONDS, O_WARM, O_SETTLE, O_GRACE, O_MASK, O_STREAM, O_FLOOD, O_FLOODERS, O_PID, O_CORE, O_HELP
};

static const struct option long_options[] = {
    {"port", 1, 0, O_PORT}, {"sub-path", 1, 0, O_SUB_PATH}, {"pub-path", 1, 0, O_PUB_PATH},
    {"post-path", 1, 0, O_POST_PATH}, {"poll-path", 1, 0, O_POLL_PATH}, {"poll-first", 1, 0, O_POLL_FIRST},
    {"poll-kind", 1, 0, O_POLL_KIND}, {"protocol", 1, 0, O_PROTOCOL}, {"hello", 1, 0, O_HELLO},
    {"pub-hello", 1, 0, O_PUB_HELLO}, {"ready", 1, 0, O_READY}, {"pub-ready", 1, 0, O_PUB_READY},
    {"reply", 1, 0, O_REPLY}, {"prefix", 1, 0, O_PREFIX}, {"suffix", 1, 0, O_SUFFIX}, {"binary", 0, 0, O_BINARY},
    {"stream", 0, 0, O_STREAM}, {"flood", 1, 0, O_FLOOD}, {"flooders", 1, 0, O_FLOODERS},
    {"connections", 1, 0, O_CONNECTIONS}, {"inflight", 1, 0, O_INFLIGHT}, {"size", 1, 0, O_SIZE},
    {"window", 1, 0, O_WINDOW}, {"burst", 1, 0, O_BURST}, {"messages", 1, 0, O_MESSAGES},
    {"seconds", 1, 0, O_SECONDS}, {"warm", 1, 0, O_WARM}, {"settle", 1, 0, O_SETTLE}, {"grace", 1, 0, O_GRACE},
    {"mask", 1, 0, O_MASK}, {"pid", 1, 0, O_PID}, {"core", 1, 0, O_CORE}, {"help", 0, 0, O_HELP}, {0, 0, 0, 0}};

static const char usage[] =
    "load WORKLOAD --port P [options], WORKLOAD one of fanout longpoll echo roundrobin publish idle handshake\n"
    "what the server speaks (%d in a path or text is the connection's number, %n counts 1, 2, ... with each use on it;\n"
    "texts know \\r \\n \\\\ \\xNN):\n"
    "  --sub-path P --pub-path P   WebSocket paths of subscribers and of the publisher\n"
    "  --post-path P               publish by POST (workloads longpoll, publish)\n"
    "  --poll-path P --poll-first P --poll-kind json|headers|eio\n"
    "                              json: GET poll-first once, then GET poll-path + last \"position\" of the answer;\n"
    "                              headers: Etag and Last-Modified are sent back; eio: Engine.IO 4 polling\n"
    "  --protocol NAME --hello TEXT --pub-hello TEXT --ready TEXT --pub-ready TEXT --reply FRAME=ANSWER\n"
    "  --prefix T --suffix T --binary\n"
    "  --stream                    subscribers are server-sent events\n"
    "the load:\n"
    "  --connections N --size BYTES --window MESSAGES --burst MESSAGES --inflight HANDSHAKES --mask HEX\n"
    "  --warm S --seconds S --messages N --settle S --grace S\n"
    "  --flooders N --flood pings|fragments|messages\n"
    "                              beside it, N connections to /channels/flood-%d?echo=0 send as much as they can\n"
    "the server's cost:  --pid PID (repeatable) --core N\n";

/* Decodes \r \n \\ \xNN in place. */
static char *unescape(char *text) {
    char *out = text;
    for (char *p = text; *p; p++) {
        if (*p != '\\' || !p[1]) {
            *out++ = *p;
            continue;
        }
        p++;
        if (*p == 'x' && p[1] && p[2]) {
            *out++ = (char)hex(p + 1, 2);
            p += 2;
        } else {
            *out++ = (char)(*p == 'r' ? '\r' : *p == 'n' ? '\n' : *p);
        }
    }
    *out = 0;
    return text;
}

static void add_hello(char **list, int *n, char *text) {
    if (*n == MAX_HELLOS) die("at most %d hello frames", MAX_HELLOS);
    list[(*n)++] = unescape(text);
}

static void set_server_option(int name, char *value) {
    switch (name) {
    case O_PORT: opt.port = atoi(value); break;
    case O_SUB_PATH: opt.sub_path = value; break;
    case O_PUB_PATH: opt.pub_path = value; break;
    case O_POST_PATH: opt.post_path = value; break;
    case O_POLL_PATH: opt.poll_path = value; break;
    case O_POLL_FIRST: opt.poll_first = value; break;
    case O_POLL_KIND:
        opt.poll_kind = !strcmp(value, "eio") ? TOKEN_EIO : !strcmp(value, "headers") ? TOKEN_HEADERS : TOKEN_JSON;
        break;
    case O_PROTOCOL: opt.protocol = value; break;
    case O_HELLO: add_hello(opt.hello, &opt.hellos, value); break;
    case O_PUB_HELLO: add_hello(opt.pub_hello, &opt.pub_hellos, value); break;
    case O_READY: opt.ready = unescape(value); break;
    case O_PUB_READY: opt.pub_ready = unescape(value); break;
    case O_REPLY:
        opt.reply_to = strsep(&value, "=");
        opt.reply = value ? value : "";
        break;
    case O_PREFIX: opt.prefix = unescape(value); break;
    case O_SUFFIX: opt.suffix = unescape(value); break;
    case O_BINARY: opt.binary = 1; break;
    case O_STREAM: opt.stream = 1; break;
    case O_PID:
        if (opt.n_pids == MAX_PIDS) die("at most %d --pid", MAX_PIDS);
        opt.pids[opt.n_pids++] = atoi(value);
        break;
    case O_CORE: opt.core = atoi(value); break;
    default: fputs(usage, name == O_HELP ? stdout : stderr); exit(name == O_HELP ? 0 : 2);
    }
}

static int set_load_option(int name, const char *value) {
    switch (name) {
    case O_CONNECTIONS: opt.connections = atoi(value); break;
    case O_INFLIGHT: opt.inflight = atoi(value); break;
    case O_SIZE: opt.size = atoi(value); break;
    case O_WINDOW: opt.window = atoi(value); break;
    case O_BURST: opt.burst = atoi(value); break;
    case O_MESSAGES: opt.messages = (uint32_t)atoi(value); break;
    case O_SECONDS: opt.seconds = atof(value); break;
    case O_WARM: opt.warm_s = atof(value); break;
    case O_SETTLE: opt.settle_s = atof(value); break;
    case O_GRACE: opt.grace_s = atof(value); break;
    case O_FLOOD: opt.flood = (char *)value; break;
    case O_FLOODERS: opt.flooders = atoi(value); break;
    case O_MASK: opt.mask = htonl((uint32_t)strtoul(value, NULL, 16)); break;
    default: return 0;
    }
    return 1;
}

static void check_options(void) {
    if (opt.port < 1 || opt.port > 65535) die("--port is missing");
    if (opt.connections < 1 || opt.connections > 60000) die("--connections must be 1-60000");
    if (opt.size < 24) die("--size must be at least 24");
    if (opt.flooders && (!opt.flood || !flood_kind())) die("--flood must be pings, fragments or messages");
    if (opt.window < 1) die("--window must be at least 1");
    if (work == ROUNDROBIN && opt.window > opt.connections) die("--window must not be above --connections");
    if (work == PUBLISH && !opt.post_path) die("publish needs --post-path");
    if (work == LONGPOLL && !opt.poll_path) die("longpoll needs --poll-path");
    if (work == LONGPOLL && opt.poll_kind == TOKEN_JSON && !opt.poll_first) die("longpoll needs --poll-first");
}

static void parse_options(int argc, char **argv) {
    options defaults = {.workload = "", .sub_path = "/", .pub_path = "/", .prefix = "", .suffix = "",
                        .connections = 100, .inflight = 50, .size = 64, .window = 8, .seconds = 2, .warm_s = 0.5,
                        .settle_s = 0.3, .grace_s = 10, .mask = 0x78563412};
    int name;
    opt = defaults;
    while ((name = getopt_long(argc, argv, "h", long_options, NULL)) != -1)
        if (!set_load_option(name, optarg)) set_server_option(name == 'h' ? O_HELP : name, optarg);
    if (optind < argc) opt.workload = argv[optind];
    for (work = FANOUT; work <= HANDSHAKE && strcmp(workload_names[work], opt.workload);) work++;
    if (work > HANDSHAKE) die("which workload? see --help");
    check_options();
}
#endif
