/* A dialogue as the model reads it: the same tokens as labkit.prompts gives in the format "turns". */

const SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/; // what Python splits at

/* A turn is one line of the prompt. */
export function oneLine(text) {
    return text
        .split(SPACE)
        .filter((word) => word)
        .join(" ");
}

/* One segment; its final newline is a token of its own. */
function encoded(tokenizer, text) {
    const body = text.endsWith("\n") ? text.slice(0, -1) : text;
    const ids = tokenizer.encode(body);
    return body === text ? ids : [...ids, ...tokenizer.encode("\n")];
}

const asked = (tokenizer, said) => encoded(tokenizer, `user> ${oneLine(said)}\nbot>`);
const answered = (tokenizer, reply) => encoded(tokenizer, ` ${oneLine(reply)}\n`);

/* The ids [T] that the model reads before its answer to a turn.

   exchanges: [[what the user said, the reply], …]
   before: {instruction: a line of text, shots: whole dialogues}
   room: the most tokens; the oldest exchanges go, the user's last turn stays */
export function promptOf(tokenizer, exchanges, turn, { instruction = "", shots = [] }, room) {
    const head = instruction ? encoded(tokenizer, `${oneLine(instruction)}\n`) : [];
    for (const [said, reply] of shots.flat()) head.push(...asked(tokenizer, said), ...answered(tokenizer, reply));
    const opening = asked(tokenizer, exchanges[turn][0]);
    let history = [];
    for (let earlier = turn - 1; earlier >= 0; earlier--) {
        const [said, reply] = exchanges[earlier];
        const piece = [...asked(tokenizer, said), ...answered(tokenizer, reply)];
        if (head.length + piece.length + history.length + opening.length > room) break;
        history = [...piece, ...history];
    }
    return [...head, ...history, ...opening];
}
