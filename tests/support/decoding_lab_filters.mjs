/* Runs the decoding lab's filters in Node: `node decoding_lab_filters.mjs lab.mjs cases.json logits.f32 out.f64`.

   Writes for each case the probabilities [V] in float64, -1 where a filter cut the token, and prints one line of JSON
   for each: the names, the masses that were cut, the entropy and the tokens on which the case's random numbers land. */

import { readFileSync, openSync, writeFileSync, writeSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [modulePath, casesPath, logitsPath, outPath] = process.argv.slice(2);
const { filtered, descending, landing, likeliest, labkitCode, transformersCode, summary } = await import(
    pathToFileURL(modulePath)
);
const cases = JSON.parse(readFileSync(casesPath));
const bytes = readFileSync(logitsPath);
const out = openSync(outPath, "w");

for (const one of cases) {
    const logits = new Float32Array(bytes.buffer.slice(bytes.byteOffset + 4 * one.from, bytes.byteOffset + 4 * one.to));
    const position = { logits, order: descending(logits) };
    const { distribution, stages } = filtered(position, one.settings, one.where);
    const probabilities = Float64Array.from(logits, (_, id) =>
        distribution.cutBy[id] ? -1 : distribution.probability(id),
    );
    writeSync(out, new Uint8Array(probabilities.buffer));
    const drawn = one.draws.map((random) => landing(distribution, random));
    const code = [labkitCode(one.settings), transformersCode(one.settings), summary(one.settings)];
    console.log(
        JSON.stringify({ stages, entropy: distribution.entropy(), drawn, greedy: likeliest(distribution), code }),
    );
}
writeFileSync(`${outPath}.done`, ""); // node.py says why
