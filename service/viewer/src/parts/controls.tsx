/** Small controls that every page uses. */

import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import type { Problem } from "../api/types";
import { plain } from "../words";

/** One choice of several, as a row of buttons (radio buttons for the keyboard). */
export function Segments<T extends string>(props: {
  label: string;
  options: readonly { value: T; label: string; color?: string; title?: string }[];
  value: T;
  onChange: (value: T) => void;
  hideLabel?: boolean;
}) {
  const name = useId();
  return (
    <fieldset class="segments">
      <legend class={props.hideLabel ? "sr-only" : undefined}>{props.label}</legend>
      {props.options.map((option) => (
        <label key={option.value} title={option.title}>
          <input
            type="radio"
            name={name}
            value={option.value}
            checked={option.value === props.value}
            onChange={() => props.onChange(option.value)}
          />
          <span>
            {option.color && <i class="swatch" style={{ backgroundColor: option.color }} />}
            {option.label}
          </span>
        </label>
      ))}
    </fieldset>
  );
}

/** A slider with its name and its value in words. */
export function Slider(props: {
  label: string;
  min: number;
  max: number;
  step?: number;
  value: number;
  text?: string;
  onInput: (value: number) => void;
}) {
  const id = useId();
  return (
    <div class="slider">
      <label for={id}>{props.label}</label>
      <input
        id={id}
        type="range"
        min={props.min}
        max={props.max}
        step={props.step ?? 1}
        value={props.value}
        aria-valuetext={props.text}
        onInput={(event) => props.onInput(Number(event.currentTarget.value))}
      />
      <output for={id}>{props.text ?? String(props.value)}</output>
    </div>
  );
}

export function Toggle(props: {
  label: ComponentChildren;
  checked: boolean;
  onChange: (checked: boolean) => void;
  title?: string;
}) {
  return (
    <label class="toggle" title={props.title}>
      <input
        type="checkbox"
        checked={props.checked}
        onChange={(event) => props.onChange(event.currentTarget.checked)}
      />
      <span>{props.label}</span>
    </label>
  );
}

export function Spinner(props: { children: ComponentChildren }) {
  return (
    <p class="loading" role="status">
      <span class="spinner" aria-hidden="true" />
      {props.children}
    </p>
  );
}

/** An error of the service: what, where, what to do. */
export function ProblemNotice(props: { problem: Problem; children?: ComponentChildren }) {
  const { problem } = props;
  const more = (problem.errors ?? []).filter((one) => !saidAlready(one, problem.detail));
  return (
    <div class="notice bad" role="alert">
      <strong>{problem.title}</strong>
      {problem.detail && <p>{problem.detail}</p>}
      {more.length > 0 && (
        <ul>
          {more.map((one, k) => (
            <li key={String(k)}>
              {[
                !one.message?.startsWith(one.where ?? "\0") && one.where,
                one.message,
                one.value !== undefined && `value ${plain(one.value)}`,
                one.limit !== undefined && `limit ${plain(one.limit)}`,
              ]
                .filter(Boolean)
                .join(": ")}
            </li>
          ))}
        </ul>
      )}
      {props.children}
    </div>
  );
}

/** True for an entry that the text above it holds in full. */
function saidAlready(one: NonNullable<Problem["errors"]>[number], detail: string | undefined): boolean {
  return one.value === undefined && one.limit === undefined && Boolean(one.message && detail?.includes(one.message));
}

/** A word in a coloured frame; never colour alone. */
export function Badge(props: {
  tone?: "good" | "warn" | "bad" | "plain";
  children: ComponentChildren;
  title?: string;
}) {
  return (
    <span class={`badge ${props.tone ?? "plain"}`} title={props.title}>
      {props.children}
    </span>
  );
}
