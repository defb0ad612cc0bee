import { beforeAll, describe, expect, it, vi } from "vitest";

let parse: typeof import("../src/route").parse;
let format: typeof import("../src/route").format;

beforeAll(async () => {
  vi.stubGlobal("location", { hash: "" });
  vi.stubGlobal("addEventListener", () => {});
  ({ parse, format } = await import("../src/route"));
});

describe("the address", () => {
  it("names study, analysis, finding and slice; slices are counted from 1", () => {
    expect(parse("#/study/1.2.3/abc/candidate-1/64")).toEqual({
      page: "case",
      study: "1.2.3",
      analysis: "abc",
      finding: "candidate-1",
      slice: 63,
    });
  });

  it("leaves out what is not known", () => {
    expect(parse("#/study/1.2.3/abc/-/7")).toEqual({ page: "case", study: "1.2.3", analysis: "abc", slice: 6 });
    expect(parse("#/analysis/abc/eye")).toEqual({ page: "case", analysis: "abc", finding: "eye" });
  });

  it.each([
    "#/",
    "#/?q=jones&status=failed",
    "#/quality",
    "#/study/1.2.3",
    "#/study/1.2.3/series%3A1.2.4",
    "#/study/1.2.3/abc/nodule%202/9",
    "#/analysis/abc/-/3",
  ])("%s is the address of what it names", (hash) => {
    expect(format(parse(hash))).toBe(hash);
  });

  it.each(["", "#", "#/nowhere", "#/study", "#/study/", "#/%E0%A4%A"])("%j is the worklist", (hash) => {
    expect(parse(hash)).toEqual({ page: "worklist" });
  });

  it("does not take a slice that is none", () => {
    expect(parse("#/study/1/a/b/x")).toEqual({ page: "case", study: "1", analysis: "a", finding: "b" });
  });
});
