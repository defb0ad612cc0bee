/** One series on the stage: which slices there are, which is shown, how it is looked at. Signals, so that the parts can follow. */

import { batch, computed, signal } from "@preact/signals";
import { passing, problemOf } from "../api/client";
import type { Problem } from "../api/types";
import { isThere, valuesOf } from "./cornerstone";
import { type Affine, apply, direction, downwards, invert, letters, magnification, type Vector } from "./geometry";
import { Images } from "./images";
import { ordered, type Slice, slicePitch } from "./slices";
import { CtViewport, type ToolName } from "./viewport";

export interface Window {
  center: number;
  width: number;
}

/** Windows of chest CT: level and width, HU. */
export const PRESETS: readonly { name: string; key: string; window: Window | null }[] = [
  { name: "Lung", key: "1", window: { center: -600, width: 1500 } },
  { name: "Mediast.", key: "2", window: { center: 40, width: 400 } },
  { name: "Bone", key: "3", window: { center: 300, width: 1500 } },
  { name: "Full", key: "4", window: null },
];

/** So many slices that were wanted are on their way at most: over a slow line the latest must not wait for all before it. */
const MOST_WANTED = 2;
/** A service that is away is asked again so often. */
const AGAIN_MS = 2000;

export class Session {
  /** Keys in stack order; empty until they are known. */
  readonly order = signal<readonly string[]>([]);
  /** Place of the slice that is drawn; -1 before the first. */
  readonly shown = signal(-1);
  /** Place of the slice that the reader went to. */
  readonly wanted = signal(-1);
  /** Nothing of the series can be shown. */
  readonly trouble = signal<Problem | null>(null);
  /** How many slices are in memory. */
  readonly there = signal(0);
  readonly view = signal<Affine | null>(null);
  readonly window = signal<Window>({ center: -600, width: 1500 });
  readonly inverted = signal(false);
  readonly tool = signal<ToolName>("WindowLevel");
  /** A click names a nodule. */
  readonly picking = signal(false);
  readonly measurements = signal(0);
  readonly playing = signal(false);
  readonly speed = signal(10);
  /** Mouse on the element, CSS pixels. */
  readonly mouse = signal<[number, number] | null>(null);

  private readonly images: Images;
  private readonly away = new AbortController();
  private viewport: CtViewport | null = null;
  private filling = 0;
  private showing = 0;
  private again = 0;
  /** Place that the viewport was given last; it is drawn with its next picture. */
  private given = -1;
  private begun = false;
  /** Of the last picture: whether it showed the whole image, and the element's size. */
  private fits = true;
  private size: [number, number] = [0, 0];
  private way: 1 | -1 = 1;

  /** The slice that is drawn. */
  readonly slice = computed<Slice | null>(
    () => this.images.slices.value.get(this.order.value[this.shown.value] ?? "") ?? null,
  );

  /** The slices of the stack whose headers are known, in order. */
  readonly stack = computed<Slice[]>(() =>
    this.order.value.map((key) => this.images.slices.value.get(key)).filter((one) => one !== undefined),
  );

  /** Distance of neighbours, mm. */
  readonly pitch = computed<number | null>(() => slicePitch(this.stack.value));

  /** Change of place for one step down the screen: towards the feet in an axial stack. */
  readonly down = computed<1 | -1>(() => {
    const [first, last] = [this.stack.value[0], this.stack.value.at(-1)];
    return first && last && first.placed && last.placed ? downwards(first, last) : 1;
  });

  /** The slice the reader went to did not come. */
  readonly failure = computed<Problem | null>(
    () => this.images.failures.value.get(this.order.value[this.wanted.value] ?? "") ?? null,
  );

  constructor(
    readonly study: string,
    readonly series: string,
  ) {
    this.images = new Images(study, series, this.away.signal, () => {
      this.there.value = this.order.peek().filter(isThere).length;
    });
  }

  /** Draw on an element. `keys` = order of the stack where it is known; `at` = which place first. */
  async start(element: HTMLDivElement, keys: readonly string[], at: number | undefined): Promise<void> {
    if (keys.length) {
      this.put(keys, at);
      this.fill(this.wanted.peek());
    }
    const [viewport] = await Promise.allSettled([
      CtViewport.on(element, {
        drawn: () => this.drawn(),
        window: (center, width) => {
          this.window.value = { center, width };
        },
        scrolled: (steps) => this.step(steps),
        measured: (count) => {
          this.measurements.value = count;
        },
      }),
    ]);
    if (viewport.status === "rejected") {
      this.trouble.value = {
        title: "This browser cannot draw the images",
        detail: "Use a current Firefox, Chrome, Edge or Safari. The answers in the panel do not depend on it.",
      };
      return;
    }
    if (this.away.signal.aborted) {
      viewport.value.destroy();
      return;
    }
    this.viewport = viewport.value;
    this.viewport.order(this.order.peek());
    this.soon();
    try {
      await this.images.all;
    } catch (error) {
      if (!this.away.signal.aborted) this.trouble.value = problemOf(error);
      return;
    }
    if (this.away.signal.aborted || this.order.peek().length) return;
    const sorted = ordered([...this.images.slices.peek().values()]).map((one) => one.key);
    if (sorted.length) this.reorder(sorted, at);
    else
      this.trouble.value = { title: "This series has no images", detail: "Choose another series, or send it again." };
  }

  private put(keys: readonly string[], at: number | undefined): void {
    this.order.value = keys;
    this.wanted.value = Math.min(keys.length - 1, Math.max(0, at ?? Math.floor(keys.length / 2)));
  }

  /** Another order of the same series: that of an analysis. The slice that is shown stays. */
  reorder(keys: readonly string[], at?: number): void {
    if (keys.join() === this.order.peek().join()) return;
    const now = this.order.peek()[this.wanted.peek()];
    const same = now === undefined ? -1 : keys.indexOf(now);
    this.given = -1;
    this.shown.value = -1;
    this.put(keys, at ?? (same >= 0 ? same : undefined));
    this.viewport?.order(keys);
    this.go(this.wanted.peek());
  }

  /** Go to a place of the stack (0-based); out of it, to its ends. */
  go(index: number): void {
    const count = this.order.peek().length;
    if (!count) return;
    const place = Math.min(count - 1, Math.max(0, index));
    if (place !== this.wanted.peek()) this.way = place > this.wanted.peek() ? 1 : -1;
    this.wanted.value = place;
    this.fill(place);
  }

  /** Steps down the screen; negative ones up. */
  step(steps: number): void {
    this.go(this.wanted.peek() + steps * this.down.peek());
  }

  /** The uppermost (or lowest) slice as the rail shows the stack. */
  end(upper: boolean): void {
    this.go(upper === this.down.peek() > 0 ? 0 : this.order.peek().length - 1);
  }

  /** Try again to load what failed. */
  retry(): void {
    this.go(this.wanted.peek());
  }

  private async fill(place: number): Promise<void> {
    const key = this.order.peek()[place]!;
    if (this.filling >= MOST_WANTED && !isThere(key)) return;
    this.filling++;
    await this.images.load(key);
    this.filling--;
    if (this.away.signal.aborted) return;
    if (this.wanted.peek() !== place) {
      // The reader went on, and what is wanted now may have had to wait.
      if (!isThere(this.order.peek()[this.wanted.peek()] ?? "")) this.fill(this.wanted.peek());
      return;
    }
    const failure = this.images.failures.peek().get(key);
    if (failure && passing(failure)) {
      clearTimeout(this.again);
      this.again = window.setTimeout(() => this.retry(), AGAIN_MS);
      return;
    }
    if (isThere(key)) this.soon();
    this.images.ahead(this.order.peek(), place, this.way);
  }

  /** Draw what is wanted with the next picture of the screen: of several steps in between the last one counts. */
  private soon(): void {
    if (this.showing) return;
    this.showing = requestAnimationFrame(() => {
      this.showing = 0;
      this.draw();
    });
  }

  private async draw(): Promise<void> {
    const place = this.wanted.peek();
    const key = this.order.peek()[place];
    const slice = this.images.slices.peek().get(key ?? "");
    if (!this.viewport || !slice || !isThere(slice.key)) return;
    const window = this.begun ? this.window.peek() : null;
    const fresh = await this.viewport.show(place);
    if (this.away.signal.aborted || this.order.peek()[place] !== key) return;
    this.given = place;
    if (fresh) this.begin(slice, window);
    if (this.wanted.peek() !== place) this.soon();
  }

  /** A stack that was just given has lost window, grey scale and orientation. */
  private begin(slice: Slice, before: Window | null): void {
    if (!this.begun) this.inverted.value = slice.stored.photometric === "MONOCHROME1";
    this.begun = true;
    const { center, width } = before ?? this.usual(slice);
    this.setWindow(center, width);
    if (this.inverted.peek()) this.setInverted(true);
    this.viewport!.settle(slice);
  }

  /** The window at first: of the lungs; of other images, and of other parts of the body, what the header says. */
  private usual(slice: Slice): Window {
    const elsewhere = slice.part !== "" && !/CHEST|THORA|LUNG|BODY|TRUNK/.test(slice.part);
    if (slice.modality === "CT" && !(elsewhere && slice.window)) return PRESETS[0]!.window!;
    return slice.window ?? this.full(slice);
  }

  private drawn(): void {
    const slice = this.images.slices.peek().get(this.order.peek()[this.given] ?? "");
    if (!this.viewport || !slice) return;
    const view = this.viewport.view(slice);
    this.fits = this.fitting(view, slice);
    this.size = [this.viewport.element.clientWidth, this.viewport.element.clientHeight];
    batch(() => {
      this.shown.value = this.given;
      if (!same(view, this.view.peek())) this.view.value = view;
    });
  }

  private fitting(view: Affine, slice: Slice): boolean {
    const { clientWidth, clientHeight } = this.viewport!.element;
    const [x, y] = apply(view, slice.columns / 2, slice.rows / 2);
    const near = Math.abs(x - clientWidth / 2) < 2 && Math.abs(y - clientHeight / 2) < 2;
    const corners = [apply(view, 0, 0), apply(view, slice.columns, slice.rows)] as const;
    const w = Math.abs(corners[1][0] - corners[0][0]) / clientWidth;
    const h = Math.abs(corners[1][1] - corners[0][1]) / clientHeight;
    return near && Math.abs(Math.max(w, h) - 1) < 0.02;
  }

  /** From the darkest to the brightest value of the slice. */
  full(slice: Slice | null = this.slice.peek()): Window {
    const values = slice && valuesOf(slice.key);
    if (!values?.length) return { center: 0, width: 2000 };
    let [lowest, highest] = [values[0]!, values[0]!];
    for (let k = 1; k < values.length; k++) {
      if (values[k]! < lowest) lowest = values[k]!;
      else if (values[k]! > highest) highest = values[k]!;
    }
    return { center: (lowest + highest) / 2, width: Math.max(1, highest - lowest) };
  }

  setWindow(center: number, width: number): void {
    this.viewport?.setWindow(center, width);
    this.window.value = { center, width };
  }

  preset(at: number): void {
    const one = PRESETS[at];
    if (!one) return;
    const { center, width } = one.window ?? this.full();
    this.setWindow(center, width);
  }

  setInverted(inverted: boolean): void {
    this.inverted.value = inverted;
    this.viewport?.setInverted(inverted);
  }

  setTool(tool: ToolName): void {
    this.tool.value = tool;
    this.picking.value = false;
    this.viewport?.setTool(tool);
  }

  flip(): void {
    const slice = this.slice.peek();
    if (slice) this.viewport?.flip(slice);
  }

  rotate(): void {
    const slice = this.slice.peek();
    if (slice) this.viewport?.rotate(slice);
  }

  /** The view, the window and the grey scale as at first. */
  reset(): void {
    const slice = this.slice.peek();
    if (!slice || !this.viewport) return;
    this.setInverted(slice.stored.photometric === "MONOCHROME1");
    this.viewport.reset(slice);
    const { center, width } = this.usual(slice);
    this.setWindow(center, width);
  }

  zoom(factor: number, X?: number, Y?: number): void {
    const slice = this.slice.peek();
    if (slice) this.viewport?.zoom(factor, slice, X, Y);
  }

  /** Fill 60 % of the stage with a box of the image. */
  frame(box: readonly [number, number, number, number]): void {
    const slice = this.slice.peek();
    if (slice) this.viewport?.frame(box, 0.6, slice);
  }

  /** Show the whole image. */
  fit(): void {
    const slice = this.slice.peek();
    if (slice) this.viewport?.reset(slice);
  }

  /** Shorter side of the stage, CSS pixels. */
  imageSize(): number {
    const element = this.viewport?.element;
    return element ? Math.min(element.clientWidth, element.clientHeight) : 0;
  }

  /** Move the image so that a place of it can be seen, where it lies outside. */
  reveal(x: number, y: number): void {
    const [slice, view] = [this.slice.peek(), this.view.peek()];
    if (!slice || !view || !this.viewport) return;
    const { clientWidth: w, clientHeight: h } = this.viewport.element;
    const [X, Y] = apply(view, x, y);
    if (X < 0.05 * w || X > 0.95 * w || Y < 0.05 * h || Y > 0.95 * h) this.viewport.bring(x, y, w / 2, h / 2, slice);
  }

  clearMeasurements(onlySelected = false): void {
    this.viewport?.clear(onlySelected);
  }

  escape(): void {
    if (this.picking.peek()) this.picking.value = false;
    else if (!this.viewport?.cancel() && this.tool.peek() !== "WindowLevel") this.setTool("WindowLevel");
  }

  resize(): void {
    const view = this.view.peek();
    const middle = this.fits || !view ? null : invert(view, this.size[0] / 2, this.size[1] / 2);
    this.viewport?.resize(this.slice.peek(), middle);
  }

  /** Value under a place of the image; null outside. */
  valueAt(x: number, y: number): number | null {
    const slice = this.slice.peek();
    const values = slice && valuesOf(slice.key);
    const [column, row] = [Math.floor(x), Math.floor(y)];
    if (!values || column < 0 || row < 0 || column >= slice.columns || row >= slice.rows) return null;
    return values[row * slice.columns + column] ?? null;
  }

  /** Place of the image under a place of the element. */
  placeAt(X: number, Y: number): [number, number] | null {
    const view = this.view.peek();
    return view && invert(view, X, Y);
  }

  /** Letters at the edges of the stage: left, right, top, bottom. */
  readonly edges = computed<[string, string, string, string] | null>(() => {
    const [view, slice] = [this.view.value, this.slice.value];
    if (!view || !slice?.placed) return null;
    const at = (X: number, Y: number) => letters(direction(view, slice, X, Y) as Vector);
    return [at(-1, 0), at(1, 0), at(0, -1), at(0, 1)];
  });

  /** CSS pixels of an image pixel. */
  readonly magnification = computed(() => (this.view.value ? magnification(this.view.value) : 1));

  get cpu(): boolean {
    return this.viewport?.cpu ?? false;
  }

  destroy(): void {
    this.away.abort();
    this.images.stop();
    cancelAnimationFrame(this.showing);
    clearTimeout(this.again);
    this.viewport?.destroy();
    this.viewport = null;
  }
}

function same(a: Affine, b: Affine | null): boolean {
  return b !== null && (Object.keys(a) as (keyof Affine)[]).every((key) => a[key] === b[key]);
}
