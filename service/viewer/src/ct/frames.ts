/** Loads slices: the wanted one at once, the others in the background, a few at a time, the nearest first. */

/** Background loads at the same time: leaves the browser connections for what is wanted now. */
const AT_ONCE = 3;

export class Frames {
  private readonly going = new Map<string, Promise<void>>();
  private readonly broken = new Set<string>();
  private waiting: string[] = [];
  private background = 0;
  private stopped = false;

  constructor(
    private readonly fetchOne: (key: string) => Promise<void>,
    private readonly has: (key: string) => boolean,
    private readonly changed: () => void = () => {},
    /** True where the service is away: nothing is wrong with the slice, and the others would not come either. */
    private readonly passing: (error: unknown) => boolean = () => false,
  ) {}

  /** Resolves when the slice is there. */
  load(key: string): Promise<void> {
    if (this.has(key)) return Promise.resolve();
    const known = this.going.get(key);
    if (known) return known;
    const promise = this.fetchOne(key)
      .then(
        () => void this.broken.delete(key),
        (error) => {
          if (!this.passing(error)) this.broken.add(key);
          throw error;
        },
      )
      .finally(() => {
        this.going.delete(key);
        if (!this.stopped) this.changed();
      });
    this.going.set(key, promise);
    return promise;
  }

  /** Which slices to fetch when nothing else is wanted, in this order; replaces what was asked for before. */
  ahead(keys: readonly string[]): void {
    this.waiting = keys.filter((key) => !this.has(key) && !this.broken.has(key));
    this.pump();
  }

  private pump(): void {
    while (!this.stopped && this.background < AT_ONCE) {
      const key = this.waiting.shift();
      if (key === undefined) return;
      if (this.has(key) || this.going.has(key)) continue;
      this.background++;
      this.load(key)
        .catch((error) => {
          // Told when somebody wants to see it.
          if (this.passing(error)) this.waiting = [];
        })
        .finally(() => {
          this.background--;
          this.pump();
        });
    }
  }

  stop(): void {
    this.stopped = true;
    this.waiting = [];
  }
}

/** Places of a stack from the nearest to the farthest, at most `most`; `ahead` = the way the reader goes wins a tie. */
export function nearestFirst(count: number, at: number, most: number, ahead: 1 | -1 = 1): number[] {
  const order: number[] = [];
  for (let step = 0; order.length < Math.min(most, count) && step < count; step++) {
    for (const place of step === 0 ? [at] : [at + ahead * step, at - ahead * step])
      if (place >= 0 && place < count && order.length < most) order.push(place);
  }
  return order;
}
