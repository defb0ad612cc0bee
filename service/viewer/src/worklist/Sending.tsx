/** Send images: by dropping them anywhere on the page, or by choosing files or a folder. */

import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { ProblemNotice, Segments } from "../parts/controls";
import { answer, outcome } from "../words";
import { dropped } from "./files";
import { ended, forget, forgetEnded, refuse, type Sent, send, sent } from "./sending";

const EYES = [
  { value: "", label: "Unknown" },
  { value: "R", label: "Right" },
  { value: "L", label: "Left" },
] as const;

const eye = signal<"" | "R" | "L">("");

export function Sending() {
  const over = useDrop();
  const take = (input: HTMLInputElement) => {
    send([...(input.files ?? [])], eye.value || null);
    input.value = "";
  };
  return (
    <section class={`sending ${over ? "over" : ""}`} aria-label="Send images">
      <p>
        <strong>Send images</strong>{" "}
        <span class="quiet">
          Drop a chest CT (DICOM files, a folder, a ZIP) or photographs of the retina anywhere on this page, or
        </span>
      </p>
      <div class="row">
        <label class="button primary">
          Choose files
          <input id="choose-files" type="file" multiple onChange={(event) => take(event.currentTarget)} />
        </label>
        <label class="button">
          Choose a folder
          <input
            id="choose-folder"
            type="file"
            multiple
            {...{ webkitdirectory: true }}
            onChange={(event) => take(event.currentTarget)}
          />
        </label>
        <Segments
          label="Eye on photographs"
          options={EYES}
          value={eye.value}
          onChange={(value) => {
            eye.value = value;
          }}
        />
      </div>
      {sent.value.length > 0 && (
        <ul class="jobs" aria-live="polite" aria-label="What is being sent">
          {sent.value.map((job) => (
            <JobLine key={job.key} job={job} />
          ))}
        </ul>
      )}
      {sent.value.filter(ended).length > 1 && (
        <button type="button" class="plain" onClick={forgetEnded}>
          Clear what has ended
        </button>
      )}
      {over && <div class="drop-here">Drop to analyse</div>}
    </section>
  );
}

/** True while files are dragged over the page; what is dropped is sent. */
function useDrop(): boolean {
  const [over, setOver] = useState(false);
  useEffect(() => {
    const leaving = new AbortController();
    const { signal } = leaving;
    const files = (event: DragEvent) => event.dataTransfer?.types.includes("Files");
    const drag = (event: DragEvent) => {
      if (!files(event)) return;
      event.preventDefault();
      setOver(true);
    };
    document.addEventListener("dragenter", drag, { signal });
    document.addEventListener("dragover", drag, { signal });
    document.addEventListener("dragleave", (event) => !event.relatedTarget && setOver(false), { signal });
    document.addEventListener(
      "drop",
      async (event) => {
        if (!event.dataTransfer) return;
        event.preventDefault();
        setOver(false);
        try {
          send(await dropped(event.dataTransfer), eye.value || null);
        } catch {
          refuse("What was dropped", {
            title: "A dropped file or folder cannot be read",
            detail: "It was moved or is locked. Nothing was sent; try again, or choose the files with the buttons.",
          });
        }
      },
      { signal },
    );
    return () => leaving.abort();
  }, []);
  return over;
}

function JobLine({ job }: { job: Sent }) {
  const { analysis, problem } = job;
  const failed = job.state === "refused" || job.state === "lost" || analysis?.status === "failed";
  const words = {
    waiting: "waits for its turn",
    sending: `sending, ${Math.round(100 * job.share)} %`,
    analysing: analysis ? `${analysis.status} ...` : "analysing ...",
    done:
      analysis?.outcome === "graded" && analysis.findings[0]
        ? answer(analysis.findings[0])
        : analysis
          ? outcome(analysis)
          : "",
    refused: "not taken",
    lost: "cannot be followed",
  }[job.state];
  return (
    <li data-state={failed ? "failed" : job.state} data-testid="job">
      <div class="row">
        {!failed && job.state !== "done" && <span class="spinner" aria-hidden="true" />}
        {analysis ? <a href={`#/analysis/${analysis.id}`}>{job.title}</a> : <strong>{job.title}</strong>}
        <span>{words}</span>
        {job.state === "sending" && <progress value={job.share} aria-label={`${job.title}: sent`} />}
        {(failed || job.state === "done") && (
          <button type="button" class="plain" aria-label={`Forget ${job.title}`} onClick={() => forget(job.key)}>
            ×
          </button>
        )}
      </div>
      {problem && <ProblemNotice problem={problem} />}
      {analysis?.status === "failed" && analysis.error && <ProblemNotice problem={analysis.error} />}
    </li>
  );
}
