/** The stack at the side of the image: where the slice lies, where the findings lie, which slices have maps. Click or drag. */

import { analysis, finding, select, sliceOf } from "../case/state";
import { useMaps } from "../maps/useMaps";
import { letters, normal, side, type Vector } from "./geometry";
import { toneOf } from "./marks";
import type { Tone } from "./scene";
import type { Session } from "./session";

const SAID: Record<Tone, string> = { positive: "positive", negative: "negative", rejected: "rejected by the reader" };

export function Rail(props: { session: Session }) {
  const { session } = props;
  const [shown, one] = [analysis.value, finding.value];
  const { maps } = useMaps(shown, one);
  const order = session.order.value;
  const [count, place, down] = [order.length, session.wanted.value, session.down.value];
  if (count < 2) return <div class="ct-rail" />;
  const share = (at: number) => (down > 0 ? at : count - 1 - at) / (count - 1);
  const slice = session.stack.value[place];
  const ends = endsOf(session);
  const mapped = (maps?.sources ?? []).map((key) => order.indexOf(key)).filter((at) => at >= 0);
  const follow = (event: PointerEvent & { currentTarget: HTMLElement }) => {
    const box = event.currentTarget.getBoundingClientRect();
    const at = Math.round(((event.clientY - box.top) / box.height) * (count - 1));
    session.go(down > 0 ? at : count - 1 - at);
  };
  return (
    <div class="ct-rail">
      <span class="end">{ends[0]}</span>
      <div class="track">
        <div
          class="slide"
          role="slider"
          tabIndex={0}
          aria-label="Slice"
          aria-orientation="vertical"
          aria-valuemin={1}
          aria-valuemax={count}
          aria-valuenow={place + 1}
          aria-valuetext={`Slice ${place + 1} of ${count}${slice?.placed ? `, ${side(slice)}` : ""}`}
          data-testid="ct-rail"
          onPointerDown={(event) => {
            event.currentTarget.setPointerCapture(event.pointerId);
            follow(event);
          }}
          onPointerMove={(event) => {
            if (event.currentTarget.hasPointerCapture(event.pointerId)) follow(event);
          }}
        >
          {mapped.length > 0 && (
            <i
              class="mapped"
              style={{
                top: `${100 * Math.min(...mapped.map(share))}%`,
                height: `${100 * (Math.max(...mapped.map(share)) - Math.min(...mapped.map(share)))}%`,
              }}
            />
          )}
          <i class="thumb" style={{ top: `${100 * share(place)}%` }} />
        </div>
        {shown?.findings.map((each, k) => {
          const at = sliceOf(shown, each);
          if (at === undefined) return null;
          const tone = toneOf(shown, each);
          const name = `Finding ${k + 1}, ${SAID[tone]}, slice ${at + 1}`;
          return (
            <button
              type="button"
              key={each.id}
              class={`mark ${tone} ${each.id === one?.id ? "chosen" : ""}`}
              style={{ top: `${100 * share(at)}%` }}
              aria-label={name}
              title={name}
              data-testid="ct-rail-mark"
              onClick={() => {
                select(each.id);
                session.go(at);
              }}
            >
              <svg viewBox="-6 -6 12 12" aria-hidden="true">
                {tone === "positive" && <path d="M0-5L5 0L0 5L-5 0Z" />}
                {tone === "negative" && <circle r="4" />}
                {tone === "rejected" && <path d="M-4-4L4 4M-4 4L4-4" />}
              </svg>
            </button>
          );
        })}
      </div>
      <span class="end">{ends[1]}</span>
    </div>
  );
}

/** Letters of the upper and the lower end. */
function endsOf(session: Session): [string, string] {
  const stack = session.stack.value;
  const [first, last] = [stack[0], stack.at(-1)];
  if (!first?.placed || !last?.placed) return ["", ""];
  const way = normal(first);
  const rising = way.reduce((sum, part, k) => sum + part * (last.position[k]! - first.position[k]!), 0) > 0;
  const sign = rising === session.down.value > 0 ? 1 : -1;
  const lower = way.map((part) => sign * part) as Vector;
  return [letters(lower.map((part) => -part) as Vector), letters(lower)];
}
