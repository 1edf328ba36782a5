// One listener per signal, however many wait for it: hosts look through all listeners for each that is added or removed.

/** @internal What is told to end. */
export interface Leaver {
    leave_(reason: unknown): void;
}

class Listeners extends Set<Leaver> {
    handleEvent({ target }: Event): void {
        listened.delete(target as AbortSignal);
        for (const one of this) one.leave_((target as AbortSignal).reason);
    }
}

const listened = new WeakMap<AbortSignal, Listeners>();

/** @internal Has `one` leave with the reason when the signal is aborted, at once if it is. */
export function onAbort(signal: AbortSignal | undefined, one: Leaver): void {
    if (!signal) return;
    if (signal.aborted) return one.leave_(signal.reason);
    let all = listened.get(signal);
    if (!all) {
        listened.set(signal, (all = new Listeners()));
        signal.addEventListener('abort', all, { once: true });
    }
    all.add(one);
}

/** @internal */
export function offAbort(signal: AbortSignal | undefined, one: Leaver): void {
    // What is no signal has none.
    const all = listened.get(signal!);
    if (!all?.delete(one) || all.size) return;
    listened.delete(signal!);
    signal!.removeEventListener('abort', all);
}
