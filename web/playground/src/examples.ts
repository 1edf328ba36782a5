// What there is to choose from. The files are in examples/, as one would write them.

import cancel from '../examples/cancel.js?raw';
import eager from '../examples/eager.js?raw';
import framesPlain from '../examples/frames/plain.js?raw';
import framesSelkie from '../examples/frames/selkie.js?raw';
import gather from '../examples/gather.js?raw';
import group from '../examples/group.js?raw';
import jobs from '../examples/pool/jobs.js?raw';
import pool from '../examples/pool/main.js?raw';
import queue from '../examples/queue.js?raw';
import virtual from '../examples/virtual.js?raw';
import wait from '../examples/wait.js?raw';

export interface File {
    readonly name: string;
    readonly source: string;
}

/** One of several ways to write an example, to choose by a switch. */
export interface Variant {
    readonly id: string;
    readonly label: string;
    readonly files: readonly File[];
}

export interface Example {
    readonly id: string;
    /** As it is called among the others. */
    readonly label: string;
    readonly title: string;
    readonly shows: string;
    readonly variants: readonly Variant[];
    /** On the page's own thread, where one sees what that does to the page; else in a Worker. */
    readonly onPage?: boolean;
    /** How long it takes, about, in ms: what the timeline begins with. */
    readonly length: number;
    /** So many lanes will be there: room that is kept, so that what is below does not move. */
    readonly lanes: number;
}

const file = (name: string, source: string): File => ({ name, source: source.trimEnd() });
const single = (source: string): readonly Variant[] => [{ id: 'selkie', label: 'selkie', files: [file('main.js', source)] }];

export const EXAMPLES: readonly Example[] = [
    {
        id: 'gather',
        label: 'Gather',
        title: 'Gather against sequential',
        shows: 'Three requests one after the other take the sum of their times. Gathered, they take as long as the longest, and the results come in the order of the calls.',
        variants: single(gather),
        length: 2800,
        lanes: 7,
    },
    {
        id: 'frames',
        label: '200,000 tasks',
        title: '200,000 tasks, 60 frames',
        shows: 'The seal is drawn by this page, on the thread on which the tasks run. The loop stops every few milliseconds so that the page can paint. Promises do not: switch, and run the same work with them.',
        variants: [
            { id: 'selkie', label: 'selkie', files: [file('main.js', framesSelkie)] },
            { id: 'plain', label: 'Plain promises', files: [file('main.js', framesPlain)] },
        ],
        onPage: true,
        length: 3000,
        lanes: 9,
    },
    {
        id: 'pool',
        label: 'Worker pool',
        title: 'Worker pool with progress',
        shows: 'Jobs in two Workers report how far they are. One of them never ends: its time limit ends it with its Worker, and the pool goes on with a new one.',
        variants: [{ id: 'selkie', label: 'selkie', files: [file('main.js', pool), file('jobs.js', jobs)] }],
        length: 2500,
        lanes: 6,
    },
    {
        id: 'group',
        label: 'Group',
        title: 'Group with a failing child',
        shows: 'Four tasks that belong together. When one fails the others are cancelled, clean up, and only then the error comes out. Nothing is left running.',
        variants: single(group),
        length: 1500,
        lanes: 6,
    },
    {
        id: 'wait',
        label: 'Wait',
        title: 'Wait in stages',
        shows: 'wait() answers with done and pending: after the first, after a while, after all. It cancels nothing, so one can go on waiting for the rest.',
        variants: single(wait),
        length: 2000,
        lanes: 4,
    },
    {
        id: 'cancel',
        label: 'Cancel',
        title: 'Cancel, time out, shield',
        shows: 'A cancel is raised where the task waits, so finally blocks run. It reaches what the task waits for, and stops at what is shielded.',
        variants: single(cancel),
        length: 1600,
        lanes: 5,
    },
    {
        id: 'queue',
        label: 'Queue',
        title: 'Queue between tasks',
        shows: 'A baker and two who eat, with a shelf that holds two loaves. A full shelf holds the baker back, and who waits longest is served first.',
        variants: single(queue),
        length: 2600,
        lanes: 4,
    },
    {
        id: 'eager',
        label: 'Eager or lazy',
        title: 'Eager against lazy',
        shows: 'A task runs to its first await within spawn, as an async function does. Or it starts at the next turn of the loop, as in asyncio.',
        variants: single(eager),
        length: 1200,
        lanes: 4,
    },
    {
        id: 'virtual',
        label: 'Test time',
        title: 'Hours in a test',
        shows: 'A loop for tests has a clock of its own. Four hours of retries and heartbeats take a moment, and a seed makes every run the same.',
        variants: single(virtual),
        length: 4 * 3_600_000,
        lanes: 2,
    },
];
