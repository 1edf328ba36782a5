// What queues and locks have in common.

import { open, signalOf } from './arguments.js';
import type { Start } from './engine.js';
import type { Loop, WaitOptions } from './loop.js';

/** A queue, or one of the locks: the scheduler keeps it until nobody can name it. */
export class Thing {
    /** @internal */ readonly id_: number;

    /** @internal */
    constructor(
        /** @internal */ readonly loop_: Loop,
        id: () => number,
    ) {
        open(loop_);
        this.id_ = id();
        loop_.own_(this, this.id_);
    }

    /** @internal The scheduler, if the loop is open. */
    get wasm_(): Loop['wasm_'] {
        this.loop_.check_();
        return this.loop_.wasm_;
    }

    /** @internal The signal, if it and the loop allow to begin. */
    begin_(options: WaitOptions | undefined): AbortSignal | undefined {
        const signal = signalOf(options);
        this.loop_.check_();
        signal?.throwIfAborted();
        return signal;
    }

    /** @internal Waits for the answer to what the scheduler is asked of this thing. */
    wait_(signal: AbortSignal | undefined, ask: Start = this.wasm_.wait_for_, item?: number, order?: number): Promise<number> {
        return this.loop_.wait_(signal, ask, this.id_, item, order);
    }
}
