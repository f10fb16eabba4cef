/* The decoding lab: a reply is written token by token, and every dial shows at once what it does to the next token.

   One module for every place: anywidget calls `render` in a notebook, a plain page calls `mount`. The other side (a
   kernel, a model in the page, or recorded answers) only answers questions, one at a time:

     {ask: "place", dialogue, turn, instruction, shots}   -> what was said, the prompt's token ids, and which grammars
                                                              there are, or why there is none
     {ask: "logits", …place, reply: [ids]}                 -> logits of the next token, float32 [V], as a buffer, and
                                                              {grammar: ids that it allows} as `allowed`
     {ask: "draws", …place, seed, n}                       -> the seed's random numbers, float64 [n], as a buffer
     {ask: "score", …place, reply: [ids]}                  -> the reply as text, and Inform and Success with it
     {ask: "vocabulary"}                                   -> the text of every token
     {ask: "use", config, grammar}                         -> nothing; the notebook takes these settings

   A place has a `format`, too, where something else than a plain reply is written: a belief state.
   Sliders, filters, chart and the choice of a token happen here. Streaming is asking again; Stop is not asking. */

// --- filters ---------------------------------------------------------------------------------------------------------

/* Setting -> the value that switches it off, in the order in which the filters are applied. */
export const FILTERS = {
    grammar: "none",
    min_new_tokens: 0,
    repetition_penalty: 1,
    temperature: 1,
    top_k: 0,
    top_p: 1,
    min_p: 0,
    typical_p: 1,
};
const IN_GREEDY = ["grammar", "min_new_tokens", "repetition_penalty"]; // the others would change nothing there
const UNTOUCHED = { ...FILTERS, strategy: "sample" };
const RESHAPES = ["grammar", "min_new_tokens", "repetition_penalty", "temperature"]; // come before the cuts
const FORBID = ["grammar", "min_new_tokens"]; // cut by what a token is, not by how likely it is

/* Whether a setting does something; one that is not given does not. */
function isOn(settings, name) {
    return settings[name] !== undefined && settings[name] !== FILTERS[name];
}

/* Token ids [V] from the highest logit to the lowest; of equal logits the higher id comes first, since transformers'
   top-p cuts the lower id first. Sorting one number for both, bits of the logit and id, is ten times faster than
   sorting ids with a function. */
export function descending(logits) {
    const size = logits.length;
    const positive = Float32Array.from(logits, (logit) => logit + 0); // -0 becomes 0
    const bits = new Uint32Array(positive.buffer);
    const keys = new Float64Array(size);
    for (let id = 0; id < size; id++) {
        const sortable = bits[id] & 0x80000000 ? ~bits[id] >>> 0 : (bits[id] | 0x80000000) >>> 0;
        keys[id] = sortable * 2 ** 20 + id; // exact below 2^53
    }
    keys.sort();
    const order = new Uint32Array(size);
    for (let rank = 0; rank < size; rank++) order[rank] = keys[size - 1 - rank] % 2 ** 20;
    return order;
}

/* A next-token distribution on its way through the filters, in float64. Loops go by index: V is 50,304 for pythia, and
   an iterator takes several times as long. */
class Distribution {
    constructor({ logits, order, plain }) {
        this.scores = new Float64Array(logits); // [V]
        this.alive = order; // ids that no filter has cut, the likeliest first
        this.cutBy = new Uint8Array(logits.length); // 0, or the number of the filter that cut the token, from 1
        if (plain) {
            this.weights = plain.weights.slice(); // [V] exp(score - highest score), 0 for what is cut
            this.total = plain.total; // their sum
            this.highest = plain.highest;
        } else {
            this.weights = new Float64Array(logits.length);
            this.weigh();
        }
    }

    /* Softmax over the tokens that are left, but for the division by the total. */
    weigh() {
        const { scores, cutBy, weights, alive } = this;
        this.highest = scores[alive[0]];
        let total = 0;
        for (let id = 0; id < weights.length; id++) {
            if (cutBy[id]) continue;
            weights[id] = Math.exp(scores[id] - this.highest);
            total += weights[id];
        }
        this.total = total;
    }

    probability(id) {
        return this.total ? this.weights[id] / this.total : 0; // where nothing is left, nothing is likely
    }

    /* Keep the ranks [from, to) of those left and return the mass that goes. */
    keep(from, to, filter) {
        const { alive, weights, cutBy, total } = this;
        let going = 0;
        for (let rank = 0; rank < alive.length; rank++) {
            if (rank === from) rank = to; // over what stays
            if (rank >= alive.length) break;
            const id = alive[rank];
            going += weights[id];
            weights[id] = 0;
            cutBy[id] = filter;
        }
        this.alive = alive.subarray(from, to);
        this.total = going > total / 2 ? this.sum() : total - going; // a small difference of large numbers is inexact
        return total ? going / total : 0;
    }

    /* Keep those left of which `stays(id)` says so, in their order, and return the mass that goes. */
    keepOnly(stays, filter) {
        const { alive } = this;
        const reordered = new Uint32Array(alive.length); // those that stay, then those that go
        let staying = 0;
        let going = alive.length;
        for (let rank = 0; rank < alive.length; rank++) {
            if (stays(alive[rank])) reordered[staying++] = alive[rank];
            else reordered[--going] = alive[rank];
        }
        this.alive = reordered;
        return this.keep(0, staying, filter);
    }

    sum() {
        const { alive, weights } = this;
        let sum = 0;
        for (let rank = 0; rank < alive.length; rank++) sum += weights[alive[rank]];
        return sum;
    }

    /* Bits: 0 for one possible token, k for an even choice between 2^k. */
    entropy() {
        let bits = 0;
        for (const id of this.alive) {
            const probability = this.weights[id] / this.total;
            if (probability > 0) bits -= probability * Math.log2(probability);
        }
        return Math.abs(bits);
    }
}

/* Each filter changes a distribution and returns the probability mass that it cut. */
const APPLY = {
    /* Only tokens with which the line can still become a state; `allowed`: {grammar: their ids}. */
    grammar(distribution, name, filter, { allowed }) {
        const stays = new Uint8Array(distribution.scores.length);
        for (const id of allowed[name]) stays[id] = 1;
        return distribution.keepOnly((id) => stays[id], filter);
    },

    /* No token that ends a reply, as long as the reply is shorter than `least`. */
    min_new_tokens(distribution, least, filter, { stop, length }) {
        if (length >= least) return 0;
        const ends = new Set(stop);
        return distribution.keepOnly((id) => !ends.has(id), filter);
    },

    /* Logits of tokens that stand in prompt or reply are divided by the penalty, or multiplied where they are negative. */
    repetition_penalty(distribution, penalty, filter, { context }) {
        const { scores, alive, cutBy } = distribution;
        const seen = [...new Set(context)].filter((id) => id < scores.length && !cutBy[id]);
        for (const id of seen) scores[id] = scores[id] < 0 ? scores[id] * penalty : scores[id] / penalty;
        seen.sort((a, b) => scores[b] - scores[a] || b - a);
        const isSeen = new Uint8Array(scores.length);
        for (const id of seen) isSeen[id] = 1;
        const merged = new Uint32Array(alive.length);
        let filled = 0;
        let next = 0;
        for (let rank = 0; rank < alive.length; rank++) {
            const id = alive[rank];
            if (isSeen[id]) continue;
            const comesFirst = (other) => scores[other] > scores[id] || (scores[other] === scores[id] && other > id);
            while (next < seen.length && comesFirst(seen[next])) merged[filled++] = seen[next++];
            merged[filled++] = id;
        }
        while (next < seen.length) merged[filled++] = seen[next++];
        distribution.alive = merged;
        distribution.weigh();
        return 0;
    },

    temperature(distribution, temperature) {
        const { scores } = distribution;
        for (let id = 0; id < scores.length; id++) scores[id] /= temperature;
        distribution.weigh();
        return 0;
    },

    /* The k likeliest, and whatever is exactly as likely as the last of them. */
    top_k(distribution, k, filter) {
        const { scores, alive } = distribution;
        let kept = Math.min(k, alive.length);
        while (kept < alive.length && scores[alive[kept]] >= scores[alive[kept - 1]]) kept++;
        return distribution.keep(0, kept, filter);
    },

    /* The fewest tokens whose probabilities reach p (Holtzman et al. 2020): the tail goes as long as it weighs 1 - p. */
    top_p(distribution, p, filter) {
        const { weights, total, alive } = distribution;
        let kept = alive.length;
        let tail = 0;
        while (kept > 1) {
            tail += weights[alive[kept - 1]] / total;
            if (tail > 1 - p) break;
            kept--;
        }
        return distribution.keep(0, kept, filter);
    },

    /* Tokens with at least this share of the likeliest one's probability. */
    min_p(distribution, share, filter) {
        const { weights, total, alive } = distribution;
        const least = share * (weights[alive[0]] / total);
        let kept = 1;
        while (kept < alive.length && weights[alive[kept]] / total >= least) kept++;
        return distribution.keep(0, kept, filter);
    },

    /* The tokens whose surprise is nearest to the entropy, up to `mass` (Meister et al. 2023). Going down the list the
     surprise only grows, so they are neighbours: from the entropy outwards. */
    typical_p(distribution, mass, filter) {
        const { scores, weights, total, alive } = distribution;
        const shift = scores[alive[0]] + Math.log(total);
        const surprise = (rank) => shift - scores[alive[rank]];
        let entropy = 0;
        for (let rank = 0; rank < alive.length; rank++) {
            const probability = weights[alive[rank]] / total;
            if (probability > 0) entropy += probability * surprise(rank);
        }
        const distance = (rank) => (rank < 0 || rank >= alive.length ? Infinity : Math.abs(surprise(rank) - entropy));
        let above = 0; // the first rank that is not less surprising than the entropy
        while (above < alive.length && surprise(above) < entropy) above++;
        let below = above - 1;
        let reached = 0;
        let farthest = 0;
        while (reached < mass && (below >= 0 || above < alive.length)) {
            const rank = distance(below) <= distance(above) ? below-- : above++;
            reached += weights[alive[rank]] / total;
            farthest = distance(rank);
        }
        while (distance(below) <= farthest) below--;
        while (distance(above) <= farthest && above < alive.length) above++;
        return distribution.keep(below + 1, above, filter);
    },
};

/* What the settings make of the next token: the distribution after all filters, and what each of them did.

   position: {logits: Float32Array [V], order: descending(logits), plain: the distribution without filters, if known}
   where: {context: ids before the token, for the repetition penalty; length of the reply; stop: ids that end it;
           allowed: {grammar: ids that it allows}}

   A filter that leaves no token is the last one: nothing can be chosen then. */
export function filtered(position, settings, where) {
    const distribution = new Distribution(position);
    const stages = [];
    let shaped = distribution.total; // of the weights before anything but min_new_tokens cuts: for the cumulative line
    for (const name of Object.keys(FILTERS)) {
        const hasEffect = settings.strategy === "sample" || IN_GREEDY.includes(name);
        if (!isOn(settings, name) || !hasEffect) continue;
        const removed = APPLY[name](distribution, settings[name], stages.length + 1, where);
        if (RESHAPES.includes(name)) shaped = distribution.total;
        const left = distribution.alive.length;
        const likeliest = left ? distribution.probability(distribution.alive[0]) : 0;
        stages.push({ name, value: settings[name], removed, left, likeliest });
        if (!left) break;
    }
    return { distribution, stages, shaped };
}

/* The token on which a random number of [0, 1) lands, when the probabilities lie side by side in the order of the
   vocabulary: the same rule as labkit.generate's. null where no token is left. */
export function landing({ weights, cutBy, alive }, random) {
    if (!alive.length) return null;
    let all = 0;
    for (let id = 0; id < weights.length; id++) all += weights[id];
    const mark = random * all;
    let sum = 0;
    let last = 0;
    for (let id = 0; id < weights.length; id++) {
        if (cutBy[id]) continue;
        sum += weights[id];
        last = id;
        if (sum > mark) break;
    }
    return last;
}

/* Where the probabilities of some tokens lie when all lie side by side in the order of the vocabulary. */
function laidOut({ weights, total, cutBy }, ids) {
    const places = new Map();
    let sum = 0;
    let from = 0;
    for (const id of [...ids].sort((one, other) => one - other)) {
        for (; from < id; from++) sum += weights[from];
        if (!cutBy[id]) places.set(id, { start: sum / total, share: weights[id] / total });
    }
    return places;
}

/* The likeliest token; of equal ones that with the lowest id, as torch's argmax. null where none is left. */
export function likeliest({ alive, scores }) {
    if (!alive.length) return null;
    let best = alive[0];
    for (let rank = 1; rank < alive.length && scores[alive[rank]] === scores[best]; rank++) best = alive[rank];
    return best;
}

// --- settings as Python ----------------------------------------------------------------------------------------------

const FLOATS = ["temperature", "top_p", "min_p", "typical_p", "repetition_penalty"];
const FIELDS = {
    strategy: "greedy",
    max_new_tokens: 64,
    temperature: 1,
    top_k: 0,
    top_p: 1,
    min_p: 0,
    typical_p: 1,
    repetition_penalty: 1,
    min_new_tokens: 0,
    seed: 42,
}; // of labkit.DecodingConfig, with its defaults

/* The settings as labkit.DecodingConfig takes them: what greedy does not use is off, and the reply may be as long as it
   must be. The dials keep their values. */
export function effective(settings) {
    const config = { ...settings };
    if (config.strategy === "greedy") {
        for (const [name, off] of Object.entries(FILTERS)) if (!IN_GREEDY.includes(name)) config[name] = off;
    }
    config.max_new_tokens = Math.max(config.max_new_tokens, config.min_new_tokens);
    return config;
}

function literal(name, value) {
    if (typeof value === "string") return `'${value}'`;
    return FLOATS.includes(name) && Number.isInteger(value) ? `${value}.0` : `${value}`;
}

function argumentsOf(config, names) {
    return names.map((name) => `${name}=${literal(name, config[name])}`).join(", ");
}

/* `labkit.DecodingConfig(…)` with what differs from the defaults, and the grammar where there is one. */
export function labkitCode(settings) {
    const config = effective(settings);
    const changed = Object.keys(FIELDS).filter((name) => config[name] !== FIELDS[name]);
    const code = `labkit.DecodingConfig(${argumentsOf(config, changed)})`;
    if (!isOn(config, "grammar")) return code;
    const narrower = { said: ", only_said=True", "all-said": ", all_said=True" }[config.grammar] || "";
    return `${code}\nlabkit.state_grammar(corpus${narrower})  # the grammar= of predict, answer and converse`;
}

/* The same as a call of transformers, which names every filter, since some are on there by default. */
export function transformersCode(settings) {
    const config = effective(settings);
    const sample = config.strategy === "sample";
    const filters = ["repetition_penalty", "temperature", "top_k", "top_p", "min_p", "typical_p"];
    const names = ["max_new_tokens", ...(sample ? filters : ["repetition_penalty"])];
    if (config.min_new_tokens) names.push("min_new_tokens");
    const seed = sample ? `torch.manual_seed(${config.seed})\n` : "";
    const given = `do_sample=${sample ? "True" : "False"}, ${argumentsOf(config, names)}`;
    const held = isOn(config, "grammar") ? ", prefix_allowed_tokens_fn=allowed" : "";
    const note = held ? "  # allowed(batch, ids): the ids that the grammar allows next" : "";
    return `${seed}lm.base.generate(ids, attention_mask=mask, eos_token_id=lm.codec.stop_ids, ${given}${held})${note}`;
}

/* The strategy and the filters that are on, in words. */
export function summary(settings) {
    const config = effective(settings);
    const on = Object.keys(FILTERS).filter((name) => isOn(config, name));
    return [config.strategy, ...on.map((name) => `${name} ${config[name]}`)].join(", ");
}

// --- questions to the other side -------------------------------------------------------------------------------------

/* Sends one question at a time and waits for its answer; `send` and `msg:custom` are anywidget's. */
export class Asking {
    constructor(model, onSlow) {
        this.model = model;
        this.onSlow = onSlow;
        this.view = Math.random().toString(36).slice(2); // two views of one widget hear each other's answers
        this.count = 0;
        this.queue = [];
        this.open = null; // the question that is being answered
        this.hear = (content, buffers) => this.receive(content, buffers);
        model.on("msg:custom", this.hear);
    }

    ask(question) {
        return new Promise((resolve) => {
            this.queue.push({ question, resolve });
            this.next();
        });
    }

    get idle() {
        return !this.open && !this.queue.length;
    }

    next() {
        if (this.open || !this.queue.length) return;
        this.open = this.queue.shift();
        this.open.id = `${this.view}-${++this.count}`;
        this.slow = setTimeout(this.onSlow, 8000);
        this.model.send({ ...this.open.question, id: this.open.id });
    }

    receive(content, buffers) {
        if (!this.open || content.id !== this.open.id) return;
        clearTimeout(this.slow);
        const { resolve } = this.open;
        this.open = null;
        resolve({ ...content, buffers: buffers || [] });
        this.next();
    }

    close() {
        clearTimeout(this.slow);
        this.queue = [];
        this.model.off?.("msg:custom", this.hear);
    }
}

/* Numbers of a buffer, which may begin anywhere in a message. */
function numbers(buffer, Kind) {
    const bytes = ArrayBuffer.isView(buffer)
        ? buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength)
        : buffer;
    return new Kind(bytes);
}

const LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Logits [V] of an answer: whole, or (in recorded answers) a level for each token, written as one character, and the
   likeliest tokens exactly. */
export function logitsOf(answer) {
    if (!answer.levels) return numbers(answer.buffers[0], Float32Array);
    const levelOf = Object.fromEntries([...LEVELS].map((character, index) => [character, answer.levels[index]]));
    const logits = Float32Array.from(answer.level, (character) => levelOf[character]);
    answer.ids.forEach((id, rank) => (logits[id] = answer.logits[rank]));
    return logits;
}

/* A model for a page without widgets: `answer(question)` returns {content, buffers}, or a promise of it. */
export function plainModel(start, answer) {
    const values = { start };
    const listeners = new Set();
    return {
        get: (name) => values[name],
        set: (name, value) => (values[name] = value),
        save_changes() {},
        on: (_, listener) => listeners.add(listener),
        off: (_, listener) => listeners.delete(listener),
        async send({ id, ...question }) {
            const { content, buffers } = await answer(question);
            for (const listener of listeners) listener({ ...content, id }, buffers || []);
        },
    };
}

/* The same questions as the same text, whatever the order of their keys. */
export function questionKey(question) {
    return JSON.stringify(Object.fromEntries(Object.entries(question).sort(([a], [b]) => (a < b ? -1 : 1))));
}

const NOT_VISITED = "This was not visited while the notebook ran. Run the cell again, with a kernel, to go on.";

/* Answers that were recorded, {questionKey: answer}, for where there is no kernel. */
export function recordedAnswers(answers) {
    return (question) => {
        if (question.ask === "use") return { content: {} };
        const content = answers[questionKey(question)] || { error: NOT_VISITED };
        const buffers = content.numbers ? [new Float64Array(content.numbers).buffer] : [];
        return { content, buffers };
    };
}

// --- small tools for the page ----------------------------------------------------------------------------------------

/* An element with properties, listeners ({onclick: …}) and children. */
export function h(tag, given = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(given)) {
        if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
        else if (value === true) element.setAttribute(name, "");
        else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child != null));
    return element;
}

/* Text is only written where it changed: less to draw, and nothing for a screen reader to say twice. */
export function write(element, text) {
    if (element.textContent !== text) element.textContent = text;
}

/* So is a style. */
function style(element, name, value) {
    element.drawn ??= {};
    if (element.drawn[name] === value) return;
    element.drawn[name] = value;
    element.style[name] = value;
}

function percent(share) {
    if (share > 0 && share < 0.0005) return "<0.1 %";
    return `${(100 * share).toFixed(1)} %`;
}

/* A small probability in words: 12 %, 0.3 %, 1 in 40,000. */
function rarity(logProbability) {
    const share = Math.exp(logProbability);
    if (share >= 0.001) return percent(share);
    const digits = -logProbability / Math.LN10;
    return digits < 6 ? `1 in ${grouped(Math.round(1 / share))}` : `10^-${digits.toFixed(1)}`;
}

/* A token to read: its space and its line break are visible. */
function visible(text) {
    return text.replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥");
}

/* A text with its [placeholders] marked. */
export function marked(text) {
    const parts = text.split(/(\[[\w ]+\])/);
    return parts.map((part, index) => (index % 2 ? h("mark", {}, part) : part));
}

/* Arrow keys go from button to button inside, so that the group is one stop of the Tab key. */
function roving(container) {
    const buttons = () => [...container.querySelectorAll("button:not([hidden]):not([disabled])")];
    const choose = (button) => {
        for (const other of buttons()) other.tabIndex = other === button ? 0 : -1;
    };
    container.addEventListener("keydown", (event) => {
        const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
        const step = steps[event.key];
        const all = buttons();
        const at = all.indexOf(event.target.closest("button"));
        if (step === undefined || at < 0) return;
        event.preventDefault();
        const next = all[Math.max(0, Math.min(all.length - 1, at + step))];
        choose(next);
        next.focus();
    });
    container.addEventListener("focusin", (event) => {
        const button = event.target.closest("button");
        if (button) choose(button);
    });
    return () => {
        const all = buttons();
        if (all.length && !all.some((button) => button.tabIndex === 0)) choose(all[0]);
    };
}

/* A notebook takes arrow keys and letters for itself, unless it is told that they are for the widget. */
export function keepKeys(element) {
    // JupyterLab and Notebook 7 look at what has the focus first: arrow keys moved the cells, and no dial
    const keep = (one) => (one.dataset.lmSuppressShortcuts = "true");
    keep(element);
    element.addEventListener("focusin", (event) => keep(event.target));
    window.Jupyter?.keyboard_manager?.register_events(element); // the classic notebook
    element.addEventListener("keydown", (event) => event.stopPropagation());
}

/* "dark" or "light", by the first background behind the element that is not transparent. An element that is not on the
   page yet has no colours. */
function themeOf(element) {
    for (let node = element.parentElement; node; node = node.parentElement) {
        const numbers = getComputedStyle(node).backgroundColor.match(/[\d.]+/g) || [0, 0, 0, 0];
        const [red, green, blue, alpha = 1] = numbers.map(Number);
        if (alpha > 0.5) return 0.299 * red + 0.587 * green + 0.114 * blue < 128 ? "dark" : "light";
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/* Keep `data-theme` of an element up to date; what is returned ends that. */
export function watchTheme(root) {
    const look = () => (root.dataset.theme = themeOf(root));
    const themes = new MutationObserver(look);
    for (const node of [document.documentElement, document.body]) themes.observe(node, { attributes: true });
    const darkness = matchMedia("(prefers-color-scheme: dark)");
    darkness.addEventListener("change", look);
    const sizes = new ResizeObserver(look); // a front end may draw first and put it on the page then
    sizes.observe(root);
    look();
    return () => {
        themes.disconnect();
        sizes.disconnect();
        darkness.removeEventListener("change", look);
    };
}

const NUMBER = new Intl.NumberFormat("en"); // made once: it is slow to make

/* 50304 as 50,304. */
function grouped(number) {
    return NUMBER.format(number);
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// --- the lab ---------------------------------------------------------------------------------------------------------

const ROWS = 12; // tokens of the chart; one more where another one was drawn
const SHAPE = { low: "sharper", high: "flatter" };
const DIALS = [
    { name: "temperature", label: "temperature", min: 0.1, max: 2, step: 0.05, first: true },
    { name: "top_k", label: "top-k", min: 0, max: 50, step: 1, first: true },
    { name: "top_p", label: "top-p", min: 0.05, max: 1, step: 0.05, first: true },
    { name: "min_p", label: "min-p", min: 0, max: 0.5, step: 0.01 },
    { name: "typical_p", label: "typical-p", min: 0.05, max: 1, step: 0.05 },
    { name: "repetition_penalty", label: "repetition penalty", min: 1, max: 2, step: 0.05 },
    { name: "min_new_tokens", label: "at least … tokens", min: 0, max: 200, step: 1 },
];
const LABELS = { grammar: "grammar", ...Object.fromEntries(DIALS.map((dial) => [dial.name, dial.label])) };
const CUTS = ["grammar", "top_k", "top_p", "min_p", "typical_p", "min_new_tokens"];
const GRAMMARS = {
    none: "off",
    schema: "schema and database",
    said: "only what was said",
    "all-said": "all that was said",
};
const NO_TOKEN = "No token is left here";
const GHOST_TOKENS = 24; // of greedy's path, which is asked for while nothing else is
const LEAVES = 12; // replies in the tree
const POSITION_BYTES = 1e8; // of memory for positions that were visited

class Lab {
    constructor(model, root) {
        this.model = model;
        this.root = root;
        this.start = model.get("start");
        this.unique = `dl${Math.random().toString(36).slice(2, 9)}`;
        this.asking = new Asking(model, () =>
            this.say("No answer yet: the kernel is busy with another cell, or gone."),
        );
        this.place = { ...this.start.place };
        this.settings = { grammar: FILTERS.grammar, ...this.start.config }; // the dials', B where A is kept
        this.kept = null; // A
        this.texts = new Map(Object.entries(this.start.texts || {}).map(([id, text]) => [Number(id), text]));
        this.bets = new Set(); // dials on which one bets before the bars move
        this.bet = null; // {name, value}: a dial that was moved and waits for the bet
        this.forget();
        this.build();
    }

    /* What belongs to one place of a dialogue. */
    forget() {
        this.writing = false;
        this.positions = new Map(); // reply so far -> position
        this.replies = { B: this.newReply() };
        if (this.kept) this.replies.A = this.newReply();
        this.focus = "B"; // whose position is shown …
        this.cursor = 0; // … and after how many of its tokens
        this.ghost = { ids: [], texts: "", ended: false };
        this.leaves = new Map();
        this.info = null;
    }

    newReply() {
        return { ids: [], chances: [], end: null, by: "" };
    }

    // --- asking --------------------------------------------------------------------------------------------------------

    /* The first answers came with the widget: the dials work while the kernel is still busy with the cells below. */
    ask(question) {
        const known = this.start.opening?.[questionKey(question)];
        const first = known?.isFirst ? this.model.get("first") : null;
        if (!known || (known.isFirst && !first?.byteLength)) return this.asking.ask(question);
        if (known.numbers) return { ...known, buffers: [new Float64Array(known.numbers).buffer] };
        return { ...known, buffers: first ? [first] : [] };
    }

    /* Go to a place; where that is not possible, back to the one before, and say why. */
    async visit(place, canGoBack = true) {
        const before = this.place;
        this.place = place;
        this.forget();
        const visit = (this.visitNumber = (this.visitNumber || 0) + 1);
        const info = await this.ask({ ask: "place", ...place });
        if (visit !== this.visitNumber) return;
        if (info.error) {
            if (canGoBack) await this.visit(before, false);
            this.say(`⚠ ${info.error}`);
            return;
        }
        this.info = info;
        this.place = { ...place, turn: info.turn };
        this.drawPlace();
        await this.draw();
        await this.show();
        this.dream();
        this.learnTexts();
    }

    /* The random numbers of the seed. */
    async draw() {
        const answer = await this.ask({ ask: "draws", ...this.place, seed: this.settings.seed, n: 256 });
        if (answer.error) return this.say(`⚠ ${answer.error}`);
        this.draws = numbers(answer.buffers[0], Float64Array);
    }

    /* The position after a reply's tokens, or null where there is no answer. */
    async position(ids) {
        const key = ids.join(",");
        if (this.positions.has(key)) return this.positions.get(key);
        const { visitNumber, info } = this;
        const answer = await this.ask({ ask: "logits", ...this.place, reply: ids });
        if (visitNumber !== this.visitNumber) return null; // of another place
        if (answer.error) {
            this.say(`⚠ ${answer.error}`);
            return null;
        }
        for (const [id, text] of Object.entries(answer.texts || {})) this.texts.set(Number(id), text);
        const arrived = performance.now();
        const logits = logitsOf(answer);
        const position = { logits, order: descending(logits), arrived };
        const { allowed } = answer;
        position.where = { context: [...info.prompt, ...ids], length: ids.length, stop: this.start.stop, allowed };
        position.plain = filtered(position, UNTOUCHED, position.where).distribution;
        const most = Math.max(48, Math.floor(POSITION_BYTES / (26 * logits.length)));
        if (this.positions.size > most) this.positions.delete(this.positions.keys().next().value); // it can be asked again
        this.positions.set(key, position);
        return position;
    }

    /* All texts of the vocabulary, once, when there is nothing else to do: any token may be drawn. */
    async learnTexts() {
        if (this.learnt || this.start.recorded) return;
        this.learnt = true;
        const answer = await this.ask({ ask: "vocabulary" });
        (answer.texts || []).forEach((text, id) => this.texts.set(id, text));
        this.update();
    }

    text(id) {
        const text = this.texts.get(id);
        return text ? visible(text) : `‹${id}›`;
    }

    said(ids) {
        const stop = new Set(this.start.stop);
        return ids
            .filter((id) => !stop.has(id))
            .map((id) => this.texts.get(id) ?? `‹${id}›`)
            .join("")
            .trim();
    }

    // --- writing -------------------------------------------------------------------------------------------------------

    /* The settings of a reply: A's have the seed and the length of B, so that only the filters differ. */
    settingsOf(name) {
        const { seed, max_new_tokens } = this.settings;
        const own = name === "A" ? { ...this.kept, seed, max_new_tokens } : this.settings;
        const isHere = this.info?.grammars?.includes(own.grammar); // a plain reply has none
        return effective({ ...own, grammar: isHere ? own.grammar : FILTERS.grammar });
    }

    /* The next token; null where the filters leave none. */
    choose(position, settings, at) {
        const { distribution } = filtered(position, settings, position.where);
        return settings.strategy === "greedy" ? likeliest(distribution) : landing(distribution, this.draws[at]);
    }

    append(reply, position, token, settings) {
        reply.ids = [...reply.ids, token];
        reply.chances = [...reply.chances, position.plain.probability(token)];
        reply.by = summary(settings);
        if (this.start.stop.includes(token)) reply.end = "stop";
        else if (reply.ids.length >= settings.max_new_tokens) reply.end = "length";
        if (reply.end) this.leaf(reply);
    }

    /* One token more for each reply that is not finished; false where nothing was written. */
    async step(follow = true) {
        let wrote = false;
        for (const [name, reply] of Object.entries(this.replies)) {
            if (reply.end) continue;
            const position = await this.position(reply.ids);
            if (!position || reply !== this.replies[name]) return false;
            const settings = this.settingsOf(name);
            const token = this.choose(position, settings, reply.ids.length);
            if (token === null) {
                this.stuck = true;
                continue;
            }
            this.append(reply, position, token, settings);
            wrote = true;
            if (follow && name === this.focus) this.cursor = this.lastCursor();
            this.drawReplies();
        }
        return wrote;
    }

    async write() {
        if (this.writing) {
            this.writing = false; // Stop: nothing more is asked for
            this.drawButtons();
            return;
        }
        if (Object.values(this.replies).every((reply) => reply.end)) this.startOver();
        this.writing = true;
        this.stuck = false;
        const { visitNumber } = this;
        this.drawButtons();
        this.say("Writing …");
        while (this.writing && visitNumber === this.visitNumber && (await this.step())) await this.showWhileWriting();
        if (visitNumber !== this.visitNumber) return;
        const stopped = !this.writing;
        this.writing = false;
        this.drawButtons();
        await this.show();
        if (Object.values(this.replies).every((reply) => reply.end || stopped)) {
            this.say(`${stopped ? "Stopped" : "Written"}: ${this.said(this.replies.B.ids) || "nothing"}`);
        } else if (this.stuck) this.say(this.noToken());
        this.dream();
    }

    /* The next position is asked for by `step`; here the one at the cursor is drawn if it is known. */
    async showWhileWriting() {
        await pause(30); // a reply from memory would be there at once
        const position = this.positions.get(this.shownIds().join(","));
        if (position) this.drawPosition(position);
    }

    async next() {
        if (this.writing) return;
        if (Object.values(this.replies).every((reply) => reply.end)) this.startOver();
        this.stuck = false;
        if (await this.step()) await this.show();
        else if (this.stuck) this.say(this.noToken());
    }

    startOver() {
        this.writing = false;
        for (const [name, reply] of Object.entries(this.replies)) {
            this.leaf(reply);
            this.replies[name] = this.newReply();
        }
        this.cursor = 0;
        this.focus = "B";
        this.spoken = false;
        this.drawReplies();
        this.drawButtons();
    }

    /* Another token at the cursor: the reply forks, and is written on from there. */
    async take(token) {
        if (this.writing) return;
        const reply = this.replies[this.focus];
        const at = this.cursor;
        if (reply.ids[at] === token) {
            this.cursor = Math.min(at + 1, this.lastCursor());
            return this.show();
        }
        const position = await this.position(this.shownIds());
        if (!position) return;
        if (at < reply.ids.length) this.leaf(reply);
        const fork = this.newReply();
        fork.ids = reply.ids.slice(0, at);
        fork.chances = reply.chances.slice(0, at);
        this.replies[this.focus] = fork;
        this.append(fork, position, token, this.settingsOf(this.focus));
        this.cursor = this.lastCursor();
        this.drawReplies();
        if (at < reply.ids.length && !fork.end) await this.write();
        else await this.show();
    }

    lastCursor() {
        const reply = this.replies[this.focus];
        return reply.end === "stop" ? reply.ids.length - 1 : reply.ids.length;
    }

    shownIds() {
        return this.replies[this.focus].ids.slice(0, this.cursor);
    }

    /* Keep a reply in the tree, and ask what it does to the task once it is finished. */
    async leaf(reply) {
        if (!reply.ids.length) return;
        const key = reply.ids.join(",");
        const logProbability = reply.chances.reduce((sum, chance) => sum + Math.log(chance), 0);
        const old = this.leaves.get(key);
        this.leaves.set(key, { ...reply, logProbability, score: old?.score });
        while (this.leaves.size > LEAVES) this.leaves.delete(this.leaves.keys().next().value);
        this.drawTree();
        if (!reply.end || old?.score) return;
        const { visitNumber } = this;
        const score = await this.ask({ ask: "score", ...this.place, reply: reply.ids });
        if (visitNumber !== this.visitNumber || !this.leaves.has(key)) return;
        this.leaves.get(key).score = score;
        this.drawTree();
    }

    /* Greedy's path, a token at a time while nothing else is asked. */
    async dream() {
        const { visitNumber, ghost } = this;
        if (this.dreaming === visitNumber) return;
        this.dreaming = visitNumber; // one of an earlier place ends by itself
        while (visitNumber === this.visitNumber && !ghost.ended && ghost.ids.length < GHOST_TOKENS) {
            if (this.writing || !this.asking.idle || !this.root.isConnected) {
                await pause(120);
                continue;
            }
            const position = await this.position(ghost.ids);
            if (!position) break;
            const token = likeliest(position.plain);
            ghost.ids = [...ghost.ids, token];
            ghost.ended = this.start.stop.includes(token);
            this.drawGhost();
        }
        if (this.dreaming === visitNumber) this.dreaming = null;
    }

    // --- building the page ---------------------------------------------------------------------------------------------

    build() {
        const { root } = this;
        root.className = "dl";
        keepKeys(root);
        root.replaceChildren(
            h(
                "section",
                { class: "dl-lab", "aria-label": "decoding lab" },
                this.buildPlace(),
                h("div", { class: "dl-columns" }, this.buildStage(), this.buildDials(), this.buildChart()),
                this.buildTree(),
                this.buildCode(),
            ),
        );
        this.closeTheme = watchTheme(root);
        this.syncDials();
        this.drawButtons();
    }

    numberField(label, value, min, max, onchange, step = 1) {
        const id = `${this.unique}-${label.replace(/\W/g, "")}`;
        const input = h("input", { type: "number", id, value, min, max, step, onchange });
        return { input, field: h("span", { class: "dl-field" }, h("label", { for: id }, label), input) };
    }

    buildPlace() {
        const dialogues = this.start.dialogues;
        const go = (change) => this.visit({ ...this.place, ...change });
        const arrow = (text, label, onclick) => h("button", { type: "button", "aria-label": label, onclick }, text);
        const bounded = (value, max) => Math.max(1, Math.min(max, Math.round(Number(value)) || 1)) - 1;
        const dialogue = this.numberField("dialogue", this.place.dialogue + 1, 1, dialogues, (event) =>
            go({ dialogue: bounded(event.target.value, dialogues) }),
        );
        const turn = this.numberField("turn", this.place.turn + 1, 1, 99, (event) =>
            go({ turn: bounded(event.target.value, this.info?.turns || 99) }),
        );
        this.dialogueInput = dialogue.input;
        this.turnInput = turn.input;
        this.placeName = h("span", { class: "dl-name" });
        const instructionId = `${this.unique}-instruction`;
        const instruction = h("textarea", {
            id: instructionId,
            rows: 2,
            onchange: (event) => go({ instruction: event.target.value }),
        });
        const shots = this.numberField("worked examples", 0, 0, this.start.shots, (event) =>
            go({ shots: Math.max(0, Math.min(this.start.shots, Math.round(Number(event.target.value)) || 0)) }),
        );
        this.instructionInput = instruction;
        this.shotsInput = shots.input;
        const formats = this.buildFormats((format) => go({ format: format === "turns" ? undefined : format }));
        this.bubbles = h("div", {
            class: "dl-dialogue",
            tabindex: 0,
            role: "region",
            "aria-label": "the dialogue so far",
        });
        const before = h(
            "details",
            { class: "dl-before" },
            h("summary", {}, "Put something before the dialogue"),
            h("label", { for: instructionId }, "instruction"),
            instruction,
            shots.field,
        );
        if (this.start.recorded) return h("div", { class: "dl-place" }, this.placeName, this.bubbles);
        return h(
            "div",
            { class: "dl-place" },
            h(
                "div",
                { class: "dl-row" },
                arrow("◀", "previous dialogue", () => this.place.dialogue && go({ dialogue: this.place.dialogue - 1 })),
                dialogue.field,
                arrow(
                    "▶",
                    "next dialogue",
                    () => this.place.dialogue + 1 < dialogues && go({ dialogue: this.place.dialogue + 1 }),
                ),
                arrow("◀", "previous turn", () => this.place.turn && go({ turn: this.place.turn - 1 })),
                turn.field,
                arrow("▶", "next turn", () => go({ turn: this.place.turn + 1 })),
                formats,
                this.placeName,
            ),
            before,
            this.bubbles,
        );
    }

    /* What the bot writes; null where there is only one thing. */
    buildFormats(choose) {
        const [ofReply, ofState] = this.start.formats || [];
        if (!ofState) return null;
        const id = `${this.unique}-format`;
        const options = [
            h("option", { value: ofReply }, "the reply"),
            h("option", { value: ofState }, "the belief state"),
        ];
        this.formatInput = h("select", { id, onchange: (event) => choose(event.target.value) }, ...options);
        return h("span", { class: "dl-field" }, h("label", { for: id }, "write"), this.formatInput);
    }

    buildStage() {
        this.replyBoxes = h("div", { class: "dl-replies" });
        this.replyViews = {};
        for (const name of ["A", "B"]) {
            const label = h("div", { class: "dl-by" });
            const chips = h("div", { class: "dl-chips", role: "group", "aria-label": `reply ${name}, token by token` });
            const box = h("div", { class: "dl-reply", "data-reply": name }, label, chips);
            this.replyViews[name] = { box, label, chips, refresh: roving(chips) };
            this.replyBoxes.append(box);
        }
        this.ghostLine = h("div", { class: "dl-ghost" });
        this.writeButton = h("button", { type: "button", class: "dl-main", onclick: () => this.write() }, "Write");
        this.nextButton = h("button", { type: "button", onclick: () => this.next() }, "Next token");
        const again = () => {
            this.startOver();
            this.show();
        };
        this.againButton = h("button", { type: "button", onclick: again }, "Start over");
        return h(
            "div",
            { class: "dl-stage" },
            this.replyBoxes,
            this.ghostLine,
            h("div", { class: "dl-row" }, this.writeButton, this.nextButton, this.againButton),
        );
    }

    buildChart() {
        this.chartTitle = h("div", { class: "dl-title" });
        this.rows = Array.from({ length: ROWS + 1 }, () => this.buildRow());
        this.others = {
            text: h("span", { class: "dl-token" }),
            bars: this.buildBars(),
            share: h("span", { class: "dl-share" }),
            fate: h("span", { class: "dl-fate" }),
        };
        const others = h(
            "div",
            { class: "dl-bar-row dl-others" },
            this.others.text,
            this.others.bars.box,
            this.others.share,
            this.others.fate,
        );
        const SVG = "http://www.w3.org/2000/svg";
        this.curve = document.createElementNS(SVG, "svg");
        this.curve.setAttribute("viewBox", `0 0 100 ${ROWS + 2}`);
        this.curve.setAttribute("preserveAspectRatio", "none");
        this.curve.setAttribute("aria-hidden", "true");
        this.curve.setAttribute("class", "dl-curve");
        this.sum = document.createElementNS(SVG, "polyline");
        this.nucleus = document.createElementNS(SVG, "line");
        this.nucleus.setAttribute("y1", 0);
        this.nucleus.setAttribute("y2", ROWS + 2);
        this.nucleus.setAttribute("class", "dl-nucleus");
        this.curve.append(this.sum, this.nucleus);
        const rows = h("div", { class: "dl-rows", role: "group", "aria-label": "next tokens; press one to take it" });
        rows.append(...this.rows.map((row) => row.button), others, this.curve);
        this.refreshRows = roving(rows);
        this.segments = Array.from({ length: ROWS + 1 }, () => h("span", { class: "dl-segment" }));
        this.needle = h("span", { class: "dl-needle" });
        const stack = h("div", { class: "dl-stack", "aria-hidden": "true" }, ...this.segments, this.needle);
        this.needleText = h("div", { class: "dl-needle-text" });
        this.status = h("div", { class: "dl-status", role: "status" });
        const legend = h(
            "div",
            { class: "dl-legend", "aria-hidden": "true" },
            h("span", { class: "dl-key-raw" }, "the model"),
            h("span", { class: "dl-key-now" }, "after the dials"),
            (this.legendA = h("span", { class: "dl-key-a" }, "A")),
            h("span", { class: "dl-key-sum" }, "summed up, before the cuts"),
        );
        return h("div", { class: "dl-chart" }, this.chartTitle, legend, rows, stack, this.needleText, this.status);
    }

    buildBars() {
        const raw = h("i", { class: "dl-raw" });
        const now = h("i", { class: "dl-now" });
        const a = h("i", { class: "dl-a" });
        return { raw, now, a, box: h("span", { class: "dl-bars", "aria-hidden": "true" }, raw, now, a) };
    }

    buildRow() {
        const row = {
            id: null,
            text: h("span", { class: "dl-token" }),
            bars: this.buildBars(),
            share: h("span", { class: "dl-share" }),
            fate: h("span", { class: "dl-fate" }),
        };
        row.button = h(
            "button",
            { type: "button", class: "dl-bar-row", tabindex: -1, onclick: () => this.take(row.id) },
            row.text,
            row.bars.box,
            row.share,
            row.fate,
        );
        return row;
    }

    buildDials() {
        this.dials = {};
        const modes = h("fieldset", { class: "dl-modes" }, h("legend", {}, "mode"));
        for (const mode of ["sample", "greedy"]) {
            const id = `${this.unique}-${mode}`;
            const given = {
                type: "radio",
                name: `${this.unique}-mode`,
                id,
                value: mode,
                onchange: () => this.set("strategy", mode),
            };
            modes.append(
                h(
                    "span",
                    {},
                    h("input", { ...given, checked: this.settings.strategy === mode }),
                    h("label", { for: id }, mode),
                ),
            );
        }
        const more = h("details", { class: "dl-more" }, h("summary", {}, "more dials, seed and length"));
        for (const dial of DIALS.filter((one) => !one.first)) more.append(this.buildDial(dial));
        const seed = this.numberField("seed", this.settings.seed, 0, 9999, (event) => this.reseed(event.target));
        const length = this.numberField("at most … tokens", this.settings.max_new_tokens, 1, 256, (event) => {
            this.set("max_new_tokens", Math.max(1, Math.min(256, Math.round(Number(event.target.value)) || 1)));
        });
        this.seedInput = seed.input;
        more.append(h("div", { class: "dl-row" }, seed.field, length.field));
        this.keepButton = h(
            "button",
            { type: "button", "aria-pressed": "false", onclick: () => this.keep() },
            "Keep as A",
        );
        this.keptName = h("div", { class: "dl-kept" });
        return h(
            "div",
            { class: "dl-dials" },
            modes,
            this.buildGrammar(),
            ...DIALS.filter((one) => one.first).map((dial) => this.buildDial(dial)),
            this.buildBet(),
            more,
            h(
                "div",
                { class: "dl-row" },
                this.keepButton,
                h("button", { type: "button", onclick: () => this.reset() }, "Reset dials"),
            ),
            this.keptName,
        );
    }

    buildDial({ name, label, min, max, step }) {
        const id = `${this.unique}-${name}`;
        const value = this.settings[name]; // a value from outside the range would be moved into it, silently
        const range = h("input", {
            type: "range",
            id,
            min: Math.min(min, value),
            max: Math.max(max, value),
            step,
            oninput: (event) => this.turn(name, Number(event.target.value)),
        });
        range.value = value;
        const shown = h("span", { class: "dl-value" });
        const effect = h("span", { class: "dl-effect" });
        const bet = this.buildBetButton(name);
        this.dials[name] = { range, shown, effect, bet, label };
        return h("div", { class: "dl-dial" }, h("label", { for: id }, label), range, shown, bet, effect);
    }

    buildBetButton(name) {
        const given = {
            type: "button",
            class: "dl-bet-button",
            "aria-pressed": "false",
            "aria-label": `bet first: guess before ${LABELS[name]} moves the bars`,
            title: "bet first: guess before the bars move",
            onclick: () => this.toggleBet(name),
        };
        return h("button", given, "bet");
    }

    /* The grammar is the first filter. Which there are is known with the place. */
    buildGrammar() {
        const id = `${this.unique}-grammar`;
        const range = h("select", { id, onchange: (event) => this.turn("grammar", event.target.value) });
        const effect = h("span", { class: "dl-effect" });
        const bet = this.buildBetButton("grammar");
        this.dials.grammar = { range, effect, bet, label: LABELS.grammar };
        return h("div", { class: "dl-dial dl-grammar" }, h("label", { for: id }, LABELS.grammar), range, bet, effect);
    }

    drawGrammars() {
        const { range } = this.dials.grammar;
        const names = [FILTERS.grammar, ...(this.info?.grammars || [])];
        range.replaceChildren(...names.map((name) => h("option", { value: name }, GRAMMARS[name] ?? name)));
        this.syncDials();
    }

    buildBet() {
        const id = `${this.unique}-bet`;
        this.betQuestion = h("label", { for: id });
        this.betRange = h("input", { type: "range", id, min: 0, max: 100, step: 1, oninput: () => this.drawBet() });
        this.betShown = h("span", { class: "dl-value" });
        this.betButton = h("button", { type: "button", onclick: () => this.settleBet() }, "Show");
        const inside = [this.betQuestion, h("div", { class: "dl-row" }, this.betRange, this.betShown, this.betButton)];
        this.betBox = h("div", { class: "dl-bet" }, ...inside);
        return this.betBox;
    }

    buildTree() {
        this.tree = h("div", { class: "dl-tree", tabindex: 0, role: "region", "aria-label": "the tree of replies" });
        return h("div", {}, h("div", { class: "dl-title" }, "Replies so far, as a tree"), this.tree);
    }

    buildCode() {
        this.code = h("pre", { tabindex: 0, role: "region", "aria-label": "the settings as Python" });
        this.useButton = h("button", { type: "button", onclick: () => this.use() }, "Use these settings");
        const copy = h("button", { type: "button", onclick: () => this.copy() }, "Copy");
        const noNotebook = this.start.recorded || this.start.live; // there is nobody to use them
        const row = h("div", { class: "dl-row" }, noNotebook ? null : this.useButton, copy);
        return h(
            "details",
            { class: "dl-code", open: true },
            h("summary", {}, "The settings as Python"),
            row,
            this.code,
        );
    }

    // --- what the controls do ------------------------------------------------------------------------------------------

    /* A dial was moved: the bars follow at once, unless a bet comes first. */
    turn(name, value) {
        if (this.bets.has(name)) {
            this.bet = { name, value };
            this.drawDial(name, value);
            this.drawBet();
            return;
        }
        this.set(name, value);
    }

    set(name, value) {
        this.settings[name] = value;
        if (name === "strategy") this.syncDials();
        if (name in this.dials) this.drawDial(name, value);
        this.update();
    }

    reset() {
        this.bet = null;
        for (const [name, off] of Object.entries(FILTERS)) this.settings[name] = off;
        this.syncDials();
        this.drawBet();
        this.update();
    }

    async reseed(input) {
        this.settings.seed = Math.max(0, Math.round(Number(input.value)) || 0);
        await this.draw();
        this.update();
    }

    toggleBet(name) {
        const on = !this.bets.has(name);
        if (on) this.bets.add(name);
        else this.bets.delete(name);
        this.dials[name].bet.setAttribute("aria-pressed", String(on));
        if (!on && this.bet?.name === name) this.settleBet();
        this.drawBet();
    }

    settleBet() {
        if (!this.bet) return;
        const { name, value } = this.bet;
        this.bet = null;
        this.set(name, value);
        const stage = this.now?.stages.find((one) => one.name === name);
        const { distribution } = this.now || {};
        const likely = distribution ? distribution.probability(distribution.alive[0]) : 0;
        const actual = 100 * (CUTS.includes(name) ? stage?.removed || 0 : likely);
        const bet = Number(this.betRange.value);
        const off = Math.abs(bet - actual);
        const verdict = off < 5 ? "close" : `off by ${off.toFixed(0)} points`;
        this.drawBet();
        this.say(`You bet ${bet} %, it is ${actual.toFixed(1)} %: ${verdict}.`);
    }

    keep() {
        this.kept = this.kept ? null : effective(this.settings);
        if (this.kept) this.replies.A = this.newReply();
        else delete this.replies.A;
        if (!this.replies[this.focus]) this.focus = "B";
        this.cursor = Math.min(this.cursor, this.lastCursor());
        this.keepButton.setAttribute("aria-pressed", String(Boolean(this.kept)));
        write(this.keepButton, this.kept ? "Forget A" : "Keep as A");
        write(this.keptName, this.kept ? `A: ${summary(this.kept)}. Turn the dials for B, then write.` : "");
        this.startOver();
        this.show();
    }

    async use() {
        const { grammar } = this.settingsOf("B");
        const held = grammar === FILTERS.grammar ? {} : { grammar };
        const answer = await this.ask({ ask: "use", config: this.configuration(), ...held });
        const too = held.grammar ? ", and the grammar's name as explorer.chosen_grammar" : "";
        this.say(answer.error ? `⚠ ${answer.error}` : `The notebook has these settings now, as explorer.chosen${too}.`);
    }

    configuration() {
        const config = effective(this.settings);
        return Object.fromEntries(Object.keys(FIELDS).map((name) => [name, config[name]]));
    }

    copy() {
        navigator.clipboard?.writeText(this.code.textContent).then(
            () => this.say("Copied."),
            () => this.say("The browser does not allow copying: select the text."),
        );
    }

    say(text) {
        if (this.status) write(this.status, text);
        this.spoken = true;
    }

    // --- drawing -------------------------------------------------------------------------------------------------------

    /* Ask for the position at the cursor and draw it. */
    async show() {
        if (!this.info) return;
        const ids = this.shownIds();
        this.drawReplies();
        const position = await this.position(ids);
        if (position && ids.join(",") === this.shownIds().join(",")) this.drawPosition(position);
    }

    drawPlace() {
        const { info, place } = this;
        this.dialogueInput.value = place.dialogue + 1;
        this.turnInput.value = place.turn + 1;
        this.turnInput.max = info.turns;
        this.instructionInput.value = place.instruction;
        this.shotsInput.value = place.shots;
        const before = place.shots ? `, after ${place.shots} worked example${place.shots > 1 ? "s" : ""}` : "";
        const written = place.format ? ": the belief state" : "";
        write(this.placeName, `${info.name}, turn ${place.turn + 1} of ${info.turns}${before}${written}`);
        if (this.formatInput) this.formatInput.value = place.format ?? this.start.formats[0];
        this.drawGrammars();
        const bubbles = info.said.map(([speaker, text]) =>
            h("div", { class: `dl-bubble dl-${speaker}` }, h("b", {}, `${speaker}: `), ...marked(text)),
        );
        if (place.instruction)
            bubbles.unshift(h("div", { class: "dl-bubble" }, h("b", {}, "instruction: "), place.instruction));
        this.bubbles.replaceChildren(...bubbles);
        this.bubbles.scrollTop = this.bubbles.scrollHeight;
        this.drawTree();
        this.drawGhost();
        this.drawReplies();
    }

    drawReplies() {
        for (const name of ["A", "B"]) {
            const view = this.replyViews[name];
            const reply = this.replies[name];
            view.box.hidden = !reply;
            if (reply) this.drawReply(name, view, reply);
        }
    }

    drawReply(name, view, reply) {
        const now = summary(this.settingsOf(name));
        const stale = reply.by && reply.by !== now;
        const who = this.kept ? `${name}: ` : "";
        const written = stale ? `written with ${reply.by}; the dials have moved` : reply.by || now;
        write(view.label, `${this.place.format ? "state" : "bot"}, ${who}${written}`);
        view.box.classList.toggle("dl-stale", Boolean(stale));
        const { chips } = view;
        const other = this.replies[name === "A" ? "B" : "A"];
        const wanted = reply.ids.length + (reply.end ? 0 : 1);
        while (chips.children.length > wanted) chips.lastChild.remove();
        const scrolled = chips.children.length !== wanted;
        for (let at = 0; at < wanted; at++) this.drawChip(name, reply, at, other);
        view.refresh();
        if (scrolled) chips.scrollTop = chips.scrollHeight;
    }

    /* The chip of one token, or the open slot behind the last one. */
    drawChip(name, reply, at, other) {
        const { chips } = this.replyViews[name];
        let chip = chips.children[at];
        if (!chip) {
            const onclick = () => {
                this.focus = name;
                this.cursor = at;
                this.show();
            };
            chip = h("button", { type: "button", class: "dl-chip", tabindex: -1, onclick });
            chips.append(chip);
        }
        const open = at >= reply.ids.length;
        const id = reply.ids[at];
        write(chip, open ? "▁" : this.text(id));
        const chance = reply.chances[at];
        const label = open ? "open slot" : `${this.text(id)}, ${percent(chance)}`;
        chip.setAttribute("aria-label", `${at + 1}: ${label}`);
        chip.title = open ? "the next token" : `${percent(chance)} by the model`;
        chip.style.setProperty("--chance", open ? 0 : chance.toFixed(3));
        chip.classList.toggle("dl-open", open);
        chip.classList.toggle(
            "dl-differs",
            Boolean(this.kept && name === "B" && other && id !== other.ids[at] && !open),
        );
        const here = name === this.focus && at === this.cursor;
        if (here) chip.setAttribute("aria-current", "true");
        else chip.removeAttribute("aria-current");
    }

    drawGhost() {
        const { ids, ended } = this.ghost;
        const text = ids.length ? `${this.said(ids)}${ended ? "" : " …"}` : "…";
        write(this.ghostLine, `greedy's path: ${text}`);
    }

    drawButtons() {
        write(this.writeButton, this.writing ? "Stop" : "Write");
        this.nextButton.disabled = this.writing;
        this.againButton.disabled = this.writing;
    }

    /* Another position: which tokens stand in the chart. They keep their order while the dials move. */
    drawPosition(position) {
        this.shown = position;
        this.keptNow = null;
        this.at = this.cursor; // how much of the reply stands before the token that is shown
        this.taken = this.replies[this.focus].ids[this.cursor];
        this.listedFor = null; // update lists the tokens
        const after = this.at ? `after ${this.at} of the reply` : "at the start of the reply";
        write(this.chartTitle, `The next token, ${after}`);
        this.spoken = false;
        this.update();
        position.drawn = performance.now();
    }

    /* Which tokens stand in the chart: the model's likeliest; where a grammar is on, half of them its likeliest ones. */
    listTokens(position, grammar) {
        this.listedFor = grammar;
        const { order, where } = position;
        let ids = [...order.subarray(0, ROWS)];
        const allowed = new Set(where.allowed?.[grammar]);
        if (allowed.size) {
            const first = ids.slice(0, ROWS / 2);
            const likely = order.filter((id) => allowed.has(id) && !first.includes(id)).subarray(0, ROWS / 2);
            const chosen = new Set([...first, ...likely]);
            for (const id of ids) if (chosen.size < ROWS) chosen.add(id);
            ids = [...order.filter((id) => chosen.has(id))];
        }
        const { taken } = this;
        const extra = taken !== undefined && !ids.includes(taken) ? taken : null;
        this.rows.forEach((row, rank) => {
            row.id = rank < ROWS ? ids[rank] : extra;
            row.button.classList.toggle("dl-empty", row.id == null);
            row.button.disabled = row.id == null;
        });
        this.refreshRows();
    }

    /* The dials have moved, or there is another position: all bars, shares and words. No question is asked. */
    update() {
        const position = this.shown;
        this.drawCode();
        if (!position || !this.info) return;
        const settings = this.settingsOf("B");
        if (this.listedFor !== settings.grammar) this.listTokens(position, settings.grammar);
        this.now = filtered(position, settings, position.where);
        const draws = settings.strategy === "sample" && this.draws;
        this.now.drawn = draws ? landing(this.now.distribution, this.draws[this.at]) : null; // where the seed's number lands
        if (this.kept) this.keptNow ??= filtered(position, this.settingsOf("A"), position.where);
        this.drawRows(position, settings);
        this.drawStack(settings);
        this.drawEffects();
        this.drawStale();
        this.announce();
    }

    drawRows(position, settings) {
        const { distribution, stages, shaped } = this.now;
        const a = this.kept ? this.keptNow.distribution : null;
        const greedy = settings.strategy === "greedy" ? likeliest(distribution) : null;
        const { drawn } = this.now;
        let raw = 0;
        let now = 0;
        let summed = 0;
        let keptByA = 0;
        const points = [];
        const uncut = (id) => {
            if (FORBID.includes(stages[distribution.cutBy[id] - 1]?.name)) return 0;
            return Math.exp(distribution.scores[id] - distribution.highest) / shaped;
        };
        this.rows.forEach((row, rank) => {
            if (row.id == null) {
                this.drawBar(row, "", 0, 0, null, "");
                return;
            }
            const before = position.plain.probability(row.id);
            const share = distribution.probability(row.id);
            const ofA = a ? a.probability(row.id) : null;
            raw += before;
            now += share;
            keptByA += ofA || 0;
            summed += uncut(row.id);
            points.push(`${100 * Math.min(1, summed)},${rank + 0.5}`);
            const cut = distribution.cutBy[row.id];
            let fate = cut ? `cut by ${LABELS[stages[cut - 1].name]}` : "";
            if (greedy !== null && !cut) fate = row.id === greedy ? "taken" : "not taken";
            const chosen = row.id === (this.taken ?? drawn);
            if (chosen) fate = this.taken === undefined ? "← drawn" : "← written";
            if (chosen && cut) fate = `← but cut by ${LABELS[stages[cut - 1].name]}`;
            row.button.classList.toggle("dl-cut", Boolean(cut));
            row.button.classList.toggle("dl-chosen", chosen);
            this.drawBar(row, this.text(row.id), before, share, ofA, fate);
        });
        const listed = this.rows.filter((row) => row.id != null && !distribution.cutBy[row.id]).length;
        const total = position.logits.length;
        const others = total - this.rows.filter((row) => row.id != null).length;
        const left = distribution.alive.length - listed;
        const rest = a ? Math.max(0, 1 - keptByA) : null;
        const word = left === others ? "all kept" : `${grouped(left)} kept`;
        this.drawBar(
            this.others,
            `${grouped(others)} others`,
            Math.max(0, 1 - raw),
            left ? Math.max(0, 1 - now) : 0,
            rest,
            word,
        );
        points.push(`100,${ROWS + 1.5}`);
        this.sum.setAttribute("points", points.join(" "));
        const { top_p } = settings;
        this.nucleus.setAttribute("x1", 100 * top_p);
        this.nucleus.setAttribute("x2", 100 * top_p);
        this.nucleus.setAttribute("visibility", top_p < 1 ? "visible" : "hidden");
        this.legendA.classList.toggle("dl-off", !a);
    }

    drawBar(row, text, before, share, ofA, fate) {
        write(row.text, text);
        const { raw, now: bar, a } = row.bars;
        style(raw, "clipPath", `inset(0 ${100 - 100 * before}% 0 0)`); // scaled, its stripes would be squeezed
        style(bar, "transform", `scaleX(${share.toFixed(4)})`);
        style(a, "transform", `translateX(${(100 * (ofA ?? 0)).toFixed(2)}%)`);
        style(a, "visibility", ofA === null ? "hidden" : "visible");
        const [old, now] = text ? [`${percent(before)} → `, percent(share)] : ["", ""];
        if (!row.old) row.share.append((row.old = h("span", { class: "dl-old" })), (row.new = h("span")));
        write(row.old, old);
        write(row.new, now);
        write(row.fate, fate);
    }

    drawStack(settings) {
        const { distribution } = this.now;
        const ids = this.rows.map((row) => row.id).filter((id) => id != null);
        const places = laidOut(distribution, ids);
        const { drawn } = this.now;
        this.segments.forEach((segment, index) => {
            const id = ids[index];
            const place = places.get(id);
            style(segment, "visibility", place ? "visible" : "hidden");
            if (!place) return;
            style(segment, "left", `${(100 * place.start).toFixed(3)}%`);
            style(segment, "width", `${(100 * place.share).toFixed(3)}%`);
            segment.classList.toggle("dl-drawn", id === drawn);
            write(segment, place.share > 0.07 ? this.text(id) : "");
        });
        style(this.needle, "visibility", drawn === null ? "hidden" : "visible");
        if (!distribution.alive.length) {
            write(this.needleText, `${NO_TOKEN}.`);
            return;
        }
        if (drawn === null) {
            write(this.needleText, "Greedy draws nothing: it takes the likeliest token.");
            return;
        }
        const random = this.draws[this.at];
        style(this.needle, "left", `${100 * random}%`);
        const number = random.toFixed(4);
        write(this.needleText, `seed ${settings.seed}, token ${this.at + 1}: ${number} lands on ${this.text(drawn)}`);
    }

    /* What each filter does, in order, beside its dial. */
    drawEffects() {
        const { stages } = this.now;
        for (const [name, dial] of Object.entries(this.dials)) {
            const index = stages.findIndex((stage) => stage.name === name);
            if (index < 0) {
                write(dial.effect, dial.range.disabled ? this.whyOff(name) : "off");
                continue;
            }
            const stage = stages[index];
            const cuts = CUTS.includes(name);
            const done = cuts ? `cuts ${percent(stage.removed)}, ${grouped(stage.left)} left` : this.shaped(stage);
            write(dial.effect, `${index + 1}. ${done}`);
        }
    }

    whyOff(name) {
        if (name !== "grammar") return "greedy does not use it";
        return this.info?.noGrammar ? `off: ${this.info.noGrammar}` : "off: there is none here";
    }

    shaped(stage) {
        if (stage.name !== "temperature") return `likeliest now ${percent(stage.likeliest)}`;
        return `${stage.value < 1 ? SHAPE.low : SHAPE.high}, cuts nothing; likeliest ${percent(stage.likeliest)}`;
    }

    drawDial(name, value) {
        const { range, shown } = this.dials[name];
        if (name === "grammar") {
            range.value = this.info?.grammars?.includes(value) ? value : FILTERS.grammar;
            return;
        }
        range.value = value;
        const off = value === FILTERS[name];
        write(shown, String(value));
        range.setAttribute("aria-valuetext", off ? `${value}, off` : String(value));
    }

    syncDials() {
        const greedy = this.settings.strategy === "greedy";
        for (const [name, dial] of Object.entries(this.dials)) {
            const missing = name === "grammar" && !this.info?.grammars?.length;
            const idle = missing || (greedy && !IN_GREEDY.includes(name));
            dial.range.disabled = idle;
            dial.bet.disabled = idle;
            this.drawDial(name, this.settings[name]);
        }
        if (this.bet && this.dials[this.bet.name].range.disabled) this.bet = null;
        this.drawBet();
    }

    drawBet() {
        const waiting = Boolean(this.bet);
        this.betBox.classList.toggle("dl-waiting", waiting);
        this.betRange.disabled = !waiting;
        this.betButton.disabled = !waiting;
        write(this.betShown, waiting ? `${this.betRange.value} %` : "");
        if (!waiting)
            return write(
                this.betQuestion,
                this.bets.size ? "Move a dial that you bet on." : "Bets: press “bet” at a dial.",
            );
        const { name, value } = this.bet;
        const asked = CUTS.includes(name)
            ? `How much of the probability will ${LABELS[name]} ${value} cut?`
            : `How likely will the likeliest token be at ${LABELS[name]} ${value}?`;
        write(this.betQuestion, asked);
    }

    drawStale() {
        for (const [name, reply] of Object.entries(this.replies)) this.drawReply(name, this.replyViews[name], reply);
    }

    drawCode() {
        const settings = this.settingsOf("B");
        write(this.code, `${labkitCode(settings)}\n\n# the same by transformers\n${transformersCode(settings)}`);
    }

    /* One sentence for the status line, said when the dials rest. */
    announce() {
        clearTimeout(this.announcing);
        if (this.writing) return;
        this.announcing = setTimeout(() => {
            if (!this.bet && !this.spoken) write(this.status, this.sentence());
            this.spoken = false;
        }, 250);
    }

    sentence() {
        const { distribution, stages } = this.now;
        const best = likeliest(distribution);
        if (best === null) return this.noToken();
        const last = stages.at(-1);
        const cut =
            last && CUTS.includes(last.name)
                ? `${LABELS[last.name]} ${last.value} cuts ${percent(last.removed)}; `
                : "";
        const all = grouped(distribution.scores.length);
        const left = `${grouped(distribution.alive.length)} of ${all} tokens left`;
        const likely = `likeliest ${this.text(best)} ${percent(distribution.probability(best))}`;
        return `${cut}${left}, ${likely}, entropy ${distribution.entropy().toFixed(2)} bits`;
    }

    /* Why nothing can be chosen at the position that is shown. */
    noToken() {
        const isGrammar = this.now?.stages.at(-1)?.name === "grammar";
        const why = isGrammar
            ? "no state of this grammar begins with what is written"
            : "the only tokens that the grammar allows would end the line too soon";
        return `${NO_TOKEN}: ${why}.`;
    }

    // --- the tree of replies -------------------------------------------------------------------------------------------

    drawTree() {
        const leaves = [...this.leaves.values()].sort((one, other) => (one.ids.join() < other.ids.join() ? -1 : 1));
        if (!leaves.length) {
            this.tree.replaceChildren(
                h("p", {}, "Write a reply, then press another token in it: the reply forks here."),
            );
            return;
        }
        this.tree.replaceChildren(h("ul", {}, ...this.branches(leaves, 0)));
    }

    /* List items for replies that are equal up to `from`. */
    branches(leaves, from) {
        const groups = new Map();
        for (const leaf of leaves) {
            const next = leaf.ids[from];
            if (!groups.has(next)) groups.set(next, []);
            groups.get(next).push(leaf);
        }
        return [...groups.values()].map((group) => this.branch(group, from));
    }

    branch(group, from) {
        if (group.length === 1) return this.leafItem(group[0], from);
        let shared = from;
        const [first] = group;
        while (group.every((leaf) => leaf.ids.length > shared && leaf.ids[shared] === first.ids[shared])) shared++;
        const ended = group.filter((leaf) => leaf.ids.length === shared); // stopped where others went on
        const going = group.filter((leaf) => leaf.ids.length > shared);
        const words = first.ids
            .slice(from, shared)
            .map((id) => this.text(id))
            .join(" ");
        const items = [...ended.map((leaf) => this.leafItem(leaf, shared)), ...this.branches(going, shared)];
        return h("li", {}, h("span", { class: "dl-shared" }, words), h("ul", {}, ...items));
    }

    leafItem(leaf, from) {
        const words =
            leaf.ids
                .slice(from)
                .map((id) => this.text(id))
                .join(" ") || "(ends here)";
        const current = leaf.ids.join() === this.replies.B.ids.join();
        const facts = [`probability ${rarity(leaf.logProbability)}`, leaf.by];
        if (!leaf.end) facts.push("not finished");
        const item = h(
            "li",
            {},
            h(
                "button",
                {
                    type: "button",
                    class: "dl-leaf",
                    "aria-pressed": String(current),
                    onclick: () => this.chooseLeaf(leaf),
                },
                words,
            ),
        );
        item.append(h("span", { class: "dl-facts" }, ` ${facts.join(" · ")}`), ...this.verdict(leaf.score));
        return item;
    }

    /* Inform and Success of the dialogue with this reply in it, beside what the corpus's own reply gets. */
    verdict(score) {
        if (!score || score.error) return score ? [h("span", { class: "dl-facts" }, ` ⚠ ${score.error}`)] : [];
        const badge = (name, passed, gold) => {
            const change =
                passed === gold ? "" : passed ? " (the corpus's reply fails)" : " (the corpus's reply passes)";
            return h("span", { class: passed ? "dl-pass" : "dl-fail" }, `${passed ? "✓" : "✗"} ${name}${change}`);
        };
        if (score.state) {
            const { valid, right } = score.state;
            if (valid === undefined) return [];
            return [badge("a valid state", valid, valid), badge("the annotated state", right, right)];
        }
        const text =
            score.lexical && score.lexical !== score.text
                ? [h("span", { class: "dl-facts" }, ` read as: ${score.lexical}`)]
                : [];
        if (score.inform === undefined) return text;
        const told = [
            badge("Inform", score.inform, score.gold.inform),
            badge("Success", score.success, score.gold.success),
        ];
        return [...told, ...text];
    }

    chooseLeaf(leaf) {
        if (this.writing) return;
        this.replies.B = { ids: leaf.ids, chances: leaf.chances, end: leaf.end, by: leaf.by };
        this.focus = "B";
        this.cursor = this.lastCursor();
        this.drawTree();
        this.show();
    }

    close() {
        this.visitNumber = -1;
        this.writing = false;
        this.asking.close();
        this.closeTheme();
        clearTimeout(this.announcing);
    }
}

// --- where it is shown -----------------------------------------------------------------------------------------------

/* anywidget calls this; what it returns is called when the view goes. */
function render({ model, el }) {
    const root = document.createElement("div");
    el.append(root);
    const lab = new Lab(model, root);
    const { id } = lab.start;
    if (!lab.start.recorded) {
        root.dataset.live = id;
        for (const twin of document.querySelectorAll(`[data-twin-of="${id}"]`)) twin.hidden = true;
    }
    lab.visit(lab.place);
    root.decodingLab = lab; // for tests
    return () => lab.close();
}

/* On a plain page: `answer` answers the questions, as a kernel would. */
export function mount(element, start, answer) {
    element.replaceChildren();
    return render({ model: plainModel(start, answer), el: element });
}

/* The stand-in for a widget whose kernel is gone: it waits whether the widget comes up, and else shows the answers that
   were recorded, in place of the front end's error. */
export async function standIn(element, start, answers, wait = 2500) {
    const isLive = () => document.querySelector(`[data-live="${start.id}"]`);
    for (let waited = 0; waited < wait && !isLive(); waited += 100) await pause(100);
    if (isLive()) return;
    const failed = /Error displaying widget|Failed to load model|Loading widget|model not found/;
    const outputs =
        element.closest(".jp-OutputArea, .output")?.querySelectorAll(".jp-OutputArea-child, .output_area") || [];
    for (const output of outputs) {
        if (!output.contains(element) && failed.test(output.textContent)) output.style.display = "none";
    }
    element.hidden = false;
    mount(element, start, recordedAnswers(answers));
}

export default { render };
