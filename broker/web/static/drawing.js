// Drawings of what was opened in this browser: figures, flows of persons, bars, tables. Texts are set as
// texts, never as markup; looks come from classes, for the page's policy allows no style of its own.
const SVG = "http://www.w3.org/2000/svg";

export function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function draw(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function shown(value) {
  // Thousands stand apart as on every other page.
  return typeof value === "number" ? value.toLocaleString("en-US").replaceAll(",", "\u202f") : String(value ?? "hidden");
}

// A sentence in which `commands` stand between backticks, as the reports of the command line have them.
export function said(text) {
  return text.split("`").map((part, number) => (number % 2 ? make("code", {}, part) : part));
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

export function table(caption, heads, rows) {
  const head = make("tr", {}, ...heads.map((text, at) => make("th", { scope: "col", ...(at ? { class: "number" } : {}) }, text)));
  const body = rows.map(([name, ...values]) => make("tr", {}, make("th", { scope: "row" }, name), ...values.map((value) => make("td", { class: "number" }, shown(value)))));
  const made = make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...body));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, made);
}

// Who is left after each criterion, from top to bottom: bars as wide as there are persons.
export function flow(steps, width) {
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

export function bars(name, cells, width) {
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

// Distances from a population: dots with their intervals, over what chance alone would give.
export function distances(found, width) {
  const most = Math.max(...found.map((one) => Math.max(one.high, one.chance)));
  const top = [0.1, 0.2, 0.4, 0.6, 0.8].find((one) => most <= one) ?? 1;
  const left = 84;
  const at = (value) => left + ((width - left - 12) * value) / top;
  const words = found.map((one) => `${one.name}: ${one.distance.toFixed(3)}, interval ${one.low.toFixed(3)} to ${one.high.toFixed(3)}, by chance up to ${one.chance.toFixed(3)}`);
  const height = 30 + 34 * found.length;
  const chart = draw("svg", { class: "chart distances", role: "img", viewBox: `0 0 ${width} ${height}`,
    "aria-label": `Distance from the population: ${words.join("; ")}` });
  for (const share of [0, 0.5, 1]) {
    chart.append(draw("line", { class: "axis", x1: at(share * top), x2: at(share * top), y1: 20, y2: height - 4 }));
    chart.append(draw("text", { x: at(share * top), y: 14, "text-anchor": share === 1 ? "end" : "middle" }, String(Number((share * top).toFixed(2)))));
  }
  found.forEach((one, row) => {
    const y = 42 + 34 * row;
    chart.append(draw("text", { x: 0, y: y + 5 }, one.name));
    chart.append(draw("rect", { class: "chance", x: left, y: y - 9, width: Math.max(1, at(one.chance) - left), height: 18 }));
    chart.append(draw("line", { class: "line", x1: at(one.low), x2: at(one.high), y1: y, y2: y }));
    chart.append(draw("circle", { class: "fill", cx: at(one.distance), cy: y, r: 5 }));
  });
  return chart;
}

// How numbers that the enclave lets out are to be read.
export function howToRead(rules) {
  const moved = rules.noise ? `moved by up to ${rules.noise}, or by 4\u00a0% where that is more, then ` : "";
  return `Nothing below ${rules.minimum_cell ?? 11} is shown. Counts are ${moved}rounded to multiples of ${rules.rounding ?? 5}; parts need not add up. What differs by few persons from what was shown before reads the same. Who is in as many small numbers as the study allows is left out of further ones until the study's next epoch, so many questions about one small cohort end in numbers that are too low.`;
}
