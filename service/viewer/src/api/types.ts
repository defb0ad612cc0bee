/** Bodies of the HTTP interface (docs/http.md), as far as the page reads them. */

export type Status = "queued" | "running" | "completed" | "failed";
export type Outcome = "positive" | "negative" | "graded" | "ungradable" | "out_of_scope" | "no_region";
export type Verdict = "accepted" | "rejected" | "modified";
export type Probabilities = Record<string, number>;

export interface Problem {
  title: string;
  detail?: string;
  status?: number;
  errors?: { where?: string; message?: string; value?: unknown; limit?: unknown }[];
}

export interface Check {
  id: string;
  result: "pass" | "warn" | "fail";
  value: unknown;
  limit: unknown;
  message: string;
}

export interface Quality {
  gradable: boolean;
  score: number;
  code: { value: string; scheme: string; meaning: string };
  reasons: { code: string; message: string; retake: string }[];
}

export interface OperatingPoint {
  name: string;
  threshold: number;
  sensitivity: number;
  specificity: number;
  n: number;
  data_set: string;
  score: number;
  decision: "positive" | "negative";
}

export interface Evidence {
  /** Kind (`clear`, `two-sided`, `class-<name>`) to the address of its picture; empty when no maps were asked for. */
  maps: Record<string, string>;
  dominant_class_share: Record<string, number>;
  class_correlation?: number | null;
  rule?: string;
  start?: string;
  scale: { per_image: number; per_model: number } | null;
  /** (column, row) in pixels of the source image; the middle of the first pixel is 0, 0. */
  peak_px: [number, number] | null;
  peak_sop_instance_uid?: string;
  peak_slice?: number;
}

export interface Finding {
  id: string;
  tracking_uid: string;
  label: string;
  probabilities: Probabilities;
  grade?: number;
  referable?: Record<string, boolean>;
  operating_point: OperatingPoint;
  location: {
    sop_instance_uid: string;
    center_mm: [number, number, number] | null;
    diameter_mm: number | null;
    box_px: [number, number, number, number];
    origin?: "candidate" | "reference" | "request";
  };
  slices?: { sop_instance_uid: string; probabilities: Probabilities }[];
  evidence: Evidence;
}

export interface Assessment {
  id: number;
  finding: string;
  verdict: Verdict;
  value: string | null;
  reason: string | null;
  reader: string | null;
  account: string | null;
  created: string;
  model?: string;
  version?: string;
}

/** A verdict with what it was about. */
export interface AssessmentRow extends Assessment {
  analysis: string;
  study: string;
  outcome: Outcome | null;
  label: string;
  probabilities: Probabilities;
  decision: "positive" | "negative" | null;
  grade: number | null;
  finding_origin: string | null;
}

export interface Delivery {
  id: string;
  destination: string;
  object: string | null;
  kind: string;
  state: string;
  attempts: number;
  last_error: string | null;
  due: string | null;
  changed: string;
}

export interface ResultObject {
  kind: string;
  sop_class_uid: string;
  sop_instance_uid: string;
  series_uid: string;
  href: string;
  validation: unknown;
}

export interface Analysis {
  id: string;
  status: Status;
  outcome: Outcome | null;
  created: string;
  supersedes: string | null;
  superseded_by: string | null;
  revision?: number;
  timing_ms: Record<string, number>;
  model: { name: string; version?: string; sha256?: string; device_uid?: string; card?: string };
  /** `instances` are keys in stack order: SOP Instance UIDs, or `uid#n` for frame n of an enhanced object. */
  input: { study: string; series: string; modality: string; instances: string[]; laterality: string; checks: Check[] };
  quality: Quality | null;
  findings: Finding[];
  objects: ResultObject[];
  delivery: Delivery[];
  assessments: Assessment[];
  warnings: string[];
  disclaimer: string;
  error?: Problem;
}

export interface Region {
  id?: string;
  center_mm?: [number, number, number];
  sop_instance_uid?: string;
  center_px?: [number, number];
}

export interface Request {
  model?: string | null;
  laterality?: "R" | "L" | null;
  regions?: Region[];
  operating_point?: string | null;
}

/** One row of the worklist. */
export interface StudyRow {
  study: string | null;
  key: string;
  patient: { name: string; id: string; birth_date: string; sex: string };
  study_date: string;
  study_time: string;
  description: string;
  accession: string;
  modalities: string[];
  series: { series: string; modality: string; description: string; instances: number }[];
  changed: string;
  arriving: { series: string; modality: string; instances: number; waiting_for: string }[];
  analyses: AnalysisRow[];
}

export interface AnalysisRow {
  id: string;
  status: Status;
  stage: string | null;
  outcome: Outcome | null;
  created: string;
  model: { name: string; version: string | null };
  series: string;
  laterality: string;
  findings: number;
  positive: number;
  top: {
    finding: string;
    label: string;
    probability: number;
    grade: number | null;
    decision: "positive" | "negative";
  } | null;
  gradable: boolean | null;
  error: { title: string; detail: string; status: number } | null;
  assessed: number;
  rejected: number;
  supersedes: string | null;
  superseded_by: string | null;
  files: number;
}

export interface Worklist {
  studies: StudyRow[];
  next: string | null;
  counts: Record<Status, number>;
}

export type Side = "R" | "L";

/** A photograph in the summary of both eyes; `answer` is the grade that counts, a reader's before the model's. */
export interface EyePhotograph {
  analysis: string;
  created: string;
  outcome: Outcome;
  laterality_source: string | null;
  laterality_confidence: number | null;
  quality: Pick<Quality, "gradable" | "score" | "reasons">;
  answer: {
    grade: number;
    label: string;
    probability: number | null;
    referable: Record<string, boolean>;
    by: "model" | "reader";
  } | null;
  model_grade: number | null;
  verdict: { verdict: Verdict; value: string | null; reader: string | null; created: string } | null;
}

/** Both eyes of a patient: `GET /api/v1/studies/{study}/eyes`. */
export interface EyesSummary {
  study: string;
  /** Right, left, and those of which it is not known. */
  eyes: {
    laterality: Side | null;
    /** Analysis with the highest grade. */
    worst: string | null;
    referable: Record<string, boolean> | null;
    grades: number[];
    photographs: EyePhotograph[];
  }[];
  worse_eye: Side | "equal" | null;
  missing: { eye: Side | null; code: string; message: string; advice: string; analyses: string[] }[];
  contradictions: { eye: Side | null; code: string; message: string; analyses: string[] }[];
  decision: {
    action: "refer" | "retake" | "rescreen" | "undecided";
    text: string;
    within_months: number | null;
    because: string[];
  };
  scheme: { name: string; citation: string; doi: string };
  caveats: string[];
  disclaimer: string;
}

export interface ModelClass {
  name: string;
  label: string;
  color: string;
  code: { value: string; scheme: string; meaning: string };
}

export interface Figure {
  name: string;
  value: number;
  interval?: [number, number];
  null?: number;
  n: number;
  data_set: string;
  split?: string;
  date?: string;
  formula?: string;
}

export interface ModelEvidence {
  model: string;
  version: string;
  metrics: Figure[];
  evidence: Figure[];
  limits_of_use: string[];
  calibration: Record<string, unknown>;
  training: Record<string, unknown>;
}

export interface Similar {
  model: string;
  sha256: string;
  data_set: string;
  n: number;
  distance: string;
  cases: {
    id: string;
    split: string;
    label: string;
    truth: {
      text: string;
      readers?: number;
      votes?: number[];
      diameter_mm?: number;
      attributes?: Record<string, unknown>;
      grade?: number;
    };
    distance: number;
    probabilities: Probabilities;
    correct: boolean;
    same_image?: boolean;
  }[];
  share: Record<string, number>;
  evidence: Figure[];
}

export interface Faithfulness {
  steps: number;
  fraction: number[];
  deletion: { curve: number[]; auc: number };
  insertion: { curve: number[]; auc: number };
  random: {
    n: number;
    deletion_auc: { mean: number; sd: number };
    insertion_auc: { mean: number; sd: number };
    deletion: number[];
    insertion: number[];
  };
  class: string;
  filler: string;
  slice: number;
}

export interface CriticalRegion {
  class: string;
  share: number;
  /** Rings of points [x, y] in pixels of the source image, where pixel k covers k..k+1; even-odd fill. */
  slices: {
    index: number;
    sop_instance_uid: string;
    area_px: number;
    area_mm2: number | null;
    polygons: [number, number][][];
  }[];
}

export interface Share {
  n: number;
  accepted: number;
  modified: number;
  rejected: number;
  agreement: number | null;
  interval: [number, number] | null;
}

export interface Agreement {
  by: string;
  unassessed: number;
  models: (Share & {
    name: string;
    version: string;
    periods: (Share & { start: string })[];
    by_decision: Record<"positive" | "negative", Share>;
    corrections: { answered: string; corrected: string; n: number }[];
  })[];
}
