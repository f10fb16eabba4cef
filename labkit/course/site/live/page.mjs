/* The decoding lab with a model in the page. `LiveAnswers` answers the questions of lab.mjs, as a kernel would;
   `openPage` loads a model and lets a person speak as the user.

   The other modules are handed over, not imported: a page that was opened by a double click (file://) cannot import
   files, so each module is a data: address. */

const TURNS_SHOWN = 8; // of the dialogue, before the reply
const NO_GRAMMAR = "not in this page: it needs the corpus (see notebook 1)";
const OWN = 0; // number of the dialogue that a person writes

export class LiveAnswers {
    /* parts: {tokenizer, model, promptOf, draws}
       dialogues, examples: [{name, exchanges: [[what the user said, the reply], …]}]
       room: the most tokens of a prompt */
    constructor(parts, { dialogues, examples, room }) {
        Object.assign(this, parts);
        this.dialogues = dialogues;
        this.examples = examples;
        this.room = room;
    }

    async answer(question) {
        const known = {
            place: () => this.place(question),
            logits: () => this.logits(question),
            draws: () => this.drawn(question),
            score: () => ({ content: { text: this.reply(question.reply) } }), // Inform and Success need the corpus
            vocabulary: () => ({ content: { texts: this.vocabulary() } }),
        };
        try {
            return await known[question.ask]();
        } catch (error) {
            return { content: { error: error.message } };
        }
    }

    prompt({ dialogue, turn, instruction, shots }) {
        const examples = this.examples.slice(0, shots).map((one) => one.exchanges);
        const before = { instruction, shots: examples };
        return this.promptOf(this.tokenizer, this.dialogues[dialogue].exchanges, turn, before, this.room);
    }

    place(question) {
        const { name, exchanges } = this.dialogues[question.dialogue];
        const turn = Math.max(0, Math.min(question.turn, exchanges.length - 1));
        const said = [];
        for (const [user, bot] of exchanges.slice(0, turn)) said.push(["user", user], ["bot", bot]);
        said.push(["user", exchanges[turn][0]]);
        const prompt = this.prompt({ ...question, turn });
        const shown = { name, turn, turns: exchanges.length, said: said.slice(-TURNS_SHOWN) };
        return { content: { ...shown, prompt, grammars: [], noGrammar: NO_GRAMMAR } };
    }

    async logits(question) {
        const ids = [...this.prompt(question), ...question.reply];
        const logits = await this.model.nextLogits(ids, () => new Promise((resolve) => setTimeout(resolve)));
        return { content: {}, buffers: [logits.buffer] };
    }

    /* The same numbers as labkit.generate's. */
    drawn(question) {
        const prompt = this.prompt(question).join(", ");
        const numbers = this.draws(`${question.seed}/[${prompt}]/0`, question.n);
        return { content: {}, buffers: [numbers.buffer] };
    }

    reply(ids) {
        return this.tokenizer.decode(ids).split("\n")[0].replaceAll("<|endoftext|>", "").trim();
    }

    /* The text of every token. */
    vocabulary() {
        return Array.from(this.tokenizer.tokens, (_, id) => this.tokenizer.decode([id]));
    }
}

/* The ids that end a reply: the end token, and every token whose text holds a newline. */
export function stopIds(texts, config) {
    return Array.from(texts.keys()).filter((id) => id === config.eos_token_id || texts[id].includes("\n"));
}

// --- the page --------------------------------------------------------------------------------------------------------

/* A model file beside the page: a script, since a page that was opened as a file may not fetch. */
function loaded(file) {
    return new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = file;
        script.onload = resolve;
        script.onerror = () => reject(new Error(`${file} is not beside this page`));
        document.head.append(script);
    });
}

class Page {
    /* modules: {lab, kernel, gpt_neox, packed, tokenizer, prompts, draws}; data: what live.py has written */
    constructor(modules, data) {
        this.modules = modules;
        this.data = data;
        this.tokenizer = new modules.tokenizer.Tokenizer(data.tokenizer);
        this.status = document.getElementById("live-status");
        this.models = document.getElementById("live-model");
        this.line = document.getElementById("live-line");
        this.models.addEventListener("change", () => this.use(this.models.value));
        document.getElementById("live-say").addEventListener("submit", (event) => {
            event.preventDefault();
            this.speak(this.line.value);
        });
    }

    say(text) {
        this.status.textContent = text;
    }

    get lab() {
        return document.querySelector("#live-lab .dl")?.decodingLab;
    }

    /* Load a model and go on with it where the page was. */
    async use(name) {
        const { file, megabytes } = this.data.models.find((one) => one.name === name);
        this.say(`Loading ${name}, ${megabytes} MB …`);
        const started = performance.now();
        try {
            if (!globalThis.decodingLabModels?.[name]) await loaded(file);
            const { gpt_neox, kernel, lab, packed, prompts, draws } = this.modules;
            const { config, weights } = globalThis.decodingLabModels[name];
            const tensors = gpt_neox.readSafetensors(await packed.unpacked(weights));
            this.model = new gpt_neox.GPTNeoX(config, tensors, kernel.makeKernel);
            const parts = { tokenizer: this.tokenizer, model: this.model, promptOf: prompts.promptOf, draws: draws.draws };
            this.answers = new LiveAnswers(parts, this.data);
            const { place, settings } = this.lab ?? { place: this.data.start.place, settings: this.data.start.config };
            this.close?.();
            const texts = this.answers.vocabulary();
            const start = { ...this.data.start, place, config: settings, texts, stop: stopIds(texts, config) };
            const element = document.getElementById("live-lab");
            this.close = lab.mount(element, start, (question) => this.answers.answer(question));
        } catch (error) {
            this.say(`⚠ ${error.message}`);
            return;
        }
        const seconds = ((performance.now() - started) / 1000).toFixed(1);
        this.say(`${name} runs in this page (${this.model.kernel.name}); loaded in ${seconds} s.`);
    }

    /* What the person says stands in place of the user's line that has no answer yet, or follows the bot's reply. */
    async speak(text) {
        const { lab } = this;
        const line = this.modules.prompts.oneLine(text);
        if (!lab) return;
        if (!line) return this.say("Write a line first.");
        if (lab.writing) await lab.write(); // Stop
        const { place } = lab;
        const { exchanges } = this.data.dialogues[place.dialogue];
        const before = exchanges.slice(0, place.turn);
        const reply = lab.said(lab.replies.B.ids);
        if (reply) before.push([exchanges[place.turn][0], reply]);
        this.data.dialogues[OWN].exchanges = [...before, [line, ""]];
        this.line.value = "";
        this.say(`The bot answers “${line}”.`);
        await lab.visit({ ...place, dialogue: OWN, turn: before.length });
        await lab.write();
    }
}

/* Called by the page once all modules are there. */
export async function openPage(modules, data) {
    const page = new Page(modules, data);
    globalThis.decodingLabPage = page; // for tests
    await page.use(data.models[0].name);
}
