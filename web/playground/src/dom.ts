export const $ = <E extends Element = HTMLElement>(selector: string): E => document.querySelector<E>(selector)!;

export function make<K extends keyof HTMLElementTagNameMap>(tag: K, name = '', ...content: (Node | string)[]): HTMLElementTagNameMap[K] {
    const made = document.createElement(tag);
    if (name) made.className = name;
    made.append(...content);
    return made;
}

export const calm = matchMedia('(prefers-reduced-motion: reduce)');

/** A length of time as people say it. */
export function duration(ms: number): string {
    if (ms >= 3_600_000) return `${(ms / 3_600_000).toFixed(1)} h`;
    if (ms >= 600_000) return `${(ms / 60_000).toFixed(1)} min`;
    return `${(ms / 1000).toFixed(2)} s`;
}
