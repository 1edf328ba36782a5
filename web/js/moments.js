// Moments of the host that a task can wait for.

import { instances, macrotask } from './host.js';

// The same numbers are in src/host.rs. What is neither is a macrotask.
const FRAME = 0;
const SPARE = 1;

/** Calls the table's function `fired(answer, value)` once, when the moment comes; answers 0 if there is no such moment here. */
export function ask(instance, moment, fired, answer) {
  const call = instances[instance].table.get(fired);
  const fire = (value) => call(answer, value);
  if (moment === FRAME && typeof requestAnimationFrame !== 'function') return 0;
  if (moment === FRAME) {
    try {
      requestAnimationFrame(fire);
    } catch {
      return 0; // In a Worker's own Worker it is there, and throws.
    }
  } else if (moment === SPARE && typeof requestIdleCallback === 'function') {
    requestIdleCallback((deadline) => fire(deadline.timeRemaining()));
  } else macrotask(() => fire(0));
  return 1;
}
