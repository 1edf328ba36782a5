import { expose } from 'WORKER';

expose({ job: (a, b) => a + b });
