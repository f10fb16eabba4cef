/* Undoes what packed.py did to put bytes into the text of a script. */

const MARK = 0x21; // an exclamation mark: before a value that is no letter
const TURNED = 0x4000; // the bit of it that was turned

/* `length` bytes that stand in a text, two in each letter. */
function bytesOf(letters, length) {
    const bytes = new Uint8Array(length);
    let at = 0;
    for (let i = 0; i < letters.length; i++) {
        let value = letters.charCodeAt(i);
        if (value === MARK) value = letters.charCodeAt(++i) ^ TURNED;
        bytes[at++] = value & 0xff;
        bytes[at++] = value >> 8; // beyond the end where the length is odd: it is dropped
    }
    return bytes;
}

/* What zlib compressed: first the lower bytes of all numbers, then the upper ones. */
async function unsqueezed(compressed) {
    const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const byKind = new Uint8Array(await new Response(stream).arrayBuffer());
    const upper = Math.ceil(byKind.length / 2);
    const bytes = new Uint8Array(byKind.length);
    for (let i = 0; i < upper; i++) {
        bytes[2 * i] = byKind[i];
        bytes[2 * i + 1] = byKind[upper + i]; // of an odd length: beyond the end
    }
    return bytes;
}

/* The bytes that `packed` was given. */
export async function unpacked({ length, letters }) {
    return unsqueezed(bytesOf(letters, length));
}
