// The tree of the tasks, and beside each its time: when it had turns, when it waited, how it ended.
//
// Places are CSS: a part knows its times, the whole knows how long it is, and only that number changes while it grows.

import { duration, make } from './dom';
import type { Ended, Event } from './events';

/** So many children of one task have a lane, and so many tasks in all; the others are counted. */
const CHILDREN = 8;
const LANES = 60;
/** Room at the right end, so that the mark of an end at the last moment fits. */
const ROOM = 1.04;
/** A turn that is shorter, of the whole, is drawn as a tick. */
const TICK = 0.008;

interface Lane {
    readonly name: string;
    readonly item: HTMLLIElement;
    readonly track: HTMLElement;
    readonly word: HTMLElement;
    readonly children: HTMLUListElement;
    count: number;
    state: 'created' | 'running' | 'waiting' | Ended;
    part: HTMLElement | undefined;
    blocks: { element: HTMLElement; from: number; to: number }[];
    waits: string;
    progress: number | undefined;
    since: number;
}

export class Tasks {
    private readonly lanes = new Map<number, Lane>();
    private readonly root: HTMLUListElement;
    private readonly more: HTMLElement;
    private hidden = new Set<number>();
    private counts = { made: 0, done: 0, failed: 0, cancelled: 0 };
    private many = { made: 0, done: 0, failed: 0, cancelled: 0 };
    private length = 1;
    private last = 0;
    private tops = 0;
    private widest = 0;

    constructor(
        private readonly box: HTMLElement,
        private readonly axis: HTMLElement,
    ) {
        this.root = make('ul');
        this.more = make('div', 'more');
    }

    /** Nothing has run yet. `lanes` is the room to keep, `length` where the scale begins. */
    clear(lanes: number, length: number, text: string): void {
        this.lanes.clear();
        this.hidden.clear();
        this.counts = { made: 0, done: 0, failed: 0, cancelled: 0 };
        this.many = { ...this.counts };
        this.last = 0;
        this.tops = 0;
        this.widest = 0;
        this.fit();
        this.root.replaceChildren();
        this.more.replaceChildren();
        this.box.style.setProperty('--lanes', String(lanes));
        this.box.replaceChildren(make('p', 'empty', text));
        this.scale(length);
    }

    start(): void {
        this.box.replaceChildren(make('p', 'empty', 'No tasks yet'));
        this.box.classList.add('playing');
    }

    /** The run is over; what has not ended never will. */
    stop(text: string): void {
        this.box.classList.remove('playing');
        if (this.lanes.size === 0) this.box.replaceChildren(make('p', 'empty', text));
        else if (this.last > 0) this.scale(this.last, true);
        for (const lane of this.lanes.values()) if (lane.part) this.close(lane, this.last);
        this.count();
    }

    get made(): number {
        return this.counts.made + this.many.made;
    }

    add(event: Event): void {
        if ('at' in event) this.last = Math.max(this.last, event.at);
        if (event.type === 'task') this.task(event);
        else if (event.type === 'many') {
            const { type: _, ...many } = event;
            this.many = many;
        } else if (event.type === 'end') {
            this.counts[event.state] += 1;
            const lane = this.lanes.get(event.id);
            if (lane) this.end(lane, event.state, event.at, event.why);
        } else if (event.type === 'run' || event.type === 'wait' || event.type === 'progress') {
            const lane = this.lanes.get(event.id);
            if (!lane) return;
            if (event.type === 'run') this.run(lane, event.block, event.from, event.to);
            else if (event.type === 'wait') this.waits(lane, event.what);
            else {
                lane.progress = event.part;
                this.say(lane);
            }
        }
    }

    /** The present moves on, in the time of the run. */
    draw(now: number): void {
        this.last = Math.max(this.last, now);
        if (this.last > this.length) this.scale(grown(this.last));
        this.box.style.setProperty('--now', String(Math.round(this.last)));
        this.count();
    }

    private waits(lane: Lane, what: string): void {
        lane.waits = what;
        this.say(lane);
    }

    private say(lane: Lane): void {
        if (lane.state !== 'waiting') return;
        if (lane.progress !== undefined) {
            lane.word.textContent = `${Math.round(lane.progress * 100)} %`;
            lane.part?.style.setProperty('--part', lane.progress.toFixed(3));
        } else lane.word.textContent = lane.waits ? `waits for ${lane.waits}` : 'waits';
    }

    private task(event: Event & { type: 'task' }): void {
        const parent = this.lanes.get(event.parent);
        this.counts.made += 1;
        const siblings = parent ? parent.count : this.tops;
        if (siblings >= CHILDREN || this.lanes.size >= LANES || this.hidden.has(event.parent)) {
            this.hidden.add(event.id);
            return;
        }
        if (parent) parent.count += 1;
        else this.tops += 1;
        const track = make('div', 'track', make('i', 'hand'));
        track.setAttribute('aria-hidden', 'true');
        const word = make('span', 'word created', 'not begun');
        const name = make('span', 'name', event.name);
        name.title = event.name;
        const row = make('div', 'lane', make('span', 'who', make('i', 'dot'), name), track, word);
        const children = make('ul');
        const item = make('li', 'created', row);
        const depth = parent ? Number(parent.item.style.getPropertyValue('--depth')) + 1 : 0;
        item.style.setProperty('--depth', String(depth));
        this.widest = Math.max(this.widest, depth * 2 + event.name.length);
        this.fit();
        if (parent) {
            if (!parent.children.isConnected) parent.item.append(parent.children);
            parent.children.append(item);
        } else this.root.append(item);
        const lane: Lane = { name: event.name, item, track, word, children, count: 0, state: 'created', part: undefined, blocks: [], waits: '', progress: undefined, since: event.at };
        lane.part = this.part(lane, 'created', event.at);
        if (this.lanes.size === 0) this.box.replaceChildren(this.root, this.more);
        this.lanes.set(event.id, lane);
    }

    /** The column of names is as wide as they are, in signs. */
    private fit(): void {
        this.box.parentElement!.style.setProperty('--names', `${Math.min(Math.max(this.widest, 9), 20) + 2.5}ch`);
    }

    private part(lane: Lane, kind: string, from: number): HTMLElement {
        const part = make('i', `part ${kind}`);
        part.style.setProperty('--a', from.toFixed(1));
        lane.track.append(part);
        return part;
    }

    private close(lane: Lane, at: number): void {
        const { part } = lane;
        lane.part = undefined;
        if (!part) return;
        if (at <= lane.since) part.remove();
        else part.style.setProperty('--b', at.toFixed(1));
    }

    /** A turn, or a row of them that has grown. Between turns a task waits. */
    private run(lane: Lane, number: number, from: number, to: number): void {
        const over = lane.state !== 'created' && lane.state !== 'waiting';
        let block = lane.blocks[number];
        if (!block) {
            if (!over) this.close(lane, from);
            block = { element: this.part(lane, 'running', from), from, to };
            lane.blocks[number] = block;
        } else {
            lane.part?.remove();
        }
        block.to = to;
        block.element.style.setProperty('--b', to.toFixed(1));
        block.element.classList.toggle('long', (to - block.from) / (this.length * ROOM) > TICK);
        if (over) return;
        lane.state = 'waiting';
        lane.item.className = 'waiting';
        lane.word.className = 'word waiting';
        lane.since = to;
        lane.part = this.part(lane, 'waiting', to);
        this.say(lane);
    }

    private end(lane: Lane, state: Ended, at: number, why: string): void {
        // What it was told to end by may have come before its last turn.
        const { blocks } = lane;
        const last = blocks.at(-1);
        this.close(lane, last && last.from > lane.since ? last.from : at);
        lane.state = state;
        lane.item.className = state;
        const cap = this.part(lane, `cap ${state}`, at);
        lane.word.className = `word ${state}`;
        lane.word.textContent = `${state}, ${duration(at)}`;
        if (!why) return;
        cap.title = lane.word.title = why;
        lane.word.append(make('span', 'unseen', `: ${why}`));
    }

    private scale(length: number, exact = false): void {
        this.length = Math.max(length, 1);
        this.box.style.setProperty('--len', String(this.length * ROOM));
        const div = this.axis.firstElementChild as HTMLElement;
        const every = step(this.length);
        div.replaceChildren();
        for (let at = 0; at <= this.length * (exact ? ROOM : 1); at += every) {
            const tick = make('span', '', at === 0 ? '0' : short(at, this.length));
            tick.style.left = `${(at / (this.length * ROOM)) * 100}%`;
            div.append(tick);
        }
        for (const lane of this.lanes.values()) {
            for (const block of lane.blocks) block?.element.classList.toggle('long', (block.to - block.from) / (this.length * ROOM) > TICK);
        }
    }

    /** What has no lane. */
    private count(): void {
        const hidden = this.hidden.size + this.many.made;
        if (hidden === 0) return;
        const [done, failed, cancelled] = (['done', 'failed', 'cancelled'] as const).map((state) => {
            const shown = [...this.lanes.values()].filter((lane) => lane.state === state).length;
            return this.counts[state] + this.many[state] - shown;
        }) as [number, number, number];
        const ended = done + failed + cancelled;
        this.widest = Math.max(this.widest, 14);
        this.fit();
        const parts = [`${ended.toLocaleString('en')} ended`];
        if (failed) parts.push(`${failed.toLocaleString('en')} failed`);
        if (cancelled) parts.push(`${cancelled.toLocaleString('en')} cancelled`);
        if (hidden > ended) parts.push(`${(hidden - ended).toLocaleString('en')} to come`);
        const bar = make('span', 'bar', make('span'));
        (bar.firstElementChild as HTMLElement).style.width = `${(ended / hidden) * 100}%`;
        this.more.replaceChildren(make('span', 'who', `and ${hidden.toLocaleString('en')} more`), bar, make('span', 'word', parts.join(', ')));
        bar.setAttribute('aria-hidden', 'true');
    }
}

const STEPS = [1, 2, 5];

/** How far apart the marks of an axis are, so that there are at most six. */
function step(length: number): number {
    if (length > 7_200_000) return 3_600_000 * Math.ceil(length / 3_600_000 / 6);
    for (let unit = 1; ; unit *= 10) for (const one of STEPS) if (length / (one * unit) <= 6) return one * unit;
}

function grown(length: number): number {
    for (let unit = 100; ; unit *= 10) for (const one of [1, 1.5, 2, 3, 5, 7]) if (one * unit >= length * 1.1) return one * unit;
}

function short(ms: number, length: number): string {
    if (length >= 3_600_000) return `${ms / 3_600_000} h`;
    return length >= 1000 ? `${ms / 1000} s` : `${ms} ms`;
}
