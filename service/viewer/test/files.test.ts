import { describe, expect, it } from "vitest";
import { sorted } from "../src/worklist/files";

const files = (...names: string[]) => names.map((name) => new File([""], name));

describe("what was chosen", () => {
  it("is one analysis a photograph and one for all the rest", () => {
    const jobs = sorted(files("a.JPG", "1.dcm", "b.tiff", "2.dcm", "IM0001"));
    expect(jobs.map((job) => [job.title, job.files.length, job.photograph])).toEqual([
      ["3 files", 3, false],
      ["a.JPG", 1, true],
      ["b.tiff", 1, true],
    ]);
  });

  it("keeps the name of a single file", () => {
    expect(sorted(files("chest.zip")).map((job) => job.title)).toEqual(["chest.zip"]);
  });

  it("leaves out what systems strew into folders", () => {
    expect(sorted(files(".DS_Store", "Thumbs.db", "DICOMDIR", "desktop.ini"))).toEqual([]);
  });
});
