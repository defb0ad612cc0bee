/** The case on the page: a study (or one photograph without a study), its analyses, and what of it is selected. */

import { batch, computed, effect, signal, untracked } from "@preact/signals";
import {
  analysesOf,
  analysis as fetchAnalysis,
  classes as fetchClasses,
  follow,
  problemOf,
  studyEntry,
  unfinished,
} from "../api/client";
import type { Analysis, Finding, ModelClass, Problem, StudyRow } from "../api/types";
import { go, type Route, refine, route } from "../route";

type CaseRoute = Route & { page: "case" };

export interface Case {
  /** Empty for a photograph file. */
  study: string;
  info: StudyRow | null;
  series: StudyRow["series"];
  /** Not superseded, the newest first. */
  analyses: Analysis[];
}

/** null while it is loading. */
export const current = signal<Case | null>(null);
export const trouble = signal<Problem | null>(null);
export const classes = signal<ModelClass[]>([]);

const here = computed<CaseRoute | null>(() => (route.value.page === "case" ? route.value : null));

/** The analysis that is shown; null for a study that has none, or a series that was chosen in its place. */
export const analysis = computed<Analysis | null>(() => {
  const all = current.value?.analyses ?? [];
  const wanted = here.value?.analysis;
  if (wanted?.startsWith("series:")) return null;
  return (wanted ? all.find((one) => one.id === wanted) : all[0]) ?? null;
});

/** The series that is shown: of the analysis, or the one that was chosen, or the first. */
export const series = computed<string>(() => {
  if (analysis.value) return analysis.value.input.series;
  const wanted = here.value?.analysis;
  return wanted?.startsWith("series:") ? wanted.slice("series:".length) : (current.value?.series[0]?.series ?? "");
});

export const isPhotograph = computed<boolean>(() => {
  const shown = analysis.value;
  if (shown) return shown.model.name === "clear_dr" || (shown.input.series === "" && shown.model.name !== "sisc_lung");
  const modality = current.value?.series.find((one) => one.series === series.value)?.modality ?? "";
  return ["OP", "XC"].includes(modality);
});

/** The finding that is selected; the most suspicious one where none was. */
export const finding = computed<Finding | null>(() => {
  const all = analysis.value?.findings ?? [];
  return all.find((one) => one.id === here.value?.finding) ?? mostSuspicious(all);
});

/** A finding that the address names and the analysis does not have; empty where there is none such. */
export const unknownFinding = computed<string>(() => {
  const name = here.value?.finding;
  const shown = analysis.value;
  return name && shown?.status === "completed" && !shown.findings.some((one) => one.id === name) ? name : "";
});

/** Other analyses of the series that is shown which still count. */
export const siblings = computed<Analysis[]>(() => {
  const shown = analysis.value;
  if (!shown?.input.series) return [];
  return (current.value?.analyses ?? []).filter(
    (one) => one.id !== shown.id && one.input.series === shown.input.series && !one.superseded_by,
  );
});

function mostSuspicious(findings: readonly Finding[]): Finding | null {
  return [...findings].sort((a, b) => b.operating_point.score - a.operating_point.score)[0] ?? null;
}

/** The slice that the address names, 0-based in stack order (`analysis.input.instances`); null when it names none. */
export const slice = computed<number | null>(() => here.value?.slice ?? null);

function place(change: Partial<CaseRoute>): CaseRoute {
  const at = here.peek();
  return { ...(at ?? { page: "case" as const }), ...change };
}

/** Show another analysis, or `series:<uid>`, of the case. */
export function showAnalysis(id: string): void {
  go(place({ analysis: id, finding: undefined, slice: undefined }));
}

/** Select a finding; the stage goes to its slice. */
export function select(id: string): void {
  const shown = analysis.peek();
  if (shown)
    refine(
      place({
        analysis: shown.id,
        finding: id,
        slice: sliceOf(
          shown,
          shown.findings.find((one) => one.id === id),
        ),
      }),
    );
}

/** Note in the address which slice is shown. */
export function showSlice(index: number): void {
  refine(
    place({
      analysis: here.peek()?.analysis ?? analysis.peek()?.id ?? `series:${series.peek()}`,
      finding: analysis.peek() ? finding.peek()?.id : here.peek()?.finding,
      slice: index,
    }),
  );
}

/** Where a finding lies in the stack: its peak's slice, or the one of its centre. */
export function sliceOf(shown: Analysis, one: Finding | undefined): number | undefined {
  if (!one) return undefined;
  const at = shown.input.instances.indexOf(one.location.sop_instance_uid);
  return at < 0 ? undefined : at;
}

/** Put a newer body of an analysis in place of the one that is shown. */
export function renewed(body: Analysis): void {
  const now = current.peek();
  if (!now) return;
  const others = now.analyses.filter((one) => one.id !== body.id && one.id !== body.supersedes);
  const known = now.analyses.some((one) => one.id === body.id);
  current.value = {
    ...now,
    analyses: known ? now.analyses.map((one) => (one.id === body.id ? body : one)) : [body, ...others],
  };
}

/** A new analysis of this case (a nodule that was clicked, a re-run): show it and follow it to its end. */
export async function watch(started: Analysis): Promise<void> {
  batch(() => {
    renewed(started);
    showAnalysis(started.id);
  });
  renewed(await follow(started.id, renewed));
}

let loading: AbortController | null = null;

/** (Re)load the case that the address names. */
export async function load(): Promise<void> {
  loading?.abort();
  const mine = new AbortController();
  loading = mine;
  current.value = null;
  trouble.value = null;
  const at = here.peek();
  if (!at) return;
  try {
    const first = at.study ? null : await fetchAnalysis(at.analysis ?? "", mine.signal);
    const study = at.study ?? first?.input.study ?? "";
    const [analyses, info] = study
      ? await Promise.all([analysesOf(study, mine.signal), studyEntry(study, mine.signal)])
      : [first ? [first] : [], null];
    if (mine.signal.aborted) return;
    // A link may name an analysis that was replaced meanwhile: it is shown all the same.
    const named = at.analysis && !at.analysis.startsWith("series:") ? at.analysis : "";
    if (named && !analyses.some((one) => one.id === named)) {
      const one = first ?? (await fetchAnalysis(named, mine.signal));
      if (mine.signal.aborted) return;
      if (one.input.study !== study) {
        trouble.value = {
          title: "This analysis belongs to another study",
          detail: "The address mixes two studies. Open the study from the worklist.",
        };
        return;
      }
      analyses.push(one);
    }
    if (study && !info && analyses.length === 0) {
      trouble.value = { title: "There is no such study", detail: "It was deleted, or the address is incomplete." };
      return;
    }
    current.value = { study, info, series: info?.series ?? [], analyses };
    for (const one of analyses) if (unfinished(one)) follow(one.id, renewed, mine.signal).catch(() => {});
  } catch (error) {
    if (!mine.signal.aborted) trouble.value = problemOf(error);
  }
}

/** Which case the address names. */
const key = computed(() => (here.value ? (here.value.study ?? `analysis:${here.value.analysis}`) : ""));
/** Which analysis it names. */
const named = computed(() => {
  const id = here.value?.analysis ?? "";
  return id.startsWith("series:") ? "" : id;
});
let loaded = "";

/** Another case is loaded, and the same one again where the address names an analysis that is not at hand: one that was replaced. */
effect(() => {
  const [of, id] = [key.value, named.value];
  untracked(() => {
    const known = !id || current.peek()?.analyses.some((one) => one.id === id);
    if (of && (of !== loaded || !known || trouble.peek())) load();
    loaded = of;
  });
});

const model = computed(() => analysis.value?.model.name ?? "");

effect(() => {
  const name = model.value;
  if (!name) return;
  fetchClasses(name)
    .then((found) => {
      if (model.peek() === name) classes.value = found;
    })
    .catch(() => {
      classes.value = [];
    });
});
