// The page of the tour. What is played, and whether it was right, comes from Rust (examples/tour); this shows it.

import init, { play, play_virtual, scenarios, tolerance } from "./pkg/tour.js";

const $ = (selector, within = document) => within.querySelector(selector);
const make = (tag, name, text = "") => Object.assign(document.createElement(tag), { className: name, textContent: text });
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const narrow = matchMedia("(max-width: 40rem)");
const cards = [];

/** Room at the right end of a track, so that the mark of an end at the last second fits. */
const ROOM = 1.04;

const seconds = (value) => value.toFixed(2);
const percent = (part) => `${(part * 100).toFixed(3)}%`;
const clock = () => $("#clock input:checked").value;

/** One scenario: its card, and what has happened so far. */
class Card {
    constructor({ name, title, shows, rows, length }) {
        const each = { real: [], virtual: [] };
        Object.assign(this, { name, title, expectedOn: each, expected: [], notes: {}, result: undefined, playing: false });
        // A scenario without any time in it needs a scale nevertheless.
        this.length = Math.max(length, 1);
        const article = (this.article = $("#card").content.cloneNode(true).firstElementChild);
        article.id = name;
        article.setAttribute("aria-labelledby", `${name}-title`);
        $("h2", article).textContent = title;
        $("h2", article).id = `${name}-title`;
        $(".rows", article).textContent = rows;
        $(".shows", article).textContent = shows;
        $("caption", article).textContent = `Events of: ${title}`;
        $(".of", article).textContent = `: ${title}`;
        this.button = $(".play", article);
        this.button.addEventListener("click", () => this.play());
        this.note = $(".note", article);
        this.lanes = $(".lanes", article);
        this.body = $("tbody", article);
        const axis = $(".axis > div", article);
        // At most a dozen fit on a phone.
        const every = Math.ceil(this.length / 12);
        for (let second = 0; second <= this.length; second += every) {
            const tick = make("span", "", `${second} s`);
            tick.style.left = percent(second / (this.length * ROOM));
            axis.append(tick);
        }
        $("#scenarios").append(article);
    }

    /** Shows what is expected, and what the simulator makes of it as a preview. */
    prepare() {
        this.result = undefined;
        this.clear();
        this.show("idle", "Play");
        play_virtual(this.name, { task: (...step) => this.step(...step), event: () => {}, end: (at) => (this.now = at) });
        this.draw();
        this.lanes.style.minHeight = `${this.lanes.offsetHeight}px`;
        this.explain();
    }

    explain() {
        const note = this.notes[clock()];
        this.note.hidden = !note;
        this.note.replaceChildren(make("b", "", "In this page. "), note ?? "");
    }

    clear() {
        // A host that lacks something has to say so, and the simulator lacks nothing.
        this.expected = this.expectedOn[clock()];
        this.tasks = new Map();
        this.events = 0;
        this.wrong = 0;
        this.now = 0;
        this.lanes.replaceChildren();
        this.body.replaceChildren(...this.expected.map(({ at, who, text }) => this.row(at, who, text)));
        $(".verdict", this.article).replaceChildren();
    }

    row(at, who, text) {
        // Named by role as well: the layout of a phone makes them no table cells.
        const row = make("tr", "open");
        const cell = (name, text, label = "") => {
            const cell = make("td", name, text);
            if (label) cell.dataset.label = label;
            cell.setAttribute("role", "cell");
            row.append(cell);
            return cell;
        };
        row.setAttribute("role", "row");
        cell("").append(make("span", "icon open"), make("span", "unseen", "not yet"));
        cell("number", at === undefined ? "none" : seconds(at), "expected");
        cell("number", "–", "actual");
        cell("who", who);
        cell("what", text);
        return row;
    }

    /** Plays; resolves when it has ended. */
    play() {
        if (this.playing) return Promise.resolve();
        this.playing = true;
        this.result = undefined;
        this.clear();
        // What is refused here has fewer lanes than the preview that the room was kept for.
        if (this.expected.length < this.expectedOn.virtual.length) this.lanes.style.minHeight = "";
        this.show("playing", "Playing");
        summarise();
        return new Promise((done) => {
            const end = (at, passed) => {
                clearTimeout(watchdog);
                if (!this.playing) return;
                this.playing = false;
                this.now = at;
                this.draw();
                this.conclude(passed);
                done();
            };
            // A task that traps takes the scenario with it, and nobody would ever say that it has ended.
            const watchdog = setTimeout(() => end(this.length, false), (this.length + 5) * 1000);
            const watcher = { task: (...step) => this.step(...step), event: (...event) => this.event(...event), end };
            if (clock() === "virtual") {
                play_virtual(this.name, watcher);
                return;
            }
            const start = performance.now();
            play(this.name, watcher);
            let drawn = 0;
            const frame = () => {
                if (!this.playing) return;
                const now = (performance.now() - start) / 1000;
                // 30 a second look smooth here, and leave the machine to the loops.
                if (now - drawn > 0.028) {
                    drawn = now;
                    this.now = Math.min(now, this.length * ROOM);
                    this.draw();
                }
                if (calm.matches) setTimeout(frame, 250);
                else requestAnimationFrame(frame);
            };
            frame();
        });
    }

    show(state, word) {
        this.article.dataset.state = state;
        $(".word", this.button).textContent = word;
        // It stays in the tab order, so that the focus is not lost.
        this.button.setAttribute("aria-disabled", String(state === "playing"));
    }

    conclude(passed) {
        this.result = passed;
        this.show(passed ? "passed" : "failed", "Again");
        for (const row of this.body.querySelectorAll("tr.open")) this.judge(row, false, "never came");
        const right = this.events - this.wrong;
        const text = passed
            ? `Passed: ${right} events in order and in time`
            : `Failed: ${right} of ${Math.max(this.expected.length, this.events)} events right`;
        $(".verdict", this.article).append(make("span", passed ? "icon ok" : "icon bad"), text);
        say(`${this.title}. ${text}.`);
        summarise();
    }

    /** The loop says that a task is in another state. */
    step(at, id, name, state, waitsFor, thread) {
        let task = this.tasks.get(id);
        if (!task) {
            const lane = make("div", "lane");
            const track = make("div", "track");
            const word = make("span", "word");
            track.append(make("i", "hand"));
            lane.append(make("span", "name", name), track, word);
            this.lanes.append(lane);
            task = { name, lane, track, word, part: undefined, since: 0 };
            this.tasks.set(id, task);
        }
        this.close(task, at);
        const ended = state === "done" || state === "cancelled" || state === "failed";
        const part = make("i", `part ${ended ? "cap " : ""}${state}`);
        part.style.left = percent(at / (this.length * ROOM));
        task.track.append(part);
        task.lane.className = `lane ${state}`;
        task.word.className = `word ${state}`;
        const words = { created: "not started", waiting: waitsFor ? `waits for ${waitsFor}` : "waiting", busy: "blocks" };
        task.thread = thread ?? task.thread;
        const place = task.thread ? ` on ${task.thread}` : "";
        task.word.textContent = (ended ? `${state}, ${seconds(at)} s` : (words[state] ?? state)) + place;
        // A poll is drawn as a tick of fixed width, an end as a mark: only the others grow.
        Object.assign(task, { state, at, since: at, part: ended || state === "running" ? undefined : part });
    }

    close(task, at) {
        if (!task.part) return;
        const width = (at - task.since) / (this.length * ROOM);
        if (width <= 0) task.part.remove();
        else task.part.style.width = percent(width);
        task.part = undefined;
    }

    event(at, who, text, inOrder, inTime) {
        const index = this.events;
        this.events += 1;
        if (!inOrder || !inTime) this.wrong += 1;
        let row = this.body.rows[index];
        if (!row) {
            row = this.row(undefined, who, text);
            this.body.append(row);
        }
        row.cells[2].textContent = seconds(at);
        const expected = this.expected[index];
        let problem = "";
        if (!expected) problem = "nothing more was expected";
        else if (!inOrder) problem = `wrong order: got ${who}: ${text}`;
        else if (!inTime) problem = `off by ${Math.round((at - expected.at) * 1000)} ms`;
        this.judge(row, !problem, problem);
        row.classList.add("fresh");
        if (clock() === "real") say(`${seconds(at)} s, ${who}: ${text}, ${problem || "as expected"}`);
    }

    judge(row, right, problem) {
        row.className = right ? "ok" : "bad";
        row.cells[0].replaceChildren(make("span", right ? "icon ok" : "icon bad"), make("span", "unseen", right ? "right" : "wrong"));
        if (problem) row.cells[4].append(make("span", "instead", problem));
    }

    draw() {
        const scale = this.length * ROOM;
        const parts = [];
        for (const task of this.tasks.values()) {
            if (task.part) task.part.style.width = percent(Math.max(0, this.now - task.since) / scale);
            $(".hand", task.track).style.left = percent(this.now / scale);
            parts.push(`${task.name}: ${task.word.textContent}`);
        }
        if (!this.playing) this.lanes.setAttribute("aria-label", `Timeline. ${parts.join("; ")}`);
    }
}

/** Tells those who cannot see the page; old lines go, so that the log does not grow for ever. */
function say(text) {
    const log = $("#log");
    log.append(make("p", "", text));
    while (log.childElementCount > 40) log.firstElementChild.remove();
}

let stopping;

function summarise() {
    const played = cards.filter((card) => card.result !== undefined).length;
    const failed = cards.filter((card) => card.result === false).length;
    const playing = cards.find((card) => card.playing);
    const summary = $("#summary");
    const icon = make("span", failed ? "icon bad" : "icon ok");
    if (played === cards.length) {
        const text = failed ? `${failed} of ${played} failed` : `All ${played} passed`;
        summary.replaceChildren(icon, make("b", "", text));
        document.title = `${text} – selkie: the tour`;
    } else if (playing) {
        summary.replaceChildren("Playing ", make("b", "", `${cards.indexOf(playing) + 1} of ${cards.length}`));
    } else if (played) {
        summary.replaceChildren(icon, make("b", "", failed ? `${failed} failed` : `${played} passed`), ` of ${cards.length}`);
    } else {
        const total = cards.reduce((sum, { expected }) => sum + Math.max(...expected.map(({ at }) => at)), 0);
        summary.replaceChildren(make("b", "", `${cards.length} scenarios`), `, ${Math.round(total)} s in all`);
    }
    $("#progress").style.width = percent(played / cards.length);
    document.documentElement.dataset.result = played < cards.length ? "open" : failed ? "failed" : "passed";
}

async function playAll() {
    const word = $("#all span");
    if (stopping !== undefined) {
        stopping = true;
        word.textContent = "Stopping";
        return;
    }
    stopping = false;
    word.textContent = "Stop";
    $("#all").classList.add("on");
    for (const card of cards) if (!card.playing) card.prepare();
    for (const card of cards) {
        if (stopping) break;
        if (clock() === "real") {
            // On a phone the text alone fills the screen.
            const shown = narrow.matches ? $(".timeline", card.article) : card.article;
            shown.scrollIntoView({ block: "start", behavior: calm.matches ? "auto" : "smooth" });
        }
        await card.play();
    }
    stopping = undefined;
    word.textContent = "Play all";
    $("#all").classList.remove("on");
}

/** From one scenario to the next. */
function move(event) {
    const at = cards.findIndex((card) => card.article.contains(event.target));
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: cards.length - 1 }[event.key];
    if (to === undefined || !cards[to]) return;
    event.preventDefault();
    cards[to].button.focus({ preventScroll: true });
    cards[to].article.scrollIntoView({ block: "nearest" });
}

function theme() {
    const root = document.documentElement;
    let kept;
    // Storage may be forbidden; then the choice lasts as long as the page.
    try {
        kept = localStorage.getItem("theme");
    } catch {}
    const apply = (value) => (value === "auto" ? delete root.dataset.theme : (root.dataset.theme = value));
    const input = $(`#theme input[value="${kept === "light" || kept === "dark" ? kept : "auto"}"]`);
    input.checked = true;
    apply(input.value);
    $("#theme").addEventListener("change", ({ target }) => {
        apply(target.value);
        try {
            localStorage.setItem("theme", target.value);
        } catch {}
    });
}

theme();
// Served by itself, there is nothing beside it.
$("#pages").hidden = !location.pathname.endsWith("/tour/");
try {
    await init();
    scenarios({
        scenario: (name, title, shows, rows, length) => cards.push(new Card({ name, title, shows, rows, length })),
        note: (clock, text) => (cards.at(-1).notes[clock] = text),
        expected: (clock, at, who, text) => cards.at(-1).expectedOn[clock].push({ at, who, text }),
    });
    const rule = () => {
        const real = `An event may be ${Math.round(tolerance() * 1000)} ms late or early.`;
        $("#rule").textContent = clock() === "real" ? real : "Virtual times are exact.";
    };
    for (const card of cards) card.prepare();
    rule();
    summarise();
    $("#clock").addEventListener("change", () => {
        rule();
        // What was not played shows what it will be held to.
        for (const card of cards) if (card.result === undefined && !card.playing) card.prepare();
        for (const card of cards) card.explain();
    });
    $("#all").addEventListener("click", playAll);
    $("#all").disabled = false;
    $("#scenarios").addEventListener("keydown", move);
    document.documentElement.dataset.ready = "";
} catch (error) {
    console.error(error);
    $("#problem").textContent = `The tour could not start (${error}). Build and serve it with: npx -y rust-just web`;
    $("#problem").hidden = false;
    $("#summary").textContent = "Not available";
}
