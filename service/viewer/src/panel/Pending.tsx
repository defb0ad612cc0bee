/** What is shown for something that is fetched: room for it, itself, or why it is not there. */

import type { ComponentChildren } from "preact";
import type { Loaded } from "./loaded";

export function Pending<T>(props: {
  of: Loaded<T>;
  /** Lines of text to keep free while it is on its way. */
  lines: number;
  wait?: string;
  children: (value: T) => ComponentChildren;
}) {
  const { of } = props;
  switch (of.state) {
    case "loading":
      return (
        <p class="pending" style={{ minHeight: `${props.lines * 1.42}em` }} role="status">
          {props.wait ?? "Loading ..."}
        </p>
      );
    case "done":
      return <>{props.children(of.value)}</>;
    case "absent":
      return (
        <p class="quiet" data-testid="absent">
          Not available{reason(of.problem.detail)}
        </p>
      );
    default:
      return (
        <p class="quiet" role="alert">
          {of.problem.title}. {of.problem.detail}{" "}
          <button type="button" class="plain" onClick={of.again}>
            Try again
          </button>
        </p>
      );
  }
}

/** The service's own reason; an address that it does not know is no reason for people. */
function reason(detail: string | undefined): string {
  return detail && !detail.startsWith("The requested URL") ? `: ${detail}.` : " from this service.";
}
