// How a value looks in the log.

const PLAIN = /^[\p{L}_$][\p{L}\p{N}_$]*$/u;

/** One line for what was logged: strings as they are, everything else as one would write it. */
export function line(values: readonly unknown[]): string {
    return values.map((value) => (typeof value === 'string' ? value : inspect(value))).join(' ');
}

export function inspect(value: unknown, depth = 2, seen: readonly unknown[] = []): string {
    if (typeof value === 'string') return JSON.stringify(value);
    if (typeof value === 'bigint') return `${value}n`;
    if (typeof value === 'function') return `[function ${value.name || 'without a name'}]`;
    if (typeof value !== 'object' || value === null) return String(value);
    if (value instanceof Error || value instanceof DOMException) return failure(value);
    if (value instanceof Date) return value.toISOString();
    if (value instanceof RegExp) return String(value);
    if (value instanceof Promise) return '[promise]';
    if (seen.includes(value)) return '[itself]';
    const within = [...seen, value];
    const item = (one: unknown): string => inspect(one, depth - 1, within);
    const { constructor } = value as { constructor?: { name?: string } };
    const kind = constructor && constructor !== Object ? (constructor.name ?? '') : '';
    if (isTask(value)) return `task "${value.name}", ${value.state}`;
    if (depth < 0) return Array.isArray(value) ? '[…]' : '{…}';
    if (Array.isArray(value) || ArrayBuffer.isView(value)) {
        const list = Array.from(value as unknown as ArrayLike<unknown>);
        return `${Array.isArray(value) ? '' : `${kind} `}[${shown(list.map(item))}]`;
    }
    if (value instanceof Set) return `Set {${shown([...value].map(item), ' ')}}`;
    if (value instanceof Map) return `Map {${shown([...value].map(([key, one]) => `${item(key)} => ${item(one)}`), ' ')}}`;
    const entries = Object.entries(value).map(([key, one]) => `${PLAIN.test(key) ? key : JSON.stringify(key)}: ${item(one)}`);
    return `${kind && kind !== 'Object' ? `${kind} ` : ''}{${shown(entries, ' ')}}`;
}

/** An error with what it stands for: a group's has its members', others may have a cause. */
export function failure(error: unknown): string {
    if (!(error instanceof Error) && !(error instanceof DOMException)) return inspect(error);
    const { name, message, errors, cause } = error as Error & { errors?: unknown[] };
    const text = message ? `${name}: ${message}` : name;
    if (Array.isArray(errors) && errors.length) return `${text} [${errors.map(failure).join('; ')}]`;
    return cause instanceof Error && !message.includes(cause.message) ? `${text} (because of ${failure(cause)})` : text;
}

const isTask = (value: object): value is { name: string; state: string } =>
    typeof (value as { ended?: unknown }).ended === 'function' && typeof (value as { state?: unknown }).state === 'string';

function shown(items: string[], edge = ''): string {
    if (items.length === 0) return '';
    const more = items.length > 20 ? [`… ${items.length - 20} more`] : [];
    return `${edge}${[...items.slice(0, 20), ...more].join(', ')}${edge}`;
}
