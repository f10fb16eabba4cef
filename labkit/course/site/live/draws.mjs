/* The random numbers of Python's `random.Random(text)`, so that a seed gives the same reply here and in labkit.generate:
   the Mersenne Twister (Matsumoto & Nishimura 1998), set by the text and its SHA-512 (FIPS 180-4). */

// --- SHA-512 ---------------------------------------------------------------------------------------------------------

const WORD = (1n << 64n) - 1n;
const rotated = (x, by) => ((x >> by) | (x << (64n - by))) & WORD;

/* The whole number below the k-th root of n. */
function root(n, k) {
    let low = 0n;
    let high = 1n << 72n;
    while (high - low > 1n) {
        const middle = (low + high) / 2n;
        if (middle ** k <= n) low = middle;
        else high = middle;
    }
    return low;
}

const PRIMES = [];
for (let n = 2n; PRIMES.length < 80; n++) if (PRIMES.every((prime) => n % prime)) PRIMES.push(n);
/* 64 bits behind the point of the square and cube roots of the first primes. */
const STARTS = PRIMES.slice(0, 8).map((prime) => root(prime << 128n, 2n) & WORD);
const ROUNDS = PRIMES.map((prime) => root(prime << 192n, 3n) & WORD);

/* The 64 bytes of SHA-512. */
export function sha512(message) {
    const blocks = Math.ceil((message.length + 17) / 128);
    const padded = new Uint8Array(128 * blocks);
    padded.set(message);
    padded[message.length] = 0x80;
    const view = new DataView(padded.buffer);
    view.setBigUint64(padded.length - 8, BigInt(8 * message.length));
    let state = STARTS;
    for (let block = 0; block < blocks; block++) state = compressed(state, view, 128 * block);
    const digest = new DataView(new ArrayBuffer(64));
    state.forEach((word, index) => digest.setBigUint64(8 * index, word));
    return new Uint8Array(digest.buffer);
}

function compressed(state, view, from) {
    const words = Array.from({ length: 16 }, (_, index) => view.getBigUint64(from + 8 * index));
    for (let t = 16; t < 80; t++) {
        const [near, far] = [words[t - 2], words[t - 15]];
        const one = rotated(near, 19n) ^ rotated(near, 61n) ^ (near >> 6n);
        const zero = rotated(far, 1n) ^ rotated(far, 8n) ^ (far >> 7n);
        words.push((one + words[t - 7] + zero + words[t - 16]) & WORD);
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let t = 0; t < 80; t++) {
        const sum1 = rotated(e, 14n) ^ rotated(e, 18n) ^ rotated(e, 41n);
        const choice = (e & f) ^ (~e & WORD & g);
        const first = h + sum1 + choice + ROUNDS[t] + words[t];
        const sum0 = rotated(a, 28n) ^ rotated(a, 34n) ^ rotated(a, 39n);
        const majority = (a & b) ^ (a & c) ^ (b & c);
        [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) & WORD, c, b, a, (first + sum0 + majority) & WORD];
    }
    return [a, b, c, d, e, f, g, h].map((word, index) => (word + state[index]) & WORD);
}

// --- the Mersenne Twister --------------------------------------------------------------------------------------------

const N = 624;
const M = 397;

/* `n` numbers of [0, 1), as random.Random(text).random() gives them. */
export function draws(text, n) {
    const message = new TextEncoder().encode(text);
    const state = stateOf(wordsOf([...message, ...sha512(message)]));
    let index = N;
    const next = () => {
        if (index === N) {
            twist(state);
            index = 0;
        }
        return tempered(state[index++]);
    };
    return Float64Array.from({ length: n }, () => {
        const high = next() >>> 5;
        const low = next() >>> 6;
        return (high * 2 ** 26 + low) / 2 ** 53;
    });
}

/* Bytes, the last one the smallest, as 32-bit words, the first one the smallest. */
function wordsOf(bytes) {
    const words = [];
    for (let end = bytes.length; end > 0; end -= 4) {
        let word = 0;
        for (const byte of bytes.slice(Math.max(0, end - 4), end)) word = word * 256 + byte;
        words.push(word);
    }
    return words;
}

/* `init_by_array` of the authors. */
function stateOf(key) {
    const state = new Uint32Array(N);
    state[0] = 19_650_218;
    const mixed = (at) => state[at - 1] ^ (state[at - 1] >>> 30);
    for (let at = 1; at < N; at++) state[at] = Math.imul(1_812_433_253, mixed(at)) + at;
    let at = 1;
    const step = (factor, added) => {
        state[at] = (state[at] ^ Math.imul(mixed(at), factor)) + added();
        if (++at === N) {
            state[0] = state[N - 1];
            at = 1;
        }
    };
    for (let k = 0; k < Math.max(N, key.length); k++) {
        const place = k % key.length;
        step(1_664_525, () => key[place] + place);
    }
    for (let k = 1; k < N; k++) step(1_566_083_941, () => -at);
    state[0] = 0x80000000;
    return state;
}

function twist(state) {
    for (let at = 0; at < N; at++) {
        const both = (state[at] & 0x80000000) | (state[(at + 1) % N] & 0x7fffffff);
        state[at] = state[(at + M) % N] ^ (both >>> 1) ^ (both & 1 ? 0x9908b0df : 0);
    }
}

function tempered(word) {
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
}
