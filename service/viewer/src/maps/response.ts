/** The class maps of a finding as the service sends them: numbers, not pictures, so that every slider answers at once. */

import { call, findingPath } from "../api/client";

export interface ResponseMaps {
  /** Slices, classes, rows, columns. */
  shape: [number, number, number, number];
  classes: string[];
  /** (x0, y0, x1, y1) of each slice's map in pixels of its source image; pixel k covers k..k+1. */
  box_px: [number, number, number, number][];
  /** Key of the source image of each slice. */
  sources: string[];
  peak_slice: number;
  /** Response that is drawn at full strength. */
  scale: { per_image: number; per_model: number };
  /** R(x|c), C order. */
  values: Float32Array;
}

const kept = new Map<string, Promise<ResponseMaps>>();
const KEPT = 12;

/** Response maps of a finding; the last few are remembered. */
export function responseMaps(analysis: string, finding: string): Promise<ResponseMaps> {
  const place = `${findingPath(analysis, finding)}/response.bin`;
  let found = kept.get(place);
  if (!found) {
    found = load(place);
    found.catch(() => kept.delete(place));
  } else kept.delete(place);
  kept.set(place, found); // the latest is the last to go
  const oldest = kept.keys().next().value;
  if (kept.size > KEPT && oldest !== undefined) kept.delete(oldest);
  return found;
}

async function load(place: string): Promise<ResponseMaps> {
  const response = await call(place);
  const header = JSON.parse(response.headers.get("X-Pellucid-Map") ?? "{}");
  return { ...header, values: new Float32Array(await response.arrayBuffer()) };
}

/** Map of one class of one slice, shape (rows, columns): a view, not a copy. */
export function classMap(maps: ResponseMaps, slice: number, c: number): Float32Array {
  const [, n, h, w] = maps.shape;
  const start = (slice * n + c) * h * w;
  return maps.values.subarray(start, start + h * w);
}

/** Dominant class (-1 where nothing is positive) and dominant response of every pixel (eqs. 5.4 and 5.5). */
export function dominant(maps: ResponseMaps, slice: number): { index: Int8Array; strength: Float32Array } {
  const [, n, h, w] = maps.shape;
  const index = new Int8Array(h * w).fill(-1);
  const strength = new Float32Array(h * w);
  for (let c = 0; c < n; c++) {
    const response = classMap(maps, slice, c);
    for (let k = 0; k < response.length; k++) {
      if (response[k]! > strength[k]!) {
        strength[k] = response[k]!;
        index[k] = c;
      }
    }
  }
  return { index, strength };
}
