/** Headers and pixels of a series: fetched when they are wanted, decoded, and handed to cornerstone's memory. */

import { signal } from "@preact/signals";
import { passing, problemOf } from "../api/client";
import { seriesMetadata } from "../api/dicomweb";
import type { Problem } from "../api/types";
import { isThere, keep, MOST_BYTES } from "./cornerstone";
import { frameBytes, instanceMetadata, partsOf } from "./fetching";
import { Frames, nearestFirst } from "./frames";
import { hounsfield } from "./hu";
import { type Slice, slicesOf } from "./slices";

/** Share of the memory that is filled ahead: the rest is for what the reader comes from. */
const FILLED = 0.8;

export class Images {
  /** Slices whose headers are known, by key. */
  readonly slices = signal<ReadonlyMap<string, Slice>>(new Map());
  /** Slices that did not come, by key. */
  readonly failures = signal<ReadonlyMap<string, Problem>>(new Map());
  /** Resolves when the headers of all slices are known. */
  readonly all: Promise<void>;
  private readonly frames: Frames;

  constructor(
    private readonly study: string,
    private readonly series: string,
    private readonly away: AbortSignal,
    changed: () => void,
  ) {
    this.all = this.headers();
    this.all.catch(() => {}); // told where it is waited for
    this.frames = new Frames(
      (key) => this.fetch(key),
      isThere,
      changed,
      (error) => passing(problemOf(error)),
    );
  }

  private async headers(): Promise<void> {
    this.learn(slicesOf(await seriesMetadata(this.study, this.series, this.away)));
  }

  private learn(found: readonly Slice[]): void {
    this.slices.value = new Map([...this.slices.peek(), ...found.map((one) => [one.key, one] as const)]);
  }

  /** Header of a slice: of its instance alone while those of the whole series are on their way. */
  private async header(key: string): Promise<Slice> {
    const known = () => this.slices.peek().get(key);
    if (!known()) {
      const { uid } = partsOf(key);
      const one = key.includes("#")
        ? this.all
        : instanceMetadata(this.study, this.series, uid, this.away).then((found) => this.learn(slicesOf(found)));
      await Promise.any([one, this.all]).catch((error: AggregateError) => {
        throw error.errors[0];
      });
      if (!known()) await this.all;
    }
    const slice = known();
    if (!slice) throw new Error("the series has no such image");
    return slice;
  }

  private async fetch(key: string): Promise<void> {
    const { uid, frame } = partsOf(key);
    const bytes = frameBytes(this.study, this.series, uid, frame, this.away);
    bytes.catch(() => {}); // told below
    const slice = await this.header(key);
    const values = hounsfield(await bytes, slice.stored, slice.rows * slice.columns);
    if (!this.away.aborted) keep(slice, values);
  }

  /** Load a slice; whether it came is said by `failures`. */
  async load(key: string): Promise<void> {
    try {
      await this.frames.load(key);
      this.forgive(key);
    } catch (error) {
      if (!this.away.aborted) this.blame(key, error);
    }
  }

  /** Fetch the neighbours of a place in the background; `way` = where the reader goes. */
  ahead(order: readonly string[], place: number, way: 1 | -1): void {
    const slice = this.slices.peek().get(order[place]!);
    const bytes = 2 * (slice ? slice.rows * slice.columns : 512 * 512);
    const most = Math.max(3, Math.floor((FILLED * MOST_BYTES) / bytes));
    this.frames.ahead(nearestFirst(order.length, place, most, way).map((at) => order[at]!));
  }

  private blame(key: string, error: unknown): void {
    const own =
      error instanceof RangeError ? { title: "This slice is damaged", detail: error.message } : problemOf(error);
    this.failures.value = new Map([...this.failures.peek(), [key, own]]);
  }

  private forgive(key: string): void {
    if (!this.failures.peek().has(key)) return;
    this.failures.value = new Map([...this.failures.peek()].filter(([one]) => one !== key));
  }

  stop(): void {
    this.frames.stop();
  }
}
