import { expose, job } from 'selkie/worker';

const isPrime = (n) => {
  for (let d = 2; d * d <= n; d += 1) {
    if (n % d === 0) return false;
  }
  return n > 1;
};

expose({
  countPrimes: job((ctx, from, to) => {
    let count = 0;
    for (let n = from; n < to; n += 1) {
      if (isPrime(n)) count += 1;
      if (n % 1000 === 0) {
        ctx.progress((n - from) / (to - from));
      }
    }
    return count;
  }),

  forever() {
    for (;;);
  },
});
