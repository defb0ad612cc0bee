/** Something that is fetched for a part of the panel: never twice, and nothing jumps while it is on its way. */

import { useEffect, useState } from "preact/hooks";
import { problemOf } from "../api/client";
import type { Problem } from "../api/types";

export type Loaded<T> =
  | { state: "loading" }
  | { state: "done"; value: T }
  /** The service has none of it (404), and says why. */
  | { state: "absent"; problem: Problem }
  | { state: "failed"; problem: Problem; again: () => void };

const known = new Map<string, unknown>();
const KEPT = 60;
/** Milliseconds; who steps through findings quickly does not ask for each. */
const PATIENCE = 150;

/** Fetch once for a key; an empty key fetches nothing. */
export function useLoaded<T>(key: string, load: (signal: AbortSignal) => Promise<T>): Loaded<T> {
  const [told, setTold] = useState<{ key: string; what: Loaded<T> } | null>(null);
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    if (!key || known.has(key)) return;
    const mine = new AbortController();
    const tell = (what: Loaded<T>) => !mine.signal.aborted && setTold({ key, what });
    const timer = setTimeout(
      () =>
        load(mine.signal).then(
          (value) => {
            keep(key, value);
            tell({ state: "done", value });
          },
          (error) => {
            const problem = problemOf(error);
            tell(
              problem.status === 404
                ? { state: "absent", problem }
                : {
                    state: "failed",
                    problem,
                    again: () => {
                      setTold(null);
                      setAttempt((n) => n + 1);
                    },
                  },
            );
          },
        ),
      PATIENCE,
    );
    return () => {
      clearTimeout(timer);
      mine.abort();
    };
  }, [key, attempt]);
  if (key && known.has(key)) return { state: "done", value: known.get(key) as T };
  return told?.key === key ? told.what : { state: "loading" };
}

function keep(key: string, value: unknown): void {
  known.set(key, value);
  const oldest = known.keys().next().value;
  if (known.size > KEPT && oldest !== undefined) known.delete(oldest);
}
