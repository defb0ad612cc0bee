/** One photograph in its pane: the picture, its map, outline and box, and what the model says about this eye. */

import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import type { Analysis, Finding } from "../api/types";
import { classes } from "../case/state";
import { naming } from "../maps/legend";
import { classNames, contoured, overlay } from "../maps/overlay";
import { useMaps } from "../maps/useMaps";
import { ProblemNotice, Spinner } from "../parts/controls";
import { percent, probability } from "../words";
import { mostAttentive } from "./attention";
import { type Drawing, draw, outlineOf, paintedLayers } from "./draw";
import { affine, panned, snapped, trueZoom, WHOLE, zoomedAt } from "./geometry";
import { useGestures } from "./gestures";
import { EYE_NAMES, type Pane, type Shot } from "./shots";
import { greyUnder, invert, look, places, view } from "./state";
import { usePhotograph, usePicture, useRegion, useSize } from "./use";
import { Grade, Verdict } from "./Verdict";

const VIEWS = { natural: "", red_free: "red-free", contrast: "local contrast" };

export function Eye(props: {
  panes: readonly Pane[];
  index: number;
  active: boolean;
  finding: Finding | null;
  onChoose: (shot: Shot) => void;
  onActivate: () => void;
}) {
  const { panes, index, finding } = props;
  const pane = panes[index]!;
  const { analysis } = pane.shown;
  const root = useRef<HTMLElement>(null);
  const ground = useRef<HTMLDivElement>(null);
  const size = useSize(ground);
  const { photograph, problem, again } = usePhotograph(pane.shown.places);
  const { picture, exact } = usePicture(photograph, { view: view.value, invert: invert.value });
  const { maps, problem: noMaps } = useMaps(analysis, finding);
  const { region, settled } = useRegion(analysis, finding);
  const how = overlay.value;
  const all = useMemo(
    () => (finding ? naming(classNames(finding.evidence.maps), finding, classes.value) : []),
    [finding, classes.value],
  );
  const kind = finding && how.kind in finding.evidence.maps ? how.kind : "clear";
  const layers = useMemo(
    () => (maps && all.length ? paintedLayers(maps, all, { ...how, kind }) : null),
    [maps, all, kind, how.scale, how.threshold],
  );
  const attentive = useMemo(
    () =>
      maps && photograph && all.length
        ? mostAttentive(
            maps,
            kind,
            all.map((one) => one.probability),
            photograph,
          )
        : null,
    [maps, photograph, kind, all],
  );
  const outline = useMemo(() => region && outlineOf(region), [region]);
  const place = places.value[index] ?? WHOLE;
  const at = size && photograph && snapped(affine(place, size, photograph), size.ratio);
  const drawing: Drawing | null =
    size && photograph && picture && at
      ? {
          size,
          at,
          photograph,
          picture,
          greyUnder: greyUnder.value,
          layers: how.visible ? layers : null,
          box: maps?.box_px[0] ?? null,
          columns: maps?.shape[3] ?? 0,
          outline: how.visible && how.contour && contoured(kind, region) ? outline : null,
          attentive: how.visible && how.box && attentive ? { ...attentive, ...all[attentive.c]! } : null,
        }
      : null;
  const mapDrawn = layers
    ? !how.visible || !greyUnder.value || picture?.grey.length
    : noMaps || !finding || !all.length;
  const complete = Boolean(drawing && exact && mapDrawn && settled);

  useLayoutEffect(() => {
    if (!drawing || !root.current) return;
    const element = root.current;
    element.dataset.ready = "false";
    const frame = requestAnimationFrame(() => {
      draw(element, drawing);
      const { scale, x, y } = drawing.at;
      Object.assign(element.dataset, {
        scale: String(scale),
        x: String(x),
        y: String(y),
        width: String(drawing.photograph.width),
        height: String(drawing.photograph.height),
        view: view.peek() + (invert.peek() ? " inverted" : ""),
        kind: drawing.layers ? kind : "",
        box: drawing.attentive ? drawing.attentive.box.join(" ") : "",
        boxClass: drawing.attentive?.name ?? "",
        contour: drawing.outline ? (region?.class ?? "") : "",
        shown: "true",
        ready: String(complete),
      });
    });
    return () => cancelAnimationFrame(frame);
  });

  useGestures(ground, {
    pan: (dx, dy) => photograph && size && look(index, panned(place, dx, dy, size, photograph), panes),
    zoom: (factor, point) => photograph && size && look(index, zoomedAt(place, factor, point, size, photograph), panes),
    tap: props.onActivate,
    double: (point) => {
      if (!photograph || !size) return;
      const near = trueZoom(size, photograph, size.ratio);
      const factor = Math.abs(place.zoom - 1) < 0.01 ? Math.max(2, near) : 0;
      look(index, factor ? zoomedAt(place, factor, point, size, photograph) : WHOLE, panes);
    },
  });

  const name = EYE_NAMES[pane.eye];
  return (
    <article
      ref={root}
      class={props.active && panes.length > 1 ? "eye active" : "eye"}
      aria-label={name}
      data-testid="eye"
      data-eye={pane.eye}
      data-analysis={analysis?.id ?? ""}
      data-ready="false"
    >
      <header class="eye-head">
        {panes.length > 1 ? (
          <button
            type="button"
            aria-pressed={props.active}
            onClick={props.onActivate}
            title="Show the result of this eye"
          >
            {name}
          </button>
        ) : (
          <strong class={pane.eye ? undefined : "unstated"}>{name}</strong>
        )}
        {pane.shots.length > 1 && (
          <select
            aria-label={`Photograph, ${name}`}
            value={pane.shown.key}
            onChange={(event) => {
              const shot = pane.shots.find((one) => one.key === event.currentTarget.value);
              if (shot) props.onChoose(shot);
            }}
          >
            {pane.shots.map((shot, k) => (
              <option key={shot.key} value={shot.key}>
                {`${k + 1}. ${shot.label}`}
              </option>
            ))}
          </select>
        )}
        <Grade analysis={analysis} finding={finding} />
      </header>
      <div class="view">
        <div
          class="ground"
          ref={ground}
          role="img"
          aria-label={described(name, analysis, finding)}
          data-testid="ground"
        >
          <canvas class="photograph" data-testid="photograph" />
          <canvas class="map" data-testid="overlay" style={{ opacity: how.opacity }} />
          <canvas class="marks" data-testid="marks" />
        </div>
        <Verdict analysis={analysis} />
        <footer>
          {photograph && at && size && (
            <span data-testid="corner-size">
              {photograph.width} × {photograph.height} px · {percent(at.scale * size.ratio)}
              {view.value !== "natural" && ` · ${VIEWS[view.value]}`}
              {invert.value && " · inverted"}
            </span>
          )}
          {noMaps && finding && <span role="status">Map not available: {noMaps.detail ?? noMaps.title}</span>}
          {analysis?.quality?.gradable && <span>Gradable, quality {probability(analysis.quality.score)}</span>}
        </footer>
        {!photograph && !problem && <Spinner>Loading the photograph ...</Spinner>}
        {problem && (
          <div class="failed">
            <ProblemNotice problem={problem}>
              <p>
                <button type="button" onClick={again}>
                  Try again
                </button>
              </p>
            </ProblemNotice>
          </div>
        )}
      </div>
    </article>
  );
}

function described(name: string, analysis: Analysis | null, finding: Finding | null): string {
  if (!analysis) return `Photograph of the retina, ${name}, not analysed`;
  return `Photograph of the retina, ${name}${finding ? `, answered with ${finding.label}` : ""}`;
}
