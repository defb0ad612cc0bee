/** One case: who it is of, the images, and beside them what the model says and why. */

import { lazy, Suspense } from "preact/compat";
import { useEffect } from "preact/hooks";
import { Panel } from "../panel/Panel";
import { ProblemNotice, Spinner } from "../parts/controls";
import { Banner } from "./Banner";
import { current, isPhotograph, load, trouble } from "./state";

const ct = () => import("../ct/CtStage");
const CtStage = lazy(() => ct().then((module) => module.CtStage));
const FundusStage = lazy(() => import("../fundus/FundusStage").then((module) => module.FundusStage));

export function CasePage() {
  useEffect(() => void ct().catch(() => {}), []); // the largest part; most cases need it, and its way takes as long as the answers
  if (trouble.value)
    return (
      <ProblemNotice problem={trouble.value}>
        <p>
          <button type="button" onClick={load}>
            Try again
          </button>{" "}
          <a href="#/">Back to the worklist</a>
        </p>
      </ProblemNotice>
    );
  if (!current.value) return <Spinner>Loading the study ...</Spinner>;
  return (
    <div class="case">
      <Banner />
      <div class="case-body">
        <section class="stage" aria-label="Images">
          <Suspense fallback={<Spinner>Loading the images ...</Spinner>}>
            {isPhotograph.value ? <FundusStage /> : <CtStage />}
          </Suspense>
        </section>
        <Panel />
      </div>
    </div>
  );
}
