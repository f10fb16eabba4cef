/* The chat: what one says stands there at once, and the bot's answer grows below it.

   One module for every place: anywidget calls `render` in a notebook, a plain page calls `mountChat`. The other side (a
   kernel) only answers questions, one at a time:

     {ask: "say", text}   -> the number of the exchange that begins, or why it cannot
     {ask: "more"}        -> the exchange as far as it is written
     {ask: "all"}         -> all exchanges
     {ask: "restart"}     -> no exchanges: what was said is forgotten

   An exchange is {user, facts: [lines], reply: with placeholders, text: with names and numbers, finished}.
   Streaming is asking for more; Stop is not asking. */

import { Asking, h, keepKeys, marked, plainModel, watchTheme, write } from "../decoding_lab/lab.mjs";

class Chat {
    constructor(model, root) {
        this.root = root;
        this.start = model.get("start");
        this.exchanges = [...this.start.exchanges];
        this.rows = []; // what is drawn of each exchange
        this.writing = false;
        this.round = 0; // grows with each "say" and "start over": what an older one hears is late
        this.asking = new Asking(model, () => this.tell("No answer yet: the kernel is busy with another cell, or gone."));
        this.build();
        this.draw();
    }

    build() {
        const { root } = this;
        root.className = "dl ch";
        keepKeys(root);
        const id = `ch${Math.random().toString(36).slice(2, 9)}`;
        this.log = h("div", { class: "ch-log", role: "log", "aria-label": "the conversation", tabindex: 0 });
        this.field = h("input", { type: "text", id, placeholder: "i am looking for …", autocomplete: "off" });
        this.stopButton = h("button", { type: "button", onclick: () => this.stopOrGoOn() });
        const send = h("button", { type: "submit", class: "dl-main" }, "Send");
        const again = h("button", { type: "button", onclick: () => this.restart() }, "Start over");
        const onsubmit = (event) => {
            event.preventDefault();
            this.say();
        };
        this.status = h("p", { class: "ch-status", role: "status" });
        const label = h("label", { for: id }, "you");
        const line = h("form", { class: "dl-row", onsubmit }, label, this.field, send, this.stopButton, again);
        root.replaceChildren(h("section", { class: "dl-lab", "aria-label": "chat" }, this.log, line, this.status));
        this.closeTheme = watchTheme(root);
    }

    // --- what one does -------------------------------------------------------------------------------------------------

    async say() {
        if (this.writing) return this.tell("The bot is still writing. Stop ends that.");
        const text = this.field.value;
        const round = ++this.round;
        this.field.value = "";
        if (text.trim()) this.exchanges.push({ user: text.trim(), facts: [], reply: "", text: "", finished: false });
        this.writing = true;
        this.tell("The bot is writing …");
        this.draw();
        const answer = await this.asking.ask({ ask: "say", text });
        if (round !== this.round) return;
        if (answer.error) return this.refuse(answer, text);
        await this.takePlace(answer.at);
        await this.goOn(text);
    }

    /* The exchange that begins is number `at` of the kernel's, which has forgotten one that was stopped before its first
       word, and knows those that a cell of the notebook has said. */
    async takePlace(at) {
        const mine = this.exchanges.pop();
        if (at > this.exchanges.length) {
            const { exchanges } = await this.asking.ask({ ask: "all" });
            this.exchanges = exchanges;
        }
        this.exchanges.length = at;
        this.exchanges.push(mine);
        this.draw();
    }

    async goOn(text = "") {
        const { round } = this;
        this.writing = true;
        this.tell("The bot is writing …");
        this.drawButtons();
        while (this.writing) {
            const answer = await this.asking.ask({ ask: "more" });
            if (round !== this.round) return;
            if (answer.error) return this.refuse(answer, text);
            this.exchanges[answer.at] = answer.exchange;
            if (answer.exchange.finished) {
                this.writing = false;
                this.tell("");
            }
            this.draw();
        }
    }

    /* Why there is no answer; what was said goes back into the field, to be mended. */
    refuse(answer, text) {
        this.writing = false;
        this.exchanges = answer.exchanges;
        this.field.value ||= text.trim();
        this.tell(`⚠ ${answer.error}`);
        this.draw();
    }

    async stopOrGoOn() {
        if (!this.writing) return this.goOn();
        const { round } = this;
        this.writing = false;
        this.tell("Stopped. Go on, or say something else.");
        this.drawButtons();
        const { exchanges } = await this.asking.ask({ ask: "all" }); // so that the notebook keeps what is there
        if (round !== this.round || this.writing) return;
        if (exchanges.length >= this.exchanges.length) this.exchanges = exchanges;
        this.draw();
    }

    async restart() {
        const round = ++this.round;
        this.writing = false;
        const { exchanges } = await this.asking.ask({ ask: "restart" });
        if (round !== this.round) return;
        this.exchanges = exchanges;
        this.tell("");
        this.draw();
        this.field.focus();
    }

    // --- what one sees -------------------------------------------------------------------------------------------------

    tell(text) {
        write(this.status, text);
    }

    get last() {
        return this.exchanges.at(-1);
    }

    draw() {
        const { log, exchanges, rows } = this;
        const isBelow = log.scrollHeight - log.scrollTop - log.clientHeight < 40; // else one reads further up
        log.setAttribute("aria-busy", String(this.writing)); // a screen reader waits for the whole answer
        while (rows.length > exchanges.length) rows.pop().row.remove();
        while (rows.length < exchanges.length) rows.push(this.newRow());
        exchanges.forEach((exchange, index) => this.drawRow(rows[index], exchange));
        if (!this.nothing) this.nothing = log.appendChild(h("p", {}, "Nothing was said yet."));
        this.nothing.hidden = exchanges.length > 0;
        if (isBelow) log.scrollTop = log.scrollHeight;
        this.drawButtons();
    }

    newRow() {
        const user = h("div", { class: "dl-bubble" });
        const said = h("div");
        const written = h("div", { class: "dl-name" });
        const bot = h("div", { class: "dl-bubble dl-bot" }, said, written);
        const facts = h("div", { class: "ch-facts" });
        const row = h("div", { class: "ch-row" }, h("div", { class: "ch-said" }, user, bot), facts);
        this.log.append(row);
        return { row, user, bot, said, written, facts };
    }

    drawRow(view, exchange) {
        const stopped = !exchange.finished && !(this.writing && exchange === this.last);
        const text = `${exchange.text}${stopped ? " … (stopped)" : exchange.finished ? "" : " …"}`;
        this.fill(view.user, "user", exchange.user);
        this.fill(view.said, "bot", text);
        const shows = exchange.reply !== exchange.text;
        view.written.hidden = !shows;
        if (shows) this.fill(view.written, "written", exchange.reply);
        const told = exchange.facts.join("\n");
        if (view.told === told) return;
        view.told = told;
        view.facts.replaceChildren(...exchange.facts.map((line) => h("div", {}, line)));
    }

    /* Text in an element, only where it changed. */
    fill(element, label, text) {
        if (element.filledWith === text) return;
        element.filledWith = text;
        element.replaceChildren(h("span", { class: "dl-name" }, `${label}: `), ...marked(text));
    }

    drawButtons() {
        const canGoOn = !this.writing && this.last && !this.last.finished;
        write(this.stopButton, canGoOn ? "Go on" : "Stop");
        this.stopButton.disabled = !this.writing && !canGoOn;
    }

    close() {
        this.round = -1;
        this.writing = false;
        this.asking.close();
        this.closeTheme();
    }
}

/* anywidget calls this; what it returns is called when the view goes. */
function renderChat({ model, el }) {
    const root = document.createElement("div");
    el.append(root);
    const chat = new Chat(model, root);
    const { id } = chat.start;
    root.dataset.live = id;
    for (const twin of document.querySelectorAll(`[data-twin-of="${id}"]`)) twin.hidden = true;
    root.chat = chat; // for tests
    return () => chat.close();
}

/* On a plain page: `answer` answers the questions, as a kernel would. */
export function mountChat(element, start, answer) {
    element.replaceChildren();
    return renderChat({ model: plainModel(start, answer), el: element });
}

export default { render: renderChat };
