"""The decoding lab on a plain page with a made-up model: its front end needs no kernel and no notebook."""

import base64
import json

from labkit.notebook.decoding_lab.files import MODULE, STYLE

# A model of V random logits, the same for the same reply on every page (what fails fails again); every token is
# "tN", and token 0 ends a reply.
MADE_UP = """
// A grammar of lines of four tokens: an even one, then 7 times as many, 21 and the end; "said" has two of the first.
function allowedAfter([first, second, third, ...more]) {
  const none = { schema: [], said: [] };
  if (more.length || first % 2 || first < 2 || first > 40) return none;
  if (first === undefined) return { schema: Array.from({ length: 20 }, (_, at) => 2 * at + 2), said: [4, 10] };
  if (second === undefined) return { schema: [7 * first], said: [7 * first] };
  if (second !== 7 * first) return none;
  if (third === undefined) return { schema: [21], said: [21] };
  return third === 21 ? { schema: [0], said: [0] } : none;
}

// mulberry32, a generator of 32 bits in the public domain: uniform numbers in [0, 1).
function uniform(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

// Normally distributed numbers, by Box and Muller (1958).
function normal(seed) {
  const draw = uniform(seed);
  return () => Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw());
}

function madeUp(size, asked, delay) {
  const known = new Map();
  return async (question) => {
    asked.push(question);
    if (delay) await new Promise((resolve) => setTimeout(resolve, delay));
    const { ask, reply, n } = question;
    if (ask === "place") {
      const bot = "the [hotel_name] is <b>nice</b> .";
      const said = [["user", "is there a [hotel] ?"], ["bot", bot], ["user", "book it"]];
      const place = { name: "made up", turn: Math.min(question.turn, 2), turns: 3, prompt: [5, 6, 7], said };
      if (question.format) return { content: { ...place, grammars: ["schema", "said"] } };
      return { content: { ...place, grammars: [], noGrammar: "a reply has none" } };
    }
    if (ask === "draws") {
      const draws = Float64Array.from({ length: n }, (_, at) => ((question.seed + at) * 0.37) % 1);
      return { content: {}, buffers: [draws.buffer] };
    }
    if (ask === "logits") {
      const key = reply.join();
      if (!known.has(key)) {
        const bell = normal(reply.reduce((seed, id) => Math.imul(31, seed) + id, 1));
        known.set(key, Float32Array.from({ length: size }, () => 2 * bell()));
      }
      if (reply.length >= 6) known.get(key)[0] = 30;
      const content = question.format ? { allowed: allowedAfter(reply) } : {};
      return { content, buffers: [known.get(key).buffer] };
    }
    if (ask === "score") {
      const gold = { inform: true, success: true };
      return { content: { text: "as written", lexical: "as read", inform: true, success: reply.length % 2 > 0, gold } };
    }
    if (ask === "vocabulary") {
      return { content: { texts: Array.from({ length: size }, (_, id) => id ? ` t${id}` : "\\n") } };
    }
    return { content: {} };
  };
}
"""
START = {
    "id": "test",
    "recorded": False,
    "dialogues": 3,
    "shots": 2,
    "place": {"dialogue": 0, "turn": 1, "instruction": "", "shots": 0},
    "config": {
        "strategy": "sample",
        "max_new_tokens": 40,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "typical_p": 1.0,
        "repetition_penalty": 1.0,
        "min_new_tokens": 0,
        "seed": 42,
    },
    "stop": [0],
    "formats": ["turns", "state"],
}


def module_address() -> str:
    """The front end as a data: URL, which a page of any origin can import."""
    return f"data:text/javascript;base64,{base64.b64encode(MODULE.read_bytes()).decode()}"


def page(size: int = 2_048, delay: int = 0) -> str:
    """HTML of a page with the lab: `window.lab` is the lab, `window.asked` the questions so far."""
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>the decoding lab</title>
<meta name="viewport" content="width=device-width"><style>{STYLE.read_text(encoding="utf-8")}</style>
<style>:root {{ color-scheme: light dark }} body {{ margin: 8px; background: #fff }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111 }} }}</style></head>
<body><main><h1>A page</h1><div id="here"></div></main><script>{MADE_UP}
window.asked = [];
import("{module_address()}").then((lab) => {{
  window.module = lab;
  lab.mount(document.getElementById("here"), {json.dumps(START)}, madeUp({size}, window.asked, {delay}));
  window.lab = document.querySelector(".dl").decodingLab;
}});</script></body></html>"""
