// Light, dark, or as the system says.

const changed = new Set<() => void>();

export function theme(choice: HTMLElement): void {
    const { documentElement } = document;
    let kept: string | null = null;
    // Storage may be forbidden; then the choice lasts as long as the page.
    try {
        kept = localStorage.getItem('theme');
    } catch {}
    const apply = (value: string): void => {
        if (value === 'auto') delete documentElement.dataset['theme'];
        else documentElement.dataset['theme'] = value;
        colours.clear();
        for (const f of changed) f();
    };
    const value = kept === 'light' || kept === 'dark' ? kept : 'auto';
    choice.querySelector<HTMLInputElement>(`input[value="${value}"]`)!.checked = true;
    apply(value);
    choice.addEventListener('change', ({ target }) => {
        const { value } = target as HTMLInputElement;
        apply(value);
        try {
            localStorage.setItem('theme', value);
        } catch {}
    });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => apply(documentElement.dataset['theme'] ?? 'auto'));
}

export function onTheme(f: () => void): void {
    changed.add(f);
}

const colours = new Map<string, string>();
let probe: HTMLElement | undefined;

/** What a colour of the style sheet is just now, for a canvas. */
export function colour(name: string): string {
    let value = colours.get(name);
    if (value) return value;
    probe ??= document.body.appendChild(Object.assign(document.createElement('i'), { hidden: true }));
    probe.style.color = `var(--${name})`;
    value = getComputedStyle(probe).color;
    colours.set(name, value);
    return value;
}
