/** The address behind `#` says what is shown, down to the slice, so that it can be sent to a colleague. */

import { signal } from "@preact/signals";

export type Route =
  /** `query`: search and filters, as `GET /api/v1/worklist` takes them. */
  | { page: "worklist"; query?: Record<string, string> }
  | { page: "quality" }
  /** A study, or an analysis of photograph files that belong to none. `finding` and `slice` (0-based, in stack order) are optional. */
  | { page: "case"; study?: string; analysis?: string; finding?: string; slice?: number };

/** `#/?q=...` is the worklist, `#/study/{uid}[/{analysis}[/{finding}[/{slice}]]]`, `#/analysis/{id}[/{finding}[/{slice}]]`, `#/quality`. */
export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#?\/?/, "").split("?");
  const [head, ...rest] = path.split("/").map(decoded);
  if (head === "quality") return { page: "quality" };
  if (head === "study" && rest[0]) return place({ page: "case", study: rest[0] }, rest.slice(1));
  if ((head === "analysis" || head === "analyses") && rest[0]) return place({ page: "case" }, rest);
  return query ? { page: "worklist", query: Object.fromEntries(new URLSearchParams(query)) } : { page: "worklist" };
}

function place(route: Route & { page: "case" }, [analysis, finding, slice]: string[]): Route {
  if (analysis) route.analysis = analysis;
  if (finding && finding !== "-") route.finding = finding;
  if (slice !== undefined && /^\d+$/.test(slice)) route.slice = Number(slice) - 1;
  return route;
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of a route; slices are counted from 1 for people. */
export function format(route: Route): string {
  if (route.page === "quality") return "#/quality";
  if (route.page === "worklist") {
    const query = new URLSearchParams(route.query).toString();
    return query ? `#/?${query}` : "#/";
  }
  const parts = route.study ? ["study", route.study] : ["analysis"];
  if (route.analysis) {
    parts.push(route.analysis);
    if (route.finding || route.slice !== undefined) parts.push(route.finding ?? "-");
    if (route.slice !== undefined) parts.push(String(route.slice + 1));
  }
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

export const route = signal<Route>(parse(location.hash));

addEventListener("hashchange", () => {
  const now = parse(location.hash);
  if (format(now) !== format(route.value)) route.value = now;
});

/** Go somewhere: a new entry in the history. At once: the browser tells of it only later. */
export function go(to: Route): void {
  const place = format(to);
  location.hash = place;
  if (place !== format(route.peek())) route.value = parse(place);
}

/** The same place in more detail (another slice, another finding): no new entry in the history. */
export function refine(to: Route): void {
  if (format(to) === format(route.peek())) return;
  history.replaceState(null, "", format(to));
  route.value = to;
}
