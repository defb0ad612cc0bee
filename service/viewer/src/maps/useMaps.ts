/** Response maps of a finding for a component: null while they are on their way. */

import { useEffect, useState } from "preact/hooks";
import { problemOf } from "../api/client";
import type { Analysis, Finding, Problem } from "../api/types";
import { type ResponseMaps, responseMaps } from "./response";

export interface Loaded {
  maps: ResponseMaps | null;
  problem: Problem | null;
}

const NOTHING: Loaded = { maps: null, problem: null };

/** Empty for a finding without maps. */
export function useMaps(analysis: Pick<Analysis, "id"> | null, finding: Finding | null): Loaded {
  const wanted = analysis && finding && hasMaps(finding) ? `${analysis.id} ${finding.id}` : "";
  const [loaded, setLoaded] = useState<Loaded & { of: string }>({ ...NOTHING, of: "" });
  useEffect(() => {
    if (!wanted || !analysis || !finding) return;
    let shown = true;
    responseMaps(analysis.id, finding.id).then(
      (maps) => shown && setLoaded({ maps, problem: null, of: wanted }),
      (error) => shown && setLoaded({ maps: null, problem: problemOf(error), of: wanted }),
    );
    return () => {
      shown = false;
    };
  }, [wanted]);
  return loaded.of === wanted && wanted ? loaded : NOTHING;
}

export function hasMaps(finding: Finding): boolean {
  return Object.keys(finding.evidence.maps).length > 0;
}
