/** Paints response maps: the colours of `service/maps/render.py` on the map's own grid (a test compares the two). */

import { classOf, type Overlay } from "./overlay";
import { classMap, dominant, type ResponseMaps } from "./response";

type Color = readonly [number, number, number];

/** Two-sided map: the chosen class, and the strongest of the others. */
export const HOT: Color = [255, 96, 0];
export const AGAINST: Color = [0, 159, 140];
/** Negative responses take the one further from the class's own colour. */
const NEGATIVE: readonly Color[] = [
  [165, 180, 255],
  [255, 226, 120],
];

/** With more classes the most probable ten keep their colours (thesis 6.1.1), the rest is "other". */
export const MOST_CLASSES = 10;
const OTHER: Color = [150, 150, 150];

/** Classes from most to least probable; equals keep their order. */
export function ranked(probabilities: readonly number[]): number[] {
  return [...probabilities.keys()].sort((a, b) => probabilities[b]! - probabilities[a]! || a - b);
}

/** Colours of a map of all classes. */
export function palette(probabilities: readonly number[], colors: readonly string[]): Color[] {
  const rest = new Set(ranked(probabilities).slice(MOST_CLASSES));
  return colors.map((color, c) => (rest.has(c) ? OTHER : rgb(color)));
}

export function rgb(hex: string): Color {
  const value = Number.parseInt(hex.replace("#", ""), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

export function negativeOf(color: Color): Color {
  const far = (pale: Color) => pale.reduce((sum, part, k) => sum + (part - color[k]!) ** 2, 0);
  return far(NEGATIVE[0]!) >= far(NEGATIVE[1]!) ? NEGATIVE[0]! : NEGATIVE[1]!;
}

/** Response that is drawn at full strength. Without any positive response the largest magnitude, at last 1. */
export function top(maps: ResponseMaps, scale: Overlay["scale"]): number {
  if (scale === "per_model") return maps.scale.per_model;
  if (maps.scale.per_image > 0) return maps.scale.per_image;
  return maps.values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
}

/**
 * One slice's map as RGBA, shape (rows, columns): colour says which class, alpha how strongly, V = sqrt(share of the scale),
 * 0 below the threshold. Opacity is left to whoever draws it.
 */
export function paint(
  maps: ResponseMaps,
  slice: number,
  probabilities: readonly number[],
  colors: readonly string[],
  how: Pick<Overlay, "kind" | "scale" | "threshold">,
): ImageData {
  const [, n, h, w] = maps.shape;
  const picture = new ImageData(w, h);
  const full = top(maps, how.scale);
  const chosen = classOf(how.kind, maps.classes);
  const put = (k: number, color: Color, share: number) => {
    if (share <= how.threshold) return;
    const at = 4 * k;
    picture.data[at] = color[0];
    picture.data[at + 1] = color[1];
    picture.data[at + 2] = color[2];
    picture.data[at + 3] = Math.round(255 * Math.sqrt(Math.min(1, share)));
  };
  if (chosen !== null) {
    const own = rgb(colors[chosen]!);
    const pale = negativeOf(own);
    const response = classMap(maps, slice, chosen);
    for (let k = 0; k < response.length; k++) put(k, response[k]! < 0 ? pale : own, Math.abs(response[k]!) / full);
  } else if (how.kind === "two-sided") {
    const best = probabilities.indexOf(Math.max(...probabilities));
    const hot = classMap(maps, slice, best);
    const others = [...Array(n).keys()].filter((c) => c !== best).map((c) => classMap(maps, slice, c));
    for (let k = 0; k < h * w; k++) {
      const a = Math.sqrt(Math.min(1, Math.max(0, hot[k]!) / full));
      const b = Math.sqrt(Math.min(1, Math.max(0, ...others.map((other) => other[k]!)) / full));
      const most = Math.max(a, b);
      if (most > 0)
        put(
          k,
          [0, 1, 2].map((c) => Math.min(255, (a * HOT[c]! + b * AGAINST[c]!) / most)) as unknown as Color,
          most * most,
        );
    }
  } else {
    const own = palette(probabilities, colors);
    const { index, strength } = dominant(maps, slice);
    for (let k = 0; k < strength.length; k++) if (index[k]! >= 0) put(k, own[index[k]!]!, strength[k]! / full);
  }
  return picture;
}

/** The painted map as a canvas, to be drawn onto `box_px` of its image. */
export function painted(...how: Parameters<typeof paint>): HTMLCanvasElement {
  const picture = paint(...how);
  const canvas = document.createElement("canvas");
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.getContext("2d")!.putImageData(picture, 0, 0);
  return canvas;
}
