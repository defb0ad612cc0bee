/** The HTTP interface of the service, as far as this page needs it. */

const ANALYSES = "/api/v1/analyses";
const POLL_MS = 300;

/** An error as the service describes it (RFC 9457), or a connection that failed. */
export class Problem extends Error {
  constructor({ title, detail, errors, status }) {
    super(detail || title);
    this.title = title || "Something went wrong";
    this.detail = detail || "";
    this.errors = Array.isArray(errors) ? errors : [];
    this.status = status;
  }
}

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "The service does not answer", detail: "Check that it is running and that the files are still where they were, then try again." });
  }
  const body = (response.headers.get("Content-Type") || "").includes("json") ? await response.json() : null;
  if (!response.ok) throw new Problem(body?.title ? body : { title: `The service answered ${response.status}`, detail: response.statusText });
  return { body, response };
}

/** One page of the list of analyses: {analyses, next}. */
export async function analyses(cursor) {
  return (await call(cursor ? `${ANALYSES}?cursor=${encodeURIComponent(cursor)}` : ANALYSES)).body;
}

const classesOf = new Map();

/** Classes of a model, [{name, label, color}], in order; empty when the model is no longer installed. */
export async function classes(model) {
  if (!classesOf.has(model)) {
    try {
      const { body } = await call(`/v2/models/${encodeURIComponent(model)}`);
      classesOf.set(model, body.parameters?.classes ?? []);
    } catch (error) {
      if (error.status !== 404) throw error;
      classesOf.set(model, []);
    }
  }
  return classesOf.get(model);
}

/** True while an analysis can still change. */
export function unfinished(body) {
  return body.status === "queued" || body.status === "running";
}

/** Ask until an analysis has ended; `told` hears of every answer. */
export async function follow(path, told, signal) {
  for (;;) {
    const { body } = await call(path, { signal });
    told(body);
    if (!unfinished(body)) return body;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    signal?.throwIfAborted();
  }
}

export function place(id) {
  return `${ANALYSES}/${encodeURIComponent(id)}`;
}

/** Send files as one analysis and wait for its end. */
export async function analyse(files, request, told) {
  const form = new FormData();
  for (const file of files) form.append("files", file, file.name);
  form.append("request", new Blob([JSON.stringify(request)], { type: "application/json" }));
  const { body, response } = await call(ANALYSES, { method: "POST", body: form });
  if (response.status !== 202) return body;
  told(body);
  return follow(response.headers.get("Location") || place(body.id), told);
}

/** Address of a picture of one map. */
export function mapPicture(href, { overlay, scale, legend, slice, size }) {
  const query = new URLSearchParams({ overlay, scale, legend: legend ? 1 : 0, size });
  if (slice !== null) query.set("slice", slice);
  return `${href.replace(/\.(png|npz)$/, "")}.png?${query}`;
}

export function mapArrays(href) {
  return `${href.replace(/\.(png|npz)$/, "")}.npz`;
}

/** Address of a picture of a CT slice through a display window [centre, width] in HU. */
export function slicePicture(input, sop, window) {
  const [study, series, instance] = [input.study, input.series, sop].map(encodeURIComponent);
  return `/dicomweb/studies/${study}/series/${series}/instances/${instance}/rendered?window=${window.join(",")}`;
}
