/** Small multiples: each grade's own map beside the others, with its probability; a click shows it large. */

import { useEffect, useRef } from "preact/hooks";
import type { Finding } from "../api/types";
import { classes } from "../case/state";
import { drawLayers } from "../maps/draw";
import { naming } from "../maps/legend";
import { classNames, overlay, setOverlay } from "../maps/overlay";
import type { ResponseMaps } from "../maps/response";
import { useMaps } from "../maps/useMaps";
import { probability } from "../words";
import { type Named, paintedLayers } from "./draw";
import { levelFor } from "./levels";
import type { Photograph, Picture } from "./photograph";
import type { Shot } from "./shots";
import { usePhotograph, usePicture } from "./use";

/** Pixels of a thumbnail. */
const SIDE = 256;
const NATURAL = { view: "natural" as const, invert: false };

export function Grades(props: { shot: Shot; finding: Finding }) {
  const { shot, finding } = props;
  const { photograph } = usePhotograph(shot.places);
  const { picture } = usePicture(photograph, NATURAL);
  const { maps } = useMaps(shot.analysis, finding);
  const names = classNames(finding.evidence.maps);
  if (names.length === 0) return null;
  const all = naming(names, finding, classes.value);
  return (
    <div class="grades" role="group" aria-label="Map of each grade" data-testid="grades">
      {all.map((one, c) => (
        <button
          key={one.name}
          type="button"
          aria-pressed={overlay.value.kind === `class-${one.name}`}
          title={`Show the map of ${one.label} alone; again: all classes`}
          data-class={one.name}
          onClick={() => {
            const kind = `class-${one.name}`;
            setOverlay({ kind: overlay.peek().kind === kind ? "clear" : kind, visible: true });
          }}
        >
          <Thumbnail photograph={photograph} picture={picture} maps={maps} classes={all} c={c} />
          <span class="name">
            <i class="swatch" style={{ backgroundColor: one.color }} />
            {one.label}
          </span>
          <span class={one.label === finding.label ? "most" : undefined}>{probability(one.probability)}</span>
        </button>
      ))}
    </div>
  );
}

function Thumbnail(props: {
  photograph: Photograph | null;
  picture: Picture | null;
  maps: ResponseMaps | null;
  classes: readonly Named[];
  c: number;
}) {
  const { photograph, picture, maps, classes: all, c } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const { scale, threshold } = overlay.value;
  const name = all[c]!.name;
  const color = all[c]!.color;
  useEffect(() => {
    const box = maps?.box_px[0];
    if (!canvas.current || !photograph || !picture?.grey.length || !maps || !box) return;
    const context = canvas.current.getContext("2d")!;
    const factor = SIDE / (box[2] - box[0]);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, SIDE, SIDE);
    context.setTransform(factor, 0, 0, factor, -factor * box[0], -factor * box[1]);
    drawLayers(context, paintedLayers(maps, all, { ...overlay.peek(), kind: `class-${name}`, scale, threshold }), box);
    context.globalCompositeOperation = "destination-over";
    const level = levelFor(picture.grey, photograph.width * factor);
    context.drawImage(level, 0, 0, photograph.width, photograph.height);
    context.globalCompositeOperation = "source-over";
    canvas.current.dataset.drawn = name;
  }, [photograph, picture, maps, name, color, scale, threshold]);
  return (
    <span class="thumb">
      <canvas ref={canvas} width={SIDE} height={SIDE} />
    </span>
  );
}
