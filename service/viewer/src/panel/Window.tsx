/** The crop as the model saw it, large enough to look at, with the map over it when wanted. */

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { findingPath } from "../api/client";
import type { Analysis, Finding, ModelClass } from "../api/types";
import { showSlice, slice, sliceOf } from "../case/state";
import { overlay } from "../maps/overlay";
import { painted } from "../maps/paint";
import { hasMaps, useMaps } from "../maps/useMaps";
import { Toggle } from "../parts/controls";
import { placesOf, sliceShown } from "./order";

const mapOver = signal(false);

export function Window(props: { analysis: Analysis; finding: Finding; classes: readonly ModelClass[] }) {
  const { analysis, finding } = props;
  const places = placesOf(analysis, finding);
  const count = Math.max(1, places.length);
  const at = sliceShown(places, slice.value ?? sliceOf(analysis, finding) ?? null, finding.evidence.peak_slice);
  const [broken, setBroken] = useState("");
  const [shape, setShape] = useState<[number, number] | null>(null);
  const source = `${findingPath(analysis.id, finding.id)}/window.png?slice=${at}`;
  const step = (by: number) => {
    const next = places[at + by];
    if (next !== undefined) showSlice(next);
  };
  const which =
    count > 1 ? `slice ${(places[at] ?? at) + 1}${at === finding.evidence.peak_slice ? ", peak of the map" : ""}` : "";
  return (
    <div class="part window-part">
      <h3>As the model saw it</h3>
      <div class="window" data-testid="window" data-slice={at} data-map={mapOver.value ? overlay.value.kind : ""}>
        {broken === source ? (
          <p class="quiet">Not available: the images or the weights are no longer here.</p>
        ) : (
          <img
            class={mapOver.value ? "under" : undefined}
            src={source}
            alt={`Input of the network, ${which || "the whole photograph"}`}
            onError={() => setBroken(source)}
            onLoad={(event) => setShape([event.currentTarget.naturalWidth, event.currentTarget.naturalHeight])}
          />
        )}
        {mapOver.value && broken !== source && <MapOver {...props} at={at} />}
      </div>
      <div class="row">
        {hasMaps(finding) && (
          <Toggle
            label="Map over it"
            checked={mapOver.value}
            onChange={(checked) => {
              mapOver.value = checked;
            }}
          />
        )}
        {count > 1 && (
          <span class="stepper">
            <button
              type="button"
              aria-label="Previous slice of this finding"
              disabled={at === 0}
              onClick={() => step(-1)}
            >
              ‹
            </button>
            <span class="num" aria-live="polite">
              {at + 1} of {count} ({which})
            </span>
            <button
              type="button"
              aria-label="Next slice of this finding"
              disabled={at === count - 1}
              onClick={() => step(1)}
            >
              ›
            </button>
          </span>
        )}
      </div>
      <p class="quiet">
        {shape ? `${shape[0]} x ${shape[1]} pixels` : "The network's input"} after all preprocessing;{" "}
        {finding.grade === undefined
          ? "grey from the darkest to the brightest of the crop, so density in HU is lost. Nothing outside is looked at."
          : "colour relative to the surroundings, mid-grey where both are equal."}
      </p>
    </div>
  );
}

/** The map with the same kind, scale and threshold as over the images. */
function MapOver(props: { analysis: Analysis; finding: Finding; classes: readonly ModelClass[]; at: number }) {
  const { analysis, finding, classes, at } = props;
  const { maps } = useMaps(analysis, finding);
  const place = useRef<HTMLDivElement>(null);
  const how = overlay.value;
  useEffect(() => {
    if (!maps || !place.current || at >= maps.shape[0]) return;
    const colors = maps.classes.map((name) => classes.find((one) => one.name === name)?.color ?? "#969696");
    const p = maps.classes.map((name) => finding.probabilities[name] ?? 0);
    place.current.replaceChildren(painted(maps, at, p, colors, how));
  }, [maps, at, classes, how.kind, how.scale, how.threshold, finding.id]);
  return <div ref={place} class="window-map" style={{ opacity: how.opacity }} data-testid="window-map" />;
}
