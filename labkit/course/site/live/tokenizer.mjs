/* Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019): text to token ids and back, as the `tokenizers` library
   does it with a tokenizer.json whose pre-tokenizer is ByteLevel. */

/* Words with the space before them; \s of JavaScript is not quite Unicode's white space. */
const WORDS =
    /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/* One visible character for each byte: printable ones stand for themselves, the others are moved to 256 and beyond. */
function charactersOfBytes() {
    const printable = (byte) =>
        (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
    let moved = 0;
    return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : 256 + moved++));
}

export class Tokenizer {
    /* file: the content of tokenizer.json */
    constructor(file) {
        const { vocab, merges } = file.model;
        this.ids = new Map(Object.entries(vocab));
        this.ranks = new Map(merges.map((pair, rank) => [pair.join(" "), rank]));
        this.special = new Map(file.added_tokens.map(({ content, id }) => [content, id]));
        this.characters = charactersOfBytes();
        this.bytes = new Map(this.characters.map((character, byte) => [character, byte]));
        this.tokens = [];
        for (const [token, id] of [...this.ids, ...this.special]) this.tokens[id] = token;
        const specials = [...this.special.keys()].map((token) => token.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
        this.splitter = specials.length ? new RegExp(`(${specials.join("|")})`) : /(?!)/;
        this.known = new Map(); // word -> ids
    }

    encode(text) {
        const parts = text.split(this.splitter);
        return parts.flatMap((part) => (this.special.has(part) ? [this.special.get(part)] : this.plain(part)));
    }

    plain(text) {
        return (text.match(WORDS) ?? []).flatMap((word) => this.word(word));
    }

    word(word) {
        if (!this.known.has(word)) {
            const bytes = new TextEncoder().encode(word);
            const merged = this.merged(Array.from(bytes, (byte) => this.characters[byte]));
            this.known.set(
                word,
                merged.map((piece) => this.ids.get(piece)),
            );
        }
        return this.known.get(word);
    }

    /* Pieces grow together, always the pair that training merged first. */
    merged(pieces) {
        while (pieces.length > 1) {
            let best = Infinity;
            let place = -1;
            for (let at = 0; at + 1 < pieces.length; at++) {
                const rank = this.ranks.get(`${pieces[at]} ${pieces[at + 1]}`) ?? Infinity;
                if (rank < best) {
                    best = rank;
                    place = at;
                }
            }
            if (place < 0) break;
            pieces.splice(place, 2, pieces[place] + pieces[place + 1]);
        }
        return pieces;
    }

    /* Half a character, which a token may be, is shown as �. */
    decode(ids) {
        let text = "";
        let bytes = [];
        const flush = () => {
            text += new TextDecoder("utf-8", { ignoreBOM: true }).decode(new Uint8Array(bytes));
            bytes = [];
        };
        for (const id of ids) {
            const token = this.tokens[id];
            if (this.special.has(token)) {
                flush();
                text += token;
            } else bytes.push(...Array.from(token, (character) => this.bytes.get(character)));
        }
        flush();
        return text;
    }
}
