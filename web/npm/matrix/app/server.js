// Rendering on a server: importing touches nothing, and the page's code runs later, in the page.

const before = Object.getOwnPropertyNames(globalThis).join();
const resources = () => (process.getActiveResourcesInfo?.() ?? []).filter((name) => name !== 'PipeWrap' && name !== 'TTYWrap').join();
const held = resources();
const { createLoop, Queue } = await import('selkie');
await import('selkie/inline');

export const render = () => `<button onclick="start()">${typeof createLoop} ${typeof Queue}</button>`;

const touched = Object.getOwnPropertyNames(globalThis).join() !== before || resources() !== held;
console.log(JSON.stringify(touched ? ['the import left something behind'] : ['task', 'timer', 'job']));
if (render() !== '<button onclick="start()">function function</button>') throw new Error(render());
