/* Runs kernels/challenge.cu on a processor, thread by thread, so that its indices and its arithmetic are tested without a
 * card. What it does not show: that NVRTC takes the source, that the asm statements do what the functions of the same name
 * here do, and how fast any of it is.
 *
 * Threads of a block are coroutines. A barrier gives way until all of its group have arrived, so everything between two
 * barriers runs in the order of the threads: deterministic.
 *
 * Reads a case as text from its input, see main; writes digests and walks in hex. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define DATAGALAX_EMULATED
#define KERNEL static void
#define DEVICE static inline
#define LAUNCH(threads)
#define CONSTANT static const
#define __shared__ static
#define STACK 65536
#define MOST_THREADS 256

struct position { unsigned x; };
static struct position threadIdx, blockIdx, blockDim, gridDim;

struct barrier { unsigned arrived, generation; };
static struct barrier whole, warps[MOST_THREADS / 32];
static ucontext_t scheduler, threads[MOST_THREADS];
static char stacks[MOST_THREADS][STACK];
static char done[MOST_THREADS];

static void give_way(void) {
    unsigned thread = threadIdx.x;
    swapcontext(&threads[thread], &scheduler);
    threadIdx.x = thread;
}

static void meet(struct barrier *barrier, unsigned size) {
    unsigned generation = barrier->generation;
    if (++barrier->arrived == size) {
        barrier->arrived = 0;
        barrier->generation++;
        return;
    }
    while (barrier->generation == generation) give_way();
}

static void __syncthreads(void) { meet(&whole, blockDim.x); }
static void sync_warp(void) { meet(&warps[threadIdx.x / 32], 32); }

static unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}

static int __dp4a(int a, int b, int c) {
    unsigned sum = (unsigned)c;
    for (int i = 0; i < 4; i++) sum += (unsigned)((signed char)(a >> 8 * i) * (signed char)(b >> 8 * i));
    return (int)sum;
}

/* The PTX manual's fragments of ldmatrix .m8n8.x4: lane l names row l % 8 of matrix l / 8, and receives four bytes of row
 * l / 4 of each matrix. */
static const signed char *named[MOST_THREADS];
static void load_matrices(unsigned r[4], const signed char *row) {
    unsigned thread = threadIdx.x, lane = thread % 32, base = thread - lane;
    if ((unsigned long)row % 16) abort();
    named[thread] = row;
    sync_warp();
    for (unsigned i = 0; i < 4; i++) memcpy(&r[i], named[base + 8 * i + lane / 4] + lane % 4 * 4, 4);
    sync_warp();
}

/* The PTX manual's fragments of mma .m16n8k32 for .s8. */
static signed char part_a[MOST_THREADS / 32][16][32], part_b[MOST_THREADS / 32][32][8];
static void mma(int c[4], const unsigned a[4], unsigned b0, unsigned b1) {
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, within = lane % 4;
    for (unsigned i = 0; i < 16; i++) {
        unsigned row = i < 4 || (i >= 8 && i < 12) ? group : group + 8;
        unsigned column = within * 4 + (i & 3) + (i >= 8 ? 16 : 0);
        part_a[warp][row][column] = (signed char)(a[i / 4] >> 8 * (i % 4));
    }
    for (unsigned i = 0; i < 8; i++) {
        unsigned row = within * 4 + (i & 3) + (i >= 4 ? 16 : 0);
        part_b[warp][row][group] = (signed char)((i < 4 ? b0 : b1) >> 8 * (i % 4));
    }
    sync_warp();
    for (unsigned i = 0; i < 4; i++) {
        unsigned row = i < 2 ? group : group + 8, column = within * 2 + (i & 1), sum = (unsigned)c[i];
        for (unsigned k = 0; k < 32; k++) sum += (unsigned)(part_a[warp][row][k] * part_b[warp][k][column]);
        c[i] = (int)sum;
    }
    sync_warp();
}

/* Copies are kept back until they are waited for, so that a wait that is missing or too short shows. */
#define MOST_COPIES 64
#define MOST_GROUPS 8
struct copy { signed char *to; const signed char *from; };
static struct copy pending[MOST_THREADS][MOST_GROUPS][MOST_COPIES];
static unsigned copies[MOST_THREADS][MOST_GROUPS], latest[MOST_THREADS], oldest[MOST_THREADS];

static void copy_async(signed char *to, const signed char *from) {
    unsigned group = latest[threadIdx.x] % MOST_GROUPS, *count = &copies[threadIdx.x][group];
    if ((unsigned long)to % 16 || (unsigned long)from % 16 || *count == MOST_COPIES) abort();
    pending[threadIdx.x][group][(*count)++] = (struct copy){to, from};
}

static void commit_copies(void) { latest[threadIdx.x]++; }

static void wait_for_copies(void) {
    unsigned thread = threadIdx.x;
    while (latest[thread] - oldest[thread] > 2) {
        unsigned group = oldest[thread]++ % MOST_GROUPS;
        for (unsigned i = 0; i < copies[thread][group]; i++)
            memcpy(pending[thread][group][i].to, pending[thread][group][i].from, 16);
        copies[thread][group] = 0;
    }
}

static signed char tiles[4 * 24576] __attribute__((aligned(128)));

#include "../kernels/challenge.cu"

/* One kernel at a time, its arguments here: coroutines take none. */
static struct {
    signed char *a, *b;
    int *c;
    u32 *digests, header[16], rows, inner, columns, pitch, walkers, begins, steps;
    u64 *states, keys_a[2], keys_b[2], walk_keys[2];
} call;

static void run_expand_a(void) {
    expand((u64 *)call.a, call.keys_a[0], call.keys_a[1], 0, call.rows, call.inner, call.pitch);
}
static void run_expand_b(void) {
    expand((u64 *)call.b, call.keys_b[0], call.keys_b[1], 0, call.columns, call.inner, call.pitch);
}
static void run_mma(void) { multiply_mma(call.a, call.b, call.c, call.rows, call.columns, call.pitch); }
static void run_dp4a(void) { multiply_dp4a(call.a, call.b, call.c, call.rows, call.columns, call.pitch); }
static void run_hash(void) { hash_rows(call.c, call.digests, call.header, call.rows, call.columns); }
static void run_walk(void) {
    u64 cells = (u64)call.rows * call.columns;
    walk(call.c, call.states, cells, call.walk_keys[0], call.walk_keys[1], call.walkers, call.begins, call.steps);
}

static void (*kernel)(void);
static void enter(void) {
    unsigned thread = threadIdx.x;
    kernel();
    done[thread] = 1;
}

static void launch(void (*which)(void), unsigned blocks, unsigned size) {
    kernel = which, gridDim.x = blocks, blockDim.x = size;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {
        memset(&whole, 0, sizeof whole), memset(warps, 0, sizeof warps), memset(done, 0, sizeof done);
        memset(copies, 0, sizeof copies), memset(latest, 0, sizeof latest), memset(oldest, 0, sizeof oldest);
        /* What a block finds in shared memory is not its own. */
        memset(tiles, 0x5a, sizeof tiles);
        for (unsigned i = 0; i < size; i++) {
            getcontext(&threads[i]);
            threads[i].uc_stack.ss_sp = stacks[i], threads[i].uc_stack.ss_size = STACK, threads[i].uc_link = &scheduler;
            makecontext(&threads[i], enter, 0);
        }
        for (unsigned left = size; left;)
            for (unsigned i = 0; i < size; i++)
                if (!done[i]) {
                    threadIdx.x = i;
                    swapcontext(&scheduler, &threads[i]);
                    left -= done[i];
                }
    }
}

static void *memory(size_t size) {
    void *taken = aligned_alloc(256, (size + 255) / 256 * 256);
    if (!taken) abort();
    /* Nothing may depend on zeros. */
    memset(taken, 0xa5, size);
    return taken;
}

static void print_digests(void) {
    launch(run_hash, (call.rows + 63) / 64, 64);
    for (u32 i = 0; i < call.rows; i++) {
        for (u32 j = 0; j < 32; j++) printf("%02x", ((u8 *)call.digests)[32 * i + j]);
        putchar('\n');
    }
}

int main(void) {
    if (scanf("%u %u %u %u %u", &call.rows, &call.inner, &call.columns, &call.walkers, &call.steps) != 5) return 2;
    u64 *keys[] = {call.keys_a, call.keys_b, call.walk_keys};
    for (int i = 0; i < 6; i++)
        if (scanf("%llu", &keys[i / 2][i % 2]) != 1) return 2;
    for (int i = 0; i < 16; i++)
        if (scanf("%u", &call.header[i]) != 1) return 2;
    call.pitch = (call.inner + 63) / 64 * 64;
    call.a = memory((size_t)call.rows * call.pitch), call.b = memory((size_t)call.columns * call.pitch);
    size_t cells = (size_t)call.rows * call.columns;
    call.c = memory(cells * 4), call.digests = memory((size_t)call.rows * 32);
    call.states = memory((size_t)call.walkers * 8);
    launch(run_expand_a, 3, 128);
    launch(run_expand_b, 3, 128);
    launch(run_mma, (call.rows + 127) / 128 * ((call.columns + 255) / 256), 256);
    print_digests();
    memset(call.c, 0xa5, cells * 4);
    launch(run_dp4a, (call.rows + 63) / 64 * ((call.columns + 63) / 64), 256);
    print_digests();
    /* In two parts. */
    u32 steps = call.steps;
    for (call.begins = 1, call.steps = steps / 3; steps; steps -= call.steps, call.begins = 0, call.steps = steps)
        launch(run_walk, (call.walkers + 127) / 128, 128);
    for (u32 i = 0; i < call.walkers; i++) printf("%016llx\n", call.states[i]);
    return 0;
}
