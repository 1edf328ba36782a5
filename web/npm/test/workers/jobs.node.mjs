import { expose, job } from 'selkie/worker';
import { functions } from './functions.js';
expose(functions(job));
