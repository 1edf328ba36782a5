// Ways to make a Worker, most of them wrong; for tests/it/isolated.rs.

let last;

const keep = (worker) => (last = worker);

const script = (text) => new Worker(URL.createObjectURL(new Blob([text], { type: 'text/javascript' })));

export const terminateLast = () => last.terminate();

export const withGlue = () => () => keep(new Worker(new URL('./isolated-worker.js', import.meta.url), { type: 'module' }));

export const notThere = () => () => new Worker(new URL('./not-there.js', import.meta.url), { type: 'module' });

export const throwsAtLoad = () => () => script("throw new Error('thrown at load')");

export const silent = () => () => script('');

export const refused = () => () => {
  throw new Error('no Worker today');
};
