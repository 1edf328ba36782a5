import { createLoop } from 'selkie';

const loop = await createLoop();

const start = (name, ms) =>
  loop.spawn((ctx) => ctx.sleep(ms), { name });
const tasks = [
  start('a', 400),
  start('b', 800),
  start('c', 1300),
  start('d', 1900),
];

const names = (set) =>
  [...set].map((task) => task.name).join(', ') || 'none';
const say = (when, { done, pending }) => {
  console.log(`${when}: ${names(done)} done`);
  console.log(`${when}: ${names(pending)} pending`);
};

// wait() gives back control in stages, and cancels nothing:
// what is pending goes on, and can be waited for again.
let sets = await loop.wait(tasks, {
  until: 'first-completed',
});
say('first', sets);

sets = await loop.wait(sets.pending, { timeoutMs: 700 });
say('0.7 s on', sets);

sets = await loop.wait(sets.pending);
say('all', sets);
