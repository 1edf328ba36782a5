// The page: which example is shown, what runs, and what is seen of it.

import { CompileError, type Problem, compile, problemOf } from './compile';
import { $, calm, duration, make } from './dom';
import { type Editor, editor } from './editor';
import type { Event, Failure, Order } from './events';
import { EXAMPLES, type Example, type Variant } from './examples';
import { Frames, Sea } from './frames';
import { Log } from './log';
import { type Session, inWorker, onPage, prepare } from './session';
import { Tasks } from './tasks';
import { theme } from './theme';

theme($('#theme'));

/** Frames before and after what runs on the page, so that one sees what it does to them. */
const LEAD = 600;
const later = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const status = $('#status');
const runButton = $<HTMLButtonElement>('#run');
const problem = $('#problem');
const reset = $('#reset');
const sea = new Sea($<HTMLCanvasElement>('#sea'));
const tasks = new Tasks($('#lanes'), $('#axis'));
const log = new Log($('#log'), ({ file, line }) => {
    show(file);
    code.go(line, 0);
});
/** What has been changed, by example, variant and file. */
const changes = new Map<string, string>();

let example: Example = EXAMPLES[0]!;
let variant: Variant = example.variants[0]!;
let file = '';
let session: Session | undefined;
/** Of the run, so that what comes late from an earlier one is not taken for this one's. */
let number = 0;
let began = 0;
let simulated = false;
let drawn = 0;

const frames = new Frames($<HTMLCanvasElement>('#graph'), $('#numbers'), (now) => {
    sea.frame(now);
    if (!began) return;
    // 30 times a second looks smooth here.
    if (now - drawn < (calm.matches ? 240 : 28)) return;
    drawn = now;
    tasks.draw(simulated ? 0 : performance.now() - began);
    log.draw();
    if (!busy) tell('running', `Running, ${duration(performance.now() - began)}`);
});

const code: Editor = editor($('#editor'), problemOf, () => {
    changes.set(keyOf(file), code.text(file));
    if (code.text(file) === variant.files.find(({ name }) => name === file)!.source) changes.delete(keyOf(file));
    edited();
});

const keyOf = (name: string): string => `${example.id}/${variant.id}/${name}`;

function edited(): void {
    reset.hidden = !variant.files.some(({ name }) => changes.has(keyOf(name)));
}

// ---- States

let busy = false;
let told = '';

/** Says in which state the run is. What changes many times a second is shown, but not read aloud. */
function tell(state: 'idle' | 'starting' | 'running' | 'busy' | 'finished' | 'failed' | 'stopped', text: string): void {
    status.dataset['state'] = state;
    document.documentElement.dataset['run'] = state;
    status.setAttribute('aria-live', state === 'running' && told === 'running' ? 'off' : 'polite');
    told = state;
    status.textContent = text;
}

function complain(what: Problem | Failure | undefined): void {
    problem.hidden = !what;
    problem.replaceChildren();
    const message = what && ('message' in what ? what.message : what.text);
    if (!what) return code.mark(undefined);
    const text = make('p', '', make('b', '', 'message' in what ? 'This cannot run. ' : 'The run has failed. '), message!);
    problem.append(text);
    if (!what.line || !variant.files.some(({ name }) => name === what.file)) return;
    const go = make('button', 'place', `${what.file}, line ${what.line}`);
    go.type = 'button';
    go.addEventListener('click', () => {
        show(what.file);
        code.go(what.line, what.column);
    });
    problem.append(go);
    if (what.file === file) code.mark({ file: what.file, message: message!, line: what.line, column: what.column });
}

// ---- Running

function order(): Order | undefined {
    try {
        const files = variant.files.map(({ name }) => ({ name, code: compile(name, code.text(name), Boolean(example.onPage)) }));
        return { files };
    } catch (error) {
        if (!(error instanceof CompileError)) throw error;
        clear('Nothing has run.');
        show(error.problem.file);
        complain(error.problem);
        tell('failed', 'Not run');
        return undefined;
    }
}

function clear(text = 'Run the example to see its tasks.'): void {
    complain(undefined);
    tasks.clear(example.lanes, example.length, text);
    log.clear('What the code logs comes here.');
    frames.clear();
    sea.draw();
}

async function run(): Promise<void> {
    if (session) return;
    const what = order();
    if (!what) return;
    const mine = (number += 1);
    clear();
    busy = false;
    simulated = example.id === 'virtual';
    began = 0;
    tasks.start();
    button('Stop');
    tell('starting', 'Starting');
    frames.start(example.onPage ? example.length + 2 * LEAD : Math.min(example.length, 3000));
    const listener = {
        started: () => {
            if (mine !== number) return;
            began = performance.now();
            frames.begin();
            tell('running', 'Running');
        },
        events: (events: Event[]) => mine === number && events.forEach(event),
        silent: (is: boolean) => {
            if (mine !== number || is === busy) return;
            busy = is;
            if (is) tell('busy', 'Busy, does not answer');
        },
        over: (how: 'finished' | 'failed' | 'stopped', error: Failure | undefined) => mine === number && void over(how, error),
    };
    let stopped = false;
    session = { stop: () => (stopped = true) };
    if (example.onPage) await later(LEAD);
    if (mine !== number) return;
    if (stopped) return void over('stopped', undefined);
    session = example.onPage ? onPage(what, listener) : inWorker(what, listener);
}

let ended = 0;

function event(one: Event): void {
    if (one.type === 'log') log.add(one.level, one.at, one.text, { file: one.file, line: one.line });
    else if (one.type === 'over') ended = one.at;
    else tasks.add(one);
}

async function over(how: 'finished' | 'failed' | 'stopped', error: Failure | undefined): Promise<void> {
    const mine = number;
    frames.end();
    const took = duration(began ? performance.now() - began : 0);
    began = 0;
    session = undefined;
    log.draw();
    tasks.stop(tasks.made ? '' : how === 'failed' ? 'It failed before it made a task.' : 'This code made no tasks.');
    if (error) complain(error);
    if (error) log.add('error', ended, error.text, error);
    log.draw();
    tell(how, { finished: `Finished in ${took}`, failed: `Failed after ${took}`, stopped: `Stopped after ${took}` }[how]);
    button('Run');
    if (example.onPage) await later(LEAD);
    if (mine !== number || session) return;
    frames.stop();
    if (how === 'finished' && example.variants.length > 1) results.set(`${example.id}/${variant.id}`, `${frames.text(' fps')}, ${took} in all`);
    compare();
}

/** What the frames were with each variant, once there is more than one to tell. */
const results = new Map<string, string>();

function compare(): void {
    const told = example.variants.flatMap(({ id, label }) => {
        const result = results.get(`${example.id}/${id}`);
        return result ? [make('div', '', make('dt', '', label), make('dd', '', result))] : [];
    });
    $('#compare').replaceChildren(...told);
    $('#compare').hidden = told.length < 2;
}

function stop(): void {
    session?.stop();
}

function button(word: 'Run' | 'Stop'): void {
    runButton.classList.toggle('on', word === 'Stop');
    $('#run-word').textContent = word;
}

// ---- Choosing

function show(name: string): void {
    if (name === file || !variant.files.some((one) => one.name === name)) return;
    file = name;
    const radio = document.querySelector<HTMLInputElement>(`#files input[value="${name}"]`);
    if (radio) radio.checked = true;
    code.open(name);
}

function choose(next: Example, nextVariant = next.variants[0]!): void {
    abandon();
    example = next;
    variant = nextVariant;
    for (const link of document.querySelectorAll<HTMLAnchorElement>('#examples a')) {
        if (link.hash !== `#${example.id}`) {
            link.removeAttribute('aria-current');
            continue;
        }
        link.setAttribute('aria-current', 'true');
        // On a phone they are one row that scrolls.
        const row = link.closest('ul')!;
        row.scrollLeft = link.offsetLeft - (row.clientWidth - link.offsetWidth) / 2;
    }
    $('#title').textContent = example.title;
    $('#shows').textContent = example.shows;
    $('#where').textContent = example.onPage ? 'Runs on the page’s thread' : 'Runs in a Worker';
    choices($('#variants'), 'variant', example.variants.map(({ id, label }) => [id, label]), variant.id);
    $('#variants').hidden = example.variants.length < 2;
    // The frames come first where they are what it is about.
    const live = $('#live');
    live.classList.toggle('frames-first', Boolean(example.onPage));
    live.prepend(...(example.onPage ? [$('#painting'), $('#tasks')] : [$('#tasks'), $('#painting')]));
    $('#sea').hidden = !example.onPage;
    compare();
    load();
    clear(example.onPage ? `Run it, and watch the ${calm.matches ? 'frames' : 'seal'}.` : undefined);
    tell('idle', 'Ready');
}

function load(): void {
    file = variant.files[0]!.name;
    code.load(variant.files.map(({ name, source }) => ({ name, source: changes.get(keyOf(name)) ?? source })));
    const files = $('#files');
    if (variant.files.length < 2) files.replaceChildren(make('span', 'file', file));
    else {
        const set = make('fieldset', 'choice small', make('legend', 'unseen', 'File'));
        choices(set, 'file', variant.files.map(({ name }) => [name, name]), file);
        set.addEventListener('change', ({ target }) => show((target as HTMLInputElement).value));
        files.replaceChildren(set);
    }
    edited();
}

function choices(set: HTMLElement, name: string, all: (readonly [string, string])[], chosen: string): void {
    const labels = all.map(([value, text]) => {
        const input = make('input');
        Object.assign(input, { type: 'radio', name, value, checked: value === chosen });
        return make('label', '', input, make('span', '', text));
    });
    set.replaceChildren(set.querySelector('legend')!, ...labels);
}

/** Leaves what runs: it ends, and what it still says is not heard. */
function abandon(): void {
    number += 1;
    session?.stop();
    session = undefined;
    began = 0;
    frames.stop();
    button('Run');
}

const named = (): Example | undefined => EXAMPLES.find(({ id }) => `#${id}` === location.hash);

/** Shows that something is going on here, unless that would disturb: what was changed, and what holds the page, waits to be told. */
function begin(): void {
    const own = variant.files.some(({ name }) => changes.has(keyOf(name)));
    if (!own && !example.onPage && !calm.matches) void run();
}

$('#examples').replaceChildren(
    ...EXAMPLES.map(({ id, label }) => {
        const link = make('a', '', label);
        link.href = `#${id}`;
        return make('li', '', link);
    }),
);
addEventListener('hashchange', () => {
    const next = named();
    if (!next || next === example) return;
    choose(next);
    begin();
});
$('#examples').addEventListener('click', ({ target }) => {
    // The one that is shown already is run again.
    if ((target as HTMLAnchorElement).hash === location.hash && named() === example) {
        abandon();
        void run();
    }
});
$('#variants').addEventListener('change', ({ target }) => {
    const next = example.variants.find(({ id }) => id === (target as HTMLInputElement).value)!;
    choose(example, next);
    document.querySelector<HTMLInputElement>(`#variants input[value="${next.id}"]`)!.focus();
});
const toggle = (): void => (session ? stop() : void run());
runButton.addEventListener('click', () => {
    toggle();
    if (!session) return;
    // On a phone what happens is below the code.
    const live = $('#live').firstElementChild!;
    const hidden = live.getBoundingClientRect().top > innerHeight - 160;
    if (hidden) live.scrollIntoView({ block: 'start', behavior: calm.matches ? 'auto' : 'smooth' });
});
addEventListener(
    'keydown',
    (event) => {
        if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
        event.preventDefault();
        event.stopPropagation();
        toggle();
    },
    true,
);
reset.addEventListener('click', () => {
    for (const { name } of variant.files) changes.delete(keyOf(name));
    choose(example, variant);
    runButton.focus();
});
$('#copy').addEventListener('click', async () => {
    const word = $('#copied');
    try {
        await navigator.clipboard.writeText($('#install').textContent!);
        word.textContent = 'Copied';
    } catch {
        // Not everywhere allowed: then it is selected, to be copied by hand.
        getSelection()!.selectAllChildren($('#install'));
        word.textContent = 'Selected';
    }
    setTimeout(() => (word.textContent = 'Copy'), 2000);
});
$('#facts').textContent = `${__KB_JS__} KB of JavaScript and ${__KB_WASM__} KB of WebAssembly, gzipped`;
$('.hint kbd').textContent = /Mac|iPhone|iPad/.test(navigator.platform) ? '⌘' : 'Ctrl';

prepare();
choose(named() ?? EXAMPLES[0]!);
runButton.disabled = false;
document.documentElement.dataset['ready'] = '';
// The frames in which the page itself comes up are no part of a run.
setTimeout(() => (number === 1 && !session ? begin() : undefined), 500);
