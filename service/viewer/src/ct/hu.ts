/** Hounsfield units from the bytes of an uncompressed frame: PS3.5 8.1 (cells), PS3.3 C.11.1 (rescale), C.7.5.1.1.2 (padding). */

import type { Stored } from "./slices";

/** What padding becomes: below every window, like the air around the patient. */
export const AIR = -1024;

export interface Values {
  /** Rows after each other. Int16 where all are whole and fit, else Float32. */
  values: Int16Array | Float32Array;
  lowest: number;
  highest: number;
}

/**
 * Values of one frame, little-endian. Cells of 8, 16 or 32 bits; the stored bits end at the high bit, the rest is ignored.
 * Of a colour image the brightness (ITU-R BT.601).
 */
export function hounsfield(bytes: Uint8Array, stored: Stored, pixels: number): Values {
  const cells = cellsOf(bytes, stored, pixels * stored.samples);
  const grey = stored.samples === 3 ? brightness(cells, stored, pixels) : cells;
  const { slope, intercept, padding } = stored;
  const whole = Number.isInteger(slope) && Number.isInteger(intercept) && stored.samples === 1;
  let [lowest, highest] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let k = 0; k < pixels; k++) {
    const raw = grey[k]!;
    const value = padding && raw >= padding[0] && raw <= padding[1] ? AIR : raw * slope + intercept;
    if (value < lowest) lowest = value;
    if (value > highest) highest = value;
  }
  const values = whole && lowest >= -32768 && highest <= 32767 ? new Int16Array(pixels) : new Float32Array(pixels);
  for (let k = 0; k < pixels; k++) {
    const raw = grey[k]!;
    values[k] = padding && raw >= padding[0] && raw <= padding[1] ? AIR : raw * slope + intercept;
  }
  return { values, lowest, highest };
}

/** Stored values: shifted down to their lowest bit, sign extended. */
function cellsOf(bytes: Uint8Array, stored: Stored, count: number): ArrayLike<number> {
  const size = stored.allocated / 8;
  if (bytes.byteLength < count * size)
    throw new RangeError(`the frame has ${bytes.byteLength} bytes; its header says ${count * size}`);
  const data = bytes.byteOffset % size === 0 ? bytes : bytes.slice(); // typed arrays start at whole cells
  const unused = stored.high + 1 - stored.bits;
  const full = stored.bits === stored.allocated;
  if (stored.allocated === 8 && full && !stored.signed) return data;
  if (stored.allocated === 16 && full)
    return stored.signed
      ? new Int16Array(data.buffer, data.byteOffset, count)
      : new Uint16Array(data.buffer, data.byteOffset, count);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const read = (k: number) =>
    size === 1 ? view.getUint8(k) : size === 2 ? view.getUint16(2 * k, true) : view.getUint32(4 * k, true);
  const mask = 2 ** stored.bits;
  const found = new Float64Array(count);
  for (let k = 0; k < count; k++) {
    const value = Math.floor(read(k) / 2 ** unused) % mask;
    found[k] = stored.signed && value >= mask / 2 ? value - mask : value;
  }
  return found;
}

function brightness(cells: ArrayLike<number>, stored: Stored, pixels: number): Float32Array {
  const grey = new Float32Array(pixels);
  const [next, step] = stored.planar ? [1, pixels] : [3, 1];
  const [r, g, b] = stored.photometric.startsWith("YBR") ? [1, 0, 0] : [0.299, 0.587, 0.114];
  for (let k = 0; k < pixels; k++)
    grey[k] = r! * cells[k * next]! + g! * cells[k * next + step]! + b! * cells[k * next + 2 * step]!;
  return grey;
}

/** The first part of a multipart answer (RFC 2046 5.1); the whole body when it is no multipart. */
export function firstPart(body: Uint8Array, type: string): Uint8Array {
  const boundary = /multipart\/related.*boundary="?([^";]+)"?/i.exec(type)?.[1];
  if (!boundary) return body;
  const start = find(body, [13, 10, 13, 10], 0);
  if (start < 0) throw new RangeError("the answer has no part");
  const tail = Math.max(start + 4, body.length - boundary.length - 16); // the closing boundary; pixels need not be searched
  const end = find(body, [...new TextEncoder().encode(`\r\n--${boundary}`)], tail);
  return body.subarray(start + 4, end < 0 ? body.length : end);
}

function find(bytes: Uint8Array, what: readonly number[], from: number): number {
  for (let at = from; at <= bytes.length - what.length; at++) {
    if (what.every((value, k) => bytes[at + k] === value)) return at;
  }
  return -1;
}
