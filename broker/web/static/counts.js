// Counts: fetched sealed, opened with the reading key that lies in this browser, drawn here. No
// number goes anywhere. docs/adr/0032 says what trust in the broker's page that takes.
import { findKey, open } from "./reading-key.js";

const place = document.getElementById("counts");
const told = place.querySelector("[data-told]");
const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function draw(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function shown(value) {
  return typeof value === "number" ? value.toLocaleString() : String(value ?? "hidden");
}

function lines(text, most) {
  const found = [""];
  for (const word of text.split(" ")) {
    const last = found.length - 1;
    if (found[last] && found[last].length + word.length + 1 > most) found.push(word);
    else found[last] = `${found[last]} ${word}`.trim();
  }
  return found;
}

function table(caption, heads, rows) {
  const head = make("tr", {}, ...heads.map((text, at) => make("th", { scope: "col", ...(at ? { class: "number" } : {}) }, text)));
  const body = rows.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "number" }, shown(value))));
  const made = make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...body));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, made);
}

// Who is left after each criterion, from top to bottom: bars as wide as there are persons.
function flow(steps, width) {
  const most = Math.max(1, ...steps.map((step) => (typeof step.persons === "number" ? step.persons : 0)));
  const words = `Persons left after each step: ${steps.map((step) => `${step.step}: ${shown(step.persons)}`).join("; ")}`;
  const chart = draw("svg", { class: "chart flow", role: "img", "aria-label": words });
  let at = 4;
  steps.forEach((step, number) => {
    const wrapped = lines(step.step, Math.floor((width - 20) / 7));
    const height = 26 + 16 * wrapped.length;
    const wide = typeof step.persons === "number" ? Math.max(4, ((width - 2) * step.persons) / most) : 4;
    if (number) {
      chart.append(draw("path", { class: "axis arrow", d: `M20 ${at - 16}v12m-4 -5l4 5l4 -5` }));
    }
    chart.append(draw("rect", { class: "box", x: 1, y: at, width: width - 2, height, rx: 5 }));
    chart.append(draw("rect", { class: "fill-soft", x: 1, y: at, width: wide, height, rx: 5 }));
    wrapped.forEach((line, row) => chart.append(draw("text", { x: 10, y: at + 18 + 16 * row }, line)));
    chart.append(draw("text", { class: "persons", x: 10, y: at + 19 + 16 * wrapped.length }, shown(step.persons)));
    at += height + 20;
  });
  chart.setAttribute("viewBox", `0 0 ${width} ${at - 14}`);
  return chart;
}

function bars(name, cells, width) {
  const rows = Object.entries(cells);
  const most = Math.max(1, ...rows.map(([, value]) => (typeof value === "number" ? value : 0)));
  const chart = draw("svg", { class: "chart", role: "img",
    "aria-label": `Persons by ${name}: ${rows.map(([label, value]) => `${label}: ${shown(value)}`).join("; ")}` });
  let at = 0;
  for (const [label, value] of rows) {
    const wide = typeof value === "number" ? (width * value) / most : 0;
    for (const line of lines(`${label}: ${shown(value)}`, Math.floor(width / 7))) {
      chart.append(draw("text", { x: 0, y: at + 13 }, line));
      at += 16;
    }
    chart.append(draw("rect", { class: "fill", x: 0, y: at + 2, width: Math.max(1, wide), height: 12, rx: 2 }));
    at += 26;
  }
  chart.setAttribute("viewBox", `0 0 ${width} ${at}`);
  return chart;
}

function show(counts) {
  const all = place.querySelector("[data-shown]");
  const steps = counts.attrition ?? [];
  const figures = [["persons who fit both halves", counts.persons]];
  if (counts.overlap !== undefined) figures.push(["persons with fitting images", counts.overlap]);
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
    if (cells) tables.push(table(`Persons by ${name}`, [name, "Persons"], Object.entries(cells)));
  }
  const least = counts.minimum_cell ?? 11;
  const moved = counts.noise ? `moved by up to ${counts.noise}, then ` : "";
  all.replaceChildren(list, make("h3", {}, "Who is left after each step"), drawing, distributions,
    make("details", {}, make("summary", {}, "The same as tables"), ...tables),
    ...(counts.notes ?? []).map((note) => make("p", { class: "notice wait" }, note)),
    make("p", { class: "soft small" }, `Nothing below ${least} is shown. Counts are ${moved}rounded to multiples of ${counts.rounding ?? 5}; parts need not add up. What differs by few persons from what was counted before reads the same.`));
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
