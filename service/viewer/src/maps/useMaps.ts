/** Response maps of a finding for a component: null while they are on their way. */

import { useEffect, useState } from "preact/hooks";
import { passing, problemOf } from "../api/client";
import type { Analysis, Finding, Problem } from "../api/types";
import { type ResponseMaps, responseMaps } from "./response";

export interface Loaded {
  maps: ResponseMaps | null;
  problem: Problem | null;
}

/** A service that is away is asked again so often. */
const AGAIN_MS = 3000;

const NOTHING: Loaded = { maps: null, problem: null };

/** Empty for a finding without maps. */
export function useMaps(analysis: Pick<Analysis, "id"> | null, finding: Finding | null): Loaded {
  const wanted = analysis && finding && hasMaps(finding) ? `${analysis.id} ${finding.id}` : "";
  const [loaded, setLoaded] = useState<Loaded & { of: string }>({ ...NOTHING, of: "" });
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    if (!wanted || !analysis || !finding) return;
    let shown = true;
    let timer = 0;
    responseMaps(analysis.id, finding.id).then(
      (maps) => shown && setLoaded({ maps, problem: null, of: wanted }),
      (error) => {
        if (!shown) return;
        const problem = problemOf(error);
        setLoaded({ maps: null, problem, of: wanted });
        if (passing(problem)) timer = window.setTimeout(() => setAttempt((n) => n + 1), AGAIN_MS);
      },
    );
    return () => {
      shown = false;
      clearTimeout(timer);
    };
  }, [wanted, attempt]);
  return loaded.of === wanted && wanted ? loaded : NOTHING;
}

export function hasMaps(finding: Finding): boolean {
  return Object.keys(finding.evidence.maps).length > 0;
}
