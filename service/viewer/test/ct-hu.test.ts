import { describe, expect, test } from "vitest";
import { AIR, firstPart, hounsfield } from "../src/ct/hu";
import type { Stored } from "../src/ct/slices";

const plain: Stored = {
  allocated: 16,
  bits: 16,
  high: 15,
  signed: false,
  samples: 1,
  planar: false,
  photometric: "MONOCHROME2",
  slope: 1,
  intercept: -1024,
  padding: null,
};
const words = (...values: number[]) => new Uint8Array(new Uint16Array(values.map((one) => one & 0xffff)).buffer);

describe("Hounsfield units", () => {
  test("rescaled whole numbers stay whole", () => {
    const { values, lowest, highest } = hounsfield(words(0, 1024, 3000), plain, 3);
    expect(values).toEqual(new Int16Array([-1024, 0, 1976]));
    expect([lowest, highest]).toEqual([-1024, 1976]);
  });

  test("signed, 12 bits stored: the sign is bit 11, what lies above is ignored", () => {
    const stored = { ...plain, bits: 12, high: 11, signed: true, intercept: 0 };
    const { values } = hounsfield(words(0x0fff, 0x0800, 0xf001, 0x07ff), stored, 4);
    expect([...values]).toEqual([-1, -2048, 1, 2047]);
  });

  test("stored bits that do not begin at bit 0", () => {
    const stored = { ...plain, bits: 12, high: 15, intercept: 0 };
    expect([...hounsfield(words(0x7ff5), stored, 1).values]).toEqual([0x7ff]);
  });

  test("8 bits, signed 16 bits, an odd beginning of the bytes", () => {
    expect([...hounsfield(new Uint8Array([0, 200]), { ...plain, allocated: 8, bits: 8, high: 7 }, 2).values]).toEqual([
      -1024, -824,
    ]);
    const bytes = new Uint8Array([9, ...words(-5, 7)]).subarray(1);
    expect([...hounsfield(bytes, { ...plain, signed: true, intercept: 0 }, 2).values]).toEqual([-5, 7]);
  });

  test("a slope that is not whole, or values that do not fit, need Float32", () => {
    const half = hounsfield(words(3), { ...plain, slope: 0.5, intercept: 0.25 }, 1).values;
    expect(half).toEqual(new Float32Array([1.75]));
    expect(hounsfield(words(65535), { ...plain, intercept: 0 }, 1).values).toEqual(new Float32Array([65535]));
  });

  test("padding becomes air and does not stretch the range", () => {
    const stored = { ...plain, signed: true, intercept: 0, padding: [-32768, -32768] as [number, number] };
    const { values, lowest } = hounsfield(words(-32768, 40), stored, 2);
    expect([...values]).toEqual([AIR, 40]);
    expect(lowest).toBe(AIR);
    const between = { ...stored, padding: [-3000, -2000] as [number, number] };
    expect([...hounsfield(words(-2500, -1999), between, 2).values]).toEqual([AIR, -1999]);
  });

  test("brightness of colours, by pixel and by plane", () => {
    const colour = { ...plain, allocated: 8, bits: 8, high: 7, samples: 3, photometric: "RGB", intercept: 0 };
    const red = hounsfield(new Uint8Array([255, 0, 0, 0, 255, 0]), colour, 2).values;
    expect(red[0]).toBeCloseTo(76.245, 3);
    expect(red[1]).toBeCloseTo(149.685, 3);
    expect(hounsfield(new Uint8Array([255, 0, 0, 255, 0, 0]), { ...colour, planar: true }, 2).values).toEqual(red);
  });

  test("a frame that is too short is refused", () => {
    expect(() => hounsfield(words(1), plain, 2)).toThrow("2 bytes; its header says 4");
  });
});

describe("multipart answers", () => {
  const text = (value: string) => new TextEncoder().encode(value);
  const part = (pixels: Uint8Array) =>
    new Uint8Array([
      ...text("--b7\r\nContent-Type: application/octet-stream\r\n\r\n"),
      ...pixels,
      ...text("\r\n--b7--\r\n"),
    ]);
  const type = 'multipart/related; type="application/octet-stream"; boundary=b7';

  test("the bytes of the first part, whatever they end in", () => {
    const pixels = new Uint8Array([1, 13, 10, 13, 10, 45, 45, 13, 10]);
    expect([...firstPart(part(pixels), type)]).toEqual([...pixels]);
    expect([...firstPart(part(pixels), type.replace("b7", '"b7"'))]).toEqual([...pixels]);
  });

  test("a plain body is the frame", () => {
    expect([...firstPart(new Uint8Array([1, 2]), "application/octet-stream")]).toEqual([1, 2]);
  });
});
