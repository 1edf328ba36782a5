// Makes of a module that somebody wrote here the body of an async function: the page is no server that could hand out
// modules, and the imports are those of the playground's own bundle. Lines stay where they are.

import { type Node, parse } from 'acorn';
import * as selkie from 'selkie';
import * as testing from 'selkie/testing';
import * as worker from 'selkie/worker';

/** What is wrong with a file, and where. */
export interface Problem {
    readonly file: string;
    readonly message: string;
    /** From 1 on; 0 where it is not known. */
    readonly line: number;
    /** From 0 on. */
    readonly column: number;
}

export class CompileError extends Error {
    constructor(readonly problem: Problem) {
        super(problem.message);
    }
}

/** What can be imported. */
const MODULES: Record<string, object> = { selkie, 'selkie/worker': worker, 'selkie/testing': testing };

interface Edit {
    readonly from: number;
    readonly to: number;
    readonly text: string;
}

type Any = Node & Record<string, any>;

const LOOPS = new Set(['ForStatement', 'ForInStatement', 'ForOfStatement', 'WhileStatement', 'DoWhileStatement']);
const FUNCTIONS = new Set(['FunctionDeclaration', 'FunctionExpression', 'ArrowFunctionExpression']);

/**
 * Answers the source of the function's body, or throws a CompileError.
 *
 * With `guarded` each loop and each function asks `$guard()` whether it may go on. On the page's own thread nothing else can
 * end what never ends: a Worker is ended from outside.
 */
export function compile(file: string, source: string, guarded: boolean): string {
    const edits: Edit[] = [];
    const refuse = (node: Any, message: string): never => {
        const { line, column } = node.loc!.start;
        throw new CompileError({ file, message, line, column });
    };
    const visit = (node: Any): void => {
        if (node.type === 'ImportDeclaration') {
            edits.push({ from: node.start, to: node.end, text: imported(source, node, refuse) });
            return;
        }
        if (node.type === 'ExportNamedDeclaration' && node.declaration) {
            edits.push({ from: node.start, to: node.declaration.start, text: '' });
        } else if (node.type.startsWith('Export')) refuse(node, 'nothing imports this file, so it cannot export that');
        if (node.type === 'ImportExpression') edits.push({ from: node.start, to: node.start + 'import'.length, text: '$import' });
        if (node.type === 'MetaProperty' && node.meta.name === 'import') edits.push({ from: node.start, to: node.end, text: '$meta' });
        if (guarded && (LOOPS.has(node.type) || FUNCTIONS.has(node.type))) guard(node.body, edits);
        for (const child of Object.values(node)) {
            if (Array.isArray(child)) child.forEach((one) => isNode(one) && visit(one));
            else if (isNode(child)) visit(child);
        }
    };
    visit(parsed(file, source));
    // From the end to the front, so that places stay right; of two at one place the later one is the inner one.
    edits.sort((a, b) => b.from - a.from || b.to - a.to);
    let text = source;
    for (const { from, to, text: by } of edits) text = text.slice(0, from) + by + text.slice(to);
    return text;
}

/** The first thing that is wrong with a file, without running it. */
export function problemOf(file: string, source: string): Problem | undefined {
    try {
        compile(file, source, false);
        return undefined;
    } catch (error) {
        if (error instanceof CompileError) return error.problem;
        throw error;
    }
}

const isNode = (value: unknown): value is Any => typeof (value as Any | null)?.type === 'string' && typeof (value as Any).start === 'number';

function parsed(file: string, source: string): Any {
    try {
        return parse(source, { ecmaVersion: 'latest', sourceType: 'module', locations: true }) as Any;
    } catch (error) {
        const { message, loc } = error as Error & { loc?: { line: number; column: number } };
        if (!loc) throw error;
        // The parser puts the place behind its message.
        throw new CompileError({ file, message: message.replace(/ \(\d+:\d+\)$/, ''), line: loc.line, column: loc.column });
    }
}

function imported(source: string, node: Any, refuse: (node: Any, message: string) => never): string {
    const from = String(node.source.value);
    const module = MODULES[from];
    if (!module) return refuse(node.source, `there is no module "${from}" here; there are ${Object.keys(MODULES).join(', ')}`);
    const parts: string[] = [];
    const named: string[] = [];
    for (const one of node.specifiers as Any[]) {
        const local = one.local.name as string;
        if (one.type === 'ImportNamespaceSpecifier') parts.push(`${local} = $modules["${from}"]`);
        else if (one.type === 'ImportDefaultSpecifier') refuse(one, `"${from}" has no default export: write { ${local} }`);
        else {
            const name = (one.imported.name ?? one.imported.value) as string;
            if (!(name in module)) refuse(one, `"${from}" does not export "${name}"`);
            named.push(name === local ? name : `${name}: ${local}`);
        }
    }
    if (named.length) parts.push(`{ ${named.join(', ')} } = $modules["${from}"]`);
    const lines = source.slice(node.start, node.end).split('\n').length - 1;
    return (parts.length ? `const ${parts.join(', ')};` : '') + '\n'.repeat(lines);
}

function guard(body: Any, edits: Edit[]): void {
    if (body.type === 'BlockStatement') {
        // Behind "use strict" and its kind, which only mean something in front.
        const first = (body.body as Any[]).find((one) => !one.directive);
        const at = first ? first.start : body.end - 1;
        edits.push({ from: at, to: at, text: '$guard(); ' });
    } else if (body.type.endsWith('Statement') || body.type.endsWith('Declaration')) {
        edits.push({ from: body.start, to: body.start, text: '{ $guard(); ' }, { from: body.end, to: body.end, text: ' }' });
    } else {
        edits.push({ from: body.start, to: body.start, text: '($guard(), ' }, { from: body.end, to: body.end, text: ')' });
    }
}
