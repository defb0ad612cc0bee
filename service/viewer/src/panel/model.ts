/** What the installed model says of itself, and whether it is the one that answered. */

import { call, evidence, problemOf } from "../api/client";
import type { Analysis, Figure, ModelEvidence } from "../api/types";
import { type Loaded, useLoaded } from "./loaded";
import type { ModelPoint } from "./point";

export interface ModelFacts {
  version: string;
  sha256: string;
  metrics: Figure[];
  evidence: Figure[];
  limits: string[];
  calibration: string;
  points: ModelPoint[];
}

interface Metadata {
  parameters?: { version?: string; sha256?: string; limits_of_use?: string[] };
}

async function body<T>(path: string, signal: AbortSignal): Promise<T> {
  return (await call(path, { signal })).json() as Promise<T>;
}

/** An older service has no `/evidence`; what it has is shown all the same. */
async function none(error: unknown): Promise<null> {
  if (problemOf(error).status === 404) return null;
  throw error;
}

async function facts(model: string, signal: AbortSignal): Promise<ModelFacts> {
  const place = `/v2/models/${encodeURIComponent(model)}`;
  const [metadata, published, points] = await Promise.all([
    body<Metadata>(place, signal),
    (evidence(model) as Promise<ModelEvidence | null>).catch(none),
    body<{ operating_points: ModelPoint[] }>(`${place}/operating-points`, signal),
  ]);
  const method = published?.calibration?.method;
  return {
    version: metadata.parameters?.version ?? "",
    sha256: metadata.parameters?.sha256 ?? "",
    metrics: published?.metrics ?? [],
    evidence: published?.evidence ?? [],
    limits: published?.limits_of_use ?? metadata.parameters?.limits_of_use ?? [],
    calibration: typeof method === "string" ? method : "",
    points: points.operating_points,
  };
}

/** Facts of the model of an analysis, as it is installed now. */
export function useModel(name: string): Loaded<ModelFacts> {
  return useLoaded(name && `model ${name}`, (signal) => facts(name, signal));
}

/** Figures and thresholds belong to weights: true when the installed ones are those that answered. */
export function sameWeights(analysis: Analysis, model: ModelFacts): boolean {
  return !analysis.model.sha256 || analysis.model.sha256 === model.sha256;
}
