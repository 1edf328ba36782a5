// Calls code that was made of a module, and finds out where in it an error was thrown.

import type { Failure } from './events';
import { failure } from './inspect';

/** What a module's function is called with, by name. */
export type Surroundings = Record<string, unknown>;

type Body = (...args: unknown[]) => Promise<void>;
const AsyncFunction = (async () => {}).constructor as new (...args: string[]) => Body;

/** In front of the names of files, so that none of the playground's own is taken for one of the user's. */
const PREFIX = 'yours-';
const FRAME = new RegExp(`${PREFIX}([\\w-]+\\.js):(\\d+)(?::(\\d+))?`);

/** How many lines an engine puts in front of what such a function is made of. */
let header: number | undefined;

export function place(error: unknown): { file: string; line: number; column: number } {
    const { stack } = (error ?? {}) as { stack?: unknown };
    const found = typeof stack === 'string' ? FRAME.exec(stack) : null;
    if (!found) return { file: '', line: 0, column: 0 };
    return { file: found[1]!, line: Number(found[2]) - (header ?? 0), column: Number(found[3] ?? 1) - 1 };
}

export function told(error: unknown): Failure {
    return { text: failure(error), ...place(error) };
}

export async function evaluate(name: string, code: string, surroundings: Surroundings): Promise<void> {
    if (header === undefined) {
        header = 0;
        await make('probe.js', 'throw new Error("probe")', [])().catch((error: unknown) => (header = Math.max(0, place(error).line - 1)));
    }
    const names = Object.keys(surroundings);
    await make(name, code, names)(...names.map((one) => surroundings[one]));
}

/** In a block of its own: there a module may use the names of its surroundings for things of its own. */
function make(name: string, code: string, names: string[]): Body {
    return new AsyncFunction(...names, `"use strict"; { ${code}\n}\n//# sourceURL=${PREFIX}${name}`);
}
