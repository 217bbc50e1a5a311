// The capacity challenge on a card: expand, multiply, hash, walk. Compiled at run time by NVRTC (see src/backend/cuda.rs).
//
// Every kernel's result is defined bit by bit by the CPU's code of the same name in ../src; sums are modulo 2^32, so their
// order does not matter. All matrices are row-major with a pitch that is a multiple of 64 bytes, padded with zeros; the right
// one is stored by columns, so that both operands of every dot product lie in the order of the inner dimension.
//
// The file is plain C apart from what a card needs, so that tests can run it on a processor: tests/emulator.c defines
// DATAGALAX_EMULATED and supplies the names below.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifndef DATAGALAX_EMULATED
#define KERNEL extern "C" __global__ void
#define DEVICE static __device__ __forceinline__
#define LAUNCH(threads) __launch_bounds__(threads)
#define CONSTANT __constant__
#endif

// ---------------------------------------------------------------------------------------------------------------- expand

#define GOLDEN 0x9e3779b97f4a7c15ull

DEVICE u64 mix(u64 word) {
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9ull;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebull;
    return word ^ (word >> 31);
}

DEVICE u64 stream_word(u64 key0, u64 key1, u64 index) {
    return mix(mix((index * GOLDEN) ^ key0) + key1);
}

// Rows first .. first + rows of a stream of `inner` elements a row.
KERNEL expand(u64 *out, u64 key0, u64 key1, u32 first, u32 rows, u32 inner, u32 pitch) {
    u32 words = (inner + 7) / 8, padded = pitch / 8;
    u64 total = (u64)rows * padded, step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += step) {
        u32 row = (u32)(i / padded), at = (u32)(i % padded);
        u64 word = 0;
        if (at < words) {
            word = stream_word(key0, key1, ((u64)first + row) * words + at);
            // The last word of a row may hold more elements than are left.
            u32 left = inner - 8 * at;
            if (left < 8) word &= (1ull << (8 * left)) - 1;
        }
        out[i] = word;
    }
}

// ------------------------------------------------------------------------------------------- multiply, on tensor cores

#if defined(DATAGALAX_EMULATED) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800)

#define TILE_M 128u
#define TILE_N 256u
#define TILE_K 64u
#define STAGES 4u
#define STAGE_BYTES ((TILE_M + TILE_N) * TILE_K)
#define MMA_THREADS 256u
// Tiles of rows that are worked on side by side, so that what runs at one time shares its operands in the L2 cache.
#define GROUP 8u

#ifndef DATAGALAX_EMULATED

DEVICE u32 shared_address(const signed char *pointer) {
    u32 address;
    asm("{ .reg .u64 in_shared; cvta.to.shared.u64 in_shared, %1; cvt.u32.u64 %0, in_shared; }" : "=r"(address) : "l"(pointer));
    return address;
}

// Four 8 x 16-byte matrices; lane l gives the address of row l % 8 of matrix l / 8, and receives of matrix i in r[i] bytes
// 4 * (l % 4) .. + 3 of row l / 4.
DEVICE void load_matrices(u32 r[4], const signed char *shared_row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(shared_row))
                 : "memory");
}

// c (16 x 8 int32) += a (16 x 32 int8) b (32 x 8 int8), modulo 2^32: without .satfinite the sum wraps.
DEVICE void mma(int c[4], const u32 a[4], u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

DEVICE void copy_async(signed char *shared_to, const signed char *from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" : : "r"(shared_address(shared_to)), "l"(from) : "memory");
}

DEVICE void commit_copies(void) { asm volatile("cp.async.commit_group;" : : : "memory"); }

// Waits until at most STAGES - 2 of the latest groups of copies are under way.
DEVICE void wait_for_copies(void) { asm volatile("cp.async.wait_group 2;" : : : "memory"); }

#endif

// Where 16-byte chunk `chunk` of a tile's row lies: rows are 64 bytes, and turning the chunks by half the row's number lets
// the eight rows of a matrix lie in all 32 banks.
DEVICE u32 swizzled(u32 row, u32 chunk) { return row * TILE_K + ((chunk ^ ((row >> 1) & 3)) << 4); }

DEVICE void load_stage(signed char *stage, const signed char *a, const signed char *b, u32 rows, u32 columns, u32 pitch,
                       u32 first_row, u32 first_column, u32 k) {
    for (u32 i = threadIdx.x; i < (TILE_M + TILE_N) * 4; i += MMA_THREADS) {
        u32 row = i / 4, chunk = i % 4;
        const signed char *from;
        // Beyond the edge the last row is read again; what it gives is not stored.
        if (row < TILE_M) {
            u32 at = first_row + row;
            from = a + (u64)(at < rows ? at : rows - 1) * pitch;
        } else {
            u32 at = first_column + row - TILE_M;
            from = b + (u64)(at < columns ? at : columns - 1) * pitch;
        }
        copy_async(stage + swizzled(row, chunk), from + k + 16 * chunk);
    }
}

#ifndef DATAGALAX_EMULATED
extern __shared__ __align__(128) signed char tiles[];
#endif

// c = a b for `rows` rows of a and `columns` columns of b. One block makes a tile of 128 x 256, its eight warps 64 x 64 each.
KERNEL LAUNCH(256) multiply_mma(const signed char *a, const signed char *b, int *c, u32 rows, u32 columns, u32 pitch) {
    u32 tiles_m = (rows + TILE_M - 1) / TILE_M, tiles_n = (columns + TILE_N - 1) / TILE_N;
    u32 group = blockIdx.x / (GROUP * tiles_n), within = blockIdx.x % (GROUP * tiles_n);
    u32 high = tiles_m - group * GROUP < GROUP ? tiles_m - group * GROUP : GROUP;
    u32 first_row = (group * GROUP + within % high) * TILE_M, first_column = within / high * TILE_N;
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 warp_m = warp % 2 * 64, warp_n = warp / 2 * 64;
    u32 steps = pitch / TILE_K;

    int sums[4][8][4];
#pragma unroll
    for (u32 i = 0; i < 4; i++)
#pragma unroll
        for (u32 j = 0; j < 8; j++)
#pragma unroll
            for (u32 k = 0; k < 4; k++) sums[i][j][k] = 0;

    for (u32 step = 0; step < STAGES - 1; step++) {
        if (step < steps)
            load_stage(tiles + step * STAGE_BYTES, a, b, rows, columns, pitch, first_row, first_column, step * TILE_K);
        commit_copies();
    }
    for (u32 step = 0; step < steps; step++) {
        wait_for_copies();
        // This step's tiles are there for all threads, and nobody reads those of the step before any more.
        __syncthreads();
        u32 next = step + STAGES - 1;
        if (next < steps)
            load_stage(tiles + next % STAGES * STAGE_BYTES, a, b, rows, columns, pitch, first_row, first_column,
                       next * TILE_K);
        commit_copies();
        const signed char *tile_a = tiles + step % STAGES * STAGE_BYTES;
        const signed char *tile_b = tile_a + TILE_M * TILE_K;
#pragma unroll
        for (u32 k = 0; k < 2; k++) {
            u32 left[4][4];
#pragma unroll
            for (u32 i = 0; i < 4; i++)
                load_matrices(left[i], tile_a + swizzled(warp_m + 16 * i + lane % 16, 2 * k + lane / 16));
#pragma unroll
            for (u32 j = 0; j < 4; j++) {
                u32 right[4];
                load_matrices(right, tile_b + swizzled(warp_n + 16 * j + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
#pragma unroll
                for (u32 i = 0; i < 4; i++) {
                    mma(sums[i][2 * j], left[i], right[0], right[1]);
                    mma(sums[i][2 * j + 1], left[i], right[2], right[3]);
                }
            }
        }
    }

#pragma unroll
    for (u32 i = 0; i < 4; i++) {
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            u32 column = first_column + warp_n + 8 * j + lane % 4 * 2;
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                u32 row = first_row + warp_m + 16 * i + 8 * half + lane / 4;
                if (row >= rows) continue;
                int *to = c + (u64)row * columns + column;
                if (column < columns) to[0] = sums[i][j][2 * half];
                if (column + 1 < columns) to[1] = sums[i][j][2 * half + 1];
            }
        }
    }
}

#endif

// ------------------------------------------------------------------------------- multiply, four products an instruction

#define SIDE 64u
#define DOT_THREADS 256u

// c = a b on cards without tensor cores for bytes. One block makes a tile of 64 x 64, each thread 4 x 4.
KERNEL LAUNCH(256) multiply_dp4a(const signed char *a, const signed char *b, int *c, u32 rows, u32 columns, u32 pitch) {
    // One word more a row than needed, so that a column of words lies in different banks.
    __shared__ int left[SIDE][17];
    __shared__ int right[SIDE][17];
    u32 tiles_n = (columns + SIDE - 1) / SIDE;
    u32 first_row = blockIdx.x / tiles_n * SIDE, first_column = blockIdx.x % tiles_n * SIDE;
    u32 x = threadIdx.x % 16, y = threadIdx.x / 16;
    int sums[4][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}};
    for (u32 k = 0; k < pitch; k += 64) {
        for (u32 i = threadIdx.x; i < SIDE * 16; i += DOT_THREADS) {
            u32 row = i / 16, word = i % 16;
            u32 at_row = first_row + row < rows ? first_row + row : rows - 1;
            u32 at_column = first_column + row < columns ? first_column + row : columns - 1;
            left[row][word] = *(const int *)(a + (u64)at_row * pitch + k + 4 * word);
            right[row][word] = *(const int *)(b + (u64)at_column * pitch + k + 4 * word);
        }
        __syncthreads();
#pragma unroll
        for (u32 word = 0; word < 16; word++)
#pragma unroll
            for (u32 i = 0; i < 4; i++)
#pragma unroll
                for (u32 j = 0; j < 4; j++)
                    sums[i][j] = __dp4a(left[y + 16 * i][word], right[x + 16 * j][word], sums[i][j]);
        __syncthreads();
    }
    for (u32 i = 0; i < 4; i++)
        for (u32 j = 0; j < 4; j++) {
            u32 row = first_row + y + 16 * i, column = first_column + x + 16 * j;
            if (row < rows && column < columns) c[(u64)row * columns + column] = sums[i][j];
        }
}

// ------------------------------------------------------------------------------------------------------------------ hash

CONSTANT u32 ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

DEVICE u32 turn(u32 word, u32 by) { return (word >> by) | (word << (32 - by)); }
DEVICE u32 swap(u32 word) { return word << 24 | (word & 0xff00) << 8 | (word >> 8 & 0xff00) | word >> 24; }

// One block of sha256 (FIPS 180-4); w is used up.
DEVICE void compress(u32 state[8], u32 w[16]) {
    u32 a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
#pragma unroll
    for (u32 i = 0; i < 64; i++) {
        if (i >= 16) {
            u32 x = w[(i + 1) % 16], y = w[(i + 14) % 16];
            w[i % 16] += (turn(x, 7) ^ turn(x, 18) ^ x >> 3) + w[(i + 9) % 16] + (turn(y, 17) ^ turn(y, 19) ^ y >> 10);
        }
        u32 t = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + ROUND[i] + w[i % 16];
        u32 u = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + t, d = c, c = b, b = a, a = t + u;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

// The digests of all rows of c. `header` are the 64 bytes before a row's values, as 16 big-endian numbers; the last one is
// the row's index and is put in here. A thread a row.
KERNEL hash_rows(const int *c, u32 *digests, const u32 *header, u32 rows, u32 columns) {
    u32 row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    u32 state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    u32 w[16];
#pragma unroll
    for (u32 i = 0; i < 15; i++) w[i] = header[i];
    w[15] = swap(row);
    compress(state, w);
    const int *values = c + (u64)row * columns;
    for (u32 block = 0; block < columns / 16; block++) {
#pragma unroll
        for (u32 i = 0; i < 16; i++) w[i] = swap((u32)values[16 * block + i]);
        compress(state, w);
    }
    // What is left, one bit, zeros, and the length in bits.
    u32 left = columns % 16;
    u64 bits = 8 * (64 + 4 * (u64)columns);
    for (u32 i = 0; i < 16; i++) w[i] = i < left ? swap((u32)values[columns - left + i]) : i == left ? 0x80000000u : 0;
    if (left >= 14) {
        compress(state, w);
        for (u32 i = 0; i < 16; i++) w[i] = 0;
    }
    w[14] = (u32)(bits >> 32), w[15] = (u32)bits;
    compress(state, w);
    for (u32 i = 0; i < 8; i++) digests[(u64)row * 8 + i] = swap(state[i]);
}

// ------------------------------------------------------------------------------------------------------------------ walk

// `steps` steps of random walks over the product; a thread a walker. The first call begins the walks, the others go on from
// the states: a card that also draws a screen lets no kernel run for long.
KERNEL walk(const int *c, u64 *states, u64 cells, u64 key0, u64 key1, u32 walkers, u32 begins, u32 steps) {
    u32 walker = blockIdx.x * blockDim.x + threadIdx.x;
    if (walker >= walkers) return;
    u64 state = begins ? stream_word(key0, key1, walker) : states[walker];
    for (u32 step = 0; step < steps; step++) {
        u32 value = (u32)c[__umul64hi(state, cells)];
        state = mix((state ^ value) + GOLDEN);
    }
    states[walker] = state;
}
