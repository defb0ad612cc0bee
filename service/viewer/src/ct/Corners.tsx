/** What belongs to an image that is read: where it lies, how it is windowed, what lies under the mouse, its scale and its sides. */

import { millimetres } from "../words";
import { perMillimetre, roundLength, side, toPatient } from "./geometry";
import { PRESETS, type Session } from "./session";

export function Corners(props: { session: Session }) {
  const { session } = props;
  const slice = session.slice.value;
  if (!slice) return null;
  const [place, count] = [session.shown.value, session.order.value.length];
  const { center, width } = session.window.value;
  const named = PRESETS.find((one) => one.window?.center === center && one.window.width === width)?.name;
  const loading = session.there.value < count && session.there.value > 0;
  return (
    <div class="ct-corners">
      <p class="ct-corner tl" data-testid="ct-slice">
        <b>
          Slice {place + 1} / {count}
        </b>
        <span>{slice.placed ? side(slice) : "position unknown"}</span>
        {slice.thickness !== null && <span>thickness {millimetres(slice.thickness)}</span>}
        {loading && (
          <span class="quiet">
            loaded {session.there.value} / {count}
          </span>
        )}
      </p>
      <p class="ct-corner tr">
        <span>
          {slice.modality} {slice.description}
        </span>
        {session.cpu && <span class="quiet">drawn without WebGL</span>}
      </p>
      <p class="ct-corner bl" data-testid="ct-window">
        <span>
          W {Math.round(width)} L {Math.round(center)} {named && `(${named})`}
        </span>
        <span>
          zoom {(100 * session.magnification.value).toFixed(0)} %{session.inverted.value && " · inverted"}
        </span>
      </p>
      <Under session={session} />
      <ScaleBar session={session} />
      <Edges session={session} />
    </div>
  );
}

/** Hounsfield units under the mouse. */
function Under(props: { session: Session }) {
  const { session } = props;
  const [slice, mouse] = [session.slice.value, session.mouse.value];
  void session.view.value; // another place lies under the mouse when the view changes
  const at = mouse && session.placeAt(mouse[0], mouse[1]);
  const value = at && session.valueAt(at[0], at[1]);
  if (!slice || !at || value === null) return null;
  const point = toPatient(slice, at[0], at[1]);
  return (
    <p class="ct-corner br" data-testid="ct-value">
      <b>
        {Math.round(value)}
        {slice.modality === "CT" && " HU"}
      </b>
      {slice.placed && <span>{point.map((one) => one.toFixed(1)).join(", ")} mm</span>}
    </p>
  );
}

function ScaleBar(props: { session: Session }) {
  const [slice, view] = [props.session.slice.value, props.session.view.value];
  if (!slice || !view) return null;
  if (!slice.measured) return <p class="ct-scale quiet">pixel size unknown: nothing here is in mm</p>;
  const per = perMillimetre(view, slice);
  const length = roundLength(per);
  return (
    <p class="ct-scale" data-testid="ct-scale">
      <i style={{ width: `${length * per}px` }} />
      {length} mm
    </p>
  );
}

const SIDES = ["left", "right", "top", "bottom"];

function Edges(props: { session: Session }) {
  const edges = props.session.edges.value;
  if (!edges) return null;
  return (
    <>
      {edges.map((letters, k) => (
        <span key={SIDES[k]} class={`ct-edge at-${SIDES[k]}`} data-testid={`ct-edge-${SIDES[k]}`}>
          {letters}
        </span>
      ))}
    </>
  );
}
