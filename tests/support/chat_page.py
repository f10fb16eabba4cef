"""The chat on a plain page with a made-up bot: its front end needs no kernel and no notebook."""

import base64
import json

from labkit.notebook.chat_box import files

# A bot that writes one word for a question; "fail" makes it fall over, and nothing can be said to an empty turn.
MADE_UP = """
function madeUp(asked, delay) {
  const words = "there is <b>[hotel_name]</b> in the north of town , shall i book it ?".split(" ");
  const exchanges = [];
  let written = 0;
  const refused = (error) => ({ content: { error, exchanges: structuredClone(exchanges) } });
  return async ({ ask, text }) => {
    asked.push(ask);
    if (delay) await new Promise((resolve) => setTimeout(resolve, delay));
    if (ask === "say") {
      if (!text.trim()) return refused("there is nothing to answer");
      if (exchanges.length && !exchanges.at(-1).finished && !exchanges.at(-1).reply) exchanges.pop();
      written = 0;
      exchanges.push({ user: text.trim(), facts: [], reply: "", text: "", finished: false });
      return { content: { at: exchanges.length - 1 } };
    }
    if (ask === "more") {
      const one = exchanges.at(-1);
      if (one.user === "fail" && written > 2) {
        exchanges.pop();
        return refused("the bot fell over");
      }
      written++;
      one.facts = ["belief state: hotel area=north", "hotel: 3 in the database (gonville hotel, …)"];
      one.reply = words.slice(0, written).join(" ");
      one.text = one.reply.replace("[hotel_name]", "gonville hotel");
      one.finished = written >= words.length;
      return { content: { at: exchanges.length - 1, exchange: structuredClone(one) } };
    }
    if (ask === "restart") exchanges.length = 0;
    return { content: { exchanges: structuredClone(exchanges) } };
  };
}
"""


def page(delay: int = 0) -> str:
    """HTML of a page with the chat: `window.chat` is the chat, `window.asked` the questions so far."""
    module = base64.b64encode(files.module().encode()).decode()
    start = json.dumps({"id": "test", "exchanges": []})
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>the chat</title>
<meta name="viewport" content="width=device-width"><style>{files.style()}</style>
<style>:root {{ color-scheme: light dark }} body {{ margin: 8px; background: #fff }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111 }} }}</style></head>
<body><main><h1>A page</h1><div id="here"></div></main><script>{MADE_UP}
window.asked = [];
import("data:text/javascript;base64,{module}").then((module) => {{
  module.mountChat(document.getElementById("here"), {start}, madeUp(window.asked, {delay}));
  window.chat = document.querySelector(".ch").chat;
}});</script></body></html>"""
