/** Photographs of the retina: one or both eyes, their maps, and the tools to look at them. */

import { useEffect } from "preact/hooks";
import { analysis, current, finding, series, showAnalysis } from "../case/state";
import { Legend } from "../maps/Legend";
import { OverlayControls } from "../maps/OverlayControls";
import { Segments, Spinner, Toggle } from "../parts/controls";
import { go } from "../route";
import { useShortcuts } from "../shortcuts";
import "../styles/fundus.css";
import { BothEyes } from "./BothEyes";
import { Compare } from "./Compare";
import { Eye } from "./Eye";
import { Grades } from "./Grades";
import { panned, trueZoom, WHOLE, zoomedAt } from "./geometry";
import type { View } from "./looks";
import { ofPhotograph, type Pane, panesOf, type Shot, shotOf } from "./shots";
import { chosen, greyUnder, invert, linked, look, pair, places, view } from "./state";
import { useLoose } from "./use";

const VIEWS: { value: View; label: string; title: string }[] = [
  { value: "natural", label: "Natural", title: "As the camera sent it" },
  { value: "red_free", label: "Red-free", title: "The green channel: vessels and bleedings are dark" },
  { value: "contrast", label: "Contrast", title: "Local contrast of the luminance, colours kept" },
];
const STEP = 60;
const ZOOM_STEP = 1.25;

export function FundusStage() {
  const now = current.value;
  const loose = useLoose();
  const shown = analysis.value;
  const key = now ? now.study || (shown?.id ?? "") : "";
  useEffect(() => {
    places.value = [WHOLE, WHOLE];
    chosen.value = {};
  }, [now?.study ? key : ""]);

  const all = [...(now?.analyses ?? []).filter(ofPhotograph).map(shotOf), ...loose];
  const mine = loose.filter((one) => one.name === `series:${series.value}`);
  const active = shown
    ? shotOf(shown)
    : (mine.find((one) => Object.values(chosen.value).includes(one.key)) ?? mine[0] ?? null);
  const partner =
    shown && pair.value.some((one) => one.id === shown.id) && pair.value.find((one) => one.id !== shown.id);
  const panes = active
    ? panesOf(active, all, chosen.value, partner ? { shot: shotOf(partner), first: pair.value[0] === partner } : null)
    : [];
  const index = panes.findIndex((one) => one.shown.key === active?.key);

  const activate = (shot: Shot) => {
    if (shot.key === active?.key) return;
    if (now?.study) showAnalysis(shot.name);
    else go({ page: "case", analysis: shot.name });
  };
  useShortcuts(() => shortcuts(panes, index, activate), [panes.map((one) => one.shown.key).join(), index]);
  if (!active) return <Spinner>Loading the photographs ...</Spinner>;

  const choose = (pane: Pane, shot: Shot) => {
    chosen.value = { ...chosen.peek(), [pane.eye]: shot.key };
    if (pane.shown.key === active.key) activate(shot);
  };
  const one = finding.value;
  return (
    <div
      class={panes.length > 1 ? "fundus side" : "fundus alone"}
      data-testid="fundus-stage"
      data-eyes={panes.map((pane) => pane.eye || "?").join()}
      data-active={active.key}
    >
      <div class="tools">
        {now?.study && <BothEyes study={now.study} analyses={now.analyses} shown={shown?.id ?? ""} />}
        <div class="toolbar" role="group" aria-label="View">
          <Segments
            label="View"
            options={VIEWS}
            value={view.value}
            onChange={(value) => {
              view.value = value;
            }}
          />
          <Toggle
            label="Invert"
            checked={invert.value}
            onChange={(on) => {
              invert.value = on;
            }}
            title="Dark for light (I)"
          />
          {one && (
            <Toggle
              label="Grey under map"
              checked={greyUnder.value}
              onChange={(on) => {
                greyUnder.value = on;
              }}
              title="The photograph fades to grey under its map, so that an orange class is seen on an orange retina (G)"
            />
          )}
          <span class="zoom" role="group" aria-label="Zoom">
            <button
              type="button"
              onClick={() => zoom(panes, index, 1 / ZOOM_STEP)}
              aria-label="Zoom out"
              title="Zoom out (-)"
            >
              −
            </button>
            <button
              type="button"
              onClick={() => zoom(panes, index, ZOOM_STEP)}
              aria-label="Zoom in"
              title="Zoom in (+)"
            >
              +
            </button>
            <button type="button" onClick={() => look(index, WHOLE, panes)} title="The whole photograph (0)">
              Fit
            </button>
            <button
              type="button"
              onClick={() => truly(panes, index)}
              title="One pixel of the photograph = one of the screen (1)"
            >
              1:1
            </button>
          </span>
          {panes.length > 1 && (
            <Toggle
              label="Link zoom"
              checked={linked.value}
              onChange={(on) => {
                linked.value = on;
                if (on) look(index, places.peek()[index] ?? WHOLE, panes);
              }}
              title="Both eyes zoom and move together, mirrored (L)"
            />
          )}
          {shown && !now?.study && <Compare shown={shown} />}
        </div>
        <OverlayControls />
      </div>
      <div class="middle">
        <div class="eyes">
          {panes.map((pane, k) => (
            <Eye
              key={String(k)}
              panes={panes}
              index={k}
              active={k === index}
              finding={k === index ? one : (pane.shown.analysis?.findings[0] ?? null)}
              onChoose={(shot) => choose(pane, shot)}
              onActivate={() => activate(pane.shown)}
            />
          ))}
        </div>
        {one && <Grades shot={active} finding={one} />}
      </div>
      {one && (
        <footer class="under">
          <Legend />
        </footer>
      )}
    </div>
  );
}

/** Pane and photograph that the keyboard and the buttons mean, from what is on the page. */
function target(index: number) {
  const eye = document.querySelectorAll<HTMLElement>("[data-testid=eye]")[index];
  const ground = eye?.querySelector(".ground");
  const [width, height] = [Number(eye?.dataset.width), Number(eye?.dataset.height)];
  if (!ground || !(width > 0)) return null;
  const pane = ground.getBoundingClientRect();
  return { pane, image: { width, height }, place: places.peek()[index] ?? WHOLE };
}

function zoom(panes: readonly Pane[], index: number, factor: number): void {
  const at = target(index);
  if (!at) return;
  const middle = { x: at.pane.width / 2, y: at.pane.height / 2 };
  look(index, zoomedAt(at.place, factor, middle, at.pane, at.image), panes);
}

function truly(panes: readonly Pane[], index: number): void {
  const at = target(index);
  if (at) zoom(panes, index, trueZoom(at.pane, at.image, devicePixelRatio) / at.place.zoom);
}

function pan(panes: readonly Pane[], index: number, dx: number, dy: number): void {
  const at = target(index);
  if (at) look(index, panned(at.place, dx, dy, at.pane, at.image), panes);
}

function shortcuts(panes: readonly Pane[], index: number, activate: (shot: Shot) => void) {
  const group = "Photograph";
  const other = panes[1 - index];
  return [
    { keys: ["ArrowLeft"], what: "Look further left", group, run: () => pan(panes, index, STEP, 0) },
    { keys: ["ArrowRight"], what: "Look further right", group, run: () => pan(panes, index, -STEP, 0) },
    { keys: ["ArrowUp"], what: "Look further up", group, run: () => pan(panes, index, 0, STEP) },
    { keys: ["ArrowDown"], what: "Look further down", group, run: () => pan(panes, index, 0, -STEP) },
    { keys: ["+", "="], what: "Zoom in", group, run: () => zoom(panes, index, ZOOM_STEP) },
    { keys: ["-"], what: "Zoom out", group, run: () => zoom(panes, index, 1 / ZOOM_STEP) },
    { keys: ["0"], what: "The whole photograph", group, run: () => look(index, WHOLE, panes) },
    { keys: ["1"], what: "One pixel of the photograph = one of the screen", group, run: () => truly(panes, index) },
    {
      keys: ["v"],
      what: "Next view: natural, red-free, contrast",
      group,
      run: () => {
        const at = VIEWS.findIndex((one) => one.value === view.peek());
        view.value = VIEWS[(at + 1) % VIEWS.length]!.value;
      },
    },
    {
      keys: ["i"],
      what: "Invert",
      group,
      run: () => {
        invert.value = !invert.peek();
      },
    },
    {
      keys: ["g"],
      what: "Grey under the map",
      group,
      run: () => {
        greyUnder.value = !greyUnder.peek();
      },
    },
    ...(other
      ? [
          {
            keys: ["l"],
            what: "Link the zoom of both eyes",
            group,
            run: () => {
              linked.value = !linked.peek();
            },
          },
          { keys: ["f"], what: "The fellow eye", group, run: () => activate(other.shown) },
        ]
      : []),
  ];
}
