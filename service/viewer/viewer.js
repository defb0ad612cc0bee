/** The page: sends images, shows one analysis, lists the earlier ones. The address after # says which analysis is shown. */

import { Problem, analyse, analyses, follow, place, unfinished } from "./api.js";
import { h } from "./dom.js";
import { dropped, sorted } from "./files.js";
import { problemNotice, showResult } from "./result.js";
import { model, moment, summary } from "./words.js";

const main = document.getElementById("main");
const jobs = document.getElementById("jobs");
const earlier = document.getElementById("earlier");
const more = document.getElementById("more");

/** Files by analysis, for asking again with another mark. Only the last few: a CT is large. */
const sent = new Map();
const KEPT = 4;

let shown = null; // AbortController of the analysis that is on the page
let cursor = null;

function keep(id, files) {
  sent.delete(id);
  sent.set(id, files);
  if (sent.size > KEPT) sent.delete(sent.keys().next().value);
}

// --- sending ---------------------------------------------------------------------------------------------------------

/** Send what was dropped or chosen, one analysis after the other, and open the first that has an answer. */
async function send(files) {
  const work = sorted(files);
  jobs.replaceChildren();
  if (work.length === 0) jobs.append(h("li", {}, "There are no files in what was chosen."));
  const laterality = document.querySelector("#laterality input:checked").value;
  const lines = work.map((job) => jobs.appendChild(h("li", { class: "waiting" }, `${job.title}: waiting`)));
  let opened = false;
  for (const [number, job] of work.entries()) {
    const body = await sendOne(job.title, job.files, laterality ? { laterality } : {}, lines[number]);
    if (body && !opened) {
      opened = true;
      location.hash = `#/analyses/${body.id}`;
    }
  }
}

/** Send one analysis, say on `line` how it goes; resolves to its body, or null when it was refused. */
async function sendOne(title, files, request, line) {
  const say = (state) => line.replaceChildren(h("span", { class: "spinner", "aria-hidden": "true" }), `${title}: ${state}`);
  line.className = "busy";
  say("sending");
  try {
    const body = await analyse(files, request, (now) => say(now.status));
    keep(body.id, files);
    line.className = body.status === "failed" ? "failed" : "done";
    line.replaceChildren(h("a", { href: `#/analyses/${body.id}` }, `${title}: ${summary(body)}`));
    return body;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    line.className = "failed";
    line.replaceChildren(h("strong", {}, title), problemNotice(error));
    return null;
  } finally {
    list();
  }
}

/** Ask again about the CT of analysis `id`, with a nodule marked. */
async function mark(id, files, region) {
  const line = h("li", {});
  jobs.replaceChildren(line);
  const body = await sendOne("Marked nodule", files, { regions: [region] }, line);
  if (body) location.hash = `#/analyses/${body.id}`;
}

for (const id of ["choose-files", "choose-folder"]) {
  document.getElementById(id).addEventListener("change", (event) => {
    const files = [...event.target.files];
    event.target.value = "";
    if (files.length > 0) send(files);
  });
}

const drop = document.getElementById("drop");
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  send(await dropped(event.dataTransfer));
});

// --- one analysis ----------------------------------------------------------------------------------------------------

async function open(id) {
  shown?.abort();
  const mine = (shown = new AbortController());
  list.mark(id);
  main.replaceChildren(h("p", { class: "loading" }, "Loading the analysis ..."));
  try {
    const body = await follow(
      place(id),
      (now) => {
        if (unfinished(now)) main.replaceChildren(h("p", { class: "loading" }, h("span", { class: "spinner", "aria-hidden": "true" }), `The analysis is ${now.status}.`));
      },
      mine.signal,
    );
    if (mine.signal.aborted) return;
    await showResult(main, body, {
      files: () => sent.get(id) ?? null,
      keep: (files) => keep(id, files),
      mark: (files, region) => mark(id, files, region),
    });
  } catch (error) {
    if (mine.signal.aborted) return;
    const known = error instanceof Problem;
    main.replaceChildren(problemNotice(known ? error : new Problem({ title: "This page cannot show the analysis", detail: "Reload the page; if that does not help, its JSON holds everything." })));
    if (!known) throw error;
  }
}

function welcome() {
  shown?.abort();
  list.mark(null);
  main.replaceChildren(
    h(
      "section",
      { class: "welcome" },
      h("h1", {}, "What the network saw, class by class"),
      h("p", {}, "Send a chest CT with a lung nodule, or a photograph of the retina. The answer is a prediction at a stated operating point, with a response map for every class that shows where the evidence for it lies."),
      h("ul", {}, h("li", {}, "CT: after sending, scroll to the nodule and click on it."), h("li", {}, "Retina: one photograph is one analysis; several are sent one by one.")),
      h("p", {}, "Nothing at hand? ", h("code", {}, "pellucid demo"), " writes a synthetic CT and a synthetic photograph."),
    ),
  );
}

async function route(event) {
  const found = /^#\/analyses\/([^/]+)$/.exec(location.hash);
  if (found) {
    await open(decodeURIComponent(found[1]));
    if (event) {
      // After a click the reader is taken to the result.
      main.focus({ preventScroll: true });
      main.scrollIntoView();
    }
  } else if (location.hash === "" || location.hash === "#/") welcome();
}

// --- the list --------------------------------------------------------------------------------------------------------

function entry(row) {
  return h(
    "li",
    {},
    h(
      "a",
      { href: `#/analyses/${row.id}`, "data-id": row.id },
      h("span", { class: `dot ${row.status} ${row.outcome ?? ""}`, "aria-hidden": "true" }),
      h("span", { class: "what" }, summary(row)),
      h("span", { class: "when" }, [model(row), moment(row.created)].filter(Boolean).join(", ")),
    ),
  );
}

/** Load the newest page of the list, or the next one behind what is shown. */
async function list(next = null) {
  try {
    const page = await analyses(next);
    const rows = page.analyses.map(entry);
    if (next) earlier.append(...rows);
    else earlier.replaceChildren(...(rows.length > 0 ? rows : [h("li", { class: "quiet" }, "There are none yet.")]));
    cursor = page.next;
    more.hidden = !cursor;
    list.mark();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    earlier.replaceChildren(h("li", {}, problemNotice(error)));
    more.hidden = true;
  }
}

/** Show which entry is open. */
list.mark = function (id = list.open) {
  list.open = id;
  for (const link of earlier.querySelectorAll("a")) {
    if (link.dataset.id === id) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
};
list.open = null;

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address after # belongs to the analysis
  main.focus();
});
more.addEventListener("click", () => list(cursor));
window.addEventListener("hashchange", route);
list();
route();
