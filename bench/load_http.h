/* HTTP/1.1 keep-alive, the client's side: answers of any framing, POST, and three ways to long-poll. */
#ifndef LOAD_HTTP_H
#define LOAD_HTTP_H
#include "load_conn.h"

/* Value of a header in `head` (NUL-terminated), or NULL; `head` starts with the status line. */
static char *header_value(char *head, const char *name) {
    size_t n = strlen(name);
    for (char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, n) || line[n] != ':') continue;
        for (line += n + 1; *line == ' ';) line++;
        return line;
    }
    return NULL;
}

static void copy_line(char *out, size_t cap, const char *line) {
    size_t n = line ? strcspn(line, "\r\n") : 0;
    if (n >= cap) n = cap - 1;
    memcpy(out, line, n);
    out[n] = 0;
}

/* Joins the chunks of a chunked body in place. Returns bytes used, 0 when not all is here; *length is the body's. */
static size_t join_chunks(char *body, size_t n, size_t *length) {
    size_t at = 0, out = 0;
    for (;;) {
        char *line = memmem(body + at, n - at, "\r\n", 2);
        if (!line) return 0;
        size_t size = strtoul(body + at, NULL, 16);
        at = (size_t)(line - body) + 2;
        if (n - at < size + 2) return 0;
        /* Only a whole body is moved, as an incomplete one is parsed again from its start. */
        if (!size) break;
        at += size + 2;
    }
    size_t used = at + 2;
    for (at = 0;;) {
        size_t size = strtoul(body + at, NULL, 16);
        at = (size_t)((char *)memmem(body + at, n - at, "\r\n", 2) - body) + 2;
        if (!size) break;
        memmove(body + out, body + at, size);
        out += size, at += size + 2;
    }
    *length = out;
    return used;
}

/* Parses one answer; returns its whole length, or 0 when it is not all here yet. */
static size_t parse_response(conn *c, char *data, size_t n, uint64_t now) {
    char *end = memmem(data, n, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t start = (size_t)(end - data) + 4, length = 0, used;
    int status = n > 12 ? atoi(data + 9) : 0;
    char kept = end[2];
    end[2] = 0; /* the head ends in one CRLF; put back below, as an incomplete answer is parsed again */
    char *announced = header_value(data, "Content-Length"), *coding = header_value(data, "Transfer-Encoding");
    if (coding && !strncasecmp(coding, "chunked", 7)) {
        size_t chunks = join_chunks(data + start, n - start, &length);
        used = chunks ? start + chunks : 0;
    } else {
        length = announced && status != 304 ? strtoul(announced, NULL, 10) : 0;
        used = n >= start + length ? start + length : 0;
    }
    if (used) on_response(c, status, data, data + start, length, now);
    end[2] = kept;
    return used;
}

static void append_get(conn *c, const char *path, const char *token, const char *more) {
    char full[1200], request[2048];
    expand(full, sizeof full, path, c->id, &c->counter);
    int n = snprintf(request, sizeof request, "GET %s%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s\r\n", full, token, opt.port,
                     more);
    append(c, request, (size_t)n);
    c->since_ns = now_ns();
    flush(c);
}

static void append_post(conn *c, const char *path, const char *token, const char *body, size_t length) {
    char full[1200], request[2048];
    expand(full, sizeof full, path, c->id, &c->counter);
    int n = snprintf(request, sizeof request,
                     "POST %s%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n",
                     full, token, opt.port, length);
    append(c, request, (size_t)n);
    append(c, body, length);
    c->busy = 1;
    c->since_ns = now_ns();
    flush(c);
}

/* ---- long poll: every answer says from where to ask next ---- */

static uint32_t polls_ready; /* pollers whose set-up is done, so that they wait for news */

/* A poller's next request. `step` counts its answers during set-up. */
static void poll_again(conn *c) {
    char more[320] = "";
    switch (opt.poll_kind) {
    case TOKEN_JSON:
        if (!c->step) append_get(c, opt.poll_first, "", "");
        else append_get(c, opt.poll_path, c->token, "");
        break;
    case TOKEN_HEADERS:
        if (c->token[0])
            snprintf(more, sizeof more, "If-Modified-Since: %s\r\nIf-None-Match: %s\r\n", c->modified, c->token);
        append_get(c, opt.poll_path, "", more);
        if (!c->step++) polls_ready++;
        break;
    case TOKEN_EIO: /* Engine.IO: GET a session, POST the Socket.IO connect, GET its answer, then wait */
        if (c->step == 1) append_post(c, opt.poll_path, c->token, "40", 2);
        else append_get(c, opt.poll_path, c->token, "");
        break;
    }
}

/* Copies what follows the last `key` in the body up to the next quote. */
static void last_string(char *out, size_t cap, const char *body, size_t length, const char *key) {
    const char *found = NULL, *end = body + length;
    for (const char *p = body; (p = memmem(p, (size_t)(end - p), key, strlen(key)));) found = p += strlen(key);
    size_t n = 0;
    while (found && found + n < end && found[n] != '"' && n + 1 < cap) n++;
    if (found) memcpy(out, found, n), out[n] = 0;
}

/* Keeps the position that an answer gives, and counts the steps of a poller's set-up. */
static void poll_answered(conn *c, char *head, const char *body, size_t length) {
    switch (opt.poll_kind) {
    case TOKEN_JSON:
        last_string(c->token, sizeof c->token, body, length, "\"position\":\"");
        if (!c->step++) polls_ready++;
        if (!c->token[0]) fail(c, "no position in", body);
        break;
    case TOKEN_HEADERS:
        copy_line(c->token, sizeof c->token, header_value(head, "Etag"));
        copy_line(c->modified, sizeof c->modified, header_value(head, "Last-Modified"));
        break;
    case TOKEN_EIO:
        if (!c->step) {
            char sid[128] = "";
            last_string(sid, sizeof sid, body, length, "\"sid\":\"");
            snprintf(c->token, sizeof c->token, "&sid=%s", sid);
        }
        if (++c->step == 3) polls_ready++;
        break;
    }
}
#endif
