import { describe, expect, it } from "vitest";
import { dicomDate, outcome, personName, plain, probability } from "../src/words";

describe("words", () => {
  it("write a DICOM person name as people do", () => {
    expect(personName("Yamada^Tarou=山田^太郎=やまだ^たろう")).toBe("Yamada, Tarou");
    expect(personName("Adams^John Robert Quincy^^Rev.^B.A. M.Div.")).toBe("Adams, Rev. John Robert Quincy B.A. M.Div.");
    expect(personName("LungFCP-01-0001")).toBe("LungFCP-01-0001");
    expect(personName("^Prince")).toBe("Prince");
    expect(personName("=山田^太郎=やまだ^たろう")).toBe("山田, 太郎");
    expect(personName("")).toBe("");
  });

  it("write a DICOM date and keep what is none", () => {
    expect(dicomDate("20010203")).toBe("2001-02-03");
    expect(dicomDate("unknown")).toBe("unknown");
  });

  it("never round a small probability to nothing", () => {
    expect([0, 0.0042, 0.5, 0.999, 1].map(probability)).toEqual(["0.00", "0.004", "0.50", "1.00", "1.00"]);
  });

  it("write ranges and objects", () => {
    expect([plain([0.46, 0.98]), plain(["CT"]), plain({ a: 1 }), plain(null), plain(0.123456)]).toEqual([
      "0.46 to 0.98",
      "CT",
      '{"a":1}',
      "",
      "0.123",
    ]);
  });

  it("name the state before the outcome", () => {
    expect(outcome({ status: "failed", outcome: null })).toBe("Failed");
    expect(outcome({ status: "running", outcome: null })).toBe("Running");
    expect(outcome({ status: "completed", outcome: "ungradable" })).toBe("Cannot be graded");
  });
});
