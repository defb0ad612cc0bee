import { describe, expect, it } from "vitest";
import type { Analysis, Assessment, Faithfulness, Figure, Finding } from "../src/api/types";
import { beats, bySet, chance, judged, meaning, ofClass, sizes, stratumOf } from "../src/panel/figures";
import { bySuspicion, neighbour, nextOpen, numberOf, placesOf, sliceShown } from "../src/panel/order";
import {
  comparison,
  contradiction,
  decided,
  frequencies,
  gradeContradiction,
  scoreClasses,
  sum,
} from "../src/panel/point";
import {
  answered,
  choices,
  lacking,
  noCorrection,
  pacsCopy,
  reasonText,
  unsettled,
  verdictOf,
} from "../src/panel/verdicts";
import { freeCorner } from "../src/parts/plot";

function nodule(id: string, malignant: number, more: Partial<Finding> = {}): Finding {
  return {
    id,
    tracking_uid: "2.25.1",
    label: malignant > 0.5 ? "Malignant" : "Benign",
    probabilities: { benign: 1 - malignant, malignant },
    operating_point: {
      name: "balanced",
      threshold: 0.4634,
      sensitivity: 0.8,
      specificity: 0.876471,
      n: 235,
      data_set: "x",
      score: malignant,
      decision: malignant >= 0.4634 ? "positive" : "negative",
    },
    location: { sop_instance_uid: "b", center_mm: null, diameter_mm: 8, box_px: [0, 0, 1, 1], origin: "candidate" },
    evidence: { maps: {}, dominant_class_share: {}, scale: null, peak_px: null },
    ...more,
  };
}

const EYE: Finding = {
  ...nodule("eye", 0),
  label: "Moderate NPDR",
  grade: 2,
  referable: { mtmDR: true, vtDR: true },
  probabilities: { "0": 0.03, "1": 0.1, "2": 0.47, "3": 0.3, "4": 0.1 },
};
EYE.operating_point = { ...EYE.operating_point, name: "mtmDR", threshold: 0.3194, score: 0.87, decision: "positive" };

function verdict(id: number, finding: string, of: Assessment["verdict"]): Assessment {
  return { id, finding, verdict: of, value: null, reason: null, reader: "A", account: null, created: "" };
}

function analysis(more: Partial<Analysis> = {}): Analysis {
  return {
    id: "1",
    findings: [nodule("a", 0.2), nodule("b", 0.9), nodule("c", 0.5)],
    input: { study: "", series: "", modality: "CT", instances: ["x", "a", "b", "c"], laterality: "", checks: [] },
    assessments: [],
    objects: [],
    delivery: [],
    ...more,
  } as Analysis;
}

describe("order of findings", () => {
  it("lists the most suspicious first and keeps numbers", () => {
    const whole = analysis();
    expect(bySuspicion(whole.findings).map((one) => one.id)).toEqual(["b", "c", "a"]);
    expect(numberOf(whole, "b")).toBe(2);
  });

  it("steps along the list and stays at its ends", () => {
    const { findings } = analysis();
    expect(neighbour(findings, "b", 1)?.id).toBe("c");
    expect(neighbour(findings, "a", 1)?.id).toBe("a");
    expect(neighbour(findings, "b", -1)?.id).toBe("b");
  });

  it("finds the next one to assess, from the top again", () => {
    const judgedB = analysis({ assessments: [verdict(1, "b", "accepted")] });
    expect(nextOpen(judgedB, "b")?.id).toBe("c");
    expect(nextOpen(judgedB, "a")?.id).toBe("c");
    const all = analysis({ assessments: ["a", "b", "c"].map((id, k) => verdict(k, id, "accepted")) });
    expect(nextOpen(all, "a")).toBeUndefined();
  });

  it("places slices in the stack, and shows the one of the images, else the peak", () => {
    const p = { benign: 1, malignant: 0 };
    const one = nodule("a", 0.2, {
      slices: ["a", "b", "c"].map((uid) => ({ sop_instance_uid: uid, probabilities: p })),
    });
    expect(placesOf(analysis(), one)).toEqual([1, 2, 3]);
    one.slices![0]!.sop_instance_uid = "elsewhere";
    expect(placesOf(analysis(), one)).toEqual([0, 1, 2]);
    expect(sliceShown([1, 2, 3], 3, 0)).toBe(2);
    expect(sliceShown([1, 2, 3], 9, 0)).toBe(0);
    expect(sliceShown([1, 2, 3], null, undefined)).toBe(1);
    expect(sliceShown([], null, undefined)).toBe(0);
  });
});

describe("operating point", () => {
  it("says natural frequencies, misses and false alarms among them", () => {
    expect(frequencies(nodule("a", 0.9).operating_point, "nodule")).toBe(
      "At this point 80 of 100 malignant nodules of the test set were called and 20 missed; of 100 benign nodules 12 were called, too.",
    );
    expect(frequencies({ name: "vtDR", sensitivity: 0.78, specificity: 0.75 }, "eye")).toContain(
      "78 of 100 eyes with vision-threatening retinopathy",
    );
  });

  it("never writes two different numbers as the same", () => {
    expect(comparison(0.89, 0.46)).toBe("0.89, at or above 0.46");
    expect(comparison(0.4634, 0.4634)).toBe("0.46, at or above 0.46");
    expect(comparison(0.4633, 0.4634)).toBe("0.4633, below 0.4634");
  });

  it("knows the classes that the score adds up", () => {
    expect(scoreClasses(nodule("a", 0.2))).toEqual(["malignant"]);
    expect(scoreClasses(EYE)).toEqual(["2", "3", "4"]);
    expect(scoreClasses(nodule("a", 0.5))).toEqual(["malignant"]);
    expect(sum(EYE.probabilities, ["3", "4"])).toBeCloseTo(0.4);
    expect(scoreClasses({ ...EYE, operating_point: { ...EYE.operating_point, score: 0.123 } })).toEqual([]);
  });

  it("explains where class and decision differ, and only there", () => {
    const doubtful = nodule("a", 0.47);
    expect(doubtful.label).toBe("Benign");
    expect(decided(doubtful)).toBe("Suspicious");
    expect(contradiction(doubtful)).toContain("Benign is the likelier class");
    expect(contradiction(nodule("a", 0.9))).toBe("");
    expect(contradiction(nodule("a", 0.1))).toBe("");
  });

  it("explains where grade and referral differ, and only there", () => {
    expect(gradeContradiction(EYE)).toContain("vtDR adds up");
    expect(gradeContradiction({ ...EYE, referable: { mtmDR: true, vtDR: false } })).toBe("");
    expect(gradeContradiction({ ...EYE, grade: 1 })).toContain("mtmDR and vtDR add up");
  });
});

const figure = (name: string, more: Partial<Figure> = {}): Figure => ({
  name,
  value: 0.5,
  n: 10,
  data_set: "I",
  ...more,
});

describe("figures", () => {
  const metrics = [
    figure("AUC by nodule"),
    figure("AUC by nodule, 8-15 mm"),
    figure("AUC by nodule, 0-8 mm"),
    figure("AUC by nodule", { data_set: "B" }),
  ];

  it("picks the stratum of a size; the lower end belongs to it", () => {
    expect(stratumOf(metrics, 7.9)?.figure.name).toBe("AUC by nodule, 0-8 mm");
    expect(stratumOf(metrics, 8)?.figure.name).toBe("AUC by nodule, 8-15 mm");
    expect(stratumOf(metrics, 15.1)).toBeUndefined();
    expect(sizes("AUC, over 15 mm")).toEqual({ low: 15, high: Number.POSITIVE_INFINITY });
    expect(sizes("expected calibration error (10 bins)")).toBeNull();
    expect(bySet(metrics).others).toHaveLength(1);
  });

  it("names what chance would score", () => {
    expect(chance(figure("AUC by nodule"))).toBe(0.5);
    expect(chance(figure("pointing game, benign", { null: 0.0096 }))).toBe(0.0096);
    expect(chance(figure("quadratic weighted kappa"))).toBe(0);
    expect(chance(figure("class correlation"))).toBeNull();
    expect(meaning("pointing game, lesions")).toContain("strongest pixel");
    expect(meaning("something new")).toBe("");
  });

  it("puts figures of the answered class first, of the other last", () => {
    const order = ofClass(
      [figure("pointing game, benign"), figure("class correlation"), figure("pointing game, malignant")],
      "Malignant",
      ["Benign", "Malignant"],
    );
    expect(order.map((one) => one.name)).toEqual([
      "pointing game, malignant",
      "class correlation",
      "pointing game, benign",
    ]);
  });

  it("calls better than chance only what is two standard deviations away", () => {
    expect(beats(0.2, { mean: 0.45, sd: 0.05 }, "lower")).toMatchObject({ verdict: "better" });
    expect(beats(0.2, { mean: 0.45, sd: 0.05 }, "lower").by).toBeCloseTo(5);
    expect(beats(0.2, { mean: 0.45, sd: 0.2 }, "lower").verdict).toBe("same");
    expect(beats(0.2, { mean: 0.45, sd: 0.05 }, "higher").verdict).toBe("worse");
    expect(beats(0.4, { mean: 0.4, sd: 0 }, "higher").verdict).toBe("same");
  });

  it("judges a map by both tests", () => {
    const test = (deletion: number, insertion: number): Faithfulness => ({
      steps: 2,
      fraction: [],
      deletion: { curve: [], auc: deletion },
      insertion: { curve: [], auc: insertion },
      random: {
        n: 9,
        deletion_auc: { mean: 0.5, sd: 0.1 },
        insertion_auc: { mean: 0.5, sd: 0.1 },
        deletion: [],
        insertion: [],
      },
      class: "malignant",
      filler: "",
      slice: 0,
    });
    expect(judged(test(0.1, 0.9)).tone).toBe("good");
    expect(judged(test(0.1, 0.5)).tone).toBe("warn");
    expect(judged(test(0.5, 0.5)).text).toContain("not better than chance");
    expect(judged(test(0.1, 0.1)).text).toContain("worse than chance");
  });
});

describe("verdicts", () => {
  it("counts the newest of a finding", () => {
    const whole = {
      assessments: [verdict(1, "a", "rejected"), verdict(3, "a", "accepted"), verdict(2, "b", "rejected")],
    };
    expect(verdictOf(whole, "a")?.verdict).toBe("accepted");
    expect(verdictOf(whole, "c")).toBeUndefined();
  });

  it("offers what the service takes", () => {
    expect(choices(nodule("a", 0.2), []).map((one) => one.value)).toEqual(["benign", "malignant", "not_a_nodule"]);
    expect(choices(EYE, []).map((one) => one.value)).toEqual(["0", "1", "2", "3", "4"]);
    expect(answered(EYE)).toBe("2");
  });

  it("does not call a correction what the model says itself", () => {
    expect(noCorrection(EYE, "2")).toBe(true);
    expect(noCorrection(EYE, "3")).toBe(false);
    expect(noCorrection(nodule("a", 0.9), "malignant")).toBe(true);
    // Called suspicious though benign is likelier: both answers correct something.
    expect(noCorrection(nodule("a", 0.47), "benign")).toBe(false);
    expect(noCorrection(nodule("a", 0.47), "malignant")).toBe(false);
  });

  it("says what lacks before one is sent", () => {
    const given = { reader: "A", reason: "", value: "" };
    expect(lacking("accepted", EYE, given)).toBe("");
    expect(lacking("accepted", EYE, { ...given, reader: " " })).toBe("Say who reads.");
    expect(lacking("rejected", EYE, given)).toBe("Give a reason.");
    expect(lacking("modified", EYE, { ...given, reason: "x" })).toBe("Choose what is right.");
    expect(lacking("modified", EYE, { ...given, reason: "x", value: "2" })).toContain("accept it instead");
    expect(lacking("modified", EYE, { ...given, reason: "x", value: "3" })).toBe("");
    expect(reasonText(["vessel", "scar"], " near the hilum ")).toBe("vessel; scar; near the hilum");
    expect(reasonText([], " ")).toBe("");
  });

  it("says what became of the copy in the PACS", () => {
    const object = { kind: "SR", sop_class_uid: "", sop_instance_uid: "2", series_uid: "", href: "", validation: null };
    const sent = (id: string, state: string) => ({
      id,
      destination: "PACS",
      object: id,
      kind: "SR",
      state,
      attempts: 1,
      last_error: null,
      due: null,
      changed: "",
    });
    expect(pacsCopy(analysis())[0]).toContain("No DICOM objects");
    expect(pacsCopy(analysis({ objects: [object] }))).toEqual(["The DICOM objects are kept here and sent nowhere."]);
    const whole = analysis({
      objects: [object],
      revision: 1,
      delivery: [sent("1", "sent"), sent("2", "waiting")], // 1 belongs to an earlier revision
    });
    expect(pacsCopy(whole)).toEqual([
      "The DICOM objects are revision 1: they hold the verdicts and replace the earlier ones.",
      "PACS: 0 of 1 sent.",
    ]);
    expect(unsettled(whole, 1)).toBe(true);
    expect(unsettled({ ...whole, delivery: [] }, 0)).toBe(false);
    expect(unsettled({ ...whole, delivery: [] }, undefined)).toBe(false);
    const before = analysis({ objects: [object], revision: 0, assessments: [verdict(1, "a", "rejected")] });
    expect(pacsCopy(before)[0]).toContain("being made anew");
  });
});

describe("plot", () => {
  it("writes a threshold's name where the line is not", () => {
    expect(
      freeCorner(0.5, [
        [0, 0.9],
        [1, 0.6],
      ]),
    ).toEqual({ left: true, above: false });
    expect(
      freeCorner(0.5, [
        [0, 0.4],
        [1, 0.1],
      ]),
    ).toEqual({ left: false, above: true });
    expect(freeCorner(0.5, [])).toEqual({ left: true, above: false });
  });
});
