// The frames of this page while something runs. Each is as wide as it was long, on one line of time, so that a page that stood
// still is one wide block.

import { calm, duration } from './dom';
import { colour, onTheme } from './theme';

/** What the full height of the graph stands for, in ms. */
const HIGH = 100;
/** A frame up to so long is a good one, and up to so long one that nobody sees. */
const GOOD = 25;
const BAD = 50;

export class Frames {
    private frames: { at: number; length: number }[] = [];
    private began = 0;
    private before = 0;
    /** Which run is wanted, so that the loop of an earlier one ends. */
    private run = 0;
    private length = 1;
    /** When the code ran; what is before and after is drawn, and not counted. */
    private from = 0;
    private to = Infinity;

    constructor(
        private readonly graph: HTMLCanvasElement,
        private readonly numbers: HTMLElement,
        private readonly each: (now: number) => void,
    ) {
        onTheme(() => this.draw());
        new ResizeObserver(() => this.draw()).observe(graph);
    }

    clear(): void {
        this.frames = [];
        this.from = 0;
        this.to = Infinity;
        this.length = 1;
        this.numbers.replaceChildren();
        this.graph.setAttribute('aria-label', 'No frames yet');
        this.draw();
    }

    start(length: number): void {
        this.clear();
        this.length = length;
        const mine = (this.run += 1);
        this.began = performance.now();
        requestAnimationFrame((now) => {
            if (mine !== this.run) return;
            this.began = this.before = now;
            const frame = (at: number): void => {
                if (mine !== this.run) return;
                // Two callbacks of one frame have one time.
                if (at > this.before) this.add(at);
                this.each(at);
                this.draw();
                requestAnimationFrame(frame);
            };
            requestAnimationFrame(frame);
        });
    }

    stop(): void {
        this.run += 1;
        const last = this.frames.at(-1);
        if (last) this.length = last.at + last.length;
        this.draw();
        this.graph.setAttribute('aria-label', this.text(' frames a second') || 'No frames');
    }

    /** The code begins now. */
    begin(): void {
        this.from = performance.now() - this.began;
    }

    /** The code has ended. */
    end(): void {
        this.to = performance.now() - this.began;
    }

    private get longest(): number {
        return this.frames.reduce((most, { at, length }) => (at + length < this.from || at > this.to ? most : Math.max(most, length)), 0);
    }

    text(unit: string): string {
        const last = this.frames.at(-1);
        if (!last) return '';
        const { from, to, longest } = this;
        const text = `longest ${longest < 1000 ? `${Math.round(longest)} ms` : duration(longest)}`;
        const spent = Math.min(last.at + last.length, to) - from;
        const count = this.frames.filter(({ at, length }) => at + length > from && at + length <= to).length;
        // Of a few frames there is no rate to speak of.
        return spent < 250 ? text : `${Math.round((count * 1000) / spent)}${unit}, ${text}`;
    }

    private add(at: number): void {
        const length = at - this.before;
        this.frames.push({ at: this.before - this.began, length });
        this.before = at;
        if (at - this.began > this.length) this.length = (at - this.began) * 1.3;
        // A long run keeps its newest.
        if (this.frames.length > 4000) this.frames.splice(0, 1000);
    }

    draw(): void {
        const { graph } = this;
        const scale = devicePixelRatio || 1;
        const [width, height] = [graph.clientWidth, graph.clientHeight];
        if (!width) return;
        if (graph.width !== Math.round(width * scale)) graph.width = Math.round(width * scale);
        if (graph.height !== Math.round(height * scale)) graph.height = Math.round(height * scale);
        const context = graph.getContext('2d')!;
        context.setTransform(scale, 0, 0, scale, 0, 0);
        context.clearRect(0, 0, width, height);
        const first = this.frames[0]?.at ?? 0;
        const x = (ms: number): number => ((ms - first) / (this.length - first)) * width;
        const y = (ms: number): number => height - Math.sqrt(Math.min(ms, HIGH) / HIGH) * (height - 2);
        for (const { at, length } of this.frames) {
            context.fillStyle = colour(length <= GOOD ? 'frame' : length <= BAD ? 'running' : 'failed');
            const [from, to] = [x(at), x(at + length)];
            context.fillRect(from, y(length), Math.max(to - from - (to - from > 2.5 ? 1 : 0.25), 0.75), height);
        }
        context.strokeStyle = colour('line-strong');
        context.setLineDash([3, 3]);
        context.beginPath();
        context.moveTo(0, Math.round(y(1000 / 60)) + 0.5);
        context.lineTo(width, Math.round(y(1000 / 60)) + 0.5);
        context.stroke();
        context.setLineDash([]);
        for (const { at, length } of this.frames) {
            if (length < 300) continue;
            const [from, to] = [x(at), x(at + length)];
            context.font = `600 12px ${getComputedStyle(graph).fontFamily}`;
            context.textAlign = 'center';
            context.textBaseline = 'middle';
            context.fillStyle = colour('surface');
            if (to - from > 60) context.fillText(`one frame: ${duration(length)}`, (from + to) / 2, height / 2 + 2, to - from - 8);
        }
        const text = this.text(' fps');
        if (text && this.numbers.textContent !== text) this.numbers.textContent = text;
        const { longest } = this;
        this.numbers.dataset['state'] = longest > 200 ? 'bad' : longest > BAD ? 'fair' : 'good';
    }
}

/** The seal: drawn frame by frame, so that it stands still when the page does. */
export class Sea {
    private phase = 0;
    private last = 0;

    constructor(private readonly canvas: HTMLCanvasElement) {
        onTheme(() => this.draw());
        new ResizeObserver(() => this.draw()).observe(canvas);
    }

    frame(now: number): void {
        if (this.canvas.hidden || calm.matches) return;
        this.phase += Math.min(now - (this.last || now), 100) / 1000;
        this.last = now;
        this.draw();
    }

    draw(): void {
        const { canvas, phase } = this;
        if (canvas.hidden) return;
        const scale = devicePixelRatio || 1;
        const [width, height] = [canvas.clientWidth, canvas.clientHeight];
        if (!width) return;
        if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
        if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
        const context = canvas.getContext('2d')!;
        context.setTransform(scale, 0, 0, scale, 0, 0);
        context.clearRect(0, 0, width, height);
        const wave = (layer: number, x: number): number => {
            const speed = [0.7, 1.1, 1.6][layer]!;
            const long = [210, 150, 118][layer]!;
            return height * [0.5, 0.6, 0.72][layer]! + Math.sin(x / long + phase * speed * 2 + layer * 2) * 7 + Math.sin(x / (long / 2.7) - phase * speed) * 3;
        };
        const water = (layer: number): void => {
            context.fillStyle = colour(`sea-${layer}`);
            context.beginPath();
            // Beyond the edge, which may lie within a pixel.
            context.moveTo(0, height + 2);
            for (let x = 0; x <= width + 4; x += 4) context.lineTo(x, wave(layer, x));
            context.lineTo(width + 4, height + 2);
            context.fill();
        };
        water(0);
        water(1);
        // Between the second and the third wave: it looks out of the water.
        const x = width * (0.5 - 0.38 * Math.cos(phase * 0.9));
        const right = Math.sin(phase * 0.9) >= 0;
        const y = wave(2, x) - 12;
        context.save();
        context.translate(x, y);
        context.scale(right ? 1 : -1, 1);
        context.scale(1.7, 1.7);
        context.rotate(Math.sin(phase * 2.3) * 0.08);
        seal(context);
        context.restore();
        water(2);
    }
}

function seal(context: CanvasRenderingContext2D): void {
    context.fillStyle = colour('seal');
    context.beginPath();
    // From the neck over the head to the nose, and back beneath the chin.
    context.moveTo(-26, 34);
    context.bezierCurveTo(-30, 2, -24, -24, 2, -25);
    context.bezierCurveTo(17, -25, 22, -16, 27, -11);
    context.bezierCurveTo(33, -8, 33, -1, 27, 1);
    context.bezierCurveTo(20, 4, 20, 14, 24, 34);
    context.fill();
    context.fillStyle = colour('seal-light');
    context.beginPath();
    context.ellipse(24, -4, 7.5, 5.5, 0.2, 0, 7);
    context.fill();
    context.fillStyle = colour('seal-dark');
    context.beginPath();
    context.arc(11, -12, 3.1, 0, 7);
    context.fill();
    context.beginPath();
    context.ellipse(30, -7.5, 2.6, 1.9, 0.3, 0, 7);
    context.fill();
    context.fillStyle = '#fff';
    context.beginPath();
    context.arc(12.2, -13.1, 1, 0, 7);
    context.fill();
    context.strokeStyle = colour('seal-dark');
    context.lineWidth = 0.9;
    context.lineCap = 'round';
    for (const turn of [-0.25, 0.1, 0.45]) {
        context.beginPath();
        context.moveTo(23, -2);
        context.lineTo(23 - Math.cos(turn) * 13, -2 + Math.sin(turn) * 13);
        context.stroke();
    }
}
