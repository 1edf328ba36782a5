// `await using`, where the compiler knows it.

import { Lock, createLoop } from 'selkie';

await using loop = await createLoop();
await using group = loop.group();
await using task = group.spawn(async () => 1);
using handle = loop.later(5, () => {});
using release = await new Lock(loop).acquire();
export const all = [task, handle, release];
