/* A policy service that costs next to nothing: service NAME PORT
 *
 * Listens on 127.0.0.1:PORT (0 takes a free one) and prints the port. Answers each request with
 * "action=DUNNO NAME INSTANCE". One thread, epoll, links stay open.
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
#include <unistd.h>

enum { LINKS_MAX = 20000, REQUEST_MAX = 8192, EVENTS = 256 };

struct link {
    int used;
    char bytes[REQUEST_MAX];
};

static struct link *links[LINKS_MAX];
static const char *name;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void end(int fd)
{
    close(fd);
    links[fd]->used = 0;
}

/* Answer all whole requests in the link's bytes; 0 when the link is of no more use. */
static int answer(int fd, struct link *link)
{
    char *start = link->bytes, *stop = start + link->used, *empty;
    while ((empty = memmem(start, stop - start, "\n\n", 2))) {
        static const char key[] = "\ninstance=";
        const int first = !strncmp(start, key + 1, sizeof key - 2); /* 1.00 passes attributes on in any order */
        char *value = first ? start - 1 : memmem(start, empty - start, key, sizeof key - 1), said[512];
        int length = 0;
        if (value) {
            value += sizeof key - 1;
            length = (char *)memchr(value, '\n', empty + 1 - value) - value;
        }
        int size = snprintf(said, sizeof said, "action=DUNNO %s %.*s\n\n", name, length, value ? value : "");
        if (size >= (int)sizeof said || send(fd, said, size, MSG_NOSIGNAL) != size)
            return 0;
        start = empty + 2;
    }
    link->used = stop - start;
    memmove(link->bytes, start, link->used);
    return link->used < REQUEST_MAX;
}

static void take(int epoll, int listening)
{
    int fd, yes = 1;
    while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= LINKS_MAX) {
            close(fd);
            continue;
        }
        if (!links[fd] && !(links[fd] = calloc(1, sizeof *links[fd])))
            die("calloc");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
            die("epoll_ctl");
    }
}

int main(int count, char **words)
{
    if (count != 3)
        return fprintf(stderr, "usage: service NAME PORT\n"), 64;
    name = words[1];
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1, epoll = epoll_create1(0);
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(atoi(words[2]))};
    socklen_t size = sizeof where;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listening, (void *)&where, size) || listen(listening, 4096))
        die("listen");
    getsockname(listening, (void *)&where, &size);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listening}, events[EVENTS];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listening, &event);
    printf("%d\n", ntohs(where.sin_port));
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listening) {
                take(epoll, listening);
                continue;
            }
            struct link *link = links[fd];
            ssize_t got = recv(fd, link->bytes + link->used, REQUEST_MAX - link->used, 0);
            if (got < 0 && errno == EAGAIN)
                continue;
            if (got <= 0) {
                end(fd);
                continue;
            }
            link->used += got;
            if (!answer(fd, link))
                end(fd);
        }
    }
}
