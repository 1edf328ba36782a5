// How a loop hears of other threads, in a build with threads. The protocol is in src/wake.rs.

import { Timer, hop, isExact, loops, run, visible } from './host.js';

const PAUSE = 0.25; // ms between two looks at what threads have done that are far behind.

/**
 * Gives the loop a turn whenever the word at `address` of the instance's shared memory is not 0, until it is disarmed. The word
 * at `behind` says whether it need not hurry.
 */
export function listen(handle, address, behind) {
  const loop = loops[handle];
  loop.ear = new Ear(loop, address / 4, behind / 4);
  loop.ear.hear();
}

/** For one drive: a wait that is left of an earlier one finds that its ear does not listen. */
class Ear {
  constructor(loop, word, behind) {
    this.loop = loop;
    this.word = word; // By which other threads wake the loop, as an index.
    this.behind = behind;
    this.listening = false;
    this.pausing = false; // It listens again when the pause is over.
    this.timer = undefined;
  }

  /** Anew each time, as memory grows. */
  get words() {
    return new Int32Array(this.loop.instance.memory.buffer);
  }

  /** After a turn: a loop that need not hurry pauses first. */
  hear() {
    if (this.listening || this.pausing) return;
    // Timers of a hidden page may be a second late, and those of whole ms are too long.
    if (isExact() && visible() && Atomics.load(this.words, this.behind) > 0) this.pause();
    else this.attend();
  }

  attend() {
    const wait = Atomics.waitAsync(this.words, this.word, 0);
    if (!wait.async) return hop(this.loop);
    this.listening = true;
    wait.value.then(() => {
      if (!this.listening) return;
      this.listening = false;
      // Otherwise a turn is coming, and after it the loop listens again.
      if (!this.loop.hopping) run(this.loop, 1);
    });
  }

  pause() {
    this.pausing = true;
    this.timer ??= new Timer(() => {
      this.pausing = false;
      // Otherwise a turn is coming, and after it the loop listens again.
      if (this.loop.hopping) return;
      // Where jobs are long nothing has come, and the next one wakes it.
      if (Atomics.load(this.words, this.word)) run(this.loop, 1);
      else this.attend();
    });
    this.timer.start(PAUSE);
  }

  stop() {
    if (this.listening) Atomics.notify(this.words, this.word);
    this.timer?.stop();
    this.listening = this.pausing = false;
    this.loop.ear = undefined;
  }
}
