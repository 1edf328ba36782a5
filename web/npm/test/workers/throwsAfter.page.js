import { expose } from '../../dist/worker.js';
// A browser's Worker lives on, and may begin a job before its page hears of the error: it must not end one.
expose({ add: () => new Promise(() => {}) });
throw new Error('after expose');
