const COUNT = 200_000;

// A little work, some microseconds of it.
let found = 0;
const work = (seed) => {
    let x = seed;
    for (let n = 0; n < 900; n += 1) x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    if (x % 1000 === 0) found += 1;
};

const began = performance.now();
const promises = [];

// The same work after an await: all of it is one row of microtasks, and the page waits for the last.
for (let n = 0; n < COUNT; n += 1) {
    promises.push((async () => {
        await null;
        work(n);
    })());
}
await Promise.all(promises);

const seconds = ((performance.now() - began) / 1000).toFixed(1);
console.log(`${promises.length} promises in ${seconds} s, ${found} hits`);
