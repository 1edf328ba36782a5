import { expose } from 'selkie/worker';
expose({ exit: () => process.exit(3), add: (a, b) => a + b });
