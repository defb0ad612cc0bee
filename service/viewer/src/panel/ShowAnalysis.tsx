/** A link to another analysis of the case. */

import type { ComponentChildren } from "preact";
import { showAnalysis } from "../case/state";
import { format, route } from "../route";

export function ShowAnalysis({ id, children }: { id: string; children: ComponentChildren }) {
  const at = route.value;
  const study = at.page === "case" ? at.study : undefined;
  return (
    <a
      href={format({ page: "case", study, analysis: id })}
      onClick={(event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        showAnalysis(id);
      }}
    >
      {children}
    </a>
  );
}
