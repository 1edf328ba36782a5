// Arguments that cannot be meant are refused at once, by name: later they would be a hang or a wrong order.

import { ArgumentError } from './errors.js';

const show = (value: unknown): string => (typeof value === 'string' ? JSON.stringify(value) : typeof value === 'function' ? 'a function' : String(value));

/** @internal A time in milliseconds. */
export function time(value: unknown, name: string): number {
    if (typeof value !== 'number' || !(value >= 0 && value < Infinity)) {
        throw new ArgumentError(name, `a finite number of milliseconds from 0 on, not ${show(value)}`);
    }
    return value;
}

/** @internal A whole number from `least` on. */
export function count(value: unknown, name: string, least: number): number {
    if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > 0x7fffffff) {
        throw new ArgumentError(name, `a whole number from ${least} on, not ${show(value)}`);
    }
    return value as number;
}

/** @internal */
export function callable<F>(value: F, name: string): F {
    if (typeof value !== 'function') {
        const hint = typeof (value as { then?: unknown } | undefined)?.then === 'function' ? ': pass the function itself, not the promise of a call' : '';
        throw new ArgumentError(name, `a function, not ${show(value)}${hint}`);
    }
    return value;
}

/** @internal */
export function choice<T extends string>(value: unknown, name: string, among: readonly T[]): T {
    if (!among.includes(value as T)) throw new ArgumentError(name, `one of ${among.map((one) => `"${one}"`).join(', ')}, not ${show(value)}`);
    return value as T;
}

/** @internal Options without any that are not known: a misspelt one would silently do nothing. */
export function options<T extends object>(value: T | undefined, known: string, name = 'options'): Partial<T> {
    if (value === undefined) return {};
    if (typeof value !== 'object' || value === null) throw new ArgumentError(name, `an object, not ${show(value)}`);
    const names = known.split(' ');
    for (const key of Object.keys(value)) {
        if (!names.includes(key)) throw new ArgumentError(`${name}.${key}`, `no such option; there are ${names.join(', ')}`);
    }
    const { signal } = value as { signal?: AbortSignal };
    if (signal !== undefined && typeof (signal as AbortSignal | null)?.addEventListener !== 'function') {
        throw new ArgumentError(`${name}.signal`, `an AbortSignal, not ${show(signal)}`);
    }
    return value;
}
