/* The load generator's ground: options, clock, latency histogram, and what is read about the server from /proc. */
#ifndef LOAD_CORE_H
#define LOAD_CORE_H
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_PIDS 32
#define MAX_HELLOS 4
#define NS_PER_S 1000000000ull

/* Paths and texts may hold %d, replaced by the connection's number, and %n, replaced by 1, 2, ... with each use on that
 * connection (command ids); texts may hold \r \n \\ \xNN. */
typedef struct {
    const char *workload;
    int port;
    const char *sub_path, *pub_path, *post_path, *poll_path, *poll_first, *protocol, *header;
    enum { TOKEN_JSON, TOKEN_HEADERS, TOKEN_EIO } poll_kind;
    char *hello[MAX_HELLOS], *pub_hello[MAX_HELLOS]; /* frames sent right after the handshake */
    int hellos, pub_hellos;
    char *ready;           /* a connection is open once a frame contains this; NULL: after the handshake */
    char *pub_ready;       /* the same for the publisher, where it differs */
    char *reply_to, *reply; /* a whole frame equal to reply_to is answered with reply (application pings) */
    char *prefix, *suffix; /* what the publisher puts around a payload */
    int binary;            /* send binary frames */
    int stream;            /* subscribers take server-sent events */
    char *flood;           /* what the flooders send: pings, fragments, messages */
    int flooders;
    int connections, inflight, size, window, burst;
    uint32_t messages;     /* most messages of the measured part; 0: as many as fit in `seconds` */
    double seconds, warm_s, settle_s, grace_s;
    uint32_t mask;
    int pids[MAX_PIDS], n_pids, core;
} options;

static options opt;

static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(2);
}

static void *must(void *memory) {
    if (!memory) die("out of memory");
    return memory;
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* ---- latency: a log-linear histogram of nanoseconds, 64 steps per power of two, so within 1.6 % ---- */

#define HIST_STEPS 64
#define HIST_SIZE (HIST_STEPS * 60)
static uint64_t hist[HIST_SIZE], hist_total, hist_max;

static void hist_add(uint64_t ns) {
    int shift = 0;
    if (ns >= HIST_STEPS) shift = 63 - __builtin_clzll(ns) - 6;
    hist[shift * HIST_STEPS + (ns >> shift)]++; /* for shift > 0, ns >> shift is 64..127: rows overlap by design */
    hist_total++;
    if (ns > hist_max) hist_max = ns;
}

static void hist_reset(void) {
    memset(hist, 0, sizeof hist);
    hist_total = hist_max = 0;
}

/* The value in microseconds that `share` of the latencies do not pass; 0 when nothing was measured. */
static double hist_quantile_us(double share) {
    uint64_t wanted = (uint64_t)(share * (double)hist_total), sum = 0;
    for (int i = 0; i < HIST_SIZE; i++) {
        sum += hist[i];
        if (!hist[i] || sum <= wanted) continue;
        int shift = i < 2 * HIST_STEPS ? 0 : i / HIST_STEPS - 1;
        return (double)((uint64_t)(i - shift * HIST_STEPS) << shift) / 1000.0;
    }
    return (double)hist_max / 1000.0;
}

/* ---- the server's processes, as the kernel sees them ---- */

typedef struct {
    uint64_t cpu_ns;                 /* user + system of all server processes, dead threads too */
    uint64_t core_busy_ns;           /* everything that ran on the server's core, by 10 ms ticks */
    uint64_t at_ns;
} sample;

/* The CPU clock of a process has nanoseconds; utime + stime in /proc/PID/stat is the same sum in 10 ms ticks. */
static uint64_t process_cpu_ns(int pid) {
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &t)) die("server process %d is gone", pid);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t core_busy_ns(int core) {
    char line[512], name[16];
    uint64_t busy = 0;
    snprintf(name, sizeof name, "cpu%d ", core);
    FILE *file = fopen("/proc/stat", "r");
    while (file && fgets(line, sizeof line, file)) {
        unsigned long long user, nice, system, idle, iowait, irq, softirq, steal;
        if (strncmp(line, name, strlen(name))) continue;
        if (sscanf(line + strlen(name), "%llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle,
                   &iowait, &irq, &softirq, &steal) == 8)
            busy = (user + nice + system + irq + softirq + steal) * (NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
    }
    if (file) fclose(file);
    return busy;
}

static sample take_sample(void) {
    sample s = {.core_busy_ns = core_busy_ns(opt.core), .at_ns = now_ns()};
    for (int i = 0; i < opt.n_pids; i++) s.cpu_ns += process_cpu_ns(opt.pids[i]);
    return s;
}

/* Memory of all server processes in bytes: pages shared between them count once (PSS). */
static uint64_t memory_bytes(void) {
    uint64_t total = 0;
    for (int i = 0; i < opt.n_pids; i++) {
        char path[64], line[256];
        unsigned long long kib;
        snprintf(path, sizeof path, "/proc/%d/smaps_rollup", opt.pids[i]);
        FILE *file = fopen(path, "r");
        while (file && fgets(line, sizeof line, file))
            if (sscanf(line, "Pss: %llu", &kib) == 1) total += kib * 1024;
        if (file) fclose(file);
    }
    return total;
}

/* Replaces every %d of `text` by `id` and every %n by the next number of `counter`; returns the length written. */
static size_t expand(char *out, size_t cap, const char *text, int id, uint32_t *counter) {
    size_t n = 0;
    for (const char *p = text; p && *p && n + 12 < cap; p++) {
        if (p[0] == '%' && p[1] == 'd') {
            n += (size_t)snprintf(out + n, cap - n, "%d", id);
            p++;
        } else if (p[0] == '%' && p[1] == 'n') {
            n += (size_t)snprintf(out + n, cap - n, "%u", ++*counter);
            p++;
        } else {
            out[n++] = *p;
        }
    }
    out[n] = 0;
    return n;
}
#endif
