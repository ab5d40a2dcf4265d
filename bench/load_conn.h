/* Connections: non-blocking sockets under one edge-triggered epoll, and the client side of WebSocket (RFC 6455). */
#ifndef LOAD_CONN_H
#define LOAD_CONN_H
#include "load_core.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define READ_BYTES (1 << 20)
#define HEADER_BYTES 16 /* of a payload: the marker, the sequence number in 8 hex digits, the connection in 4 */
#define MARKER "HW!k" /* no name that a server draws at random has it */
#define SOURCE_ADDRESSES 40 /* 127.0.0.2 ...: one address has 28,000 ports, and closed ones rest for a minute */
#define ACCEPT_VALUE "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" /* the answer to the key below, RFC 6455 1.3 */
#define FLOOD_PATH "/channels/flood-%d?echo=0"
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="

typedef enum { KIND_SUB, KIND_PUB, KIND_HTTP, KIND_FLOOD } kind;
typedef enum { ST_NEW, ST_CONNECTING, ST_HANDSHAKE, ST_HELLO, ST_OPEN, ST_CLOSING, ST_CLOSED } state;

typedef struct conn {
    int fd, id;
    kind kind;
    state state;
    char *in, *out;                    /* read but not parsed; built but not written */
    uint32_t in_len, in_cap, out_len, out_off, out_cap;
    uint32_t sent, next, unique;       /* sent here; the sequence number that is due; different messages that came */
    uint32_t counter;                  /* the last number that %n stood for */
    uint64_t *seen;                    /* bitmap of messages that came, made when something is out of order */
    char part[HEADER_BYTES];           /* head of a payload that is split over two frames */
    uint32_t part_len, skip;           /* skip: payload bytes still to come after a head */
    uint64_t since_ns;                 /* when the connect, the request or the echo in flight was sent */
    int busy, step;                    /* one message is in flight; how far an HTTP session's set-up is */
    char token[160], modified[64];     /* position to ask after; Last-Modified for nchan */
} conn;

static int epoll_fd, source_turn;
static char *read_buffer;
static uint64_t failures, open_count, corrupt;
static char failure_text[160];

/* What the workload does with a message, an HTTP answer, a connection that opened, one that closed. */
static void on_message(conn *c, uint32_t seq, uint32_t from, uint64_t now);
static void on_response(conn *c, int status, char *head, char *body, size_t length, uint64_t now);
static void on_open(conn *c, uint64_t now);
static void on_closed(conn *c);

static void fail(conn *c, const char *what, const char *detail) {
    if (!failures++) snprintf(failure_text, sizeof failure_text, "connection %d: %s %.90s", c->id, what, detail);
    for (char *p = failure_text; *p; p++)
        if (*p < ' ' || *p == '"' || *p == '\\') *p = ' ';
}

static void conn_close(conn *c) {
    if (c->state == ST_CLOSED) return;
    if (c->state == ST_OPEN || c->state == ST_CLOSING) open_count--;
    if (c->state != ST_CLOSING && c->state != ST_OPEN) fail(c, "closed by the server in the handshake", "");
    close(c->fd);
    c->state = ST_CLOSED;
    on_closed(c);
}

static void append(conn *c, const void *data, size_t n) {
    if (c->out_len + n > c->out_cap) {
        c->out_cap = (uint32_t)(c->out_len + n) * 2;
        c->out = must(realloc(c->out, c->out_cap));
    }
    memcpy(c->out + c->out_len, data, n);
    c->out_len += (uint32_t)n;
}

static void flush(conn *c) {
    while (c->out_off < c->out_len) {
        ssize_t n = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN) conn_close(c);
            return;
        }
        c->out_off += (uint32_t)n;
    }
    c->out_off = c->out_len = 0;
}

/* Appends one masked frame around prefix + payload + suffix; any of them may be empty. */
static void append_frame(conn *c, int opcode, const char *head, size_t head_len, const char *body, size_t body_len,
                         const char *tail, size_t tail_len) {
    size_t n = head_len + body_len + tail_len;
    uint8_t start[14] = {(uint8_t)(0x80 | opcode)};
    size_t used = 2;
    if (n < 126) {
        start[1] = (uint8_t)(0x80 | n);
    } else if (n < 65536) {
        start[1] = 0x80 | 126, start[2] = (uint8_t)(n >> 8), start[3] = (uint8_t)n, used = 4;
    } else {
        start[1] = 0x80 | 127, used = 10;
        for (int i = 0; i < 8; i++) start[2 + i] = (uint8_t)((uint64_t)n >> (56 - 8 * i));
    }
    memcpy(start + used, &opt.mask, 4);
    append(c, start, used + 4);
    uint32_t from = c->out_len;
    append(c, head, head_len);
    append(c, body, body_len);
    append(c, tail, tail_len);
    const uint8_t *key = start + used;
    for (size_t i = 0; i < n; i++) c->out[from + i] ^= (char)key[i & 3];
}

static void append_text(conn *c, const char *text) {
    char buffer[1024];
    size_t n = expand(buffer, sizeof buffer, text, c->id, &c->counter);
    append_frame(c, opt.binary ? 2 : 1, "", 0, buffer, n, "", 0);
}

/* ---- payloads: the same bytes wherever they travel, so that only real deliveries are counted ---- */

static char *filler; /* opt.size bytes: marker, 12 digits to fill in, x…x, ~ */

static char *payload(uint32_t seq, uint32_t from) {
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 8; i++) filler[4 + i] = digits[seq >> (28 - 4 * i) & 15];
    for (int i = 0; i < 4; i++) filler[12 + i] = digits[from >> (12 - 4 * i) & 15];
    return filler;
}

static uint32_t hex(const char *p, int n) {
    uint32_t value = 0;
    for (int i = 0; i < n; i++) value = value << 4 | (uint32_t)(p[i] <= '9' ? p[i] - '0' : p[i] - 'a' + 10);
    return value;
}

/* Finds payloads anywhere in a connection's bytes, also split over frames. The marker's H is nowhere else in a head. */
static void scan(conn *c, const char *p, size_t n, uint64_t now) {
    while (n) {
        if (c->skip) {
            size_t take = n < c->skip ? n : c->skip;
            p += take, n -= take, c->skip -= (uint32_t)take;
            if (!c->skip && p[-1] != '~') corrupt++;
            continue;
        }
        if (!c->part_len) {
            const char *h = memchr(p, MARKER[0], n);
            if (!h) return;
            n -= (size_t)(h - p), p = h;
        }
        size_t take = n < HEADER_BYTES - c->part_len ? n : HEADER_BYTES - c->part_len;
        memcpy(c->part + c->part_len, p, take);
        size_t have = c->part_len + take, check = have < 4 ? have : 4;
        if (memcmp(c->part, MARKER, check)) { /* not ours: go on after the H that was looked at */
            if (!c->part_len) p++, n--;
            c->part_len = 0;
            continue;
        }
        p += take, n -= take, c->part_len = (uint32_t)have;
        if (have < HEADER_BYTES) return;
        c->part_len = 0;
        c->skip = (uint32_t)opt.size - HEADER_BYTES;
        on_message(c, hex(c->part + 4, 8), hex(c->part + 12, 4), now);
    }
}

/* ---- WebSocket, the client's side ---- */

static int is_stream(const conn *c) { return opt.stream && c->kind == KIND_SUB; }

/* What a frame must contain for the connection to be open, or NULL. */
static const char *ready_text(const conn *c) {
    if (c->kind == KIND_FLOOD) return NULL;
    return c->kind == KIND_PUB && opt.pub_ready ? opt.pub_ready : opt.ready;
}

static void on_data_frame(conn *c, const char *p, size_t n, uint64_t now) {
    if (n == (size_t)opt.size && !c->part_len && !c->skip && !memcmp(p, MARKER, 4)) { /* a frame that is a payload */
        if (p[n - 1] != '~') corrupt++;
        on_message(c, hex(p + 4, 8), hex(p + 12, 4), now);
        return;
    }
    if (opt.reply_to && n == strlen(opt.reply_to) && !memcmp(p, opt.reply_to, n)) {
        append_text(c, opt.reply);
        flush(c);
    }
    if (c->state == ST_HELLO && memmem(p, n, ready_text(c), strlen(ready_text(c)))) {
        c->state = ST_OPEN;
        open_count++;
        on_open(c, now);
    }
    scan(c, p, n, now);
}

/* Parses one frame at `p`; returns its whole length, or 0 when it is not all here yet. Servers do not mask (5.1). */
static size_t parse_frame(conn *c, const char *data, size_t n, uint64_t now) {
    const uint8_t *p = (const uint8_t *)data;
    if (n < 2) return 0;
    size_t length = p[1] & 127, start = 2;
    if (length == 126) {
        if (n < 4) return 0;
        length = (size_t)p[2] << 8 | p[3], start = 4;
    } else if (length == 127) {
        if (n < 10) return 0;
        length = 0, start = 10;
        for (int i = 2; i < 10; i++) length = length << 8 | p[i];
    }
    if (n < start + length) return 0;
    int opcode = p[0] & 15;
    if (opcode < 3) {
        on_data_frame(c, data + start, length, now);
    } else if (opcode == 9) {
        append_frame(c, 10, "", 0, data + start, length, "", 0);
        flush(c);
    } else if (opcode == 8) {
        if (c->state != ST_CLOSING && c->kind != KIND_FLOOD) fail(c, "closed by the server:", length > 2 ? data + start + 2 : "");
        conn_close(c);
    }
    return start + length;
}

/* Takes the head of an event stream; returns its length, or 0 when it is not all here yet. */
static size_t parse_stream_head(conn *c, char *data, size_t n, uint64_t now) {
    char *end = memmem(data, n, "\r\n\r\n", 4);
    if (!end) return 0;
    if (memcmp(data, "HTTP/1.1 200", 12)) {
        *end = 0;
        fail(c, "stream refused:", data);
        c->state = ST_CLOSING, open_count++;
        conn_close(c);
        return n;
    }
    c->state = ST_OPEN;
    open_count++;
    on_open(c, now);
    return (size_t)(end - data) + 4;
}

/* Takes the answer to the upgrade; returns its length, or 0 when it is not all here yet. */
static size_t parse_handshake(conn *c, char *data, size_t n, uint64_t now) {
    char *end = memmem(data, n, "\r\n\r\n", 4);
    if (!end) return 0;
    if (n < 12 || memcmp(data, "HTTP/1.1 101", 12) || !memmem(data, (size_t)(end - data), ACCEPT_VALUE, 28)) {
        *end = 0;
        fail(c, "handshake refused:", data);
        c->state = ST_CLOSING, open_count++;
        conn_close(c);
        return n;
    }
    int hellos = c->kind == KIND_PUB ? opt.pub_hellos : c->kind == KIND_SUB ? opt.hellos : 0;
    for (int i = 0; i < hellos; i++) append_text(c, c->kind == KIND_PUB ? opt.pub_hello[i] : opt.hello[i]);
    c->state = ready_text(c) ? ST_HELLO : ST_OPEN;
    flush(c);
    if (c->state == ST_OPEN) {
        open_count++;
        on_open(c, now);
    }
    return (size_t)(end - data) + 4;
}

static size_t parse_response(conn *c, char *data, size_t n, uint64_t now); /* load_http.h */

/* Parses what was read; returns how many bytes were used. */
static size_t parse(conn *c, char *data, size_t n, uint64_t now) {
    size_t used = 0;
    while (used < n && c->state != ST_CLOSED) {
        size_t step;
        if (c->kind == KIND_HTTP)
            step = parse_response(c, data + used, n - used, now);
        else if (is_stream(c) && c->state == ST_OPEN)
            scan(c, data + used, step = n - used, now);
        else if (is_stream(c))
            step = parse_stream_head(c, data + used, n - used, now);
        else if (c->state == ST_HANDSHAKE)
            step = parse_handshake(c, data + used, n - used, now);
        else
            step = parse_frame(c, data + used, n - used, now);
        if (!step) break;
        used += step;
    }
    return used;
}

static void keep_rest(conn *c, const char *rest, size_t n) {
    if (n > c->in_cap) {
        c->in_cap = (uint32_t)n * 2;
        c->in = must(realloc(c->in, c->in_cap));
    }
    if (n) memcpy(c->in, rest, n);
    c->in_len = (uint32_t)n;
}

/* Reads until the socket is empty: with an edge-triggered epoll nothing reports what is left behind. */
static void conn_read(conn *c) {
    for (;;) {
        size_t kept = c->in_len;
        if (kept + 65536 > READ_BYTES) die("a frame or answer of more than %d bytes", READ_BYTES);
        if (kept) memcpy(read_buffer, c->in, kept);
        ssize_t got = recv(c->fd, read_buffer + kept, READ_BYTES - kept, 0);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) {
            if (c->state == ST_OPEN && c->kind != KIND_FLOOD) fail(c, "closed by the server", got ? strerror(errno) : "");
            conn_close(c);
            return;
        }
        size_t n = kept + (size_t)got, used = parse(c, read_buffer, n, now_ns());
        if (c->state == ST_CLOSED) return;
        keep_rest(c, read_buffer + used, n - used);
        if (n < READ_BYTES) return; /* a short read empties a TCP socket; what comes later is a new edge */
    }
}

static void append_upgrade(conn *c) {
    char path[1024], request[2048];
    const char *wanted = c->kind == KIND_PUB ? opt.pub_path : c->kind == KIND_SUB ? opt.sub_path : FLOOD_PATH;
    expand(path, sizeof path, wanted, c->id, &c->counter);
    if (is_stream(c)) {
        int length = snprintf(request, sizeof request,
                              "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n", path, opt.port);
        append(c, request, (size_t)length);
        return;
    }
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n",
                     path, opt.port, opt.protocol ? "Sec-WebSocket-Protocol: " : "", opt.protocol ? opt.protocol : "",
                     opt.protocol ? "\r\n" : "");
    append(c, request, (size_t)n);
}

static void on_connected(conn *c) {
    if (c->kind == KIND_HTTP) {
        c->state = ST_OPEN;
        open_count++;
        on_open(c, now_ns());
        return;
    }
    c->state = ST_HANDSHAKE;
    append_upgrade(c);
    flush(c);
}

static void conn_event(conn *c, uint32_t events) {
    if (c->state == ST_CLOSED) return;
    if (c->state == ST_CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (!error && !(events & EPOLLOUT)) return;
        if (error) {
            fail(c, "cannot connect:", strerror(error));
            conn_close(c);
            return;
        }
        on_connected(c);
    }
    if (c->out_len && c->state != ST_CLOSED) flush(c);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP) && c->state != ST_CLOSED) conn_read(c);
}

/* Starts a connection from the next source address. */
static void conn_start(conn *c) {
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    from.sin_addr.s_addr = htonl(0x7f000002u + (uint32_t)(source_turn++ % SOURCE_ADDRESSES));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)opt.port);
    if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) die("bind: %s", strerror(errno));
    c->state = ST_CONNECTING;
    c->since_ns = now_ns();
    c->in_len = c->out_len = c->out_off = c->counter = 0;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) die("connect: %s", strerror(errno));
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event)) die("epoll_ctl: %s", strerror(errno));
}

/* One turn of the loop. A wait of 0 is busy polling: then the server never pays for waking this process. */
static void pump(int wait_ms) {
    static struct epoll_event events[1024];
    int n = epoll_wait(epoll_fd, events, 1024, wait_ms);
    for (int i = 0; i < n; i++) conn_event(events[i].data.ptr, events[i].events);
}
#endif
