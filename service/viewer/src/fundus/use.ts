/** What a pane needs from elsewhere, as hooks. */

import type { RefObject } from "preact";
import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { eyesOf, problemOf, region } from "../api/client";
import { type Attributes, seriesMetadata } from "../api/dicomweb";
import type { Analysis, CriticalRegion, EyesSummary, Finding, Problem } from "../api/types";
import { current, series } from "../case/state";
import { hasMaps } from "../maps/useMaps";
import type { Size } from "./geometry";
import type { Look } from "./looks";
import { type Photograph, type Picture, photograph } from "./photograph";
import { type Shot, shotsOf } from "./shots";

/** A photograph, or why there is none; `again` tries once more. */
export function usePhotograph(places: readonly string[]) {
  const key = places.join();
  const [turn, setTurn] = useState(0);
  const [found, setFound] = useState<{ of: string; photograph?: Photograph; problem?: Problem }>({ of: "" });
  useEffect(() => {
    let shown = true;
    const held = photograph(places);
    held.photograph.then(
      (one) => shown && setFound({ of: key, photograph: one }),
      (error) => shown && setFound({ of: key, problem: problemOf(error) }),
    );
    return () => {
      shown = false;
      held.release();
    };
  }, [key, turn]);
  const now = found.of === key ? found : { of: key };
  return {
    photograph: now.photograph ?? null,
    problem: now.problem ?? null,
    again: () => {
      setFound({ of: "" });
      setTurn(turn + 1);
    },
  };
}

/** The photograph in a view; `exact` is false while an earlier one stands in for it. */
export function usePicture(of: Photograph | null, look: Look): { picture: Picture | null; exact: boolean } {
  const [found, setFound] = useState<{ of: Photograph; look: Look; picture: Picture } | null>(null);
  useEffect(() => {
    if (!of) return;
    let shown = true;
    of.view(look).then((picture) => shown && setFound({ of, look, picture }));
    return () => {
      shown = false;
    };
  }, [of, look.view, look.invert]);
  const mine = found && found.of === of ? found : null;
  const natural = look.view === "natural" && !look.invert;
  return {
    picture: mine?.picture ?? of?.first ?? null,
    exact: mine ? mine.look.view === look.view && mine.look.invert === look.invert : natural,
  };
}

/** Outline of a finding's critical region; null where there is none (yet). */
export function useRegion(analysis: Analysis | null, finding: Finding | null) {
  const key = analysis && finding && hasMaps(finding) ? `${analysis.id} ${finding.id}` : "";
  const [found, setFound] = useState<{ of: string; region: CriticalRegion | null }>({ of: "", region: null });
  useEffect(() => {
    if (!key || !analysis || !finding) return;
    const ending = new AbortController();
    region(analysis.id, finding.id, ending.signal).then(
      (one) => setFound({ of: key, region: one }),
      () => ending.signal.aborted || setFound({ of: key, region: null }),
    );
    return () => ending.abort();
  }, [key]);
  return { region: found.of === key ? found.region : null, settled: !key || found.of === key };
}

/** The summary of both eyes, anew whenever an analysis ends or is judged; neither where no photograph was analysed. */
export function useEyes(study: string, analyses: readonly Analysis[]) {
  const state = analyses.map((one) => [one.id, one.status, one.superseded_by, one.assessments?.at(-1)?.id]).join();
  const [found, setFound] = useState<{ of: string; summary?: EyesSummary; problem?: Problem }>({ of: "" });
  useEffect(() => {
    const ending = new AbortController();
    eyesOf(study, ending.signal).then(
      (summary) => setFound({ of: study, summary }),
      (error) => {
        if (ending.signal.aborted) return;
        const problem = problemOf(error);
        setFound(problem.status === 404 ? { of: study } : { of: study, problem });
      },
    );
    return () => ending.abort();
  }, [study, state]);
  const now = found.of === study ? found : { of: study };
  return { summary: now.summary ?? null, problem: now.problem ?? null };
}

export interface PaneSize extends Size {
  /** Screen pixels, whole. */
  deviceWidth: number;
  deviceHeight: number;
  /** Screen pixels a CSS pixel. */
  ratio: number;
}

export function useSize(element: RefObject<HTMLElement | null>): PaneSize | null {
  const [size, setSize] = useState<PaneSize | null>(null);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => {
      if (!entry) return;
      const { width, height } = entry.contentRect;
      const device = entry.devicePixelContentBoxSize?.[0];
      setSize({
        width,
        height,
        ratio: devicePixelRatio,
        deviceWidth: device?.inlineSize ?? Math.round(width * devicePixelRatio),
        deviceHeight: device?.blockSize ?? Math.round(height * devicePixelRatio),
      });
    });
    observer.observe(element.current!, { box: "device-pixel-content-box" });
    return () => observer.disconnect();
  }, []);
  return size;
}

const PHOTOGRAPHS = ["OP", "XC"];

/** Photographs of the study that have no analysis. */
export function useLoose(): Shot[] {
  const now = current.value;
  const done = new Set(now?.analyses.map((one) => one.input.series));
  const loose = (now?.series ?? []).filter(
    (one) => !done.has(one.series) && (PHOTOGRAPHS.includes(one.modality) || one.series === series.value),
  );
  const study = now?.study ?? "";
  const key = loose.map((one) => one.series).join();
  const [found, setFound] = useState<{ of: string; all: { series: string; metadata: Attributes[] }[] }>({
    of: "",
    all: [],
  });
  useEffect(() => {
    if (!key) return;
    const ending = new AbortController();
    Promise.all(
      key.split(",").map(async (one) => ({ series: one, metadata: await seriesMetadata(study, one, ending.signal) })),
    ).then(
      (all) => setFound({ of: key, all }),
      () => {},
    );
    return () => ending.abort();
  }, [key]);
  return found.of === key ? found.all.flatMap((one) => shotsOf(study, one.series, one.metadata)) : [];
}
