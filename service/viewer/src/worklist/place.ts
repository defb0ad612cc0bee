import type { AnalysisRow, StudyRow } from "../api/types";

/** Where a row leads. */
export function placeOf(study: StudyRow, analysis: AnalysisRow | undefined = study.analyses[0]) {
  return {
    page: "case" as const,
    ...(study.study ? { study: study.study } : {}),
    ...(analysis ? { analysis: analysis.id } : {}),
  };
}
