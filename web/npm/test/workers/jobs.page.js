import { expose, job } from '../../dist/worker.js';
import { functions } from './functions.js';
expose(functions(job));
