// Counts: fetched sealed, opened with the reading key that lies in this browser, drawn here. No
// number goes anywhere. docs/adr/0032 says what trust in the broker's page that takes.
import { bars, capital, flow, howToRead, make, shown, table } from "./drawing.js";
import { findKey, open } from "./reading-key.js";

const place = document.getElementById("counts");
const told = place.querySelector("[data-told]");

function show(counts) {
  const all = place.querySelector("[data-shown]");
  const steps = counts.attrition ?? [];
  const figures = [["Persons who fit both halves", counts.persons]];
  if (counts.overlap !== undefined) figures.push(["Persons with fitting images", counts.overlap]);
  const list = make("dl", { class: "figures" }, ...figures.map(([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, shown(value)))));
  const drawing = make("div", { class: "drawing" });
  const distributions = make("div", { class: "grid" });
  const redraw = () => {
    drawing.replaceChildren(flow(steps, Math.max(240, Math.min(720, all.clientWidth))));
    distributions.replaceChildren(...Object.entries(counts.distributions ?? {}).map(([name, cells]) => make("section", {},
      make("h3", {}, `By ${name}`), cells && Object.keys(cells).length ? bars(name, cells, 260) : make("p", {}, "Hidden: too few persons for a table."))));
  };
  const tables = [table("Persons left after each step", ["Step", "Persons"], steps.map((step) => [step.step, step.persons]))];
  for (const [name, cells] of Object.entries(counts.distributions ?? {})) {
    if (cells) tables.push(table(`Persons by ${name}`, [capital(name), "Persons"], Object.entries(cells)));
  }
  all.replaceChildren(list, make("h3", {}, "Who is left after each step"), drawing, distributions,
    make("details", {}, make("summary", {}, "The same as tables"), ...tables),
    ...(counts.notes ?? []).map((note) => make("p", { class: "notice wait" }, `${capital(note)}.`)),
    make("p", { class: "soft small" }, howToRead(counts)));
  all.hidden = false;
  redraw();
  window.addEventListener("resize", redraw);
}

async function read() {
  const about = place.dataset;
  place.querySelector("[data-no-script]").hidden = true;
  const key = await findKey(about.reader);
  if (!key) {
    told.replaceChildren("Their reading key is not in this browser: they open in the browser in which the question was asked, or, if it was asked with a command, with ", make("code", {}, `linkage-cohort counts ${about.question}`), ". If the key is lost, ask anew.");
    return;
  }
  if (key.enclaveSigning !== about.enclaveSigning) {
    throw new Error(`The key of ${about.enclave} is another one than when you asked. If the study was not signed anew since, tell its data manager.`);
  }
  const answer = await fetch(`/v1/studies/${about.study}/questions/${about.question}/counts`);
  if (!answer.ok) throw new Error("They cannot be fetched now. Load the page again.");
  const opened = await open(new Uint8Array(await answer.arrayBuffer()), key, key.enclaveSigning, {
    study: about.study, sender: about.enclave, recipient: "0-reader", purpose: "question-counts", details: [about.question],
  });
  const content = JSON.parse(new TextDecoder().decode(opened));
  if (content.question_id !== about.question || content.run_id !== about.run || content.spec_hash !== about.hash) {
    throw new Error("They are of another question or run than this. Ask the enclave's data manager to count again.");
  }
  told.textContent = `Opened in this browser, with the key that was made when you asked. ${about.enclave} signed them; the broker cannot read them.`;
  show(content.counts);
}

async function attempt() {
  try {
    await read();
  } catch (fault) {
    told.replaceChildren(make("span", { class: "notice bad", role: "alert" }, fault.message));
  }
}

if (place.dataset.counted) attempt();
