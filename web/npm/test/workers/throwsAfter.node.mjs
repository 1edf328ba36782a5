import { expose } from 'selkie/worker';
expose({ add: (a, b) => a + b });
throw new Error('after expose');
