/* GPT-NeoX (Black et al. 2022), the architecture of pythia and of the stand-in mini-pythia: one token in, the logits of
   the next one out. What attention has computed of the tokens before is kept (the KV cache).

   Names and shapes are those of transformers' `GPTNeoXForCausalLM`; tests compare the logits with PyTorch's. */

// --- reading the weights ---------------------------------------------------------------------------------------------

/* A float16 as a number: sign, five bits of exponent, ten of fraction. */
function halfAsNumber(bits) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 0x1f;
    const fraction = bits & 0x3ff;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

let halves = null; // all 65,536 of them

/* The tensors of a .safetensors file: {name: {shape, copyTo(array)}}. */
export function readSafetensors(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const headerLength = Number(view.getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + headerLength)));
    const tensors = {};
    for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
        if (name === "__metadata__") continue;
        const [from, to] = data_offsets.map((offset) => 8 + headerLength + offset);
        tensors[name] = { shape, copyTo: (array) => copyNumbers(bytes.slice(from, to).buffer, dtype, array) };
    }
    return tensors;
}

function copyNumbers(buffer, dtype, array) {
    if (dtype === "F32") array.set(new Float32Array(buffer));
    else if (dtype === "F16") {
        halves ??= Float32Array.from({ length: 65_536 }, (_, bits) => halfAsNumber(bits));
        const bits = new Uint16Array(buffer);
        for (let i = 0; i < bits.length; i++) array[i] = halves[bits[i]];
    } else throw new Error(`weights are stored as ${dtype}; this page reads F16 and F32`);
}

// --- small functions -------------------------------------------------------------------------------------------------

/* The error function, by a series of positive terms (Abramowitz & Stegun 7.1.6); ±1 to float32's precision beyond 4. */
export function erf(x) {
    if (Math.abs(x) > 4) return Math.sign(x);
    let term = x;
    let sum = x;
    for (let n = 1; Math.abs(term) > 1e-12 * Math.abs(sum); n++) {
        term *= (2 * x * x) / (2 * n + 1);
        sum += term;
    }
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/* GELU (Hendrycks & Gimpel 2016), the exact form: x · P(standard normal < x). */
function gelu(x) {
    return 0.5 * x * (1 + erf(x / Math.SQRT2));
}

/* Mean 0 and variance 1 over the vector, then scale and shift (Ba et al. 2016). */
function layerNorm(x, { weight, bias }, epsilon, y) {
    const width = x.length;
    let mean = 0;
    for (let i = 0; i < width; i++) mean += x[i] / width;
    let variance = 0;
    for (let i = 0; i < width; i++) variance += (x[i] - mean) ** 2 / width;
    const scale = 1 / Math.sqrt(variance + epsilon);
    for (let i = 0; i < width; i++) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

/* Positive numbers that sum to 1, in place, for the first `length` of them. */
function softmax(scores, length) {
    let highest = -Infinity;
    for (let t = 0; t < length; t++) highest = Math.max(highest, scores[t]);
    let total = 0;
    for (let t = 0; t < length; t++) {
        scores[t] = Math.exp(scores[t] - highest);
        total += scores[t];
    }
    for (let t = 0; t < length; t++) scores[t] /= total;
}

// --- the model -------------------------------------------------------------------------------------------------------

export class GPTNeoX {
    /* config: config.json of the model; tensors: of readSafetensors; makeKernel: of kernel.mjs */
    constructor(config, tensors, makeKernel) {
        if (config.model_type !== "gpt_neox" || config.hidden_act !== "gelu") {
            throw new Error(`this page runs gpt_neox with gelu, not ${config.model_type} with ${config.hidden_act}`);
        }
        this.config = config;
        this.width = config.hidden_size;
        this.heads = config.num_attention_heads;
        this.headWidth = this.width / this.heads;
        this.longest = config.max_position_embeddings; // tokens
        const inner = config.intermediate_size;
        const parameters = Object.values(tensors).reduce((sum, { shape }) => sum + size(shape), 0);
        const activations = 8 * this.width + inner + 2 * config.vocab_size; // and a bias of zeros for the last matrix
        this.kernel = makeKernel(parameters + activations, [this.width, inner]);
        this.load(tensors);
        this.rotation = rotations(config, this.headWidth, this.longest);
        this.read = []; // the tokens that the cache has seen

        const { kernel, width } = this;
        this.normed = kernel.array(width);
        this.queryKeyValue = kernel.array(3 * width);
        this.attended = kernel.array(width);
        this.update = kernel.array(width);
        this.inner = kernel.array(inner);
        this.logits = kernel.array(config.vocab_size);
        this.scores = new Float64Array(this.longest);
    }

    load(tensors) {
        const parameter = (name) => {
            const array = this.kernel.array(size(tensors[name].shape));
            tensors[name].copyTo(array);
            return array;
        };
        const both = (name) => ({ weight: parameter(`${name}.weight`), bias: parameter(`${name}.bias`) });
        const linear = (name) => {
            const weight = parameter(`${name}.weight`); // [O, I]
            const bias = `${name}.bias`;
            return { weight, bias: tensors[bias] ? parameter(bias) : this.kernel.array(tensors[`${name}.weight`].shape[0]) };
        };
        this.embedding = parameter("gpt_neox.embed_in.weight"); // [V, D]
        this.layers = Array.from({ length: this.config.num_hidden_layers }, (_, number) => {
            const at = `gpt_neox.layers.${number}`;
            return {
                beforeAttention: both(`${at}.input_layernorm`),
                queryKeyValue: linear(`${at}.attention.query_key_value`), // [3 D, D]
                attentionOut: linear(`${at}.attention.dense`), // [D, D]
                beforeMlp: both(`${at}.post_attention_layernorm`),
                mlpIn: linear(`${at}.mlp.dense_h_to_4h`), // [4 D, D]
                mlpOut: linear(`${at}.mlp.dense_4h_to_h`), // [D, 4 D]
                keys: new Float32Array(this.longest * this.width), // [T, D], the cache
                values: new Float32Array(this.longest * this.width),
            };
        });
        this.lastNorm = both("gpt_neox.final_layer_norm");
        const tied = this.config.tie_word_embeddings;
        this.head = tied
            ? { weight: this.embedding, bias: this.kernel.array(this.config.vocab_size) }
            : linear("embed_out"); // [V, D]
    }

    /* Logits [V] of the token after `ids` [T]. What the cache has read of them already is not read again.

       pause: awaited every now and then while a long prompt is read, so that the page stays alive. */
    async nextLogits(ids, pause = async () => {}) {
        if (!ids.length || ids.length > this.longest) {
            throw new Error(`the model reads 1 to ${this.longest} tokens, and this would be ${ids.length}`);
        }
        let known = 0;
        while (known < ids.length - 1 && this.read[known] === ids[known]) known++; // the last one is always read
        this.read.length = known;
        for (let at = known; at < ids.length; at++) {
            this.readToken(ids[at], at, at === ids.length - 1);
            this.read.push(ids[at]);
            if (at % 32 === 31) await pause();
        }
        return Float32Array.from(this.logits);
    }

    /* One token at a position goes through all layers; logits only where they are wanted. */
    readToken(id, position, wantsLogits) {
        const { config, width, kernel, normed, update, inner } = this;
        const epsilon = config.layer_norm_eps;
        const x = this.embedding.slice(id * width, (id + 1) * width); // [D], the residual stream
        for (const layer of this.layers) {
            layerNorm(x, layer.beforeAttention, epsilon, normed);
            this.attend(layer, position); // reads `normed`, writes `update`
            if (config.use_parallel_residual) {
                layerNorm(x, layer.beforeMlp, epsilon, normed); // of x before attention is added
                add(x, update);
            } else {
                add(x, update);
                layerNorm(x, layer.beforeMlp, epsilon, normed);
            }
            kernel.multiply(layer.mlpIn, normed, inner);
            for (let i = 0; i < inner.length; i++) inner[i] = gelu(inner[i]);
            kernel.multiply(layer.mlpOut, inner, update);
            add(x, update);
        }
        if (!wantsLogits) return;
        layerNorm(x, this.lastNorm, epsilon, normed);
        kernel.multiply(this.head, normed, this.logits);
    }

    /* Attention of one token to itself and all before it. */
    attend(layer, position) {
        const { width, heads, headWidth, queryKeyValue, scores, attended, kernel } = this;
        const { keys, values } = layer;
        kernel.multiply(layer.queryKeyValue, this.normed, queryKeyValue); // for each head: query, key, value
        const now = position * width;
        for (let head = 0; head < heads; head++) {
            const from = 3 * head * headWidth;
            const query = queryKeyValue.subarray(from, from + headWidth);
            const key = queryKeyValue.subarray(from + headWidth, from + 2 * headWidth);
            const value = queryKeyValue.subarray(from + 2 * headWidth, from + 3 * headWidth);
            this.rotate(query, position);
            this.rotate(key, position);
            keys.set(key, now + head * headWidth);
            values.set(value, now + head * headWidth);
            for (let t = 0; t <= position; t++) {
                const at = t * width + head * headWidth;
                let sum = 0;
                for (let i = 0; i < headWidth; i++) sum += query[i] * keys[at + i];
                scores[t] = sum / Math.sqrt(headWidth);
            }
            softmax(scores, position + 1);
            const out = attended.subarray(head * headWidth, (head + 1) * headWidth).fill(0);
            for (let t = 0; t <= position; t++) {
                const at = t * width + head * headWidth;
                for (let i = 0; i < headWidth; i++) out[i] += scores[t] * values[at + i];
            }
        }
        kernel.multiply(layer.attentionOut, attended, this.update);
    }

    /* Rotary positions (Su et al. 2021): pairs of numbers, i and i + half, are turned by an angle that grows with the
       position. */
    rotate(vector, position) {
        const { cosines, sines, half } = this.rotation;
        for (let i = 0; i < half; i++) {
            const cosine = cosines[position * half + i];
            const sine = sines[position * half + i];
            const one = vector[i];
            const other = vector[i + half];
            vector[i] = one * cosine - other * sine;
            vector[i + half] = other * cosine + one * sine;
        }
    }
}

/* Cosines and sines [T, half] of the angles; rounded to float32 where PyTorch rounds. */
function rotations(config, headWidth, longest) {
    const { rope_theta = 10_000, partial_rotary_factor = config.rotary_pct ?? 1 } = config.rope_parameters ?? {};
    const turned = Math.floor(headWidth * partial_rotary_factor);
    const half = turned / 2;
    const cosines = new Float32Array(longest * half);
    const sines = new Float32Array(longest * half);
    for (let i = 0; i < half; i++) {
        const speed = Math.fround(1 / Math.fround(rope_theta ** Math.fround((2 * i) / turned)));
        for (let t = 0; t < longest; t++) {
            const angle = Math.fround(t * speed);
            cosines[t * half + i] = Math.cos(angle);
            sines[t * half + i] = Math.sin(angle);
        }
    }
    return { cosines, sines, half };
}

function add(x, update) {
    for (let i = 0; i < x.length; i++) x[i] += update[i];
}

function size(shape) {
    return shape.reduce((product, side) => product * side, 1);
}
