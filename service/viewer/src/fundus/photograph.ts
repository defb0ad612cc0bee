/** A photograph in the browser: fetched and decoded once, its views computed once each by a worker of its own. */

import { call, ServiceError } from "../api/client";
import type { Look } from "./looks";
import type { Answered, Asked } from "./looks.worker";

export interface Picture {
  /** Full size, half, a quarter ... */
  levels: ImageBitmap[];
  /** The same without colours; empty until the worker has answered. */
  grey: ImageBitmap[];
}

/** Pixels a photograph is shown with at most; larger ones are made smaller (24 million: 96 MB a view). */
const MOST_PIXELS = 24e6;
/** Views of a photograph that are remembered. */
const VIEWS_KEPT = 3;

export class Photograph {
  /** Of the source image, px. */
  readonly width: number;
  readonly height: number;
  /** What can be shown at once. */
  readonly first: Picture;
  readonly #worker: Worker;
  readonly #views = new Map<string, Promise<Picture>>();
  readonly #waiting = new Map<number, (picture: Picture) => void>();
  #asked = 0;

  constructor(width: number, height: number, bitmap: ImageBitmap, copy: ImageBitmap) {
    [this.width, this.height] = [width, height];
    this.first = { levels: [bitmap], grey: [] };
    this.#worker = new Worker(new URL("./looks.worker.ts", import.meta.url), { type: "module" });
    this.#worker.onmessage = (event: MessageEvent<Answered>) => {
      const { id, ...picture } = event.data;
      this.#waiting.get(id)?.(picture);
      this.#waiting.delete(id);
    };
    this.#worker.postMessage(copy, [copy]);
  }

  /** The photograph in a view. */
  view(look: Look): Promise<Picture> {
    const key = `${look.view} ${look.invert}`;
    const known = this.#views.get(key);
    const found =
      known ??
      new Promise<Picture>((resolve) => {
        const asked: Asked = { id: this.#asked++, look };
        this.#waiting.set(asked.id, resolve);
        this.#worker.postMessage(asked);
      });
    this.#views.delete(key);
    this.#views.set(key, found); // the latest is the last to go
    const oldest = this.#views.keys().next().value;
    if (this.#views.size > VIEWS_KEPT && oldest !== undefined) this.#views.delete(oldest);
    return found;
  }

  close(): void {
    this.#worker.terminate();
  }
}

interface Kept {
  photograph: Promise<Photograph>;
  /** Parts of the page that show it now. */
  users: number;
}

const kept = new Map<string, Kept>();
const KEPT = 4;

/**
 * The photograph at the first of several addresses that has one, until it is released; the last few are remembered. One that is
 * still shown is never closed: its other views could not be computed any more.
 */
export function photograph(places: readonly string[]): { photograph: Promise<Photograph>; release: () => void } {
  const key = places[0] ?? "";
  let found = kept.get(key);
  if (!found) {
    const mine = { photograph: load(places), users: 0 };
    mine.photograph.catch(() => kept.get(key) === mine && kept.delete(key));
    found = mine;
  } else kept.delete(key);
  kept.set(key, found); // the latest is the last to go
  const one = found;
  one.users++;
  closeOld();
  return {
    photograph: one.photograph,
    release: () => {
      one.users--;
      closeOld();
    },
  };
}

function closeOld(): void {
  for (const [key, one] of kept) {
    if (kept.size <= KEPT) return;
    if (one.users > 0) continue;
    kept.delete(key);
    one.photograph.then(
      (old) => old.close(),
      () => {},
    );
  }
}

async function load(places: readonly string[]): Promise<Photograph> {
  const whole = await createImageBitmap(await fetched(places)).catch((error) => {
    if (error instanceof ServiceError) throw error;
    throw new ServiceError({
      title: "The photograph cannot be shown",
      detail: "What the service sent is no picture that this browser reads. Try again.",
    });
  });
  const { width, height } = whole;
  const factor = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
  const bitmap =
    factor === 1
      ? whole
      : await createImageBitmap(whole, {
          resizeWidth: Math.round(factor * width),
          resizeHeight: Math.round(factor * height),
          resizeQuality: "high",
        });
  return new Photograph(width, height, bitmap, await createImageBitmap(bitmap));
}

async function fetched(places: readonly string[]): Promise<Blob> {
  for (const [k, place] of places.entries()) {
    try {
      const response = await call(place, { headers: { Accept: "image/jpeg, image/png;q=0.5" } });
      return await response.blob();
    } catch (error) {
      const missing = error instanceof ServiceError && error.problem.status === 404;
      if (!missing || k === places.length - 1) throw error;
    }
  }
  throw new ServiceError({ title: "There is no photograph", detail: "The archive has no image of this analysis." });
}
