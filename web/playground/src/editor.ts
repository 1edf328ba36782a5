// The editor: CodeMirror, without what a page for twenty lines does not need.

import { defaultKeymap, history, historyKeymap, indentLess, indentMore } from '@codemirror/commands';
import { javascript } from '@codemirror/lang-javascript';
import { bracketMatching, indentOnInput, indentUnit, syntaxHighlighting } from '@codemirror/language';
import { type Diagnostic, lintGutter, linter, setDiagnostics } from '@codemirror/lint';
import { EditorState } from '@codemirror/state';
import { EditorView, drawSelection, highlightActiveLine, highlightActiveLineGutter, keymap, lineNumbers } from '@codemirror/view';
import { classHighlighter } from '@lezer/highlight';
import type { Problem } from './compile';

export interface Editor {
    /** Shows a file, with its history of changes. */
    open(name: string): void;
    text(name: string): string;
    /** Takes other files; `open` shows one of them. */
    load(files: readonly { name: string; source: string }[]): void;
    mark(problem: Problem | undefined): void;
    go(line: number, column: number): void;
}

export function editor(parent: HTMLElement, check: (file: string, source: string) => Problem | undefined, changed: () => void): Editor {
    let shown = '';
    const states = new Map<string, EditorState>();
    /** What a run has found, until something is changed. */
    let found: Problem | undefined;

    function diagnostics(state: EditorState, problem: Problem | undefined): Diagnostic[] {
        if (!problem || problem.file !== shown || problem.line < 1 || problem.line > state.doc.lines) return [];
        const line = state.doc.line(problem.line);
        const from = Math.min(line.from + Math.max(0, problem.column), line.to);
        const word = /^[\w$]+|^\S/.exec(state.sliceDoc(from, line.to))?.[0].length ?? 0;
        // An end of a file has nothing to underline, so its last sign is.
        return [{ from: word ? from : Math.max(line.from, from - 1), to: from + word, severity: 'error', message: problem.message }];
    }

    const extensions = [
        lineNumbers(),
        highlightActiveLineGutter(),
        highlightActiveLine(),
        history(),
        drawSelection(),
        indentOnInput(),
        indentUnit.of('  '),
        bracketMatching(),
        javascript(),
        syntaxHighlighting(classHighlighter),
        lintGutter(),
        linter(({ state }) => diagnostics(state, check(shown, state.doc.toString()) ?? found), { delay: 500 }),
        // Tab is left to the page: who has no mouse must be able to leave.
        keymap.of([...defaultKeymap.filter(({ key }) => key !== 'Mod-Enter'), ...historyKeymap, { key: 'Mod-]', run: indentMore }, { key: 'Mod-[', run: indentLess }]),
        EditorView.lineWrapping,
        EditorView.contentAttributes.of({ 'aria-label': 'Code of the example', tabindex: '0', autocapitalize: 'off', autocorrect: 'off', spellcheck: 'false' }),
        EditorView.updateListener.of((update) => {
            if (!update.docChanged) return;
            states.set(shown, update.state);
            found = undefined;
            changed();
        }),
    ];

    const view = new EditorView({ parent });
    return {
        load(files) {
            states.clear();
            found = undefined;
            for (const { name, source } of files) states.set(name, EditorState.create({ doc: source, extensions }));
            this.open(files[0]!.name);
        },
        open(name) {
            shown = name;
            view.setState(states.get(name)!);
        },
        text: (name) => (name === shown ? view.state : states.get(name)!).doc.toString(),
        mark(problem) {
            found = problem;
            view.dispatch(setDiagnostics(view.state, diagnostics(view.state, problem)));
        },
        go(number, column) {
            const line = view.state.doc.line(Math.min(Math.max(number, 1), view.state.doc.lines));
            view.dispatch({ selection: { anchor: Math.min(line.from + column, line.to) }, scrollIntoView: true });
            view.focus();
        },
    };
}
