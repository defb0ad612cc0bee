import { describe, expect, test } from "vitest";
import type { Attributes } from "../src/api/dicomweb";
import { ordered, slicePitch, slicesOf } from "../src/ct/slices";

const of = (vr: string, ...Value: unknown[]) => ({ vr, Value });

function classic(uid: string, z: number, more: Attributes = {}): Attributes {
  return {
    "00080018": of("UI", uid),
    "00080060": of("CS", "CT"),
    "0020000E": of("UI", "1.2"),
    "00200032": of("DS", -100, -90, z),
    "00200037": of("DS", 1, 0, 0, 0, 1, 0),
    "00280010": of("US", 4),
    "00280011": of("US", 6),
    "00280030": of("DS", 0.8, 0.7),
    "00180050": of("DS", 2),
    "00280100": of("US", 16),
    "00280101": of("US", 12),
    "00280102": of("US", 11),
    "00280103": of("US", 0),
    "00281052": of("DS", -1024),
    "00281053": of("DS", 1),
    ...more,
  };
}

describe("classic CT", () => {
  test("what the header says", () => {
    const [one] = slicesOf([
      classic("1.1", 5, {
        "00280120": of("US", 63536),
        "00281050": of("DS", 40, -600),
        "00281051": of("DS", 400, 1500),
      }),
    ]);
    expect(one).toMatchObject({
      key: "1.1",
      frame: 1,
      rows: 4,
      columns: 6,
      placed: true,
      measured: true,
      position: [-100, -90, 5],
      spacing: [0.8, 0.7],
      thickness: 2,
      window: { center: 40, width: 400 },
      stored: { bits: 12, high: 11, signed: false, slope: 1, intercept: -1024, padding: [63536, 63536] },
    });
  });

  test("without position and spacing it can be shown, not measured", () => {
    const bare = classic("1.1", 5);
    for (const tag of ["00200032", "00280030"]) delete bare[tag];
    expect(slicesOf([bare])[0]).toMatchObject({ placed: false, measured: false, spacing: [1, 1] });
  });

  test("instances without pixels are left out", () => {
    const { "00280010": _, ...bare } = classic("1.1", 5);
    expect(slicesOf([bare])).toEqual([]);
  });
});

describe("enhanced CT", () => {
  const frame = (z: number, intercept?: number): Attributes => ({
    "00209113": of("SQ", { "00200032": of("DS", 0, 0, z) }),
    ...(intercept === undefined
      ? {}
      : { "00289145": of("SQ", { "00281052": of("DS", intercept), "00281053": of("DS", 2) }) }),
  });
  const enhanced: Attributes = {
    "00080018": of("UI", "9.9"),
    "00280008": of("IS", 2),
    "00280010": of("US", 4),
    "00280011": of("US", 4),
    "52009229": of("SQ", {
      "00209116": of("SQ", { "00200037": of("DS", 0, 1, 0, 1, 0, 0) }),
      "00289110": of("SQ", { "00280030": of("DS", 0.5, 0.5), "00180050": of("DS", 1.25) }),
      "00289145": of("SQ", { "00281052": of("DS", -1000), "00281053": of("DS", 1) }),
    }),
    "52009230": of("SQ", frame(7), frame(3, -24)),
  };

  test("one slice a frame: its own macro goes before the shared one", () => {
    const [one, two] = slicesOf([enhanced]);
    expect(one).toMatchObject({
      key: "9.9#1",
      frame: 1,
      position: [0, 0, 7],
      row: [0, 1, 0],
      column: [1, 0, 0],
      thickness: 1.25,
      stored: { slope: 1, intercept: -1000 },
    });
    expect(two).toMatchObject({
      key: "9.9#2",
      frame: 2,
      position: [0, 0, 3],
      spacing: [0.5, 0.5],
      stored: { slope: 2, intercept: -24 },
    });
  });
});

describe("order", () => {
  const keys = (found: readonly { key: string }[]) => found.map((one) => one.key);

  test("along the normal, ascending, whatever order they come in; localizers are left out", () => {
    const all = slicesOf([
      classic("c", 9),
      classic("a", -3),
      classic("l", 0, { "00080008": of("CS", "ORIGINAL", "PRIMARY", "LOCALIZER") }),
      classic("b", 2),
    ]);
    expect(keys(ordered(all))).toEqual(["a", "b", "c"]);
  });

  test("rows to the left and columns to the back point the normal to the feet", () => {
    const turned = { "00200037": of("DS", -1, 0, 0, 0, 1, 0) };
    expect(keys(ordered(slicesOf([classic("a", -3, turned), classic("b", 2, turned)])))).toEqual(["b", "a"]);
  });

  test("by number where a position is missing", () => {
    const bare = classic("a", 0, { "00200013": of("IS", 2) });
    delete bare["00200032"];
    expect(keys(ordered(slicesOf([bare, classic("b", 1, { "00200013": of("IS", 1) })])))).toEqual(["b", "a"]);
  });

  test("distance of neighbours: the median, a gap does not count", () => {
    expect(slicePitch(ordered(slicesOf([0, 1.25, 2.5, 3.75, 10].map((z) => classic(String(z), z)))))).toBe(1.25);
    expect(slicePitch(slicesOf([classic("a", 0)]))).toBeNull();
  });
});
