/** Views of a photograph, pixel by pixel: red-free, local contrast, inverted, grey. All take and give RGBA, rows after rows. */

export type View = "natural" | "red_free" | "contrast";

export interface Look {
  view: View;
  invert: boolean;
}

/** No channel above this: the unlit surround (the limit of `models.preprocessing.fundus_field`). */
const DARK = 0.06 * 255;
const TILES = 8;
/** A grey value's count goes into the contrast up to so many times the mean count. */
const CLIP = 3;
/** A tile with a smaller share of lit pixels takes the contrast of the whole photograph. */
const LIT_ENOUGH = 0.1;
/** A pixel is brightened at most so much: unlit corners stay dark. */
const MOST_GAIN = 4;

/** Change the pixels to a view. */
export function changed(pixels: Uint8ClampedArray, width: number, height: number, look: Look): void {
  if (look.view === "red_free") redFree(pixels);
  if (look.view === "contrast") localContrast(pixels, width, height);
  if (look.invert) inverted(pixels);
}

/** The green channel as grey: vessels and bleedings are dark, the retina's red glow is gone. */
export function redFree(pixels: Uint8ClampedArray): void {
  for (let k = 0; k < pixels.length; k += 4) {
    pixels[k] = pixels[k + 1]!;
    pixels[k + 2] = pixels[k + 1]!;
  }
}

export function inverted(pixels: Uint8ClampedArray): void {
  for (let k = 0; k < pixels.length; k += 4) {
    pixels[k] = 255 - pixels[k]!;
    pixels[k + 1] = 255 - pixels[k + 1]!;
    pixels[k + 2] = 255 - pixels[k + 2]!;
  }
}

/** Luminance (ITU-R BT.601) in all three channels, as the service's pictures have it below a map. */
export function grey(pixels: Uint8ClampedArray): void {
  for (let k = 0; k < pixels.length; k += 4) {
    const value = luminance(pixels, k);
    pixels[k] = value;
    pixels[k + 1] = value;
    pixels[k + 2] = value;
  }
}

function luminance(pixels: Uint8ClampedArray, k: number): number {
  return (pixels[k]! * 19595 + pixels[k + 1]! * 38470 + pixels[k + 2]! * 7471 + 0x8000) >> 16;
}

function lit(pixels: Uint8ClampedArray, k: number): boolean {
  return pixels[k]! > DARK || pixels[k + 1]! > DARK || pixels[k + 2]! > DARK;
}

/**
 * Contrast-limited adaptive histogram equalisation (Zuiderveld 1994) of the luminance, over 8 x 8 tiles; all channels of a
 * pixel are multiplied by the same gain, so that colours stay. The unlit surround is neither counted nor changed.
 */
export function localContrast(pixels: Uint8ClampedArray, width: number, height: number): void {
  const curves = tileCurves(pixels, width, height);
  const across = neighbours(width);
  const down = neighbours(height);
  for (let y = 0, k = 0; y < height; y++) {
    const [top, bottom, v] = [down.first[y]! * TILES, down.second[y]! * TILES, down.share[y]!];
    for (let x = 0; x < width; x++, k += 4) {
      if (!lit(pixels, k)) continue;
      const value = luminance(pixels, k);
      const [left, right, u] = [across.first[x]!, across.second[x]!, across.share[x]!];
      const above = (1 - u) * curves[(top + left) * 256 + value]! + u * curves[(top + right) * 256 + value]!;
      const below = (1 - u) * curves[(bottom + left) * 256 + value]! + u * curves[(bottom + right) * 256 + value]!;
      const most = Math.max(pixels[k]!, pixels[k + 1]!, pixels[k + 2]!);
      const gain = Math.min(MOST_GAIN, ((1 - v) * above + v * below) / Math.max(1, value), 255 / most);
      pixels[k] = pixels[k]! * gain;
      pixels[k + 1] = pixels[k + 1]! * gain;
      pixels[k + 2] = pixels[k + 2]! * gain;
    }
  }
}

/** Tiles between whose middles each pixel of a side lies, and how far it is on its way to the second. */
function neighbours(length: number) {
  const first = new Uint8Array(length);
  const second = new Uint8Array(length);
  const share = new Float32Array(length);
  for (let k = 0; k < length; k++) {
    const at = Math.min(TILES - 1, Math.max(0, ((k + 0.5) * TILES) / length - 0.5));
    first[k] = Math.floor(at);
    second[k] = Math.min(TILES - 1, first[k]! + 1);
    share[k] = at - first[k]!;
  }
  return { first, second, share };
}

/** New luminance for each old one, tile after tile. */
function tileCurves(pixels: Uint8ClampedArray, width: number, height: number): Float32Array {
  const counts = new Float64Array(TILES * TILES * 256);
  const edge = (t: number, length: number) => Math.floor((t * length) / TILES);
  const sizes = new Float64Array(TILES * TILES);
  for (let row = 0; row < TILES; row++)
    for (let column = 0; column < TILES; column++) {
      const tile = row * TILES + column;
      for (let y = edge(row, height); y < edge(row + 1, height); y++)
        for (let x = edge(column, width); x < edge(column + 1, width); x++) {
          const k = 4 * (y * width + x);
          sizes[tile]!++;
          if (lit(pixels, k)) counts[tile * 256 + luminance(pixels, k)]!++;
        }
    }
  const whole = new Float64Array(256);
  for (let k = 0; k < counts.length; k++) whole[k % 256]! += counts[k]!;
  const common = curve(whole);
  const curves = new Float32Array(counts.length);
  for (let tile = 0; tile < sizes.length; tile++) {
    const own = counts.subarray(tile * 256, tile * 256 + 256);
    const enough = own.reduce((sum, count) => sum + count, 0) >= LIT_ENOUGH * sizes[tile]!;
    curves.set(enough ? curve(own) : common, tile * 256);
  }
  return curves;
}

/** Clipped and summed histogram, from the darkest to the brightest value that occurs. */
function curve(counts: Float64Array): Float32Array {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const out = new Float32Array(256);
  const low = counts.findIndex((count) => count > 0);
  const high = counts.findLastIndex((count) => count > 0);
  if (high <= low) return out.map((_, value) => value);
  const limit = (CLIP * total) / 256;
  const spare = counts.reduce((sum, count) => sum + Math.max(0, count - limit), 0) / 256;
  let sum = 0;
  for (let value = 0; value < 256; value++) {
    const own = Math.min(counts[value]!, limit) + spare;
    out[value] = (255 * (sum + own / 2)) / total;
    sum += own;
  }
  return out;
}
