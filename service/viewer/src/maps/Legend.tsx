/** The key to the map that is shown. */

import { analysis, classes, finding, slice } from "../case/state";
import "../styles/maps.css";
import { entries, notes } from "./legend";
import { classNames, overlay } from "./overlay";
import { hasMaps, useMaps } from "./useMaps";

export function Legend() {
  const [shown, one] = [analysis.value, finding.value];
  const { maps } = useMaps(shown, one);
  const how = overlay.value;
  if (!shown || !one || !hasMaps(one)) return null;
  const names = maps?.classes ?? classNames(one.evidence.maps);
  const key = entries(how.kind, names, one, classes.value);
  const source = slice.value === null ? null : shown.input.instances[slice.value];
  const at = !maps ? null : source === null ? maps.peak_slice : maps.sources.indexOf(source ?? "");
  return (
    <section class="legend" aria-label="Legend of the map" data-testid="legend" data-kind={how.kind}>
      <h3>{key.title}</h3>
      <ul>
        {key.entries.map((entry) => (
          <li key={entry.text}>
            <i style={{ backgroundImage: `linear-gradient(to right, ${entry.ramp.join(", ")})` }} aria-hidden="true" />
            {entry.text}
          </li>
        ))}
      </ul>
      <p class="quiet">{notes(maps, at === -1 ? null : at, how, one).join(" ")}</p>
    </section>
  );
}
