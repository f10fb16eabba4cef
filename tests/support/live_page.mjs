/* Runs the live page's modules in Node: `node live_page.mjs FOLDER cases.json out.json`.

   cases: [{what: "encode", texts}, …], one kind a function below; out: [result, …] in the same order. */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, casesPath, outPath] = process.argv.slice(2);
const names = ["kernel", "gpt_neox", "packed", "tokenizer", "prompts", "draws", "page"];
const imported = await Promise.all(names.map((name) => import(pathToFileURL(join(folder, `${name}.mjs`)))));
const modules = Object.fromEntries(names.map((name, index) => [name, imported[index]]));
const read = (path) => JSON.parse(readFileSync(path));
const tokenizers = new Map();
const models = new Map();

function tokenizerOf(path) {
    if (!tokenizers.has(path)) tokenizers.set(path, new modules.tokenizer.Tokenizer(read(join(path, "tokenizer.json"))));
    return tokenizers.get(path);
}

function modelOf(path, plain) {
    const key = `${path} ${plain}`;
    if (!models.has(key)) {
        const tensors = modules.gpt_neox.readSafetensors(new Uint8Array(readFileSync(join(path, "model.safetensors"))));
        const makeKernel = plain ? () => new modules.kernel.PlainKernel() : modules.kernel.makeKernel;
        models.set(key, new modules.gpt_neox.GPTNeoX(read(join(path, "config.json")), tensors, makeKernel));
    }
    return models.get(key);
}

function argmax(logits) {
    let best = 0;
    for (let id = 1; id < logits.length; id++) if (logits[id] > logits[best]) best = id;
    return best;
}

const RUN = {
    encode: ({ model, texts }) => texts.map((text) => tokenizerOf(model).encode(text)),
    decode: ({ model, ids }) => ids.map((one) => tokenizerOf(model).decode(one)),
    prompt: ({ model, exchanges, turn, before, room }) =>
        modules.prompts.promptOf(tokenizerOf(model), exchanges, turn, before, room),
    stop({ model }) {
        const answers = new modules.page.LiveAnswers({ tokenizer: tokenizerOf(model) }, {});
        return modules.page.stopIds(answers.vocabulary(), read(join(model, "config.json")));
    },
    draws: ({ text, n }) => [...modules.draws.draws(text, n)],
    erf: ({ values }) => values.map(modules.gpt_neox.erf),
    kernel: ({ model, plain }) => modelOf(model, plain).kernel.name,
    async logits({ model, ids, plain = false }) {
        return [...(await modelOf(model, plain).nextLogits(ids))];
    },
    async greedy({ model, ids, n }) {
        const reply = [];
        while (reply.length < n) reply.push(argmax(await modelOf(model, false).nextLogits([...ids, ...reply])));
        return reply;
    },
    async refused({ model, ids }) {
        try {
            return `not refused: ${await modelOf(model, false).nextLogits(ids)}`;
        } catch (error) {
            return error.message;
        }
    },
};

// --- what a script of weights holds ----------------------------------------------------------------------------------

RUN.unpacked = async ({ script }) => {
    const text = new TextDecoder("utf-16le").decode(readFileSync(script)); // without what its first letter says
    new Function(text)();
    const bytes = await modules.packed.unpacked(globalThis.decodingLabModels.one);
    return Buffer.from(bytes).toString("base64");
};

const results = [];
for (const { what, ...given } of read(casesPath)) results.push(await RUN[what](given));
writeFileSync(outPath, JSON.stringify(results));
writeFileSync(`${outPath}.done`, ""); // node.py says why
