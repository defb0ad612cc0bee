/** What the model says, how sure, and why, and what the reader says to it: beside the images. */

import { analysis, classes, current, finding, select } from "../case/state";
import { useShortcuts } from "../shortcuts";
import "../styles/panel.css";
import { Answer } from "./Answer";
import { Assess } from "./Assess";
import { Details } from "./Details";
import { Findings } from "./Findings";
import { NotAnalysed } from "./NotAnalysed";
import { neighbour } from "./order";
import { Selected } from "./Selected";
import { Trust } from "./Trust";

export function Panel() {
  const shown = analysis.value;
  const chosen = finding.value;
  useShortcuts(() => {
    const step = (by: 1 | -1) => () => {
      const at = finding.peek();
      const next = at && neighbour(analysis.peek()?.findings ?? [], at.id, by);
      if (next) select(next.id);
    };
    return [
      { keys: ["j"], what: "Next finding", group: "Findings", run: step(1) },
      { keys: ["k"], what: "Previous finding", group: "Findings", run: step(-1) },
    ];
  });
  if (!current.value) return null;
  return (
    <aside
      class="panel"
      aria-label="Result"
      data-testid="panel"
      data-analysis={shown?.id}
      data-status={shown?.status}
      data-finding={chosen?.id}
    >
      <div class="panel-scroll">
        {shown ? (
          <>
            <Answer analysis={shown} finding={chosen} />
            {(shown.findings.length > 1 || (shown.findings.length === 1 && shown.input.modality === "CT")) && (
              <Findings analysis={shown} chosen={chosen} />
            )}
            {chosen && <Selected analysis={shown} finding={chosen} classes={classes.value} />}
            {shown.status === "completed" && <Trust analysis={shown} finding={chosen} classes={classes.value} />}
            <Details analysis={shown} finding={chosen} />
          </>
        ) : (
          <NotAnalysed />
        )}
      </div>
      {shown && chosen && <Assess analysis={shown} finding={chosen} classes={classes.value} />}
    </aside>
  );
}
