/** What is laid over an image, and how; one state for CT and photographs, kept over the session. */

import { signal } from "@preact/signals";

export type Scale = "per_image" | "per_model";

export interface Overlay {
  /** `clear`, `two-sided`, `class-<name>`. */
  kind: string;
  visible: boolean;
  /** 0..1 */
  opacity: number;
  /** 0..1: share of the scale below which nothing is drawn. */
  threshold: number;
  /** What full strength means: the strongest of this image, or the model's reference (comparable between patients). */
  scale: Scale;
  /** Outline of the critical region. */
  contour: boolean;
  /** Box round the nodule's window, or round the most attentive region of a photograph. */
  box: boolean;
}

export const overlay = signal<Overlay>({
  kind: "clear",
  visible: true,
  opacity: 0.6,
  threshold: 0.02,
  scale: "per_image",
  contour: true,
  box: true,
});

export function setOverlay(change: Partial<Overlay>): void {
  overlay.value = { ...overlay.value, ...change };
}

/** Index of the class that a kind shows; null for a map of all classes. */
export function classOf(kind: string, classes: readonly string[]): number | null {
  const at = kind.startsWith("class-") ? classes.indexOf(kind.slice("class-".length)) : -1;
  return at < 0 ? null : at;
}

/** The outline is that of the answer's class: it does not belong on the map of another. */
export function contoured(kind: string, region: { class: string } | null): boolean {
  return !kind.startsWith("class-") || kind === `class-${region?.class}`;
}

/** The kinds that a finding has, in the order of the page: CLEAR, every class, two-sided. */
export function kindsOf(maps: Record<string, string>): string[] {
  const order = (kind: string) => (kind === "clear" ? 0 : kind === "two-sided" ? 2 : 1);
  return Object.keys(maps).sort((a, b) => order(a) - order(b));
}

/** Names of the classes that have a map of their own, in the model's order. */
export function classNames(maps: Record<string, string>): string[] {
  return kindsOf(maps)
    .filter((kind) => kind.startsWith("class-"))
    .map((kind) => kind.slice("class-".length));
}
