// One listener per signal, however many wait for it: hosts look through all listeners for each that is added or removed.

const listened = new WeakMap<AbortSignal, Set<(reason: unknown) => void>>();

/** @internal Calls `f` with the reason when the signal is aborted; answers how to take that back. The signal is not aborted yet. */
export function onAbort(signal: AbortSignal, f: (reason: unknown) => void): () => void {
    let all = listened.get(signal);
    if (!all) {
        const mine = (all = new Set());
        listened.set(signal, mine);
        const listener = (): void => {
            listened.delete(signal);
            for (const one of mine) one(signal.reason);
        };
        signal.addEventListener('abort', listener, { once: true });
        remove.set(mine, () => {
            listened.delete(signal);
            signal.removeEventListener('abort', listener);
        });
    }
    const mine = all;
    mine.add(f);
    return () => {
        if (mine.delete(f) && mine.size === 0) remove.get(mine)?.();
    };
}

const remove = new WeakMap<object, () => void>();
