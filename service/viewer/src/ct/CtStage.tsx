/** The stack of a CT series with what the model says drawn over it. */

import { effect, untracked } from "@preact/signals";
import { useCallback, useEffect, useMemo, useRef } from "preact/hooks";
import { unfinished } from "../api/client";
import type { Analysis } from "../api/types";
import { analysis, current, finding, select, series, showSlice, slice, sliceOf } from "../case/state";
import { Legend } from "../maps/Legend";
import { OverlayControls } from "../maps/OverlayControls";
import { ProblemNotice, Spinner } from "../parts/controls";
import { Offer, Picking, Progress } from "./Analyse";
import { Corners } from "./Corners";
import { apply, wholeLength } from "./geometry";
import { useCtKeys } from "./keys";
import { Layer } from "./Layer";
import { marksOn, placeOf } from "./marks";
import { Rail } from "./Rail";
import { radiusOf } from "./scene";
import { Session } from "./session";
import { Toolbar } from "./Toolbar";
import "../styles/ct.css";

/** The address follows the slice at most so often: browsers refuse more. */
const ADDRESS_MS = 300;
/** Wheel travel of one slice, CSS pixels: less than a notch of any mouse. */
const WHEEL_PX = 50;
/** A click that moved less is no drag. */
const STILL_PX = 4;

export function CtStage() {
  const now = current.value;
  const uid = series.value;
  if (!now) return null;
  if (!now.study || !uid)
    return (
      <div class="ct-empty quiet" data-testid="ct-stage" data-ready="false">
        {finding.value
          ? "Crops of a nodule were sent as files, without the CT around them. They are shown in the panel: as the model saw it."
          : "There is no series to show."}
      </div>
    );
  return <Stage key={`${now.study} ${uid}`} study={now.study} series={uid} />;
}

function Stage(props: { study: string; series: string }) {
  const session = useMemo(() => new Session(props.study, props.series), []);
  const stage = useRef<HTMLDivElement>(null);
  const image = useRef<HTMLDivElement>(null);
  const viewport = useRef<HTMLDivElement>(null);
  const info = current.value?.series.find((one) => one.series === props.series);
  const analysable = !info || info.modality === "CT";

  useEffect(() => {
    const [shown, one] = [analysis.peek(), finding.peek()];
    const at = slice.peek() ?? (shown && sliceOf(shown, one ?? undefined)) ?? undefined;
    fill(image.current!);
    session.start(viewport.current!, orderOf(shown), at);
    const stops = [follow(session), tell(session), play(session), wheel(session, image.current!)];
    const watcher = new ResizeObserver(() => {
      if (!image.current?.clientWidth || !image.current.clientHeight) return;
      fill(image.current);
      session.resize();
    });
    watcher.observe(image.current!);
    return () => {
      for (const stop of stops) stop();
      watcher.disconnect();
      session.destroy();
    };
  }, [session]);

  const nodule = useCallback(() => toNodule(session), [session]);
  useCtKeys(session, nodule, analysable);
  const down = useRef<[number, number]>([0, 0]);

  return (
    <div class="ct" ref={stage} data-testid="ct-stage" data-ready="false" data-series={props.series}>
      <Toolbar session={session} nodule={finding.value ? nodule : null} analysable={analysable} />
      {/* biome-ignore lint/a11y/noStaticElementInteractions: the keyboard has the same by shortcuts */}
      <div
        class={`ct-image tool-${session.tool.value}`}
        ref={image}
        onPointerMove={(event) => {
          const box = event.currentTarget.getBoundingClientRect();
          session.mouse.value = [event.clientX - box.left, event.clientY - box.top];
        }}
        onPointerLeave={() => {
          session.mouse.value = null;
        }}
        onPointerDownCapture={(event) => {
          down.current = [event.clientX, event.clientY];
        }}
        onPointerUpCapture={(event) => {
          const [x, y] = down.current;
          const still = Math.hypot(event.clientX - x, event.clientY - y) < STILL_PX;
          if (still && event.button === 0) choose(session, event, image.current!);
        }}
        onContextMenu={(event) => event.preventDefault()}
      >
        <div class="ct-viewport" ref={viewport} data-testid="ct-viewport" />
        <Layer session={session} stage={stage} />
        <Corners session={session} />
        <Missing session={session} />
        <Picking session={session} />
        <Progress session={session} />
        <Offer session={session} analysable={analysable} />
      </div>
      <Rail session={session} />
      {finding.value && (
        <details class="ct-maps" open>
          <summary>Map</summary>
          <div class="ct-maps-body">
            <OverlayControls />
            <Legend />
          </div>
        </details>
      )}
    </div>
  );
}

/** Tell the style sheet how large the picture is: whole pixels. */
function fill(image: HTMLElement): void {
  const { width, height } = image.getBoundingClientRect();
  image.style.setProperty("--ct-width", `${wholeLength(width, devicePixelRatio)}px`);
  image.style.setProperty("--ct-height", `${wholeLength(height, devicePixelRatio)}px`);
}

/** What is on its way or did not come. */
function Missing(props: { session: Session }) {
  const { session } = props;
  const [trouble, failure, wanted] = [session.trouble.value, session.failure.value, session.wanted.value];
  if (trouble)
    return (
      <div class="ct-over">
        <ProblemNotice problem={trouble} />
      </div>
    );
  if (failure)
    return (
      <div class="ct-over solid" data-testid="ct-failure">
        <ProblemNotice problem={{ ...failure, title: `Slice ${wanted + 1} cannot be shown: ${failure.title}` }}>
          <p>
            <button type="button" onClick={() => session.retry()}>
              Try again
            </button>
          </p>
        </ProblemNotice>
      </div>
    );
  if (session.shown.value < 0)
    return (
      <div class="ct-over">
        <Spinner>Loading the images ...</Spinner>
      </div>
    );
  return wanted !== session.shown.value ? <p class="ct-waiting">slice {wanted + 1} ...</p> : null;
}

/** The order of an analysis' stack; unknown until it has ended. */
function orderOf(shown: Analysis | null): readonly string[] {
  return shown && !unfinished(shown) && shown.findings.length ? shown.input.instances : [];
}

/** Go where the address and the selection say, in the order of the analysis that is shown. */
function follow(session: Session): () => void {
  let seen = "";
  const stops = [
    effect(() => {
      const keys = orderOf(analysis.value);
      if (keys.length) untracked(() => session.reorder(keys));
    }),
    effect(() => {
      const at = slice.value;
      if (at !== null) untracked(() => session.go(at));
    }),
    effect(() => {
      // An analysis that has just ended, or another one: to its finding, unless the address says where.
      const [shown, one] = [analysis.value, finding.value];
      const at = shown && sliceOf(shown, one ?? undefined);
      if (at !== undefined && at !== null && slice.peek() === null) untracked(() => session.go(at));
    }),
    effect(() => {
      const one = finding.value;
      const image = session.slice.value;
      if (one && image?.key === one.location.sop_instance_uid && session.view.peek() && seen !== one.id) {
        seen = one.id;
        const place = placeOf(one, image);
        if (place) untracked(() => session.reveal(place.x, place.y));
      }
    }),
  ];
  return () => {
    for (const stop of stops) stop();
  };
}

/** Note the slice in the address, a little after it was reached. */
function tell(session: Session): () => void {
  let timer = 0;
  let last = session.wanted.peek();
  const stop = effect(() => {
    const place = session.shown.value;
    if (place < 0 || place === last) return;
    last = place;
    timer ||= window.setTimeout(() => {
      timer = 0;
      if (session.wanted.peek() !== slice.peek()) showSlice(session.wanted.peek());
    }, ADDRESS_MS);
  });
  return () => {
    stop();
    clearTimeout(timer);
  };
}

/** Cine: on to the next slice when the last one is drawn, from the end to the beginning. */
function play(session: Session): () => void {
  let timer = 0;
  const stop = effect(() => {
    clearInterval(timer);
    if (!session.playing.value) return;
    timer = window.setInterval(() => {
      const [place, count] = [session.wanted.peek(), session.order.peek().length];
      if (count < 2 || session.shown.peek() !== place) return;
      session.go((place + session.down.peek() + count) % count);
    }, 1000 / session.speed.value);
  });
  return () => {
    stop();
    clearInterval(timer);
  };
}

/** Wheel: through the slices; with Ctrl: zoom at the mouse. */
function wheel(session: Session, image: HTMLElement): () => void {
  let left = 0;
  const turned = (event: WheelEvent) => {
    event.preventDefault();
    const travel = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : WHEEL_PX);
    if (event.ctrlKey) {
      const box = image.getBoundingClientRect();
      session.zoom(Math.exp(-travel / 400), event.clientX - box.left, event.clientY - box.top);
      return;
    }
    if (Math.abs(travel) >= WHEEL_PX) {
      left = 0;
      session.step(Math.sign(travel));
      return;
    }
    left += travel; // a touchpad tells of small parts
    const steps = Math.trunc(left / (WHEEL_PX / 2));
    left -= (steps * WHEEL_PX) / 2;
    if (steps) session.step(steps);
  };
  image.addEventListener("wheel", turned, { passive: false });
  return () => image.removeEventListener("wheel", turned);
}

/** Select the finding whose ring was clicked. */
function choose(session: Session, event: PointerEvent, image: HTMLElement): void {
  const [shown, on, view] = [analysis.peek(), session.slice.peek(), session.view.peek()];
  const measuring = !["WindowLevel", "Scroll", "Pan", "Zoom"].includes(session.tool.peek());
  if (!shown || !on || !view || measuring || session.picking.peek()) return;
  const target = event.target as HTMLElement;
  if (target.closest("button, .ct-note, .ct-over")) return;
  const box = image.getBoundingClientRect();
  const distance = (one: { x: number; y: number }) => {
    const [X, Y] = apply(view, one.x, one.y);
    return Math.hypot(event.clientX - box.left - X, event.clientY - box.top - Y);
  };
  const hit = marksOn(shown, on, session.pitch.peek(), finding.peek()?.id)
    .filter((one) => distance(one) <= radiusOf(view, one) + 6)
    .sort((a, b) => distance(a) - distance(b))[0];
  if (hit && hit.finding !== finding.peek()?.id) select(hit.finding);
}

/** Close to the selected finding; from there back to the whole image. */
function toNodule(session: Session): void {
  const [shown, one] = [analysis.peek(), finding.peek()];
  if (!shown || !one) return;
  const at = sliceOf(shown, one);
  const [x0, y0, x1, y1] = one.location.box_px;
  const view = session.view.peek();
  const wide = view && Math.hypot(view.a, view.b) * (x1 - x0);
  const size = session.imageSize();
  if (wide && size && wide > 0.5 * size) session.fit();
  else session.frame([x0, y0, x1, y1]);
  if (at !== undefined) session.go(at);
}
