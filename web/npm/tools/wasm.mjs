// Reads the names of what a WebAssembly module imports and exports, and writes it with others.

const IMPORTS = 2;
const EXPORTS = 7;

/** Answers the imports as { module, name, type }, the exports as { name, kind }, and the sections. */
export function read(bytes) {
    let at = 8;
    const number = () => {
        let value = 0;
        for (let shift = 0; ; shift += 7) {
            const byte = bytes[at++];
            value += (byte & 0x7f) * 2 ** shift;
            if (byte < 0x80) return value;
        }
    };
    const text = () => {
        const length = number();
        return Buffer.from(bytes.subarray(at, (at += length))).toString();
    };
    const list = (one) => Array.from({ length: number() }, one);
    const sections = [];
    const found = { sections, imports: [], exports: [] };
    while (at < bytes.length) {
        const id = bytes[at++];
        const length = number();
        const end = at + length;
        sections.push({ id, bytes: bytes.subarray(at, end) });
        if (id === IMPORTS) {
            found.imports = list(() => {
                const [module, name] = [text(), text()];
                if (bytes[at++] !== 0) throw new Error(`the import ${module} ${name} is no function`);
                return { module, name, type: number() };
            });
        }
        if (id === EXPORTS) found.exports = list(() => ({ name: text(), kind: bytes[at++], index: number() }));
        at = end;
    }
    return found;
}

/** The bytes of a module whose names were changed, or some of whose exports were left out. */
export function write({ sections, imports, exports }) {
    const number = (value) => (value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...number(Math.floor(value / 0x80))]);
    const text = (value) => [...number(Buffer.byteLength(value)), ...Buffer.from(value)];
    const list = (all, one) => [...number(all.length), ...all.flatMap(one)];
    const parts = sections.map(({ id, bytes }) => {
        let body = bytes;
        if (id === IMPORTS) body = Buffer.from(list(imports, ({ module, name, type }) => [...text(module), ...text(name), 0, ...number(type)]));
        if (id === EXPORTS) body = Buffer.from(list(exports, ({ name, kind, index }) => [...text(name), kind, ...number(index)]));
        return [Buffer.from([id, ...number(body.length)]), body];
    });
    return Buffer.concat([Buffer.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]), ...parts.flat()]);
}
