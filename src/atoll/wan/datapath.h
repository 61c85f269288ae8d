/* The userspace emulator's data path: moves packets between TUN devices, over links with delay, jitter, rate, loss and reorder.
 *
 * Nodes are numbered from 0, wires (one direction of a link) too. A node has a TUN descriptor, or none if it only forwards.
 * Every function but dp_new, dp_free and the wire_ ones may be called from any thread while another is in dp_run.
 * cffi reads this file, so it holds declarations only.
 */

/* What one direction of a link does to packets. */
struct wire_options {
    int64_t delay_ns;  /* one way */
    int64_t jitter_ns; /* delay varies uniformly by up to this, both ways; order is kept */
    int64_t queue_ns;  /* a packet that would have to wait longer than this for the rate is dropped */
    double rate;       /* bits per second of IP packets; 0: unlimited */
    double loss;       /* probability */
    double reorder;    /* probability that a packet skips the delay */
    int up;            /* 0: cut, everything is dropped, also what is under way */
};

struct wire_counters {
    uint64_t packets_in, bytes_in;   /* offered */
    uint64_t packets_out, bytes_out; /* delivered at the other end */
    uint64_t lost;                   /* by chance */
    uint64_t overflowed;             /* the queue was full */
    uint64_t cut;                    /* the link was cut */
};

struct wire {
    struct wire_options options;
    struct wire_counters counters;
    uint64_t random;     /* state of the generator */
    int64_t free_at;     /* when the last packet has been sent, in nanoseconds */
    int64_t last;        /* when the last packet arrives */
    uint32_t generation; /* counts cuts: what was under way before one never arrives */
    int to;              /* node at the other end */
};

/* The pure core. wire_offer decides over one packet: when it arrives at the other end, or -1 if it does not. */
void wire_init(struct wire *wire, int to, uint64_t seed);
void wire_set(struct wire *wire, const struct wire_options *options);
int64_t wire_offer(struct wire *wire, uint32_t length, int64_t now);

struct datapath;

/* Addresses of nodes are network + (node << 8) + anything; network is in host order, its low 16 bits are 0. */
struct datapath *dp_new(int nodes, int wires, uint32_t network, uint64_t seed);
void dp_free(struct datapath *);

void dp_attach(struct datapath *, int node, int descriptor); /* -1 detaches */
void dp_wire(struct datapath *, int wire, int to, const struct wire_options *);
void dp_route(struct datapath *, int node, int destination, int wire); /* -1: no route */
void dp_counters(struct datapath *, int count, struct wire_counters *); /* of the first so many wires */
uint64_t dp_unroutable(struct datapath *);
uint64_t dp_under_way(struct datapath *);

int dp_run(struct datapath *); /* until dp_stop; returns 0 or an errno */
void dp_stop(struct datapath *);
