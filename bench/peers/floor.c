/* The floor: what a WebSocket server cannot do without. One epoll loop, one send(2) per subscriber per message.
 *
 *   floor PORT [--coalesce]     --coalesce: messages that are waiting together go out in one send
 *
 * /sub gets every message, /pub sends them, /echo gets its own back. The handshake is real (SHA-1 and all). What a
 * server needs besides is left out: limits, channels, a stream to resume from, a queue for slow readers (this one
 * waits for them), fragments, pings, UTF-8 checks. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES (1 << 18)

typedef struct {
    int fd, place; /* place in `subscribers`; -1: not one */
    enum { HANDSHAKE, SUB, PUB, ECHO } role;
    char *in;
    size_t in_len;
} client;

static client **subscribers;
static int n_subscribers, cap_subscribers, epoll_fd, coalesce;
static uint8_t read_buffer[READ_BYTES], joined[1 << 22];
static size_t joined_len;

static uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

/* SHA-1 of up to 119 bytes (FIPS 180-4), enough for a key and its GUID. */
static void sha1(const char *text, uint8_t out[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t block[128] = {0};
    size_t n = strlen(text), blocks = n + 9 > 64 ? 2 : 1;
    memcpy(block, text, n);
    block[n] = 0x80;
    for (int i = 0; i < 4; i++) block[blocks * 64 - 1 - (size_t)i] = (uint8_t)((n * 8) >> (8 * i));
    for (size_t b = 0; b < blocks; b++) {
        uint32_t w[80], a = h[0], x = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 16; i++) w[i] = ntohl(((uint32_t *)(block + b * 64))[i]);
        for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20   ? ((x & c) | (~x & d)) + 0x5A827999
                         : i < 40 ? (x ^ c ^ d) + 0x6ED9EBA1
                         : i < 60 ? ((x & c) | (x & d) | (c & d)) + 0x8F1BBCDC
                                  : (x ^ c ^ d) + 0xCA62C1D6;
            uint32_t t = rotate(a, 5) + f + e + w[i];
            e = d, d = c, c = rotate(x, 30), x = a, a = t;
        }
        h[0] += a, h[1] += x, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) out[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const uint8_t in[20], char out[29]) {
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t padded[21] = {0};
    memcpy(padded, in, 20);
    for (int i = 0; i < 7; i++) {
        uint32_t v = (uint32_t)padded[3 * i] << 16 | (uint32_t)padded[3 * i + 1] << 8 | padded[3 * i + 2];
        for (int j = 0; j < 4; j++) out[4 * i + j] = set[v >> (18 - 6 * j) & 63];
    }
    out[27] = '=', out[28] = 0;
}

/* Sends all; waits for a reader that is slow, as the floor has no queues. */
static void send_all(int fd, const uint8_t *data, size_t n) {
    while (n) {
        ssize_t sent = send(fd, data, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            poll(&wait, 1, 1000);
        } else if (sent < 0) {
            return;
        } else {
            data += sent, n -= (size_t)sent;
        }
    }
}

static void broadcast(const uint8_t *frames, size_t n) {
    for (int i = 0; i < n_subscribers; i++) send_all(subscribers[i]->fd, frames, n);
}

static void flush_joined(void) {
    if (joined_len) broadcast(joined, joined_len);
    joined_len = 0;
}

static void drop(client *c) {
    if (c->place >= 0) {
        subscribers[c->place] = subscribers[--n_subscribers];
        subscribers[c->place]->place = c->place;
    }
    close(c->fd);
    free(c->in);
    free(c);
}

static size_t handshake(client *c, char *data, size_t n) {
    char *end = memmem(data, n, "\r\n\r\n", 4), key[128], answer[256], accept_value[29];
    uint8_t digest[20];
    if (!end) return 0;
    *end = 0;
    char *line = strcasestr(data, "\r\nSec-WebSocket-Key: ");
    if (!line || sscanf(line, "\r\n%*[^:]: %60[A-Za-z0-9+/=]", key) != 1) return 0;
    strcat(key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    sha1(key, digest);
    base64(digest, accept_value);
    int size = snprintf(answer, sizeof answer,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: %s\r\n\r\n", accept_value);
    c->role = !strncmp(data, "GET /sub", 8) ? SUB : !strncmp(data, "GET /echo", 9) ? ECHO : PUB;
    if (c->role == SUB) {
        if (n_subscribers == cap_subscribers)
            subscribers = realloc(subscribers, sizeof *subscribers * (size_t)(cap_subscribers += 1024));
        c->place = n_subscribers;
        subscribers[n_subscribers++] = c;
    }
    send_all(c->fd, (uint8_t *)answer, (size_t)size);
    return (size_t)(end - data) + 4;
}

/* Takes one masked frame and turns it, in place, into an unmasked one. Returns its length, 0: incomplete, -1: closed. */
static ssize_t frame(client *c, uint8_t *p, size_t n) {
    size_t length = n > 1 ? p[1] & 127 : 0, head = 2;
    if (n < 2) return 0;
    if (length == 127) return -1;
    if (length == 126) head = 4;
    if (n < head + 4) return 0;
    if (length == 126) length = (size_t)p[2] << 8 | p[3];
    if (n < head + 4 + length) return 0;
    if ((p[0] & 15) == 8) return -1;
    uint8_t key[4], out[10];
    memcpy(key, p + head, 4);
    memcpy(out, p, head);
    out[1] &= 127;
    uint8_t *body = p + head + 4, *whole = body - head;
    for (size_t i = 0; i < length; i++) body[i] ^= key[i & 3];
    memcpy(whole, out, head);
    if (c->role == ECHO) {
        send_all(c->fd, whole, head + length);
    } else if (!coalesce) {
        broadcast(whole, head + length);
    } else {
        if (joined_len + head + length > sizeof joined) flush_joined();
        memcpy(joined + joined_len, whole, head + length);
        joined_len += head + length;
    }
    return (ssize_t)(head + 4 + length);
}

static void readable(client *c) {
    size_t n = c->in_len, used = 0;
    if (n) memcpy(read_buffer, c->in, n);
    ssize_t got = recv(c->fd, read_buffer + n, READ_BYTES - n, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        drop(c);
        return;
    }
    for (n += (size_t)got; used < n;) {
        ssize_t step = c->role == HANDSHAKE ? (ssize_t)handshake(c, (char *)read_buffer + used, n - used)
                                            : frame(c, read_buffer + used, n - used);
        if (step < 0) {
            drop(c);
            return;
        }
        if (!step) break;
        used += (size_t)step;
    }
    c->in_len = n - used;
    if (c->in_len) memcpy(c->in = realloc(c->in, c->in_len), read_buffer + used, c->in_len);
}

static void accept_all(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), on = 1;
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        client *c = calloc(1, sizeof *c);
        c->fd = fd, c->place = -1;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int argc, char **argv) {
    static struct epoll_event events[1024];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    at.sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0));
    coalesce = argc > 2 && !strcmp(argv[2], "--coalesce");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) {
        perror("floor");
        return 1;
    }
    epoll_fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int n = epoll_wait(epoll_fd, events, 1024, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr) readable(events[i].data.ptr);
            else accept_all(listener);
        }
        flush_joined();
    }
}
