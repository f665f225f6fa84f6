/* Load on an FTP server: one thread per client, blocking sockets, figures as JSON on standard output.
 *
 * Modes: login (connect, log in, QUIT), session (the same with one RETR), retr (RETR on an open session), stor (STOR),
 * list (a listing on an open session), noop (NOOP on an open session), park (open sessions and hold them).
 * Every transfer is counted against the size that was announced as --size, and every reply has to be the expected one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 20, LINE = 4096, WAIT_S = 30 };

static struct {
    const char *mode, *host, *name, *verb, *type, *touch;
    int port, clients, files, active, ops, reopen;
    long long size;
    double limit, gap;
} options = { .mode = "retr", .host = "127.0.0.1", .name = "", .verb = "RETR", .type = "I", .clients = 1, .files = 1,
              .ops = 1, .limit = 20 };

struct client {
    pthread_t thread;
    int number, fd, have;
    char in[LINE];
    char *buffer;
    double *took;
    int done, room, failed;
    long long bytes;
    char why[200];
};

static atomic_int next_op;
static atomic_int open_sessions;
static volatile sig_atomic_t stop;
static double began;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int fail(struct client *c, const char *what)
{
    if (!c->failed++)
        snprintf(c->why, sizeof c->why, "%.100s (%.60s)", what, strerror(errno));
    return -1;
}

static int connected(int port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct timeval wait = { .tv_sec = WAIT_S };
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, options.host, &to.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    close(fd);
    return -1;
}

/* One line without its end, in `line`; what was read beyond it stays in c->in. */
static int read_line(struct client *c, char *line)
{
    for (;;) {
        char *end = memchr(c->in, '\n', c->have);
        if (end) {
            int length = end - c->in;
            memcpy(line, c->in, length);
            line[length > 0 && line[length - 1] == '\r' ? length - 1 : length] = 0;
            c->have -= length + 1;
            memmove(c->in, end + 1, c->have);
            return length;
        }
        if (c->have >= LINE - 1)
            return -1;
        int got = recv(c->fd, c->in + c->have, LINE - 1 - c->have, 0);
        if (got <= 0)
            return -1;
        c->have += got;
    }
}

/* A whole reply; its code, or -1. The last line is left in `line`. */
static int reply(struct client *c, char *line)
{
    if (read_line(c, line) < 0)
        return -1;
    int code = atoi(line);
    if (line[3] == '-') {
        do {
            if (read_line(c, line) < 0)
                return -1;
        } while (atoi(line) != code || line[3] != ' ');
    }
    return code;
}

static int say(struct client *c, const char *format, const char *argument)
{
    char line[LINE];
    int length = snprintf(line, sizeof line, format, argument);
    return send(c->fd, line, length, MSG_NOSIGNAL) == length ? 0 : -1;
}

static int ask(struct client *c, const char *format, const char *argument, int first_digit, char *line)
{
    if (say(c, format, argument) < 0)
        return fail(c, format);
    int code = reply(c, line);
    if (code / 100 != first_digit)
        return fail(c, code < 0 ? format : line);
    return code;
}

static int log_in(struct client *c)
{
    char line[LINE];
    c->have = 0;
    c->fd = connected(options.port);
    if (c->fd < 0)
        return fail(c, "connect");
    if (reply(c, line) / 100 != 2)
        return fail(c, line);
    if (say(c, "USER anonymous\r\n", "") < 0)
        return fail(c, "USER");
    int code = reply(c, line);
    if (code / 100 == 2) /* pure-ftpd wants no password */
        return 0;
    if (code / 100 != 3)
        return fail(c, line);
    return ask(c, "PASS bench@example.org\r\n", "", 2, line) < 0 ? -1 : 0;
}

static void quit(struct client *c)
{
    char line[LINE];
    if (say(c, "QUIT\r\n", "") == 0)
        reply(c, line);
    close(c->fd);
    c->fd = -1;
}

/* A listener for PORT, announced; -1 where that fails. */
static int announce(struct client *c)
{
    struct sockaddr_in here;
    socklen_t size = sizeof here;
    struct timeval wait = { .tv_sec = WAIT_S };
    char line[LINE], text[80], dots[40];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    getsockname(c->fd, (struct sockaddr *)&here, &size); /* the address that the server sees */
    here.sin_port = 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) || listen(fd, 1) ||
        getsockname(fd, (struct sockaddr *)&here, &size)) {
        close(fd);
        return fail(c, "listen");
    }
    inet_ntop(AF_INET, &here.sin_addr, dots, sizeof dots);
    for (char *at = dots; *at; at++)
        if (*at == '.')
            *at = ',';
    snprintf(text, sizeof text, "%s,%d,%d", dots, ntohs(here.sin_port) >> 8, ntohs(here.sin_port) & 255);
    if (ask(c, "PORT %s\r\n", text, 2, line) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int passive(struct client *c)
{
    char line[LINE];
    if (ask(c, "EPSV\r\n", "", 2, line) < 0)
        return -1;
    char *at = strstr(line, "|||");
    int fd = at ? connected(atoi(at + 3)) : -1;
    return fd < 0 ? fail(c, "data connection") : fd;
}

static long long receive_all(struct client *c, int fd)
{
    long long total = 0;
    for (;;) {
        ssize_t got = recv(fd, c->buffer, BUFFER, 0);
        if (got < 0)
            return fail(c, "data");
        if (got == 0)
            return total;
        total += got;
    }
}

static long long send_all(struct client *c, int fd)
{
    long long total = 0;
    while (total < options.size) {
        size_t count = options.size - total < BUFFER ? options.size - total : BUFFER;
        ssize_t put = send(fd, c->buffer, count, MSG_NOSIGNAL);
        if (put < 0)
            return fail(c, "data");
        total += put;
    }
    return total;
}

static int transfer(struct client *c, int op)
{
    char line[LINE], name[200], command[300];
    int listener = -1, storing = !strcmp(options.verb, "STOR");
    if (storing)
        snprintf(name, sizeof name, "%s-%d-%d", options.name, (int)getpid(), op);
    else
        snprintf(name, sizeof name, options.name, op % options.files);
    int fd = options.active ? (listener = announce(c)) : passive(c);
    if (fd < 0)
        return -1;
    snprintf(command, sizeof command, "%s %s\r\n", options.verb, name);
    if (say(c, "%s", command) < 0)
        return fail(c, options.verb);
    if (options.active) {
        fd = accept(listener, NULL, NULL);
        close(listener);
        if (fd < 0)
            return fail(c, "nobody connects");
    }
    int code = reply(c, line);
    if (code / 100 != 1) {
        close(fd);
        return fail(c, line);
    }
    long long moved = storing ? send_all(c, fd) : receive_all(c, fd);
    close(fd);
    if (reply(c, line) / 100 != 2)
        return fail(c, line);
    if (moved < 0 || (options.size && moved != options.size)) {
        errno = 0;
        return fail(c, "another size");
    }
    c->bytes += moved;
    return 0;
}

static void touch(void)
{
    if (!options.touch)
        return;
    char path[LINE];
    snprintf(path, sizeof path, "%s/.changing-%d", options.touch, (int)getpid());
    FILE *file = fopen(path, "w");
    if (file)
        fclose(file);
    unlink(path);
}

static int operation(struct client *c, int op)
{
    char line[LINE];
    if (!strcmp(options.mode, "noop"))
        return ask(c, "NOOP\r\n", "", 2, line) < 0 ? -1 : 0;
    if (!options.reopen)
        return transfer(c, op);
    if (log_in(c) < 0)
        return -1;
    int result = 0;
    if (!strcmp(options.mode, "session"))
        result = ask(c, "TYPE %s\r\n", options.type, 2, line) < 0 ? -1 : transfer(c, op);
    quit(c);
    return result;
}

static void note(struct client *c, double seconds)
{
    if (c->done == c->room) {
        c->room = c->room ? 2 * c->room : 1024;
        c->took = realloc(c->took, c->room * sizeof *c->took);
    }
    c->took[c->done++] = seconds;
}

static void *run(void *argument)
{
    struct client *c = argument;
    char line[LINE];
    c->buffer = malloc(BUFFER);
    memset(c->buffer, 'x', BUFFER);
    if (!options.reopen && (log_in(c) < 0 || ask(c, "TYPE %s\r\n", options.type, 2, line) < 0))
        return NULL;
    atomic_fetch_add(&open_sessions, 1);
    while (!options.reopen && !stop && atomic_load(&open_sessions) < options.clients && now() - began < WAIT_S)
        usleep(1000);
    if (!c->number)
        began = now();
    while (!stop && now() - began < options.limit) {
        int op = atomic_fetch_add(&next_op, 1);
        if (op >= options.ops)
            break;
        touch();
        double started = now();
        if (operation(c, op) < 0)
            break;
        note(c, now() - started);
        if (options.gap > 0)
            usleep(options.gap * 1e3);
    }
    if (!options.reopen)
        quit(c);
    return NULL;
}

/* Open the sessions one after the other and hold them until a signal comes. */
static int park(void)
{
    struct client *all = calloc(options.clients, sizeof *all);
    int open = 0;
    double started = now();
    for (int i = 0; i < options.clients; i++) {
        if (log_in(&all[i]) < 0) {
            fprintf(stderr, "session %d: %s\n", i, all[i].why);
            break;
        }
        open++;
    }
    double took = now() - started;
    fprintf(stderr, "parked\n");
    while (!stop)
        pause();
    printf("{\"open\": %d, \"failed\": %d, \"seconds\": %.6f}\n", open, options.clients - open, took);
    return 0;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

static void read_options(int argc, char **argv)
{
    static const struct option known[] = {
        { "mode", 1, 0, 'm' },  { "host", 1, 0, 'h' },  { "port", 1, 0, 'p' },   { "clients", 1, 0, 'c' },
        { "ops", 1, 0, 'o' },   { "name", 1, 0, 'n' },  { "files", 1, 0, 'f' },  { "size", 1, 0, 's' },
        { "verb", 1, 0, 'v' },  { "type", 1, 0, 't' },  { "active", 1, 0, 'a' }, { "limit", 1, 0, 'l' },
        { "touch", 1, 0, 'T' }, { "gap", 1, 0, 'g' },   { 0, 0, 0, 0 },
    };
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) >= 0) {
        switch (option) {
        case 'm': options.mode = optarg; break;
        case 'h': options.host = optarg; break;
        case 'p': options.port = atoi(optarg); break;
        case 'c': options.clients = atoi(optarg); break;
        case 'o': options.ops = atoi(optarg); break;
        case 'n': options.name = optarg; break;
        case 'f': options.files = atoi(optarg); break;
        case 's': options.size = atoll(optarg); break;
        case 'v': options.verb = optarg; break;
        case 't': options.type = optarg; break;
        case 'a': options.active = atoi(optarg); break;
        case 'l': options.limit = atof(optarg); break;
        case 'T': options.touch = optarg; break;
        case 'g': options.gap = atof(optarg); break;
        default: exit(2);
        }
    }
    options.reopen = !strcmp(options.mode, "login") || !strcmp(options.mode, "session");
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = on_signal };
    read_options(argc, argv);
    sigaction(SIGTERM, &action, NULL);
    if (!strcmp(options.mode, "park"))
        return park();
    struct client *all = calloc(options.clients, sizeof *all);
    began = now();
    for (int i = 0; i < options.clients; i++) {
        all[i].number = i;
        pthread_create(&all[i].thread, NULL, run, &all[i]);
    }
    int done = 0, failed = 0;
    long long bytes = 0;
    for (int i = 0; i < options.clients; i++) {
        pthread_join(all[i].thread, NULL);
        done += all[i].done;
        failed += all[i].failed;
        bytes += all[i].bytes;
        if (all[i].failed)
            fprintf(stderr, "client %d: %s\n", i, all[i].why);
    }
    double seconds = now() - began, *took = malloc((done + 1) * sizeof *took);
    int at = 0;
    for (int i = 0; i < options.clients; i++)
        for (int j = 0; j < all[i].done; j++)
            took[at++] = all[i].took[j] * 1e3;
    qsort(took, done, sizeof *took, compare);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"finished\": %d, \"failed\": %d, \"bytes\": %lld, \"seconds\": %.6f", done, failed, bytes, seconds);
    printf(", \"client_cpu_s\": %.6f", used.ru_utime.tv_sec + used.ru_stime.tv_sec
           + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6);
    if (done)
        printf(", \"p50_ms\": %.6f, \"p99_ms\": %.6f, \"worst_ms\": %.6f", took[done / 2], took[done * 99 / 100],
               took[done - 1]);
    printf("}\n");
    return 0;
}
