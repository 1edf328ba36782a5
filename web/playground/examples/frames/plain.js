const COUNT = 200_000;

// A little work, some microseconds of it.
let found = 0;
const work = (seed) => {
  let x = seed;
  for (let n = 0; n < 900; n += 1) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
  }
  if (x % 1000 === 0) found += 1;
};

const began = performance.now();
const promises = [];

// The same work, each after an await. All of it is one row
// of microtasks, and the page waits for the last of them.
for (let n = 0; n < COUNT; n += 1) {
  const body = async () => {
    await null;
    work(n);
  };
  promises.push(body());
}
await Promise.all(promises);

const s = ((performance.now() - began) / 1000).toFixed(1);
console.log(`${COUNT} promises in ${s} s, ${found} hits`);
