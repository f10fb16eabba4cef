/* Large outputs of notebooks stand in their pages compressed (outputs.py); this puts them where they belong. */

async function unpackedText(packed) {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).text();
}

/* A browser without DecompressionStream (before 2023) says so where the chart would be. */
function unpackedOr(place, packed, use) {
    const say = () => place.after("This chart needs a browser of 2023 or later.");
    Promise.resolve(packed).then(unpackedText).then(use).catch(say);
}

/* Run a script that was packed; `place` is the script that calls. */
globalThis.unpackedScript = (place, packed) => {
    unpackedOr(place, packed, (text) => {
        const script = document.createElement("script");
        script.textContent = text;
        place.after(script);
    });
};

/* Fill the frame before `place`. */
globalThis.unpackedFrame = (place, packed) => {
    const frame = place.previousElementSibling;
    unpackedOr(place, packed, (text) => (frame.srcdoc = text));
};
