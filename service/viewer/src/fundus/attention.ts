/**
 * The most attentive region of a photograph, as a box.
 *
 * Responses lie in specks of a few pixels, so "the largest connected part" of a map would be one speck among many alike. The
 * positive response is therefore averaged over a square of 1/16 of the map's width (about a disc's radius); where that mean is at
 * least half its largest value, pixels that touch belong together; of these parts the one with the largest summed response is
 * the region. It is named after the class whose dominant response inside it sums up highest.
 */

import { classOf } from "../maps/overlay";
import { classMap, dominant, type ResponseMaps } from "../maps/response";
import type { Size } from "./geometry";

export interface Region {
  /** (x0, y0, x1, y1) in pixels of the image, borders at whole numbers. */
  box: [number, number, number, number];
  /** Index of its class. */
  c: number;
  /** Its part of all positive response of the map. */
  share: number;
}

const WINDOW = 1 / 16;
const LEVEL = 0.5;

/** null where nothing of this kind of map is positive. `probabilities` say which class a two-sided map is about. */
export function mostAttentive(
  maps: ResponseMaps,
  kind: string,
  probabilities: readonly number[],
  image: Size,
): Region | null {
  const [, n, h, w] = maps.shape;
  const [x0, y0, x1, y1] = maps.box_px[0]!;
  const chosen =
    classOf(kind, maps.classes) ?? (kind === "two-sided" ? probabilities.indexOf(Math.max(...probabilities)) : null);
  const { index, strength } = dominant(maps, 0);
  const shown = chosen === null ? strength : classMap(maps, 0, chosen);
  const response = new Float64Array(h * w);
  let total = 0;
  for (let k = 0; k < response.length; k++) {
    const x = x0 + (((k % w) + 0.5) / w) * (x1 - x0);
    const y = y0 + ((Math.floor(k / w) + 0.5) / h) * (y1 - y0);
    if (x < 0 || y < 0 || x >= image.width || y >= image.height) continue; // a map may reach beyond its image
    response[k] = Math.max(0, shown[k]!);
    total += response[k]!;
  }
  if (!(total > 0)) return null;
  const mean = averaged(response, w, h, Math.max(1, Math.round((WINDOW * w) / 2)));
  const level = LEVEL * mean.reduce((most, value) => Math.max(most, value), 0);
  const best = heaviest(
    mean.map((value) => (value >= level ? 1 : 0)),
    response,
    w,
    h,
  );
  const sums = new Float64Array(n);
  for (const k of best.pixels) if (index[k]! >= 0) sums[index[k]!]! += strength[k]!;
  const [columns, rows] = [best.pixels.map((k) => k % w), best.pixels.map((k) => Math.floor(k / w))];
  const least = (all: number[]) => all.reduce((a, b) => Math.min(a, b));
  const most = (all: number[]) => all.reduce((a, b) => Math.max(a, b)) + 1;
  const [u, v] = [(x1 - x0) / w, (y1 - y0) / h];
  return {
    box: [
      Math.max(0, x0 + least(columns) * u),
      Math.max(0, y0 + least(rows) * v),
      Math.min(image.width, x0 + most(columns) * u),
      Math.min(image.height, y0 + most(rows) * v),
    ],
    c: chosen ?? sums.indexOf(Math.max(...sums)),
    share: best.sum / total,
  };
}

/** Mean over the square of 2 * radius + 1 pixels round each pixel; beyond the border is 0. */
function averaged(values: Float64Array, w: number, h: number, radius: number): Float64Array {
  const wide = w + 1;
  const sums = new Float64Array(wide * (h + 1)); // of all values above and left
  for (let y = 0; y < h; y++)
    for (let x = 0, line = 0; x < w; x++) {
      line += values[y * w + x]!;
      sums[(y + 1) * wide + x + 1] = sums[y * wide + x + 1]! + line;
    }
  const out = new Float64Array(w * h);
  const area = (2 * radius + 1) ** 2;
  for (let y = 0; y < h; y++)
    for (let x = 0; x < w; x++) {
      const [top, bottom] = [Math.max(0, y - radius) * wide, Math.min(h, y + radius + 1) * wide];
      const [left, right] = [Math.max(0, x - radius), Math.min(w, x + radius + 1)];
      out[y * w + x] = (sums[bottom + right]! - sums[top + right]! - sums[bottom + left]! + sums[top + left]!) / area;
    }
  return out;
}

/** Of the parts of a mask that touch by side or corner, the one with the largest sum. */
function heaviest(mask: ArrayLike<number>, values: Float64Array, w: number, h: number) {
  const done = new Uint8Array(w * h);
  let best: { pixels: number[]; sum: number } = { pixels: [], sum: -1 };
  for (let start = 0; start < done.length; start++) {
    if (!mask[start] || done[start]) continue;
    const pixels = [start];
    let sum = 0;
    done[start] = 1;
    for (let at = 0; at < pixels.length; at++) {
      const k = pixels[at]!;
      sum += values[k]!;
      const [x, y] = [k % w, Math.floor(k / w)];
      for (let j = Math.max(0, y - 1); j <= Math.min(h - 1, y + 1); j++)
        for (let i = Math.max(0, x - 1); i <= Math.min(w - 1, x + 1); i++) {
          const next = j * w + i;
          if (!mask[next] || done[next]) continue;
          done[next] = 1;
          pixels.push(next);
        }
    }
    if (sum > best.sum) best = { pixels, sum };
  }
  return best;
}
