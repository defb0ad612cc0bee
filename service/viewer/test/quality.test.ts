import { describe, expect, it } from "vitest";
import { along, stretches } from "../src/quality/AgreementPlot";

describe("the axis of agreement over time", () => {
  it("leaves room for periods that nobody judged in", () => {
    expect(along(["2026-03-02", "2026-03-09", "2026-03-30"], "week")).toEqual({ count: 5, at: [0, 1, 4] });
    expect(along(["2025-11-01", "2026-02-01"], "month")).toEqual({ count: 4, at: [0, 3] });
    expect(along(["2026-02-27", "2026-03-01"], "day")).toEqual({ count: 3, at: [0, 2] });
    expect(along(["2026-10-19", "2026-10-26"], "week").at).toEqual([0, 1]); // summer time ends between them
    expect(along([], "day").at).toEqual([]);
  });

  it("joins only neighbours by a line", () => {
    expect(stretches([0, 1, 4, 5, 9], (one) => one, 1)).toEqual([[0, 1], [4, 5], [9]]);
  });
});
