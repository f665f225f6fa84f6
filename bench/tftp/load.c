/* Load generator: many TFTP clients, each from an address of its own, in one epoll loop (RFC 1350, 2347-2349, 7440).
 *
 * Every byte that is read is compared with the same bytes of the source file, so a figure without a failure is a figure
 * of correct transfers. Clients behave as boot firmware does: 1 s retransmission, an ACK for each full window, one ACK
 * at once for a gap, the same ACK again for a repeated block. It prints one JSON object.
 *
 * Not done on purpose: UDP_GRO, which no boot client has; so the kernel cuts segmented sends before the delivery, and
 * the server is charged for that as a driver would charge it. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { RRQ = 1, WRQ, DATA, ACK, ERROR, OACK };
enum { BATCH = 64, HEADER = 4, DATAGRAM_MAX = 65468, TIMEOUTS_MAX = 15, EVENTS = 512 };
enum state { IDLE, ASKED, RUNNING };

struct file {
    char *name;
    const uint8_t *bytes;
    size_t size;
};

struct client {
    int fd, slot;
    enum state state;
    struct sockaddr_in from;
    struct file *file;
    size_t block_size;
    unsigned window, in_window;
    int gap;           /* an ACK was sent for the gap that is being skipped */
    int64_t last_seen; /* the highest block seen beyond the gap */
    int64_t next;      /* reading: the block expected; writing: the first block not acknowledged */
    int timeouts;
    double asked_at, heard_at, due;
};

static struct {
    const char *mode, *root, *name, *prefix;
    struct sockaddr_in server;
    uint32_t base;
    long clients, transfers, files, sources, block_size, window;
    double loss, limit, gap, rate;
    uint64_t seed;
} want = {.mode = "read", .root = ".", .name = "file", .prefix = "", .clients = 1, .transfers = 1, .files = 1,
          .sources = 1, .limit = 30, .rate = 5000, .seed = 1};

static struct {
    long started, finished, failed, refused, timeouts, wrong, duplicates, firsts;
    uint64_t bytes, replies, reply_bytes;
    long block_size, window;
    double *latency, *first;
} got;

static struct file *files;
static struct client *clients;
static int epoll;
static uint8_t *buffers;
static size_t room;
static int batch;
static struct mmsghdr messages[BATCH];
static struct iovec slices[BATCH];
static volatile sig_atomic_t stopped;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static double clock_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int lost(void) {
    if (want.loss <= 0) return 0;
    want.seed ^= want.seed << 13;
    want.seed ^= want.seed >> 7;
    want.seed ^= want.seed << 17;
    return (double)(want.seed >> 11) * 0x1p-53 < want.loss;
}

/* -- files */

static void map_file(struct file *file, long index) {
    char name[512], path[1024];
    struct stat facts;
    snprintf(name, sizeof name, want.name, index);
    snprintf(path, sizeof path, "%s/%s", want.root, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &facts)) die(path);
    char wire[1024];
    snprintf(wire, sizeof wire, "%s%s", want.prefix, name);
    file->name = strdup(wire);
    file->size = (size_t)facts.st_size;
    if (file->size) {
        file->bytes = mmap(NULL, file->size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
        if (file->bytes == MAP_FAILED) die("mmap");
    }
    close(fd);
}

/* -- sending */

static void transmit(struct client *c, const void *bytes, size_t size) {
    if (!lost()) (void)!send(c->fd, bytes, size, MSG_DONTWAIT); /* what cannot be sent counts as lost */
}

static void acknowledge(struct client *c, int64_t block) {
    uint8_t packet[HEADER] = {0, ACK, (uint8_t)(block >> 8), (uint8_t)block};
    c->in_window = 0;
    transmit(c, packet, sizeof packet);
}

static size_t request(uint8_t *packet, const struct file *file) {
    uint8_t *end = packet + 2;
    packet[0] = 0;
    packet[1] = strcmp(want.mode, "write") ? RRQ : WRQ;
    end += sprintf((char *)end, "%s", file->name) + 1;
    end += sprintf((char *)end, "octet") + 1;
    if (want.block_size) {
        end += sprintf((char *)end, "blksize") + 1;
        end += sprintf((char *)end, "%ld", want.block_size) + 1;
    }
    if (want.window) {
        end += sprintf((char *)end, "windowsize") + 1;
        end += sprintf((char *)end, "%ld", want.window) + 1;
    }
    return (size_t)(end - packet);
}

static void ask(struct client *c) {
    uint8_t packet[1024];
    size_t size = request(packet, c->file);
    if (!lost()) (void)!sendto(c->fd, packet, size, 0, (struct sockaddr *)&want.server, sizeof want.server);
}

static int64_t last_block(const struct client *c) { return (int64_t)(c->file->size / c->block_size) + 1; }

/* One window from the first block that is not acknowledged: headers in `buffers`, data straight from the map. */
static void send_window(struct client *c) {
    struct mmsghdr out[BATCH] = {0};
    struct iovec parts[BATCH][2];
    uint8_t headers[BATCH][HEADER];
    int64_t end = c->next + c->window, last = last_block(c);
    if (end > last + 1) end = last + 1;
    for (int64_t block = c->next; block < end;) {
        unsigned count = 0;
        for (; block < end && count < BATCH; block++) {
            if (lost()) continue;
            size_t offset = (size_t)(block - 1) * c->block_size;
            size_t size = c->file->size - offset < c->block_size ? c->file->size - offset : c->block_size;
            uint8_t header[HEADER] = {0, DATA, (uint8_t)(block >> 8), (uint8_t)block};
            memcpy(headers[count], header, HEADER);
            parts[count][0] = (struct iovec){headers[count], HEADER};
            parts[count][1] = (struct iovec){(void *)(uintptr_t)(c->file->bytes + offset), size};
            out[count].msg_hdr = (struct msghdr){.msg_iov = parts[count], .msg_iovlen = 2};
            count++;
        }
        if (count) (void)!sendmmsg(c->fd, out, count, MSG_DONTWAIT);
    }
}

/* -- the life of a transfer */

static void begin(struct client *c, double now) {
    int size = 1 << 20;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    c->file = &files[got.started++ % want.files];
    c->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    if (want.window > 1) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (bind(c->fd, (struct sockaddr *)&c->from, sizeof c->from)) die("bind");
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event)) die("epoll_ctl");
    c->state = ASKED;
    c->block_size = 512;
    c->window = 1;
    c->in_window = 0;
    c->gap = c->timeouts = 0;
    c->next = 1;
    c->asked_at = c->heard_at = now;
    c->due = now + 1;
    ask(c);
}

static void end(struct client *c, double now, int good) {
    close(c->fd);
    c->fd = -1;
    c->state = IDLE;
    c->due = now + want.gap;
    if (good)
        got.latency[got.finished++] = now - c->asked_at;
    else
        got.failed++;
    if (got.started < want.transfers && want.gap <= 0) begin(c, now);
}

static void connected(struct client *c, const struct sockaddr_in *peer, double now) {
    if (connect(c->fd, (const struct sockaddr *)peer, sizeof *peer)) die("connect");
    c->state = RUNNING;
    got.first[got.firsts++] = now - c->asked_at;
    got.block_size = (long)c->block_size;
    got.window = (long)c->window;
}

static void on_oack(struct client *c, const uint8_t *packet, size_t size) {
    const char *at = (const char *)packet + 2, *stop = (const char *)packet + size;
    while (at < stop) {
        const char *value = at + strnlen(at, (size_t)(stop - at)) + 1;
        if (value >= stop) break;
        if (!strcasecmp(at, "blksize")) c->block_size = (size_t)atol(value);
        if (!strcasecmp(at, "windowsize")) c->window = (unsigned)atol(value);
        at = value + strnlen(value, (size_t)(stop - value)) + 1;
    }
    got.block_size = (long)c->block_size;
    got.window = (long)c->window;
}

static void on_data(struct client *c, const uint8_t *packet, size_t size, double now) {
    uint16_t block = (uint16_t)(packet[2] << 8 | packet[3]);
    int64_t step = (int16_t)(block - (uint16_t)c->next), seen = c->next + step;
    if (step < 0) {
        got.duplicates++;
        if (step == -1 && c->in_window == 0) acknowledge(c, c->next - 1); /* our ACK was lost (RFC 1350 section 5) */
        return;
    }
    if (step > 0) { /* RFC 7440 section 4: say at once what is missing, once for each burst */
        if (!c->gap || seen <= c->last_seen) acknowledge(c, c->next - 1);
        c->gap = 1;
        c->last_seen = seen;
        return;
    }
    size_t offset = (size_t)(c->next - 1) * c->block_size, left = c->file->size - offset;
    size_t payload = size - HEADER, expected = left < c->block_size ? left : c->block_size;
    if (payload != expected || memcmp(packet + HEADER, c->file->bytes + offset, payload)) {
        got.wrong++;
        end(c, now, 0);
        return;
    }
    got.bytes += payload;
    c->gap = 0;
    c->next++;
    if (++c->in_window == c->window || payload < c->block_size) {
        if (strcmp(want.mode, "park") || c->next == 2) acknowledge(c, c->next - 1);
        if (payload < c->block_size) end(c, now, 1);
    }
}

static void on_ack(struct client *c, const uint8_t *packet, double now) {
    int64_t step = (uint16_t)((uint16_t)(packet[2] << 8 | packet[3]) - (uint16_t)(c->next - 1));
    if (step > c->window || (step == 0 && c->next > 1)) return; /* old, or the duplicate of RFC 1123 4.2.3.1 */
    int64_t before = c->next, last = last_block(c);
    c->next += step;
    if (c->next > last) {
        got.bytes += c->file->size;
        end(c, now, 1);
    } else if (c->next > before || before == 1) {
        send_window(c);
    }
}

static void on_packet(struct client *c, const uint8_t *packet, size_t size, const struct sockaddr_in *peer, double now) {
    if (c->state == IDLE || size < HEADER || lost()) return;
    int writing = !strcmp(want.mode, "write");
    c->heard_at = now;
    c->due = now + 1;
    c->timeouts = 0;
    if (packet[1] == ERROR) {
        got.refused++;
        end(c, now, 0);
    } else if (packet[1] == OACK && c->next == 1) {
        if (c->state == ASKED) {
            on_oack(c, packet, size);
            connected(c, peer, now);
        }
        writing ? send_window(c) : acknowledge(c, 0);
    } else if (packet[1] == DATA && !writing) {
        if (c->state == ASKED) connected(c, peer, now);
        on_data(c, packet, size, now);
    } else if (packet[1] == ACK && writing) {
        if (c->state == ASKED) connected(c, peer, now);
        on_ack(c, packet, now);
    }
}

static void readable(struct client *c) {
    struct sockaddr_in peer;
    int count;
    if (c->state == ASKED || batch == 1) {
        socklen_t length = sizeof peer;
        ssize_t size = recvfrom(c->fd, buffers, room, MSG_DONTWAIT, (struct sockaddr *)&peer, &length);
        count = size < 0 ? -1 : 1;
        messages[0].msg_len = (unsigned)size;
    } else {
        count = recvmmsg(c->fd, messages, BATCH, MSG_DONTWAIT, NULL);
    }
    if (count < 0) {
        if (errno == ECONNREFUSED) {
            got.refused++;
            end(c, clock_s(), 0);
        }
        return;
    }
    double now = clock_s();
    int fd = c->fd;
    for (int i = 0; i < count && c->fd == fd && c->state != IDLE; i++)
        on_packet(c, buffers + (size_t)i * room, messages[i].msg_len, &peer, now);
}

static void overdue(struct client *c, double now) {
    if (now < c->due) return;
    if (c->state == IDLE) {
        if (got.started < want.transfers) begin(c, now);
        return;
    }
    if (!strcmp(want.mode, "park") && c->next > 1) return;
    got.timeouts++;
    c->due = now + 1;
    c->gap = 0;
    if (++c->timeouts > TIMEOUTS_MAX)
        end(c, now, 0);
    else if (c->state == ASKED)
        ask(c);
    else if (!strcmp(want.mode, "write"))
        send_window(c);
    else
        acknowledge(c, c->next - 1);
}

/* -- the two loops */

static int timer(double seconds) {
    long nanoseconds = (long)(seconds * 1e9);
    struct timespec every = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    struct itimerspec when = {every, every};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0 || timerfd_settime(fd, 0, &when, NULL)) die("timerfd");
    return fd;
}

static double transfer_all(void) {
    struct epoll_event events[EVENTS], tick = {.events = EPOLLIN, .data.ptr = NULL};
    int ticks = timer(want.gap > 0 ? want.gap / 4 : 0.05);
    double began = clock_s(), now = began;
    epoll_ctl(epoll, EPOLL_CTL_ADD, ticks, &tick);
    for (long i = 0; i < want.clients && got.started < want.transfers; i++) begin(&clients[i], clock_s());
    while (!stopped && got.finished + got.failed < want.transfers && now - began < want.limit) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct client *c = events[i].data.ptr;
            if (c) {
                if (c->fd >= 0) readable(c);
                continue;
            }
            uint64_t rung;
            (void)!read(ticks, &rung, sizeof rung);
            now = clock_s();
            for (long k = 0; k < want.clients; k++) overdue(&clients[k], now);
            if (!strcmp(want.mode, "park") && got.firsts == want.transfers && !got.finished++)
                (void)!write(STDERR_FILENO, "parked\n", 7);
        }
    }
    return clock_s() - began;
}

/* Requests from `sources` addresses, paced, that nobody ever acknowledges; the answers are only counted. */
static double flood(void) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), big = 64 << 20;
    struct sockaddr_in any = {.sin_family = AF_INET};
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof big);
    if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof any)) die("flood socket");
    uint8_t packet[1024];
    size_t size = request(packet, &files[0]);
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(struct in_pktinfo))];
    } control = {.head = {CMSG_LEN(sizeof(struct in_pktinfo)), IPPROTO_IP, IP_PKTINFO}};
    struct in_pktinfo *source = (struct in_pktinfo *)CMSG_DATA(&control.head);
    struct iovec part = {packet, size};
    struct msghdr message = {.msg_name = &want.server, .msg_namelen = sizeof want.server, .msg_iov = &part,
                             .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    double began = clock_s(), now = began;
    while (!stopped && now - began < want.limit && (got.started < want.transfers || now - began < want.limit - 0.01)) {
        long due = (long)((now - began) * want.rate) + 1;
        for (; got.started < due && got.started < want.transfers; got.started++) {
            *source = (struct in_pktinfo){.ipi_spec_dst.s_addr = htonl(want.base + (uint32_t)(got.started % want.sources))};
            if (sendmsg(fd, &message, 0) < 0) got.failed++;
        }
        for (ssize_t length; (length = recv(fd, buffers, room, MSG_DONTWAIT)) >= 0; got.replies++)
            got.reply_bytes += (uint64_t)length;
        usleep(1000);
        now = clock_s();
    }
    return now - began;
}

/* -- report */

static int ascending(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void percentiles(const char *what, double *values, long count) {
    if (!count) return;
    qsort(values, (size_t)count, sizeof *values, ascending);
    printf(", \"%s_p50_ms\": %.4f, \"%s_p99_ms\": %.4f, \"%s_worst_ms\": %.4f", what, values[count / 2] * 1e3, what,
           values[(count * 99) / 100 < count ? (count * 99) / 100 : count - 1] * 1e3, what, values[count - 1] * 1e3);
}

static void report(double seconds) {
    printf("{\"seconds\": %.6f, \"bytes\": %llu, \"started\": %ld, \"finished\": %ld, \"failed\": %ld, \"refused\": %ld, "
           "\"timeouts\": %ld, \"wrong\": %ld, \"duplicates\": %ld, \"blksize\": %ld, \"windowsize\": %ld, "
           "\"replies\": %llu, \"reply_bytes\": %llu",
           seconds, (unsigned long long)got.bytes, got.started, got.finished, got.failed, got.refused, got.timeouts,
           got.wrong, got.duplicates, got.block_size, got.window, (unsigned long long)got.replies,
           (unsigned long long)got.reply_bytes);
    percentiles("transfer", got.latency, got.finished);
    percentiles("first", got.first, got.firsts);
    printf("}\n");
}

/* -- the beginning */

static void on_signal(int number) { stopped = number; }

static void read_options(int argc, char **argv) {
    static const struct option known[] = {
        {"mode", 1, 0, 'm'},    {"server", 1, 0, 's'},  {"port", 1, 0, 'p'},    {"root", 1, 0, 'r'},
        {"name", 1, 0, 'n'},    {"files", 1, 0, 'f'},   {"clients", 1, 0, 'c'}, {"transfers", 1, 0, 't'},
        {"sources", 1, 0, 'a'}, {"base", 1, 0, 'A'},    {"blksize", 1, 0, 'b'}, {"windowsize", 1, 0, 'w'},
        {"loss", 1, 0, 'l'},    {"seed", 1, 0, 'S'},    {"limit", 1, 0, 'L'},   {"gap", 1, 0, 'g'},
        {"rate", 1, 0, 'R'},    {"prefix", 1, 0, 'P'},  {0}};
    struct in_addr base;
    inet_pton(AF_INET, "127.0.1.1", &base);
    want.server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(69)};
    inet_pton(AF_INET, "127.0.0.1", &want.server.sin_addr);
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) switch (option) {
            case 'm': want.mode = optarg; break;
            case 's': inet_pton(AF_INET, optarg, &want.server.sin_addr); break;
            case 'p': want.server.sin_port = htons((uint16_t)atoi(optarg)); break;
            case 'r': want.root = optarg; break;
            case 'n': want.name = optarg; break;
            case 'P': want.prefix = optarg; break;
            case 'f': want.files = atol(optarg); break;
            case 'c': want.clients = atol(optarg); break;
            case 't': want.transfers = atol(optarg); break;
            case 'a': want.sources = atol(optarg); break;
            case 'A': inet_pton(AF_INET, optarg, &base); break;
            case 'b': want.block_size = atol(optarg); break;
            case 'w': want.window = atol(optarg); break;
            case 'l': want.loss = atof(optarg) / 100; break;
            case 'S': want.seed = strtoull(optarg, NULL, 10) * 0x9E3779B97F4A7C15u | 1; break;
            case 'L': want.limit = atof(optarg); break;
            case 'g': want.gap = atof(optarg) / 1e3; break;
            case 'R': want.rate = atof(optarg); break;
            default: exit(2);
        }
    want.base = ntohl(base.s_addr);
}

static void prepare(void) {
    struct rlimit descriptors;
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    files = calloc((size_t)want.files, sizeof *files);
    clients = calloc((size_t)want.clients, sizeof *clients);
    got.latency = calloc((size_t)want.transfers, sizeof(double));
    got.first = calloc((size_t)want.transfers, sizeof(double));
    room = (size_t)(want.block_size > 508 ? want.block_size : 508) + HEADER + 60; /* an OACK must fit too */
    if (room > DATAGRAM_MAX) room = DATAGRAM_MAX;
    batch = want.window > 1 ? BATCH : 1;
    buffers = malloc(room * BATCH);
    if (!files || !clients || !got.latency || !got.first || !buffers) die("memory");
    for (int i = 0; i < BATCH; i++) {
        slices[i] = (struct iovec){buffers + (size_t)i * room, room};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &slices[i], .msg_iovlen = 1};
    }
    for (long i = 0; i < want.files; i++) map_file(&files[i], i);
    for (long i = 0; i < want.clients; i++) {
        clients[i].fd = -1;
        clients[i].from.sin_family = AF_INET;
        clients[i].from.sin_addr.s_addr = htonl(want.base + (uint32_t)(i % want.sources));
    }
    epoll = epoll_create1(EPOLL_CLOEXEC);
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    prepare();
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    report(strcmp(want.mode, "flood") ? transfer_all() : flood());
    return 0;
}
