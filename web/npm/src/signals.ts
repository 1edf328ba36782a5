// One listener per signal, however many wait for it: hosts look through all listeners for each that is added or removed.

/** @internal What is told to end. */
export interface Leaver {
    leave_(reason: unknown): void;
}

class Listeners extends Set<Leaver> {
    constructor(readonly signal_: AbortSignal) {
        super();
    }

    handleEvent(): void {
        listened.delete(this.signal_);
        for (const one of this) one.leave_(this.signal_.reason);
    }
}

const listened = new WeakMap<AbortSignal, Listeners>();

/** @internal Has `one` leave with the reason when the signal is aborted, at once if it is. */
export function onAbort(signal: AbortSignal | undefined, one: Leaver): void {
    if (!signal) return;
    if (signal.aborted) return one.leave_(signal.reason);
    let all = listened.get(signal);
    if (!all) {
        all = new Listeners(signal);
        listened.set(signal, all);
        signal.addEventListener('abort', all, { once: true });
    }
    all.add(one);
}

/** @internal */
export function offAbort(signal: AbortSignal | undefined, one: Leaver): void {
    const all = signal && listened.get(signal);
    if (!all?.delete(one) || all.size) return;
    listened.delete(signal!);
    signal!.removeEventListener('abort', all);
}
