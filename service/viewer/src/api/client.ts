/** The HTTP interface of the service. Every error is a `ServiceError` that says what to do. */

import type {
  Agreement,
  Analysis,
  AssessmentRow,
  CriticalRegion,
  EyesSummary,
  Faithfulness,
  ModelClass,
  ModelEvidence,
  Problem,
  Request,
  Similar,
  StudyRow,
  Verdict,
  Worklist,
} from "./types";

const ANALYSES = "/api/v1/analyses";

/** An error as the service describes it (RFC 9457), or a connection that failed. */
export class ServiceError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail || problem.title);
    this.problem = problem;
  }
}

/** What went wrong, for people, whatever was thrown. */
export function problemOf(error: unknown): Problem {
  if (error instanceof ServiceError) return error.problem;
  return {
    title: "This page cannot show that",
    detail: "Reload the page. If that does not help, the JSON of the analysis holds everything.",
  };
}

/** Fetch from the service; anything but 2xx and 304 is thrown as a ServiceError. */
export async function call(path: string, options: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    throw new ServiceError({
      title: "The service does not answer",
      detail: `Check that it is running and that this computer reaches it; ${options.method ? "then try again" : "this page goes on by itself"}.`,
    });
  }
  if (response.ok || response.status === 304) return response;
  const json = (response.headers.get("Content-Type") ?? "").includes("json");
  const body = json ? ((await response.json().catch(() => null)) as Problem | null) : null;
  throw new ServiceError(
    body?.title
      ? { ...body, status: response.status }
      : { title: `The service answered ${response.status}`, detail: response.statusText, status: response.status },
  );
}

async function json<T>(path: string, options?: RequestInit): Promise<T> {
  return (await call(path, options)).json() as Promise<T>;
}

function sent(body: unknown, more: Record<string, string> = {}): RequestInit {
  return { method: "POST", headers: { "Content-Type": "application/json", ...more }, body: JSON.stringify(body) };
}

export function analysisPath(id: string): string {
  return `${ANALYSES}/${encodeURIComponent(id)}`;
}

export function findingPath(id: string, finding: string): string {
  return `${analysisPath(id)}/findings/${encodeURIComponent(finding)}`;
}

/** True while an analysis can still change. */
export function unfinished(analysis: { status: string }): boolean {
  return analysis.status === "queued" || analysis.status === "running";
}

/** Studies that one answer holds at most. */
const LONGEST_PAGE = 200;
type Known = { tag: string; body: Worklist };
let lastPages = new Map<string, Known>();

/** The first `most` studies of the worklist; of a page that is unchanged only this is sent. */
export async function worklist(query: Record<string, string>, most: number, signal?: AbortSignal): Promise<Worklist> {
  const pages = new Map<string, Known>();
  const studies = new Map<string, StudyRow>(); // one may move from page to page between two requests
  let cursor: string | null = null;
  for (let left = most; ; left -= LONGEST_PAGE) {
    const limit = String(Math.min(left, LONGEST_PAGE));
    const text = new URLSearchParams({ ...query, limit, ...(cursor && { cursor }) }).toString();
    const { tag, body } = await worklistPage(text, lastPages.get(text), signal);
    pages.set(text, { tag, body });
    for (const one of body.studies) if (!studies.has(one.key)) studies.set(one.key, one);
    cursor = body.next;
    if (cursor && left > LONGEST_PAGE) continue;
    lastPages = pages;
    return { ...body, studies: [...studies.values()] };
  }
}

async function worklistPage(query: string, known?: Known, signal?: AbortSignal): Promise<Known> {
  const response = await call(`/api/v1/worklist?${query}`, {
    signal,
    headers: known ? { "If-None-Match": known.tag } : {},
  });
  if (response.status === 304 && known) return known;
  return { tag: response.headers.get("ETag") ?? "", body: (await response.json()) as Worklist };
}

/** The entry of one study: who it is of, and its series of images; null when there is none. */
export async function studyEntry(study: string, signal?: AbortSignal): Promise<StudyRow | null> {
  const page = await json<Worklist>(`/api/v1/worklist?${new URLSearchParams({ q: study })}`, { signal });
  return page.studies.find((one) => one.study === study) ?? null;
}

export const analysis = (id: string, signal?: AbortSignal): Promise<Analysis> => json(analysisPath(id), { signal });

/** Analyses of a study, the newest first, without those that were replaced. */
export async function analysesOf(study: string, signal?: AbortSignal): Promise<Analysis[]> {
  const page = await json<{ analyses: { id: string; superseded_by: string | null }[] }>(
    `${ANALYSES}?study=${encodeURIComponent(study)}&limit=500`,
    { signal },
  );
  const current = page.analyses.filter((one) => !one.superseded_by);
  return Promise.all(current.map((one) => analysis(one.id, signal)));
}

/** Both eyes of the patient of a study, as analyses and verdicts are now. */
export const eyesOf = (study: string, signal?: AbortSignal): Promise<EyesSummary> =>
  json(`/api/v1/studies/${encodeURIComponent(study)}/eyes`, { signal });

/** Send files as one analysis; answers at once with what was accepted. `progress` hears the share that was sent, 0..1. */
export function upload(files: readonly File[], request: Request, progress: (share: number) => void): Promise<Analysis> {
  const form = new FormData();
  for (const file of files) form.append("files", file, file.name);
  form.append("request", new Blob([JSON.stringify(request)], { type: "application/json" }));
  return new Promise((resolve, reject) => {
    const going = new XMLHttpRequest(); // fetch does not tell how much was sent
    going.open("POST", ANALYSES);
    going.setRequestHeader("Prefer", "respond-async");
    going.responseType = "json";
    going.upload.onprogress = (event) => progress(event.lengthComputable ? event.loaded / event.total : 0);
    going.onload = () => {
      if (going.status < 300) resolve(going.response as Analysis);
      else
        reject(
          new ServiceError({
            ...((going.response as Problem | null) ?? { title: `The service answered ${going.status}` }),
            status: going.status,
          }),
        );
    };
    going.onerror = () =>
      reject(
        new ServiceError({
          title: "The service does not answer",
          detail: "Check that it is running and that the files are still where they were, then try again.",
        }),
      );
    going.send(form);
  });
}

/** Analyse what is there already: an analysis again, or a series of the archive. */
export function analyseAgain(
  what: { analysis: string } | { study: string; series: string; instances?: string[] },
  request?: Request,
): Promise<Analysis> {
  return json(ANALYSES, sent(request ? { ...what, request } : what, { Prefer: "respond-async" }));
}

/** True where the service is away or being started again: asking later helps. */
export function passing(problem: Problem): boolean {
  return problem.status === undefined || problem.status === 502 || problem.status === 503 || problem.status === 504;
}

/** Ask until an analysis has ended, also over a restart of the service; `told` hears of every answer. */
export async function follow(id: string, told: (now: Analysis) => void, signal?: AbortSignal): Promise<Analysis> {
  for (;;) {
    const now = await analysis(id, signal).catch((error) => {
      if (error instanceof ServiceError && passing(error.problem)) return null;
      throw error;
    });
    if (now) told(now);
    if (now && !unfinished(now)) return now;
    await new Promise((resolve) => setTimeout(resolve, now ? 400 : 2000));
    signal?.throwIfAborted();
  }
}

export async function remove(id: string): Promise<void> {
  await call(analysisPath(id), { method: "DELETE" });
}

/** Store a verdict; answers with the analysis. `value` is the reader's class, for "modified". */
export function assess(
  id: string,
  body: { finding: string; verdict: Verdict; value?: string; reason?: string; reader?: string },
): Promise<Analysis> {
  return json(`${analysisPath(id)}/assessment`, sent(body));
}

export const agreement = (query: Record<string, string>, signal?: AbortSignal): Promise<Agreement> =>
  json(`/api/v1/assessments/agreement?${new URLSearchParams(query)}`, { signal });

/** Verdicts, the newest first. */
export const verdicts = (
  query: Record<string, string>,
  signal?: AbortSignal,
): Promise<{ assessments: AssessmentRow[]; next: string | null }> =>
  json(`/api/v1/assessments?${new URLSearchParams(query)}`, { signal });

export const similar = (id: string, finding: string, signal?: AbortSignal): Promise<Similar> =>
  json(`${findingPath(id, finding)}/similar`, { signal });
export const faithfulness = (id: string, finding: string, signal?: AbortSignal): Promise<Faithfulness> =>
  json(`${findingPath(id, finding)}/faithfulness`, { signal });
export const region = (id: string, finding: string, signal?: AbortSignal): Promise<CriticalRegion> =>
  json(`${findingPath(id, finding)}/region.json`, { signal });
export const evidence = (model: string): Promise<ModelEvidence> =>
  json(`/v2/models/${encodeURIComponent(model)}/evidence`);

const known = new Map<string, Promise<ModelClass[]>>();

/** Classes of a model in order; empty when it is no longer installed. */
export function classes(model: string): Promise<ModelClass[]> {
  let found = known.get(model);
  if (!found) {
    found = json<{ parameters?: { classes?: ModelClass[] } }>(`/v2/models/${encodeURIComponent(model)}`)
      .then((body) => body.parameters?.classes ?? [])
      .catch((error) => {
        known.delete(model);
        if (error instanceof ServiceError && error.problem.status === 404) return [];
        throw error;
      });
    known.set(model, found);
  }
  return found;
}
