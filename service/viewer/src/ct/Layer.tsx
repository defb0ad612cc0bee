/** Draws what lies over the image whenever the image, the finding or the overlay's settings change; says on the stage what is shown. */

import { effect } from "@preact/signals";
import type { RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { region as fetchRegion } from "../api/client";
import type { CriticalRegion } from "../api/types";
import { analysis, classes, finding } from "../case/state";
import { type Layers, layersOf } from "../maps/draw";
import { naming } from "../maps/legend";
import { contoured, overlay } from "../maps/overlay";
import { paint } from "../maps/paint";
import type { ResponseMaps } from "../maps/response";
import { hasMaps, useMaps } from "../maps/useMaps";
import { marksOn, range } from "./marks";
import { drawScene, type Scene } from "./scene";
import type { Session } from "./session";

interface Given {
  maps: ResponseMaps | null;
  region: CriticalRegion | null;
  /** Nothing is on its way any more. */
  settled: boolean;
}

export function Layer(props: { session: Session; stage: RefObject<HTMLDivElement | null> }) {
  const { session, stage } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const [shown, one] = [analysis.value, finding.value];
  const { maps, problem } = useMaps(shown, one);
  const region = useRegion(shown?.id, one && hasMaps(one) ? one.id : undefined);
  const settled = !one || !hasMaps(one) || ((maps !== null || problem !== null) && region !== undefined);
  const pictures = useRef(new Pictures());
  useLayoutEffect(() => {
    const given = { maps, region: region ?? null, settled };
    return effect(() => draw(session, canvas.current!, stage.current!, given, pictures.current));
  }, [session, maps, region, settled]);
  return (
    <>
      <canvas ref={canvas} class="ct-overlay" data-testid="ct-overlay" />
      <WhereMaps session={session} maps={maps} absent={problem !== null} />
    </>
  );
}

/** Outline of the critical region; undefined while it is on its way, null where there is none. */
function useRegion(id: string | undefined, name: string | undefined): CriticalRegion | null | undefined {
  const wanted = id && name ? `${id} ${name}` : "";
  const [found, set] = useState<{ of: string; region: CriticalRegion | null }>({ of: "", region: null });
  useEffect(() => {
    if (!id || !name) return;
    const away = new AbortController();
    fetchRegion(id, name, away.signal).then(
      (region) => set({ of: wanted, region }),
      () => away.signal.aborted || set({ of: wanted, region: null }),
    );
    return () => away.abort();
  }, [wanted]);
  if (!wanted) return null;
  return found.of === wanted ? found.region : undefined;
}

/** The painted maps of the last setting: scrolling and zooming paint nothing anew. */
class Pictures {
  private of: unknown[] = [];
  private readonly made = new Map<number, Layers>();

  get(at: number, maps: ResponseMaps, make: () => Layers, ...settings: unknown[]): Layers {
    const of = [maps, ...settings];
    if (of.length !== this.of.length || of.some((one, k) => one !== this.of[k])) {
      this.made.clear();
      this.of = of;
    }
    const picture = this.made.get(at) ?? make();
    this.made.set(at, picture);
    return picture;
  }
}

function draw(session: Session, canvas: HTMLCanvasElement, stage: HTMLElement, given: Given, pictures: Pictures): void {
  const [view, slice, how] = [session.view.value, session.slice.value, overlay.value];
  const [shown, one, known] = [analysis.value, finding.value, classes.value];
  const context = canvas.getContext("2d")!;
  const ratio = devicePixelRatio || 1;
  const [w, h] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(w * ratio)) canvas.width = Math.round(w * ratio);
  if (canvas.height !== Math.round(h * ratio)) canvas.height = Math.round(h * ratio);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  const scene: Scene = { map: null, contour: [], box: null, marks: [] };
  if (view && slice) {
    if (shown && one) {
      const { maps } = given;
      const at = maps?.sources.indexOf(slice.key) ?? -1;
      if (maps && at >= 0 && how.visible) {
        const all = naming(maps.classes, one, known);
        const make = () =>
          layersOf(
            paint(
              maps,
              at,
              all.map((each) => each.probability),
              all.map((each) => each.color),
              how,
            ),
            how.kind,
          );
        const layers = pictures.get(at, maps, make, one.id, known, how.kind, how.scale, how.threshold);
        scene.map = { layers, box: maps.box_px[at]!, opacity: how.opacity };
      }
      if (how.visible && how.contour && contoured(how.kind, given.region))
        scene.contour = given.region?.slices.find((each) => each.sop_instance_uid === slice.key)?.polygons ?? [];
      if (how.visible && how.box && (at >= 0 || one.location.sop_instance_uid === slice.key))
        scene.box = one.location.box_px;
    }
    if (shown) scene.marks = marksOn(shown, slice, session.pitch.value, one?.id);
    context.scale(ratio, ratio);
    drawScene(context, view, scene, Number.parseFloat(getComputedStyle(canvas).fontSize));
  }
  const { a, b, c, d, e, f } = view ?? { a: 0, b: 0, c: 0, d: 0, e: 0, f: 0 };
  const here = session.shown.value;
  Object.assign(stage.dataset, {
    slice: String(here + 1),
    slices: String(session.order.value.length),
    instance: slice?.key ?? "",
    analysis: shown?.id ?? "",
    finding: one?.id ?? "",
    kind: how.kind,
    painted: String(scene.map !== null && how.opacity > 0),
    contour: String(scene.contour.length),
    marks: String(scene.marks.length),
    transform: view ? [a, b, c, d, e, f].join(" ") : "",
    ready: String(view !== null && here >= 0 && here === session.wanted.value && given.settled),
  });
}

/** The maps cover a few slices: which, where the one that is shown is none of them. */
function WhereMaps(props: { session: Session; maps: ResponseMaps | null; absent: boolean }) {
  const { session, maps, absent } = props;
  const slice = session.slice.value;
  if (!overlay.value.visible || !slice || session.picking.value) return null;
  if (absent)
    return (
      <p class="ct-note" role="status">
        The response maps of this finding cannot be had.
      </p>
    );
  if (!maps || maps.sources.includes(slice.key)) return null;
  const order = session.order.value;
  const places = maps.sources.map((key) => order.indexOf(key)).filter((at) => at >= 0);
  const peak = order.indexOf(maps.sources[maps.peak_slice] ?? "");
  return (
    <p class="ct-note" role="status" data-testid="ct-no-map">
      No map on this slice. Maps of this finding: {range(places) || "none in this stack"}.{" "}
      {peak >= 0 && (
        <button type="button" onClick={() => session.go(peak)}>
          Go to the peak
        </button>
      )}
    </p>
  );
}
