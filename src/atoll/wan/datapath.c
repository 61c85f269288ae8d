#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "datapath.h"

#define SECOND INT64_C(1000000000)
#define BUFFER 2048             /* bytes of one packet at most; the devices' MTU is 1500 */
#define UNDER_WAY_LIMIT 262144  /* packets, so half a gigabyte */
#define SPARE_LIMIT 8192        /* buffers kept for reuse */
#define READ_BATCH 64           /* packets of one node before the next one's turn */
#define DELIVER_BATCH 256       /* packets before the devices are looked at again */

struct packet {
    struct packet *next; /* in the list of spare buffers */
    uint32_t generation;
    int wire;
    int destination;
    uint32_t length;
    unsigned char data[BUFFER];
};

struct event {
    int64_t at;
    uint64_t number; /* packets of one instant keep their order */
    struct packet *packet;
};

struct datapath {
    pthread_mutex_t mutex;
    pthread_cond_t unwanted;
    atomic_int wanted; /* threads that want the mutex: the loop lets them go first */
    atomic_int stopping;
    int poll, wake;
    int nodes, wires;
    uint32_t network;
    int *descriptors;
    int *routes; /* node * nodes + destination */
    struct wire *wire;
    struct event *heap;
    size_t length, room;
    uint64_t number, unroutable;
    struct packet *spare;
    size_t spares;
};

/* --- One wire --- */

static uint64_t random_next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static double chance(uint64_t *state) /* in [0, 1) */
{
    return (double)(random_next(state) >> 11) * 0x1.0p-53;
}

void wire_init(struct wire *wire, int to, uint64_t seed)
{
    memset(wire, 0, sizeof *wire);
    wire->to = to;
    wire->random = seed;
    random_next(&wire->random);
}

void wire_set(struct wire *wire, const struct wire_options *options)
{
    if (wire->options.up && !options->up)
        wire->generation++;
    if (wire->options.rate != options->rate)
        wire->free_at = 0;
    wire->last = 0; /* a shorter delay counts at once, even if packets overtake those under way */
    wire->options = *options;
}

int64_t wire_offer(struct wire *wire, uint32_t length, int64_t now)
{
    const struct wire_options *options = &wire->options;
    int64_t at = now;

    wire->counters.packets_in++;
    wire->counters.bytes_in += length;
    if (!options->up) {
        wire->counters.cut++;
        return -1;
    }
    if (options->loss > 0 && chance(&wire->random) < options->loss) {
        wire->counters.lost++;
        return -1;
    }
    if (options->rate > 0) {
        int64_t start = wire->free_at > now ? wire->free_at : now;
        if (start - now > options->queue_ns) {
            wire->counters.overflowed++;
            return -1;
        }
        at = wire->free_at = start + (int64_t)((double)length * 8e9 / options->rate);
    }
    if (options->reorder > 0 && chance(&wire->random) < options->reorder)
        return at;
    int64_t delay = options->delay_ns;
    if (options->jitter_ns > 0)
        delay += (int64_t)((2 * chance(&wire->random) - 1) * (double)options->jitter_ns);
    if (delay > 0)
        at += delay;
    if (at < wire->last)
        at = wire->last;
    wire->last = at;
    return at;
}

/* --- What is under way: a binary heap by time of arrival --- */

static int before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->number < b->number;
}

static int heap_push(struct datapath *dp, int64_t at, struct packet *packet)
{
    if (dp->length == dp->room) {
        size_t room = dp->room ? 2 * dp->room : 1024;
        struct event *heap = realloc(dp->heap, room * sizeof *heap);
        if (!heap)
            return 0;
        dp->heap = heap;
        dp->room = room;
    }
    struct event event = {at, dp->number++, packet};
    size_t place = dp->length++;
    while (place && before(&event, &dp->heap[(place - 1) / 2])) {
        dp->heap[place] = dp->heap[(place - 1) / 2];
        place = (place - 1) / 2;
    }
    dp->heap[place] = event;
    return 1;
}

static struct packet *heap_pop(struct datapath *dp)
{
    struct packet *packet = dp->heap[0].packet;
    struct event event = dp->heap[--dp->length];
    size_t place = 0, child;
    while ((child = 2 * place + 1) < dp->length) {
        if (child + 1 < dp->length && before(&dp->heap[child + 1], &dp->heap[child]))
            child++;
        if (!before(&dp->heap[child], &event))
            break;
        dp->heap[place] = dp->heap[child];
        place = child;
    }
    dp->heap[place] = event;
    return packet;
}

/* --- Buffers --- */

static struct packet *buffer_take(struct datapath *dp)
{
    struct packet *packet = dp->spare;
    if (!packet)
        return malloc(sizeof *packet);
    dp->spare = packet->next;
    dp->spares--;
    return packet;
}

static void buffer_give(struct datapath *dp, struct packet *packet)
{
    if (dp->spares >= SPARE_LIMIT) {
        free(packet);
        return;
    }
    packet->next = dp->spare;
    dp->spare = packet;
    dp->spares++;
}

/* --- Moving packets --- */

static void put_on_wire(struct datapath *dp, int node, struct packet *packet, int64_t now)
{
    int number = dp->routes[node * dp->nodes + packet->destination];
    if (number < 0) {
        dp->unroutable++;
        buffer_give(dp, packet);
        return;
    }
    struct wire *wire = &dp->wire[number];
    int64_t at = wire_offer(wire, packet->length, now);
    packet->wire = number;
    packet->generation = wire->generation;
    if (at >= 0 && (dp->length >= UNDER_WAY_LIMIT || !heap_push(dp, at, packet))) {
        wire->counters.overflowed++;
        at = -1;
    }
    if (at < 0)
        buffer_give(dp, packet);
}

static void arrive(struct datapath *dp, struct packet *packet, int64_t now)
{
    struct wire *wire = &dp->wire[packet->wire];
    if (packet->generation != wire->generation) {
        wire->counters.cut++;
        buffer_give(dp, packet);
        return;
    }
    wire->counters.packets_out++;
    wire->counters.bytes_out += packet->length;
    if (wire->to != packet->destination) {
        put_on_wire(dp, wire->to, packet, now);
        return;
    }
    int descriptor = dp->descriptors[wire->to];
    if (descriptor < 0 || write(descriptor, packet->data, packet->length) < 0)
        dp->unroutable++;
    buffer_give(dp, packet);
}

/* The node that a packet is for; -1 if it is not an IPv4 packet to one. */
static int destination(const struct datapath *dp, const unsigned char *data, ssize_t length)
{
    if (length < 20 || data[0] >> 4 != 4)
        return -1;
    uint32_t address = (uint32_t)data[16] << 24 | (uint32_t)data[17] << 16 | (uint32_t)data[18] << 8 | data[19];
    if ((address & 0xffff0000) != dp->network)
        return -1;
    int node = (int)(address >> 8 & 0xff);
    return node < dp->nodes ? node : -1;
}

/* A device that is gone would be reported for ever. */
static void forget(struct datapath *dp, int node)
{
    epoll_ctl(dp->poll, EPOLL_CTL_DEL, dp->descriptors[node], NULL);
    dp->descriptors[node] = -1;
}

static void take_in(struct datapath *dp, int node, int64_t now)
{
    for (int count = 0; count < READ_BATCH; count++) {
        struct packet *packet = buffer_take(dp);
        if (!packet)
            return;
        ssize_t length = read(dp->descriptors[node], packet->data, BUFFER);
        if (length <= 0) {
            if (length < 0 && errno != EAGAIN && errno != EINTR)
                forget(dp, node);
            buffer_give(dp, packet);
            return;
        }
        packet->length = (uint32_t)length;
        packet->destination = destination(dp, packet->data, length);
        if (packet->destination < 0) {
            dp->unroutable++;
            buffer_give(dp, packet);
            continue;
        }
        put_on_wire(dp, node, packet, now);
    }
}

static int64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static void deliver(struct datapath *dp)
{
    int64_t now = clock_now();
    for (int count = 0; count < DELIVER_BATCH && dp->length && dp->heap[0].at <= now; count++)
        arrive(dp, heap_pop(dp), now);
}

/* --- What other threads call --- */

static void lock(struct datapath *dp)
{
    atomic_fetch_add(&dp->wanted, 1);
    pthread_mutex_lock(&dp->mutex);
}

static void unlock(struct datapath *dp)
{
    if (atomic_fetch_sub(&dp->wanted, 1) == 1)
        pthread_cond_signal(&dp->unwanted);
    pthread_mutex_unlock(&dp->mutex);
}

static void wake(struct datapath *dp)
{
    uint64_t one = 1;
    while (write(dp->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

struct datapath *dp_new(int nodes, int wires, uint32_t network, uint64_t seed)
{
    struct datapath *dp = calloc(1, sizeof *dp);
    if (!dp)
        return NULL;
    dp->nodes = nodes;
    dp->wires = wires;
    dp->network = network;
    dp->descriptors = malloc((size_t)nodes * sizeof *dp->descriptors);
    dp->routes = malloc((size_t)nodes * (size_t)nodes * sizeof *dp->routes);
    dp->wire = calloc((size_t)wires, sizeof *dp->wire);
    dp->poll = epoll_create1(EPOLL_CLOEXEC);
    dp->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    if (!dp->descriptors || !dp->routes || !dp->wire || epoll_ctl(dp->poll, EPOLL_CTL_ADD, dp->wake, &event) < 0) {
        dp_free(dp);
        return NULL;
    }
    pthread_mutex_init(&dp->mutex, NULL);
    pthread_cond_init(&dp->unwanted, NULL);
    memset(dp->descriptors, -1, (size_t)nodes * sizeof *dp->descriptors);
    memset(dp->routes, -1, (size_t)nodes * (size_t)nodes * sizeof *dp->routes);
    for (int index = 0; index < wires; index++)
        wire_init(&dp->wire[index], -1, seed + (uint64_t)index * UINT64_C(0xd1342543de82ef95));
    return dp;
}

void dp_free(struct datapath *dp)
{
    while (dp->length)
        free(heap_pop(dp));
    while (dp->spare) {
        struct packet *packet = dp->spare;
        dp->spare = packet->next;
        free(packet);
    }
    close(dp->poll);
    close(dp->wake);
    free(dp->heap);
    free(dp->wire);
    free(dp->routes);
    free(dp->descriptors);
    free(dp);
}

void dp_attach(struct datapath *dp, int node, int descriptor)
{
    lock(dp);
    if (dp->descriptors[node] >= 0)
        forget(dp, node);
    dp->descriptors[node] = descriptor;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)node};
    if (descriptor >= 0)
        epoll_ctl(dp->poll, EPOLL_CTL_ADD, descriptor, &event);
    unlock(dp);
}

void dp_wire(struct datapath *dp, int number, int to, const struct wire_options *options)
{
    lock(dp);
    struct wire *wire = &dp->wire[number];
    if (wire->to != to) { /* the number of a wire that is gone is used again */
        uint32_t generation = wire->generation + 1;
        wire_init(wire, to, wire->random);
        wire->generation = generation;
    }
    wire_set(wire, options);
    unlock(dp);
}

void dp_route(struct datapath *dp, int node, int destination_, int wire)
{
    lock(dp);
    dp->routes[node * dp->nodes + destination_] = wire;
    unlock(dp);
}

void dp_counters(struct datapath *dp, int count, struct wire_counters *counters)
{
    lock(dp);
    for (int wire = 0; wire < count; wire++)
        counters[wire] = dp->wire[wire].counters;
    unlock(dp);
}

uint64_t dp_unroutable(struct datapath *dp)
{
    lock(dp);
    uint64_t count = dp->unroutable;
    unlock(dp);
    return count;
}

uint64_t dp_under_way(struct datapath *dp)
{
    lock(dp);
    uint64_t count = dp->length;
    unlock(dp);
    return count;
}

void dp_stop(struct datapath *dp)
{
    atomic_store(&dp->stopping, 1);
    wake(dp);
}

/* --- The loop --- */

static int await(struct datapath *dp, struct epoll_event *events, int room)
{
    struct timespec timeout = {0, 0}, *limit = NULL;
    while (atomic_load(&dp->wanted)) /* asleep, as the loop may be real-time and they are not */
        pthread_cond_wait(&dp->unwanted, &dp->mutex);
    if (dp->length) {
        int64_t left = dp->heap[0].at - clock_now();
        if (left > 0) {
            timeout.tv_sec = left / SECOND;
            timeout.tv_nsec = left % SECOND;
        }
        limit = &timeout;
    }
    pthread_mutex_unlock(&dp->mutex);
    int count = epoll_pwait2(dp->poll, events, room, limit, NULL);
    int error = errno;
    pthread_mutex_lock(&dp->mutex);
    return count < 0 ? (error == EINTR ? 0 : -error) : count;
}

int dp_run(struct datapath *dp)
{
    struct epoll_event events[64];
    const struct sched_param least = {.sched_priority = 1};
    int count = 0;

    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); /* of this thread: else the kernel may be 50 us late */
    sched_setscheduler(0, SCHED_RR, &least);       /* of this thread: else packets wait for other programs; only root may */
    pthread_mutex_lock(&dp->mutex);
    while (!atomic_load(&dp->stopping) && (count = await(dp, events, 64)) >= 0) {
        int64_t now = clock_now();
        for (int index = 0; index < count; index++) {
            uint32_t node = events[index].data.u32;
            uint64_t ignored;
            if (node != UINT32_MAX && dp->descriptors[node] >= 0)
                take_in(dp, (int)node, now);
            else if (node == UINT32_MAX && read(dp->wake, &ignored, sizeof ignored) < 0 && errno != EAGAIN)
                count = -errno;
        }
        deliver(dp);
    }
    pthread_mutex_unlock(&dp->mutex);
    return count < 0 ? -count : 0;
}
