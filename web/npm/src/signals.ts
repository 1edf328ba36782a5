// One listener per signal, however many wait for it: hosts look through all listeners for each that is added or removed.

type Listener = (reason: unknown) => void;

const listened = new WeakMap<AbortSignal, Set<Listener>>();

/** @internal Calls `f` with the reason when the signal is aborted; answers how to take that back. The signal is not aborted yet. */
export function onAbort(signal: AbortSignal, f: Listener): () => void {
    const all = listened.get(signal) ?? new Set();
    const tell = (): void => {
        listened.delete(signal);
        for (const one of all) one(signal.reason);
    };
    if (!all.size) {
        listened.set(signal, all);
        signal.addEventListener('abort', tell, { once: true });
        remove.set(all, () => {
            listened.delete(signal);
            signal.removeEventListener('abort', tell);
        });
    }
    all.add(f);
    return () => {
        if (all.delete(f) && !all.size) remove.get(all)!();
    };
}

const remove = new WeakMap<object, () => void>();
