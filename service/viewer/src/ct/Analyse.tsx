/** Analyse now: a nodule that is clicked, or a series that has no analysis; with progress and errors in place. */

import { signal } from "@preact/signals";
import { analyseAgain, problemOf, unfinished } from "../api/client";
import type { Problem, Region } from "../api/types";
import { analysis, current, finding, series, showAnalysis, watch } from "../case/state";
import { ProblemNotice, Spinner } from "../parts/controls";
import { apply, toPatient } from "./geometry";
import { radiusOf } from "./scene";
import type { Session } from "./session";

interface Asked {
  /** Slice and place of the click; null for a whole series. */
  at: { key: string; x: number; y: number } | null;
  /** The analysis that was shown before. */
  before: string | null;
}

const asked = signal<Asked | null>(null);
const refused = signal<(Asked & { problem: Problem }) | null>(null);

async function run(now: Asked, study: string, uid: string, region?: Region): Promise<void> {
  asked.value = now;
  refused.value = null;
  try {
    const what = now.before ? { analysis: now.before } : { study, series: uid };
    const started = await analyseAgain(what, region && { regions: [region] });
    await watch(started);
    const end = current.peek()?.analyses.find((one) => one.id === started.id);
    if (end?.status === "failed")
      refused.value = { ...now, problem: end.error ?? { title: "The analysis failed", detail: "Its entry says why." } };
  } catch (error) {
    refused.value = { ...now, problem: problemOf(error) };
  } finally {
    if (asked.peek() === now) asked.value = null;
  }
}

/** Analyse the nodule at a place of the slice that is shown. */
function analyseAt(session: Session, x: number, y: number): void {
  const slice = session.slice.peek();
  if (!slice || x < 0 || y < 0 || x > slice.columns || y > slice.rows) return;
  session.picking.value = false;
  // A frame of several has no UID of its own: there the place is told in millimetres.
  const region: Region = slice.key.includes("#")
    ? { center_mm: toPatient(slice, x, y) }
    : { sop_instance_uid: slice.uid, center_px: [x - 0.5, y - 0.5] };
  const before = analysis.peek()?.id ?? null;
  run({ at: { key: slice.key, x, y }, before }, session.study, session.series, region);
}

export function Picking(props: { session: Session }) {
  const { session } = props;
  if (!session.picking.value) return null;
  return (
    <>
      {/* biome-ignore lint/a11y/noStaticElementInteractions lint/a11y/useKeyWithClickEvents: a place is pointed at */}
      <div
        class="ct-pick"
        data-testid="ct-pick"
        onClick={(event) => {
          const box = event.currentTarget.getBoundingClientRect();
          const at = session.placeAt(event.clientX - box.left, event.clientY - box.top);
          if (at) analyseAt(session, at[0], at[1]);
        }}
      />
      <p class="ct-note pick" role="status">
        Click the middle of a nodule to analyse it. Esc: not now.
      </p>
    </>
  );
}

export function Progress(props: { session: Session }) {
  const { session } = props;
  const [now, failed, shown] = [asked.value, refused.value, analysis.value];
  const [slice, view] = [session.slice.value, session.view.value];
  const here = now?.at && slice?.key === now.at.key && view ? apply(view, now.at.x, now.at.y) : null;
  const radius = view && slice ? radiusOf(view, { radius: 8 / slice.spacing[1] }) : 0;
  return (
    <>
      {here && (
        <span
          class="ct-asked"
          style={{ left: `${here[0]}px`, top: `${here[1]}px`, width: `${2 * radius}px`, height: `${2 * radius}px` }}
        />
      )}
      {(now || (shown && unfinished(shown))) && (
        <div class="ct-note busy" data-testid="ct-busy">
          <Spinner>
            {now?.at ? "Analysing this nodule" : "Analysing this series"}
            {shown?.status === "queued" ? ": waiting its turn ..." : " ..."}
          </Spinner>
        </div>
      )}
      {failed && (
        <div class="ct-over" data-testid="ct-refused">
          <ProblemNotice problem={failed.problem}>
            <p class="row">
              {failed.at && (
                <button
                  type="button"
                  onClick={() => {
                    leave(failed);
                    session.picking.value = true;
                  }}
                >
                  Click another place
                </button>
              )}
              <button type="button" onClick={() => leave(failed)}>
                {failed.before ? "Back to the earlier result" : "Close"}
              </button>
            </p>
          </ProblemNotice>
        </div>
      )}
    </>
  );
}

function leave(failed: Asked): void {
  refused.value = null;
  if (failed.before && analysis.peek()?.id !== failed.before) showAnalysis(failed.before);
}

/** What can be done where nothing was analysed, or nothing was found to analyse. */
export function Offer(props: { session: Session; analysable: boolean }) {
  const { session, analysable } = props;
  const shown = analysis.value;
  if (asked.value || refused.value || session.picking.value || session.shown.value < 0 || !analysable) return null;
  const pick = (
    <button
      type="button"
      onClick={() => {
        session.picking.value = true;
      }}
    >
      Click a nodule (N)
    </button>
  );
  if (!shown)
    return (
      <div class="ct-note offer" data-testid="ct-offer">
        This series was not analysed.{" "}
        <button
          type="button"
          class="primary"
          onClick={() => run({ at: null, before: null }, current.peek()?.study ?? "", series.peek())}
        >
          Analyse this series
        </button>{" "}
        {pick}
      </div>
    );
  if (shown.status === "completed" && !finding.value && shown.outcome !== "out_of_scope")
    return (
      <div class="ct-note offer" data-testid="ct-offer">
        {shown.outcome === "no_region" ? "No nodule was marked in this series." : "This analysis has no findings."}{" "}
        {pick}
      </div>
    );
  return null;
}
