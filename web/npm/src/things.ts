// What queues and locks have in common.

import type { Loop } from './loop.js';

/** A queue, or one of the locks: the scheduler keeps it until nobody can name it. */
export class Thing {
    /** @internal */ readonly id_: number;

    /** @internal */
    constructor(
        /** @internal */ readonly loop_: Loop,
        id: () => number,
    ) {
        loop_.check_();
        this.id_ = id();
        loop_.own_(this, this.id_);
    }

    /** @internal The scheduler, if the loop is open. */
    get wasm_(): Loop['wasm_'] {
        this.loop_.check_();
        return this.loop_.wasm_;
    }

    /** @internal */
    wait_(signal: AbortSignal | undefined): Promise<number> {
        return this.loop_.wait_(signal, (slot) => this.loop_.wasm_.wait_for_(slot, this.id_));
    }
}
