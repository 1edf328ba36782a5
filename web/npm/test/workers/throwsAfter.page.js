import { expose } from '../../dist/worker.js';
expose({ add: (a, b) => a + b });
throw new Error('after expose');
