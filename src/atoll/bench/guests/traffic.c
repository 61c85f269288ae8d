/*
 * Sends and receives as much as goes through, and says what arrived.
 *
 *     traffic receive tcp|udp PORT
 *     traffic send tcp|udp ADDRESS PORT SIZE SECONDS
 *     traffic agent PORT
 *
 * Who receives says "listening", and in the end both say "bytes=N packets=N seconds=S". Seconds are those from the first to the last that was
 * sent or that arrived; packets are those of UDP. An agent does what a line of a TCP connection says, one of the first two without the first
 * word, and answers there: this is how the program is used where no command can be run from outside, such as in a guest.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define BATCH 32
#define MOST 131072 /* bytes of a write, or of a datagram with room to spare */
#define DATAGRAM 2048
#define BUFFER (4 << 20)
#define FIRST_S 30 /* patience of who receives, for the first that arrives, */
#define NEXT_S 4   /* and between two */
#define LASTS 20   /* so many datagrams say that there are no more, as some may be lost, */
#define LAST_US 50000 /* with so much time between them that who receives has caught up */
#define LAST UINT64_MAX

static char buffer[MOST];
static char datagrams[BATCH][DATAGRAM];
static struct iovec vectors[BATCH];
static struct mmsghdr messages[BATCH];

static int fail(const char *what)
{
    printf("error: %s: %s\n", what, strerror(errno));
    return 1;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int report(uint64_t bytes, uint64_t packets, double seconds)
{
    printf("bytes=%llu packets=%llu seconds=%.6f\n", (unsigned long long)bytes, (unsigned long long)packets, seconds);
    return 0;
}

static struct sockaddr_in place(const char *address, const char *port)
{
    struct sockaddr_in found = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    if (address)
        inet_pton(AF_INET, address, &found.sin_addr);
    return found;
}

static void be_patient(int socket, int seconds)
{
    struct timeval time = {.tv_sec = seconds};
    setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
}

static int opened(int kind)
{
    int file = socket(AF_INET, kind | SOCK_CLOEXEC, 0), yes = 1, size = BUFFER;
    setsockopt(file, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (kind == SOCK_DGRAM && setsockopt(file, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size))
        setsockopt(file, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return file;
}

static int bound(int kind, const char *port)
{
    struct sockaddr_in here = place(NULL, port);
    int file = opened(kind);
    if (bind(file, (struct sockaddr *)&here, sizeof here) || (kind == SOCK_STREAM && listen(file, 8)))
        return -1;
    return file;
}

static void prepare(size_t size)
{
    for (int index = 0; index < BATCH; index++) {
        vectors[index] = (struct iovec){datagrams[index], size};
        messages[index].msg_hdr = (struct msghdr){.msg_iov = &vectors[index], .msg_iovlen = 1};
    }
}

static int receive_stream(const char *port)
{
    int listener = bound(SOCK_STREAM, port);
    if (listener < 0)
        return fail("listen");
    be_patient(listener, FIRST_S);
    printf("listening\n");
    int file = accept(listener, NULL, NULL);
    if (file < 0)
        return fail("accept");
    be_patient(file, FIRST_S);
    uint64_t bytes = 0;
    double first = 0;
    ssize_t count;
    while ((count = read(file, buffer, sizeof buffer)) > 0) {
        if (bytes == 0)
            first = now();
        bytes += (uint64_t)count;
    }
    return count < 0 ? fail("read") : report(bytes, 0, bytes ? now() - first : 0);
}

static int receive_datagrams(const char *port)
{
    int file = bound(SOCK_DGRAM, port), count;
    if (file < 0)
        return fail("bind");
    be_patient(file, FIRST_S);
    prepare(DATAGRAM);
    printf("listening\n");
    uint64_t bytes = 0, packets = 0;
    double first = 0, last = 0;
    while ((count = recvmmsg(file, messages, BATCH, MSG_WAITFORONE, NULL)) > 0) {
        double at = now();
        for (int index = 0; index < count; index++) {
            uint64_t number;
            memcpy(&number, datagrams[index], sizeof number);
            if (number == LAST)
                return report(bytes, packets, last - first);
            if (packets++ == 0) {
                first = at;
                be_patient(file, NEXT_S);
            }
            bytes += messages[index].msg_len;
            last = at;
        }
    }
    return packets ? report(bytes, packets, last - first) : fail("receive");
}

static int send_stream(const char *address, const char *port, size_t size, double seconds)
{
    struct sockaddr_in there = place(address, port);
    int file = opened(SOCK_STREAM);
    if (connect(file, (struct sockaddr *)&there, sizeof there))
        return fail("connect");
    uint64_t bytes = 0;
    double begun = now();
    while (now() < begun + seconds) {
        ssize_t count = write(file, buffer, size);
        if (count < 0)
            return fail("write");
        bytes += (uint64_t)count;
    }
    return report(bytes, 0, now() - begun);
}

static int send_datagrams(const char *address, const char *port, size_t size, double seconds)
{
    struct sockaddr_in there = place(address, port);
    int file = opened(SOCK_DGRAM);
    if (connect(file, (struct sockaddr *)&there, sizeof there))
        return fail("connect");
    prepare(size);
    uint64_t packets = 0;
    double begun = now(), ended;
    while ((ended = now()) < begun + seconds) {
        for (int index = 0; index < BATCH; index++) {
            uint64_t number = packets + (uint64_t)index;
            memcpy(datagrams[index], &number, sizeof number);
        }
        int count = sendmmsg(file, messages, BATCH, 0);
        if (count > 0)
            packets += (uint64_t)count;
        else if (errno != ENOBUFS && errno != ECONNREFUSED && errno != EAGAIN)
            return fail("send");
    }
    uint64_t last = LAST;
    memcpy(datagrams[0], &last, sizeof last);
    for (int index = 0; index < LASTS; index++) {
        usleep(LAST_US);
        sendmmsg(file, messages, 1, 0);
    }
    return report(packets * size, packets, ended - begun);
}

static int run(int count, char **words)
{
    int stream = count > 1 && strcmp(words[1], "tcp") == 0, datagram = count > 1 && strcmp(words[1], "udp") == 0;
    if ((stream || datagram) && count == 3 && strcmp(words[0], "receive") == 0)
        return stream ? receive_stream(words[2]) : receive_datagrams(words[2]);
    if ((stream || datagram) && count == 6 && strcmp(words[0], "send") == 0) {
        size_t size = (size_t)atol(words[4]);
        if (size >= sizeof(uint64_t) && size <= (stream ? MOST : DATAGRAM))
            return (stream ? send_stream : send_datagrams)(words[2], words[3], size, atof(words[5]));
    }
    printf("error: expected receive tcp|udp PORT, or send tcp|udp ADDRESS PORT SIZE SECONDS\n");
    return 2;
}

static int obey(int connection)
{
    char line[256], *words[8], *rest;
    size_t length = 0;
    while (length < sizeof line - 1 && read(connection, line + length, 1) == 1 && line[length] != '\n')
        length++;
    line[length] = 0;
    int count = 0;
    for (char *word = strtok_r(line, " ", &rest); word && count < 8; word = strtok_r(NULL, " ", &rest))
        words[count++] = word;
    dup2(connection, STDOUT_FILENO);
    return run(count, words);
}

static int agent(const char *port)
{
    int listener = bound(SOCK_STREAM, port);
    if (listener < 0)
        return fail("listen");
    signal(SIGCHLD, SIG_IGN);
    printf("agent: ready\n");
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection >= 0 && fork() == 0)
            exit(obey(connection));
        close(connection);
    }
}

int main(int count, char **words)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    if (count == 3 && strcmp(words[1], "agent") == 0)
        return agent(words[2]);
    return run(count - 1, words + 1);
}
