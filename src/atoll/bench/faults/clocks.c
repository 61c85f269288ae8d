/*
 * The clocks of sites, for a library that is preloaded (LD_PRELOAD): a process sees the time of day of the site in whose network it is.
 *
 * $ATOLL_CLOCKS names a table of pairs, the inode of a network namespace and how many nanoseconds its clock is ahead; it may change at
 * any time. Only the time of day is changed: a wrong clock ticks as evenly as a right one, and timers go by CLOCK_MONOTONIC.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define ENTRIES 256
#define BILLION 1000000000LL
#define LOOK_NS 200000000LL /* a process that is forked enters its network soon after */

struct entry {
    _Atomic uint64_t network;
    _Atomic int64_t ahead_ns;
};

static struct entry *table;
static _Atomic uint64_t own_network;
static _Atomic int64_t looked_ns;

__attribute__((constructor)) static void open_table(void)
{
    const char *path = getenv("ATOLL_CLOCKS");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *mapped = mmap(NULL, ENTRIES * sizeof(struct entry), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED)
        table = mapped;
}

static int64_t ahead_ns(void)
{
    struct timespec now;
    struct stat status;
    if (!table)
        return 0;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC_COARSE, &now);
    int64_t now_ns = now.tv_sec * BILLION + now.tv_nsec;
    if (now_ns - looked_ns > LOOK_NS) {
        own_network = stat("/proc/self/ns/net", &status) == 0 ? status.st_ino : 0;
        looked_ns = now_ns;
    }
    for (int index = 0; index < ENTRIES && table[index].network; index++)
        if (table[index].network == own_network)
            return table[index].ahead_ns;
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    if (syscall(SYS_clock_gettime, clock, time) != 0)
        return -1;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
        int64_t ns = time->tv_sec * BILLION + time->tv_nsec + ahead_ns();
        time->tv_sec = ns / BILLION;
        time->tv_nsec = ns % BILLION;
    }
    return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result)
        *result = now.tv_sec;
    return now.tv_sec;
}
