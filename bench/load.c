/* A neutral load generator for message servers: one process, one thread, busy-polling, no code of any server.
 *
 *   load WORKLOAD --port P [options]      prints one line of JSON
 *
 * fanout     one publisher; every message must reach each of C subscribers once and in order
 * longpoll   the same with C long-polling HTTP clients
 * echo       C connections, each on its own path, one message in flight each
 * roundrobin the same, but only W messages in flight in all, connection after connection
 * publish    C keep-alive HTTP connections that POST, one request in flight each; one subscriber for each of them
 * idle       opens C connections and reads the server's memory
 * handshake  connect, upgrade, close, C at a time, again and again
 *
 * A message is done when every subscriber has it. Build: gcc -O2 -o load load.c */
#include "load_http.h"
#include <getopt.h>
#include <sys/resource.h>

#define MAX_MESSAGES (1u << 23)
#define WARM_CONNECTIONS 100 /* held open before memory is read first, so that one-time costs are not counted */

typedef enum { FANOUT, LONGPOLL, ECHO, ROUNDROBIN, PUBLISH, IDLE, HANDSHAKE } workload;
static const char *const workload_names[] = {"fanout",  "longpoll", "echo",     "roundrobin",
                                             "publish", "idle",     "handshake"};

static workload work;
static conn *subs, *posters, publisher;
static uint64_t *sent_ns;
static uint32_t *remaining; /* per message: subscribers that do not have it yet */
static uint32_t sent, done, acked, send_limit, cursor;
static uint64_t deliveries, duplicated, reordered, last_delivery_ns, opened;
static int sending, http_publisher, n_closed;
static conn **closed; /* handshake: connections to open next */

static int unfinished(void) { return done != sent || (http_publisher && acked != sent); }

/* ---- deliveries ---- */

static void accept_delivery(uint32_t seq, uint64_t now) {
    deliveries++;
    last_delivery_ns = now;
    hist_add(now - sent_ns[seq]);
    if (!--remaining[seq]) done++;
}

/* A message that is not the next one: from here on this subscriber keeps a bitmap, so the counts stay exact.
 * Returns whether it is new. */
static int is_new_out_of_turn(conn *c, uint32_t seq, uint32_t sent_so_far) {
    if (seq >= sent_so_far) {
        corrupt++;
        return 0;
    }
    if (!c->seen) {
        c->seen = must(calloc(MAX_MESSAGES / 64, 8));
        for (uint32_t i = 0; i < c->next; i++) c->seen[i / 64] |= 1ull << (i & 63);
    }
    if (c->seen[seq / 64] >> (seq & 63) & 1) {
        duplicated++;
        return 0;
    }
    c->seen[seq / 64] |= 1ull << (seq & 63);
    if (seq < c->next) reordered++;
    else c->next = seq + 1;
    return 1;
}

/* Counts a message on its connection; returns whether it is one that had not come before. */
static int is_new(conn *c, uint32_t seq, uint32_t sent_so_far) {
    if (seq == c->next && !c->seen && seq < sent_so_far) c->next++;
    else if (!is_new_out_of_turn(c, seq, sent_so_far)) return 0;
    c->unique++;
    return 1;
}

static void send_message(conn *c, uint32_t seq) {
    char head[256], tail[64];
    size_t head_len = expand(head, sizeof head, opt.prefix, c->id, &c->counter);
    size_t tail_len = expand(tail, sizeof tail, opt.suffix, c->id, &c->counter);
    append_frame(c, opt.binary ? 2 : 1, head, head_len, payload(seq, (uint32_t)c->id), (size_t)opt.size, tail, tail_len);
}

static int may_send(void) { return sending && sent < send_limit; }

/* ---- flooders: connections that send as much as they can ---- */

static conn *flooders;
static char flood_block[1 << 14];
static size_t flood_bytes;

/* Fills the block with whole frames of the kind that is asked for; returns whether there is such a kind. A fragment
 * never ends its message; an empty mask keeps bytes as they are. */
static int flood_kind(void) {
    static const struct {
        const char *name, *frame;
        size_t length;
    } kinds[] = {{"pings", "\x89\x80\0\0\0\0", 6},
                 {"fragments", "\x00\x81\0\0\0\0x", 7},
                 {"messages", "\x82\x83\0\0\0\0xyz", 9}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(opt.flood, kinds[i].name)) continue;
        for (; flood_bytes + kinds[i].length <= sizeof flood_block; flood_bytes += kinds[i].length)
            memcpy(flood_block + flood_bytes, kinds[i].frame, kinds[i].length);
        return 1;
    }
    return 0;
}

/* Gives every flooder whose last block has left the next one. One that the server has closed stays closed. */
static void flood(void) {
    for (int i = 0; i < opt.flooders; i++) {
        conn *c = &flooders[i];
        if (c->state != ST_OPEN || c->out_len) continue;
        if (!c->step++ && flood_block[0] == 0) append(c, "\x02\x81\0\0\0\0x", 7);
        append(c, flood_block, flood_bytes);
        flush(c);
    }
}

static void send_own(conn *c) {
    if (!may_send() || c->busy) return;
    sent++;
    c->busy = 1;
    c->since_ns = now_ns();
    send_message(c, c->sent++);
    flush(c);
}

/* Sends on the next connection in turn that has nothing in flight. */
static void send_round(void) {
    for (int i = 0; i < opt.connections; i++) {
        conn *c = &subs[cursor++ % (uint32_t)opt.connections];
        if (c->busy) continue;
        send_own(c);
        return;
    }
}

static void on_echo(conn *c, uint64_t now) {
    c->busy = 0, done++, deliveries++;
    last_delivery_ns = now;
    hist_add(now - c->since_ns);
    if (work == ECHO) send_own(c);
    else send_round();
}

static void on_message(conn *c, uint32_t seq, uint32_t from, uint64_t now) {
    switch (work) {
    case ECHO:
    case ROUNDROBIN:
        if (from != (uint32_t)c->id) corrupt++;
        else if (is_new(c, seq, c->sent)) on_echo(c, now);
        break;
    case PUBLISH:
        if (from != (uint32_t)c->id) corrupt++;
        else if (is_new(c, seq, posters[c->id].sent)) done++;
        break;
    default: /* some servers give a publisher its own messages back; those are not counted */
        if (c != &publisher && is_new(c, seq, sent)) accept_delivery(seq, now);
    }
}

/* ---- publishing ---- */

static uint32_t take_seq(void) {
    sent_ns[sent] = now_ns();
    remaining[sent] = (uint32_t)opt.connections;
    return sent++;
}

/* Posts the next message: of this connection's own stream (publish), or of the one that all pollers follow. */
static void post_next(conn *c) {
    if (!may_send() || c->busy) return;
    uint32_t seq = work == PUBLISH ? (sent++, c->sent++) : take_seq();
    append_post(c, opt.post_path, "", payload(seq, (uint32_t)c->id), (size_t)opt.size);
}

/* Keeps the window full (or starts the next burst). Freed places are refilled in one write, as they came free. */
static void refill(void) {
    uint32_t room = opt.burst ? (sent == done ? (uint32_t)opt.burst : 0) : (uint32_t)opt.window - (sent - done);
    if (http_publisher) {
        if (room) post_next(&publisher);
        return;
    }
    if (!room || !may_send()) return;
    for (; room && may_send(); room--) send_message(&publisher, take_seq());
    flush(&publisher);
}

static void on_response(conn *c, int status, char *head, char *body, size_t length, uint64_t now) {
    if (status < 200 || status >= 400) {
        body[length < 80 ? length : 80] = 0;
        fail(c, "HTTP error:", head);
        return;
    }
    if (c == &publisher || work == PUBLISH) {
        acked++;
        c->busy = 0;
        if (work != PUBLISH) return;
        hist_add(now - c->since_ns);
        last_delivery_ns = now;
        post_next(c);
        return;
    }
    poll_answered(c, head, body, length);
    scan(c, body, length, now);
    poll_again(c);
}

static void on_open(conn *c, uint64_t now) {
    opened++;
    if (work == LONGPOLL && c != &publisher) poll_again(c);
    if (work != HANDSHAKE || c->state != ST_OPEN) return;
    deliveries++;
    last_delivery_ns = now;
    hist_add(now - c->since_ns);
    c->state = ST_CLOSING;
    append_frame(c, 8, "\x03\xe8", 2, "", 0, "", 0);
    flush(c);
}

static void on_closed(conn *c) {
    if (work != HANDSHAKE) return;
    done++;
    closed[n_closed++] = c;
}

/* Reopens what has closed; not in on_closed, whose caller still holds the old connection's bytes. */
static void reopen(void) {
    while (n_closed && may_send()) {
        sent++;
        conn_start(closed[--n_closed]);
    }
}

/* ---- phases ---- */

/* Opens connections, at most opt.inflight at a time: a server's listen queue may hold only 100. */
static void open_all(conn *conns, int n, kind what, int first_id) {
    uint64_t before = opened, end = now_ns() + 60 * NS_PER_S;
    int started = 0;
    while (opened - before < (uint64_t)n && !failures) {
        while (started < n && (uint64_t)started - (opened - before) < (uint64_t)opt.inflight) {
            conns[started].kind = what;
            conns[started].id = first_id + started;
            conn_start(&conns[started++]);
        }
        pump(0);
        if (now_ns() > end) fail(&conns[opened - before], "not open after 60 s", "");
    }
}

static void settle(double seconds) {
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    while (now_ns() < end) pump(5);
}

static void start_sending(void) {
    switch (work) {
    case ECHO:
        for (int i = 0; i < opt.connections; i++) send_own(&subs[i]);
        break;
    case ROUNDROBIN:
        for (int i = 0; i < opt.window; i++) send_round();
        break;
    case PUBLISH:
        for (int i = 0; i < opt.connections; i++) post_next(&posters[i]);
        break;
    default:
        break;
    }
}

/* Sends for `seconds` or `messages`, then waits until everything sent has arrived, at most opt.grace_s. */
static void run_phase(double seconds, uint32_t messages) {
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9), give_up = end + (uint64_t)(opt.grace_s * 1e9);
    send_limit = messages && messages < MAX_MESSAGES - sent ? sent + messages : MAX_MESSAGES;
    sending = 1;
    start_sending();
    for (;;) {
        flood();
        if (work == FANOUT || work == LONGPOLL) refill();
        else if (work == HANDSHAKE) reopen();
        pump(0);
        uint64_t now = now_ns();
        if (now > end || sent >= send_limit) sending = 0;
        if ((!sending && !unfinished()) || now > give_up) break;
        if (failures) break;
    }
    sending = 0;
}

typedef struct {
    sample start, end;
    uint64_t first_ns, memory_before, memory_after, deliveries, expected;
    double open_s, open_cpu_ns;
} result;

static uint64_t missing(void) {
    uint64_t sum = 0, all = sent;
    if (work == FANOUT || work == LONGPOLL)
        for (int i = 0; i < opt.connections; i++) sum += all - subs[i].unique;
    else
        sum = all - done;
    return sum;
}

static void measure(result *r) {
    run_phase(opt.warm_s, 0);
    hist_reset();
    deliveries = 0;
    uint32_t sent_before = sent, acked_before = acked;
    r->start = take_sample();
    r->first_ns = last_delivery_ns = now_ns();
    run_phase(opt.seconds, opt.messages);
    r->end = take_sample();
    r->deliveries = work == PUBLISH ? acked - acked_before : deliveries;
    r->expected = (uint64_t)(sent - sent_before) * (work == FANOUT || work == LONGPOLL ? (uint64_t)opt.connections : 1);
}

static void open_publishers(void) {
    http_publisher = opt.post_path != NULL && (work == LONGPOLL || work == PUBLISH);
    if (work == PUBLISH) open_all(posters, opt.connections, KIND_HTTP, 0);
    else if (work == FANOUT || work == LONGPOLL) open_all(&publisher, 1, http_publisher ? KIND_HTTP : KIND_PUB, 0);
}

static void open_subscribers(result *r) {
    sample before = take_sample();
    open_all(subs, opt.connections, work == LONGPOLL ? KIND_HTTP : KIND_SUB, 0);
    sample after = take_sample();
    r->open_s = (double)(after.at_ns - before.at_ns) / 1e9;
    r->open_cpu_ns = (double)(after.cpu_ns - before.cpu_ns);
}

static void run_idle(result *r) {
    conn *warm = must(calloc(WARM_CONNECTIONS, sizeof *warm));
    open_all(warm, WARM_CONNECTIONS, KIND_SUB, 1 << 20);
    settle(opt.settle_s);
    r->memory_before = memory_bytes();
    r->start = take_sample();
    r->first_ns = now_ns();
    open_subscribers(r);
    last_delivery_ns = now_ns();
    r->end = take_sample();
    settle(opt.settle_s);
    r->memory_after = memory_bytes();
    r->deliveries = open_count - WARM_CONNECTIONS;
    r->expected = (uint64_t)opt.connections;
}

static void wait_for_polls(void) {
    uint64_t end = now_ns() + 30 * NS_PER_S;
    while (polls_ready < (uint32_t)opt.connections && !failures && now_ns() < end) pump(5);
    if (polls_ready < (uint32_t)opt.connections) fail(&subs[0], "pollers not ready", "");
}

static void run(result *r) {
    if (work == IDLE) {
        run_idle(r);
        return;
    }
    if (work == HANDSHAKE) {
        for (int i = 0; i < opt.connections; i++) subs[i].id = i, closed[n_closed++] = &subs[i];
        measure(r);
        return;
    }
    open_subscribers(r);
    open_publishers();
    if (work == LONGPOLL) wait_for_polls();
    settle(opt.settle_s);
    open_all(flooders, opt.flooders, KIND_FLOOD, 0);
    if (!failures) measure(r);
}

static void print_result(const result *r) {
    double seconds = (double)(last_delivery_ns - r->first_ns) / 1e9, wall = (double)(r->end.at_ns - r->start.at_ns);
    double cpu = (double)(r->end.cpu_ns - r->start.cpu_ns), busy = (double)(r->end.core_busy_ns - r->start.core_busy_ns);
    uint64_t lost = work == IDLE ? r->expected - r->deliveries : missing();
    int complete = !failures && !lost && !duplicated && !reordered && !corrupt && r->deliveries == r->expected;
    printf("{\"workload\":\"%s\",\"connections\":%d,\"deliveries\":%llu,\"expected\":%llu,\"seconds\":%.6f,"
           "\"cpu_ns\":%.0f,\"other_share\":%.4f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,",
           workload_names[work], opt.connections, (unsigned long long)r->deliveries, (unsigned long long)r->expected,
           seconds, cpu, wall > 0 && busy > cpu ? (busy - cpu) / wall : 0.0, hist_quantile_us(0.5),
           hist_quantile_us(0.99), (double)hist_max / 1000.0);
    printf("\"lost\":%llu,\"duplicated\":%llu,\"reordered\":%llu,\"corrupt\":%llu,\"open_seconds\":%.6f,"
           "\"open_cpu_ns\":%.0f,\"memory_before\":%llu,\"memory_after\":%llu,\"complete\":%s,\"failure\":\"%s\"}\n",
           (unsigned long long)lost, (unsigned long long)duplicated, (unsigned long long)reordered,
           (unsigned long long)corrupt, r->open_s, r->open_cpu_ns, (unsigned long long)r->memory_before,
           (unsigned long long)r->memory_after, complete ? "true" : "false", failure_text);
}

#include "load_options.h"

int main(int argc, char **argv) {
    result r = {0};
    struct rlimit files = {65536, 65536};
    parse_options(argc, argv);
    if (setrlimit(RLIMIT_NOFILE, &files)) {
        getrlimit(RLIMIT_NOFILE, &files);
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    epoll_fd = epoll_create1(0);
    read_buffer = must(malloc(READ_BYTES));
    subs = must(calloc((size_t)opt.connections, sizeof *subs));
    posters = must(calloc((size_t)opt.connections, sizeof *posters));
    flooders = must(calloc((size_t)opt.flooders + 1, sizeof *flooders));
    closed = must(calloc((size_t)opt.connections, sizeof *closed));
    sent_ns = must(calloc(MAX_MESSAGES, sizeof *sent_ns));
    remaining = must(calloc(MAX_MESSAGES, sizeof *remaining));
    filler = must(malloc((size_t)opt.size));
    memset(filler, 'x', (size_t)opt.size);
    memcpy(filler, MARKER, 4);
    filler[opt.size - 1] = '~';
    run(&r);
    print_result(&r);
    return 0;
}
