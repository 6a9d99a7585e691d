// The report of a delivered cohort: fetched sealed, opened with the reading key that lies in this
// browser, drawn here. No number goes anywhere, nor stays. docs/adr/0032 says what trust that takes.
import { bars, distances, flow, howToRead, make, said, shown, table } from "./drawing.js";
import { findKey, open } from "./reading-key.js";

const place = document.getElementById("report");
const told = place.querySelector("[data-told]");
const NAMES = { sex: "Sex", age: "Age", race: "Race", ethnicity: "Ethnicity", modality: "Modality", manufacturer: "Manufacturer" };

const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;
const named = (name) => NAMES[name] ?? name;
const pairs = (groups) => groups.map((one) => [one.group, one.persons]);

function tables(report) {
  return report.tables.map((one) => make("section", {}, make("h4", {}, named(one.name)),
    one.groups ? bars(one.name, Object.fromEntries(pairs(one.groups)), 260) : make("p", {}, `Hidden: ${one.why_not}.`)));
}

function compared(found) {
  const all = found.variables.filter((one) => one.distance !== undefined);
  const parts = all.map((one) => table(`${named(one.name)}: ${one.distance <= one.chance ? "as close as a random sample" : "farther than chance"}`,
    ["Group", "Cohort", "Population"], one.groups.map((row) => [row.group, percent(row.cohort), percent(row.reference)])));
  const not = found.variables.filter((one) => one.why_not).map((one) => make("p", { class: "soft" }, `${named(one.name)} could not be compared: ${one.why_not}.`));
  const figures = all.length ? [table("Distance by variable", ["Variable", "Distance", "From", "To", "By chance up to"],
    all.map((one) => [named(one.name), ...[one.distance, one.low, one.high, one.chance].map((value) => value.toFixed(3))]))] : [];
  return { all, not, parts: [...figures, ...parts] };
}

function links(found) {
  const told = [];
  if (found.estimated_precision) told.push(make("p", {}, "The linkage's precision is estimated as ", make("strong", {}, found.estimated_precision), ", its recall as ", make("strong", {}, found.estimated_recall || "not told"), found.release ? ` (release ${found.release}).` : "."));
  if (found.evidence) told.push(table("Persons by evidence of their links", ["Evidence", "Persons"], pairs(found.evidence)));
  if (found.why_not) told.push(make("p", { class: "soft" }, ...said(`${found.why_not}.`)));
  return told;
}

function show(report) {
  const all = place.querySelector("[data-shown]");
  const list = make("dl", { class: "figures" }, make("div", {}, make("dt", {}, "Persons delivered"), make("dd", {}, shown(report.persons))));
  const drawing = make("div", { class: "drawing" });
  const apart = make("div", { class: "drawing" });
  const likeness = compared(report.representativeness);
  const redraw = () => {
    const width = Math.max(240, Math.min(720, all.clientWidth));
    drawing.replaceChildren(flow(report.flow, width));
    apart.replaceChildren(...(likeness.all.length ? [distances(likeness.all, width)] : []));
  };
  const { reference, year, source } = report.representativeness;
  const print = make("button", { type: "button", class: "quiet no-print" }, "Print");
  print.addEventListener("click", () => window.print());
  all.replaceChildren(list,
    make("div", { class: "notice wait" }, make("p", {}, make("strong", {}, "Before you believe a result")), make("ul", {}, ...report.notes.map((note) => make("li", {}, ...said(note))))),
    make("h3", {}, "From the question to the delivery"), drawing,
    make("h3", {}, "Who is in the cohort"), make("div", { class: "grid" }, ...tables(report)),
    make("h3", {}, "How like the population it is"), apart,
    ...(likeness.all.length ? [make("p", { class: "soft small" }, `Dots: Jensen-Shannon distance from ${reference}, ${year}: 0 alike, 1 nothing in common. Lines: 95 % intervals. Grey: where 95 % of random samples of that population of the same size would lie. Computed from the counts shown.`)] : []),
    ...likeness.not,
    make("h3", {}, "How they were linked"), ...links(report.links),
    make("details", {}, make("summary", {}, "The same as tables"),
      table("Persons at each step", ["Step", "Persons"], report.flow.map((step) => [step.step, step.persons])),
      ...report.tables.filter((one) => one.groups).map((one) => table(`Persons by ${named(one.name).toLowerCase()}`, [named(one.name), "Persons"], pairs(one.groups))),
      ...likeness.parts),
    make("h3", {}, "What it is of"),
    make("p", {}, `${report.title}. ${report.purpose}`), make("ul", {}, ...report.clinical.map((line) => make("li", {}, line))),
    make("p", { class: "soft small" }, `Cohort made ${new Date(report.made_at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })}. Population: ${source}`),
    make("p", { class: "soft small" }, howToRead(report.rules)), print);
  all.hidden = false;
  redraw();
  window.addEventListener("resize", redraw);
  // On paper nobody opens anything.
  const same = all.querySelector("details");
  window.addEventListener("beforeprint", () => { same.open = true; });
}

async function read() {
  const about = place.dataset;
  place.querySelector("[data-no-script]").hidden = true;
  const key = await findKey(about.reader);
  if (!key) {
    told.replaceChildren("Its reading key is not in this browser: it opens in the browser in which the question was asked, or, if it was asked with a command, with ", make("code", {}, `linkage-cohort report ${about.question}`), ".");
    return;
  }
  if (key.enclaveSigning !== about.enclaveSigning) {
    throw new Error(`The key of ${about.enclave} is another one than when you asked. If the study was not signed anew since, tell its data manager.`);
  }
  const answer = await fetch(`/v1/studies/${about.study}/questions/${about.question}/report`);
  if (answer.status === 409) throw new Error((await answer.json()).detail);
  if (!answer.ok) throw new Error("It cannot be fetched now. Load the page again.");
  const opened = await open(new Uint8Array(await answer.arrayBuffer()), key, key.enclaveSigning, {
    study: about.study, sender: about.enclave, recipient: "0-reader", purpose: "cohort-report", details: [about.delivery],
  });
  const content = JSON.parse(new TextDecoder().decode(opened));
  if (content.question_id !== about.question || content.delivery_id !== about.delivery || content.run_id !== about.run || content.spec_hash !== about.hash) {
    throw new Error("It is of another question or delivery than this. Tell the enclave's data manager.");
  }
  told.textContent = `Opened in this browser, with the key that was made when you asked. ${about.enclave} signed it; the broker cannot read it.`;
  show(content.report);
}

try {
  await read();
} catch (fault) {
  told.replaceChildren(make("span", { class: "notice bad", role: "alert" }, fault.message));
}
