// Values of JavaScript, which the scheduler knows by number.

/** @internal */
export class Slots<T> {
    readonly list_: (T | undefined)[] = [];
    private readonly free_: number[] = [];

    add_(value: T): number {
        const slot = this.free_.pop() ?? this.list_.length;
        this.list_[slot] = value;
        return slot;
    }

    take_(slot: number): T | undefined {
        const value = this.list_[slot];
        this.list_[slot] = undefined;
        this.free_.push(slot);
        return value;
    }

    clear_(): void {
        this.list_.length = this.free_.length = 0;
    }
}
