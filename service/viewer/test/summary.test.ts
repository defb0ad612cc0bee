import { describe, expect, it } from "vitest";
import type { EyePhotograph, EyesSummary } from "../src/api/types";
import { cells, glance, grounds, sideKnown } from "../src/fundus/summary";

function photograph(analysis: string, more: Partial<EyePhotograph> = {}): EyePhotograph {
  return {
    analysis,
    created: "2026-01-01T10:00:00Z",
    outcome: "graded",
    laterality_source: null,
    laterality_confidence: null,
    quality: { gradable: true, score: 0.9, reasons: [] },
    answer: {
      grade: 3,
      label: "Severe NPDR",
      probability: 0.625,
      referable: { mtmDR: true, vtDR: true },
      by: "model",
    },
    model_grade: 3,
    verdict: null,
    ...more,
  };
}

const blurred = photograph("blurred", {
  outcome: "ungradable",
  quality: {
    gradable: false,
    score: 0.2,
    reasons: [
      { code: "out_of_focus", message: "the retina is out of focus", retake: "Refocus." },
      { code: "artefact", message: "reflections", retake: "Clean the lens." },
    ],
  },
  answer: null,
  model_grade: null,
});

function summary(right: EyePhotograph[], left: EyePhotograph[], more: Partial<EyesSummary> = {}): EyesSummary {
  const eye = (laterality: "R" | "L", photographs: EyePhotograph[]) => {
    const worst = photographs.find((one) => one.answer);
    return {
      laterality,
      worst: worst?.analysis ?? null,
      referable: worst?.answer?.referable ?? null,
      grades: [],
      photographs,
    };
  };
  return {
    study: "1.2",
    eyes: [eye("R", right), eye("L", left)],
    worse_eye: null,
    missing: [],
    contradictions: [],
    decision: { action: "refer", text: "", within_months: 3, because: [] },
    scheme: { name: "", citation: "", doi: "" },
    caveats: [],
    disclaimer: "",
    ...more,
  };
}

describe("what is said of each eye", () => {
  it("puts the right eye first and marks the worse one", () => {
    const [right, left] = cells(summary([photograph("r")], [photograph("l")], { worse_eye: "L" }));
    expect([right!.side, right!.worse, left!.side, left!.worse]).toEqual(["R", false, "L", true]);
    expect(cells(summary([photograph("r")], [photograph("l")], { worse_eye: "equal" })).some((one) => one.worse)).toBe(
      false,
    );
  });

  it("says grade, referral, how sure, and the quality", () => {
    const [right] = cells(summary([photograph("r")], []));
    expect([right!.grade, right!.referral, right!.referred]).toEqual([
      "Grade 3: Severe NPDR",
      "Refer: mtmDR, vtDR",
      true,
    ]);
    expect(right!.facts).toEqual(["probability 0.63", "quality 0.90"]);
    const mild = { grade: 0, label: "No retinopathy", probability: 0.9, by: "model" as const };
    const [healthy] = cells(
      summary([photograph("r", { answer: { ...mild, referable: { mtmDR: false, vtDR: false } } })], []),
    );
    expect([healthy!.referral, healthy!.referred]).toEqual(["Not referable: mtmDR, vtDR", false]);
  });

  it("shows the worst photograph and links them all, the newest first", () => {
    const [right] = cells(summary([blurred, photograph("r")], []));
    expect(right!.grade).toBe("Grade 3: Severe NPDR");
    expect(right!.photographs).toEqual([
      { analysis: "blurred", text: "1: out of focus, artefact", worst: false },
      { analysis: "r", text: "2: grade 3", worst: true },
    ]);
  });

  it("says why there is no grade", () => {
    const rejected = photograph("r", {
      answer: null,
      verdict: { verdict: "rejected", value: null, reader: "Dr. A", created: "" },
    });
    const [right, left] = cells(summary([rejected], [blurred]));
    expect([right!.grade, right!.graded, right!.referral]).toEqual(["Grade rejected by a reader", false, ""]);
    expect([left!.grade, left!.facts]).toEqual(["Not gradable: out of focus, artefact", []]);
    expect([right!.photographs[0]!.text, left!.photographs[0]!.text]).toEqual([
      "1: rejected",
      "1: out of focus, artefact",
    ]);
    expect(cells(summary([], []))[0]!.grade).toBe("No photograph");
  });

  it("says whose grade it is", () => {
    const by = (verdict: "accepted" | "modified", reader: string | null) => ({
      verdict,
      value: null,
      reader,
      created: "",
    });
    const answer = { ...photograph("r").answer!, grade: 1, probability: null, by: "reader" as const };
    const [right, left] = cells(
      summary(
        [photograph("r", { answer, verdict: by("modified", "Dr. A") })],
        [photograph("l", { verdict: by("accepted", null) })],
      ),
    );
    expect(right!.facts).toEqual(["as Dr. A says; model: grade 3", "quality 0.90"]);
    expect(left!.facts).toEqual(["probability 0.63", "accepted by a reader", "quality 0.90"]);
  });
});

it("says how the side is known, and how surely where that is in doubt", () => {
  const said = (laterality_source: string | null, laterality_confidence: number | null) =>
    sideKnown({ laterality_source, laterality_confidence });
  expect(said(null, null)).toBe("");
  expect(said("header", null)).toBe("side from the DICOM header");
  expect(said("request", 1)).toBe("side as stated when it was sent");
  expect(said("disc", 0.957)).toBe("side from the disc's position, 96 %");
  expect(said("some_thing", 0.5)).toBe("side some thing, 50 %");
});

it("gives grounds, caveats and the scheme, and says nothing twice", () => {
  const lack = { eye: null, code: "failed", message: "It failed.", advice: "Again.", analyses: [] };
  const decision = {
    action: "refer" as const,
    text: "",
    within_months: 3,
    because: ["Right eye: grade 3.", "It failed."],
  };
  const scheme = { name: "Scheme", citation: "Author 2018.", doi: "10.1/x" };
  expect(grounds(summary([], [], { missing: [lack], decision, scheme, caveats: ["Research use."] }))).toEqual([
    "Right eye: grade 3.",
    "Research use.",
    "Intervals: Scheme. Author 2018. doi:10.1/x",
  ]);
});

it("is told at a glance", () => {
  const lack = { eye: null, code: "", message: "", advice: "", analyses: [] };
  expect(glance(summary([], []))).toBe("");
  expect(glance(summary([], [], { worse_eye: "R", missing: [lack], contradictions: [lack] }))).toBe(
    "right eye worse · 1 missing · 1 contradiction",
  );
  expect(glance(summary([], [], { worse_eye: "equal", contradictions: [lack, lack] }))).toBe(
    "both eyes alike · 2 contradictions",
  );
});
