/** How photographs are looked at: view, zoom, which stand side by side. */

import { signal } from "@preact/signals";
import type { Analysis } from "../api/types";
import { mirrored, type Place, WHOLE } from "./geometry";
import type { View } from "./looks";
import type { Eye, Pane } from "./shots";

export const view = signal<View>("natural");
export const invert = signal(false);
/** The photograph fades to grey under its map: an orange class cannot be seen on an orange retina. */
export const greyUnder = signal(true);
/** Both panes zoom and move together. */
export const linked = signal(true);
/** By pane, from the left. */
export const places = signal<readonly Place[]>([WHOLE, WHOLE]);
/** Of several photographs of an eye the one that was picked. */
export const chosen = signal<Partial<Record<Eye, string>>>({});
/** Two photographs without a study that were put side by side. */
export const pair = signal<readonly Analysis[]>([]);

/** Look elsewhere in a pane; the other follows where they are linked, mirrored if it is the fellow eye. */
export function look(index: number, place: Place, panes: readonly Pane[]): void {
  const fellow = panes.length === 2 && panes[0]!.eye !== panes[1]!.eye && panes.every((one) => one.eye !== "");
  places.value = places.peek().map((old, k) => {
    if (k === index) return place;
    return linked.peek() ? (fellow ? mirrored(place) : place) : old;
  });
}
