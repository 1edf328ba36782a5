// What the code has logged, newest last.

import { duration, make } from './dom';
import type { Level } from './events';

/** So many lines are kept. */
const LINES = 500;

export interface Place {
    readonly file: string;
    readonly line: number;
}

export class Log {
    private fresh: HTMLElement[] = [];
    private readonly list: HTMLElement;

    constructor(
        private readonly box: HTMLElement,
        private readonly go: (place: Place) => void,
    ) {
        this.list = box.querySelector('ol')!;
    }

    clear(text: string): void {
        this.fresh = [];
        this.list.replaceChildren(make('li', 'empty', text));
        this.list.dataset['empty'] = '';
    }

    add(level: Level, at: number, text: string, place?: Place): void {
        const row = make('li', '', make('span', 'at', duration(at)));
        row.dataset['level'] = level;
        if (level !== 'log') row.append(make('span', 'unseen', `${level}: `));
        const said = make('span', 'text', text);
        if (place?.line) {
            const link = make('button', 'place', `${place.file}:${place.line}`);
            link.type = 'button';
            link.addEventListener('click', () => this.go(place));
            said.append(' ', link);
        }
        row.append(said);
        this.fresh.push(row);
        if (this.fresh.length > LINES) this.fresh.shift();
    }

    /** Puts what is new on the page, at once and not line by line. */
    draw(): void {
        if (this.fresh.length === 0) return;
        if ('empty' in this.list.dataset) {
            delete this.list.dataset['empty'];
            this.list.replaceChildren();
        }
        const { box, list } = this;
        const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
        list.append(...this.fresh);
        this.fresh = [];
        if (this.list.childElementCount > LINES) {
            while (this.list.childElementCount >= LINES) this.list.firstElementChild!.remove();
            this.list.prepend(make('li', 'empty', 'Earlier lines are no longer shown.'));
        }
        if (atEnd) box.scrollTop = box.scrollHeight;
    }
}
