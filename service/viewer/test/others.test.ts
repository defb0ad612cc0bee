import { expect, test } from "vitest";
import type { Analysis } from "../src/api/types";
import { onlyNamed, summary } from "../src/panel/others";

function analysed(series: string, ...findings: ["candidate" | "request", "positive" | "negative"][]): Analysis {
  return {
    status: "completed",
    outcome: findings.some(([, decision]) => decision === "positive") ? "positive" : "negative",
    input: { series },
    findings: findings.map(([origin, decision]) => ({ location: { origin }, operating_point: { decision } })),
  } as unknown as Analysis;
}

test("a place that a reader clicked is not taken for the whole series", () => {
  expect(summary(analysed("1.2", ["request", "negative"]))).toBe("Negative, one place that a reader named");
  expect(summary(analysed("1.2", ["candidate", "positive"], ["candidate", "negative"]))).toBe(
    "Positive, 1 of 2 findings",
  );
  expect(summary(analysed("1.2", ["candidate", "negative"], ["request", "negative"]))).toBe(
    "Negative, 0 of 2 findings",
  );
  expect(onlyNamed(analysed("1.2"))).toBe(false);
  expect(onlyNamed(analysed("", ["request", "positive"]))).toBe(false); // crops sent as files belong to no series
});

test("a photograph says of which eye it is", () => {
  const left = {
    status: "completed",
    outcome: "graded",
    input: { series: "1.2", laterality: "L" },
    findings: [{ label: "Moderate NPDR", grade: 2, location: {}, operating_point: { decision: "positive" } }],
  } as unknown as Analysis;
  expect(summary(left)).toBe("left eye: Grade 2: Moderate NPDR");
  expect(summary({ ...left, outcome: "ungradable", findings: [] })).toBe("left eye: Cannot be graded");
});
