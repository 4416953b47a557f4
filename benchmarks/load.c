/* The load: load PORT CONNECTIONS SECONDS [LATE_MS [THINK_MS]]
 *
 * Opens all connections to 127.0.0.1:PORT at once; each asks, awaits its answer, and asks again (after THINK_MS).
 * Each request has an instance of its own, and the only right answer is the one that names it.
 *
 *   ramp      from the first connect() until each connection has had its first answer
 *   measured  SECONDS from there on (0: nothing more is asked), and what is then on its way is waited for
 *   lost      a connection that ended with a request on it; it is opened again, as Postfix would
 *   late      an answer that took longer than LATE_MS, after the ramp
 *
 * Prints "measuring" when the ramp is over and one line of JSON at the end; then keeps all connections open and idle
 * until its stdin ends. So whoever reads its output can look at the proxy at both moments.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 12000, ANSWER_MAX = 512, EVENTS = 256, DIGITS = 16 };
static const double RAMP_MAX_S = 90, DRAIN_MAX_S = 20, REOPEN_S = 0.02;

enum state { CLOSED, CONNECTING, ASKED, THINKING, IDLE };

struct connection {
    int fd, used, answered;
    enum state state;
    unsigned long instance;
    double since, due;
    char bytes[ANSWER_MAX];
};

static const char BEFORE[] =
    "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nhelo_name=mail.example.com\n"
    "queue_id=\nsender=from@example.com\nrecipient=to@example.org\nrecipient_count=0\n"
    "client_address=192.0.2.7\nclient_name=mail.example.com\nreverse_client_name=mail.example.com\ninstance=";
static const char AFTER[] =
    "\nsasl_method=\nsasl_username=\nsasl_sender=\nsize=12345\nccert_subject=\nccert_issuer=\n"
    "ccert_fingerprint=\nencryption_protocol=TLSv1.3\nencryption_cipher=TLS_AES_256_GCM_SHA384\n"
    "encryption_keysize=256\netrn_domain=\nstress=\nccert_pubkey_fingerprint=\nclient_port=40000\n"
    "policy_context=\nserver_address=192.0.2.1\nserver_port=25\ncompatibility_level=3.6\nmail_version=3.7.11\n\n";

static struct connection connections[CONNECTIONS_MAX];
static int count, epoll, waiting_to_reopen, asked, first_answers;
static char request[2048];
static size_t request_size, instance_at;
static unsigned long next_instance;
static struct sockaddr_in where = {.sin_family = AF_INET};
static double late_s = 1e9, think_s, last_answer, longest_gap;
static long right, wrong, lost, refused, late;
static int measuring, asking = 1;
static float *times_us;
static long timed, room;
static struct connection *thinkers[CONNECTIONS_MAX + 1]; /* a ring: all think equally long, so they end in order */
static int think_head, think_tail;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void write_hex(char *to, unsigned long value)
{
    for (int i = DIGITS - 1; i >= 0; i--, value >>= 4)
        to[i] = "0123456789abcdef"[value & 15];
}

static void drop(struct connection *c)
{
    if (c->fd >= 0)
        close(c->fd);
    if (c->state == ASKED) {
        asked--;
        lost += 1;
    } else if (c->state == CONNECTING)
        refused++;
    c->fd = -1;
    c->state = CLOSED;
    c->due = now() + REOPEN_S;
    waiting_to_reopen++;
}

static void ask(struct connection *c)
{
    c->instance = next_instance++;
    write_hex(request + instance_at, c->instance);
    c->used = 0;
    c->since = now();
    c->state = ASKED;
    asked++;
    if (send(c->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size)
        drop(c);
}

static void open_connection(struct connection *c)
{
    int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    c->state = CONNECTING;
    if (connect(c->fd, (void *)&where, sizeof where) && errno != EINPROGRESS) {
        drop(c);
        return;
    }
    struct epoll_event event = {.events = EPOLLOUT | EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event))
        die("epoll_ctl");
}

static void connected(struct connection *c)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        drop(c);
        return;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
    if (asking)
        ask(c);
    else
        c->state = IDLE;
}

/* Whether the answer is "action=DUNNO SERVICE INSTANCE" and no more. */
static int is_right(const struct connection *c)
{
    static const char start[] = "action=DUNNO ";
    char want[DIGITS + 3] = " ";
    write_hex(want + 1, c->instance);
    memcpy(want + 1 + DIGITS, "\n\n", 2);
    int tail = DIGITS + 3;
    return c->used > (int)sizeof start - 1 + tail && !memcmp(c->bytes, start, sizeof start - 1) &&
           !memcmp(c->bytes + c->used - tail, want, tail) &&
           memchr(c->bytes + sizeof start - 1, ' ', c->used) == c->bytes + c->used - tail;
}

static void note_time(double seconds)
{
    if (timed == room && !(times_us = realloc(times_us, (room = room ? 2 * room : 1 << 16) * sizeof *times_us)))
        die("realloc");
    times_us[timed++] = seconds * 1e6;
}

static void answered(struct connection *c)
{
    double at = now();
    asked--;
    c->state = IDLE;
    if (is_right(c))
        right++;
    else
        wrong++;
    if (measuring) {
        note_time(at - c->since);
        late += at - c->since > late_s;
    }
    if (last_answer && at - last_answer > longest_gap)
        longest_gap = at - last_answer;
    last_answer = at;
    if (!c->answered) {
        c->answered = 1;
        first_answers++;
    }
    if (!asking)
        return;
    if (think_s > 0) {
        c->state = THINKING;
        c->due = at + think_s;
        thinkers[think_tail] = c;
        think_tail = (think_tail + 1) % (count + 1);
    } else
        ask(c);
}

static void readable(struct connection *c)
{
    ssize_t got = recv(c->fd, c->bytes + c->used, ANSWER_MAX - c->used, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        drop(c);
        return;
    }
    c->used += got;
    if (c->state != ASKED) { /* an answer to nothing */
        wrong++;
        c->used = 0;
    } else if (c->used >= 2 && !memcmp(c->bytes + c->used - 2, "\n\n", 2))
        answered(c);
    else if (c->used == ANSWER_MAX) {
        wrong++;
        drop(c);
    }
}

static void wake_thinkers(void)
{
    double at = now();
    while (asking && think_head != think_tail && thinkers[think_head]->due <= at) {
        struct connection *c = thinkers[think_head];
        think_head = (think_head + 1) % (count + 1);
        if (c->state == THINKING)
            ask(c);
    }
}

static void reopen(void)
{
    double at = now();
    for (int i = 0; i < count && waiting_to_reopen; i++)
        if (connections[i].state == CLOSED && connections[i].due <= at) {
            waiting_to_reopen--;
            open_connection(&connections[i]);
        }
}

static void turn(int wait_ms)
{
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(epoll, events, EVENTS, wait_ms);
    for (int i = 0; i < ready; i++) {
        struct connection *c = events[i].data.ptr;
        if (c->fd < 0)
            continue;
        if (c->state == CONNECTING)
            connected(c);
        else
            readable(c);
    }
    if (think_s > 0)
        wake_thinkers();
    if (waiting_to_reopen)
        reopen();
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double quantile(double q)
{
    return timed ? times_us[(long)((timed - 1) * q)] : 0;
}

int main(int argc, char **argv)
{
    if (argc < 4 || (count = atoi(argv[2])) < 1 || count > CONNECTIONS_MAX)
        return fprintf(stderr, "usage: load PORT CONNECTIONS SECONDS [LATE_MS [THINK_MS]]\n"), 64;
    where.sin_port = htons(atoi(argv[1]));
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    double seconds = atof(argv[3]), begun = now();
    if (argc > 4 && atof(argv[4]) > 0)
        late_s = atof(argv[4]) / 1e3;
    if (argc > 5)
        think_s = atof(argv[5]) / 1e3;
    instance_at = sizeof BEFORE - 1;
    request_size = sprintf(request, "%s%*s%s", BEFORE, DIGITS, "", AFTER);
    next_instance = ((unsigned long)getpid() << 40) + 1; /* unlike any other run's */
    epoll = epoll_create1(0);
    for (int i = 0; i < count; i++)
        open_connection(&connections[i]);
    /* With nothing to measure each connection asks just once; what it asks after its first answer is kept small. */
    int wait_ms = think_s > 0 ? 1 : 10;
    if (seconds == 0)
        think_s = 3600;
    while (first_answers < count && now() - begun < RAMP_MAX_S)
        turn(wait_ms);
    double ramp_s = now() - begun;
    int unanswered = count - first_answers;
    printf("measuring\n");
    fflush(stdout);
    measuring = 1;
    longest_gap = 0;
    long right_before = right;
    double from = now(), until = from + seconds;
    while (now() < until)
        turn(wait_ms);
    double measured_s = now() - from;
    long right_within = right - right_before;
    asking = 0;
    double gap_s = longest_gap, silent_s = now() - last_answer;
    if (silent_s > gap_s && think_s == 0)
        gap_s = silent_s;
    until = now() + DRAIN_MAX_S;
    while (asked && now() < until)
        turn(wait_ms);
    qsort(times_us, timed, sizeof *times_us, ascending);
    printf("{\"connections\": %d, \"seconds\": %.3f, \"ramp_s\": %.4f, \"unanswered\": %d, \"answers\": %ld,"
           " \"all_answers\": %ld, \"per_second\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f,"
           " \"max_us\": %.1f, \"lost\": %ld, \"refused\": %ld, \"wrong\": %ld, \"late\": %ld, \"gap_ms\": %.1f,"
           " \"hanging\": %d}\n",
           count, measured_s, ramp_s, unanswered, right_within, right - right_before,
           measured_s > 0 ? right_within / measured_s : 0, quantile(.5), quantile(.99), quantile(.999), quantile(1),
           lost, refused, wrong, late, gap_s * 1e3, asked);
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    return 0;
}
