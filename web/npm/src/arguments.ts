// Arguments that cannot be meant are refused at once, by name: later they would be a hang or a wrong order.

import { ArgumentError } from './errors.js';
import type { Loop } from './loop.js';

// Not all objects have a text, and one of 5n would be that of 5.
const show = (value: unknown): string =>
    typeof value === 'string' ? JSON.stringify(value) : typeof value === 'number' || value == null ? `${value}` : {}.toString.call(value);

/** @internal */
export function refuse(name: string, wanted: string, value: unknown): never {
    throw new ArgumentError(name, `${wanted}, not ${show(value)}`);
}

/** @internal The loop must be one, and open. */
export function open(loop: Loop): void {
    // Python's kin take none.
    if (!loop?.check_) refuse('loop', 'a loop', loop);
    loop.check_();
}

/** @internal A time in milliseconds. */
export function time(value: unknown, name: string): void {
    if (typeof value !== 'number' || !(value >= 0 && value < Infinity)) refuse(name, 'milliseconds from 0 on', value);
}

/** @internal A whole number from `least` to `most`, or Infinity if that is the most. */
export const count = (least: number, most = 0x7fffffff) => (value: unknown, name: string): void => {
    if (!(Number.isInteger(value) ? (value as number) >= least && (value as number) <= 0x7fffffff : value === most)) {
        refuse(name, `a whole number from ${least} to ${0x7fffffff}`, value);
    }
};

/** @internal How many at most. */
export const limit = /* @__PURE__ */ count(1, Infinity);

/** @internal */
export function callable(value: unknown, name: string): void {
    if (typeof value !== 'function') refuse(name, 'a function to call later', value);
}

/** @internal A function to be run as a task, or beside them. */
export function runnable(value: unknown): void {
    callable(value, 'body');
    // Nobody would ask for what it yields.
    if (/^AsyncG/.test((value as { [Symbol.toStringTag]?: string })[Symbol.toStringTag]!)) refuse('body', 'async or a generator', value);
}

/** @internal */
export function signal(value: unknown, name: string): void {
    if (!(value as AbortSignal | null)?.addEventListener) refuse(name, 'an AbortSignal', value);
}

/** @internal */
export function list(value: unknown, name: string): void {
    if (!Array.isArray(value)) refuse(name, 'an array', value);
}

/** @internal */
export function text(value: unknown, name: string): void {
    if (typeof value !== 'string') refuse(name, 'a string', value);
}

/** @internal Whatever it is, it is taken as true or false, or was looked at elsewhere. */
export const any = (): void => {};

/** @internal What an option has to be: one of these texts, or what a function does not refuse. */
export type Rules = Record<string, readonly string[] | ((value: unknown, name: string) => unknown)>;

/** @internal Options without any that are not known: a misspelt one would silently do nothing. */
export function options<T extends object>(value: T | undefined, rules: Rules): Partial<T> {
    if (value === undefined) return {};
    if (typeof value !== 'object' || value === null) refuse('options', 'an object', value);
    for (const [key, one] of Object.entries(value)) {
        const name = `options.${key}`;
        const rule = Object.hasOwn(rules, key) && rules[key];
        if (!rule) throw new ArgumentError(name, `no such option; there are ${Object.keys(rules).join(', ')}`);
        if (one === undefined) continue;
        if (typeof rule === 'function') rule(one, name);
        else if (!rule.includes(one as string)) refuse(name, `one of ${rule.map(show).join(', ')}`, one);
    }
    return value;
}

/** @internal Of those that wait, which have no other option. */
export const signalOf = (given: { signal?: AbortSignal | undefined } | undefined): AbortSignal | undefined => options(given, { signal }).signal;
