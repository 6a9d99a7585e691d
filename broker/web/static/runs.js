// Runs: thresholds that can be moved to try, and a live part that rests when nobody looks.
// Every figure is the server's (data-figures); nothing is estimated here.
"use strict";

const RESTS_AFTER = 20 * 60 * 1000; // looking alone must not keep a session alive for ever
let lastTouch = Date.now();
for (const kind of ["pointerdown", "keydown"]) {
  document.addEventListener(kind, () => { lastTouch = Date.now(); }, { passive: true });
}
document.addEventListener("htmx:beforeRequest", (event) => {
  const rests = document.hidden || Date.now() - lastTouch > RESTS_AFTER;
  if (event.target.matches("[data-live]") && rests) event.preventDefault();
});

function grouped(number) {
  return Math.round(number).toLocaleString("en").replace(/,/g, "\u202f");
}

function threshold(value) {
  return String(Math.round(value * 10000) / 10000);
}

function plusMinus(value, interval) {
  return `${value.toFixed(4)} ± ${interval.toFixed(4)}`;
}

function plural(count, one) {
  return `${grouped(count)} ${one}${Math.round(count) === 1 ? "" : "s"}`;
}

function movable(box) {
  const figures = JSON.parse(box.querySelector("[data-figures]").textContent);
  const chart = box.querySelector("svg.histogram");
  const link = box.querySelector("#f-link");
  const review = box.querySelector("#f-review");
  const reviewing = box.querySelector("[data-reviewing]");
  const points = figures.points.map(([at, links, precision, pInterval, recall, rInterval, f1]) => (
    { at, links, precision, pInterval, recall, rInterval, f1 }));
  const below = figures.below.map(([at, pairs, matches, variance]) => (
    { at, pairs, matches, variance }));
  const own = points.findIndex((point) => point.at === figures.link);
  let wantedReview = figures.review;

  const say = (name, text) => {
    box.querySelectorAll(`[data-out="${name}"]`).forEach((place) => { place.textContent = text; });
  };
  const reviews = (until) => below.filter((one) => one.at <= until);

  function draw(linked, doubt) {
    const place = (name, at) => {
      const line = chart.querySelector(`[data-threshold="${name}"]`);
      const x = Number(chart.dataset.left) + Number(chart.dataset.width) * at;
      line.setAttribute("transform", `translate(${x.toFixed(1)} 0)`);
      line.querySelector("text").setAttribute("x", at > 0.5 ? "-5" : "5");
      line.querySelector("text").setAttribute("text-anchor", at > 0.5 ? "end" : "start");
    };
    place("link", linked);
    place("review", doubt);
    chart.querySelectorAll(".bin").forEach((bin) => {
      const at = Number(bin.dataset.at);
      const kind = at >= linked ? "linked" : at >= doubt ? "doubt" : "apart";
      bin.setAttribute("class", `bin ${kind}`);
    });
  }

  function show() {
    const point = points[Number(link.value)];
    const more = point.links - points[own].links;
    const change = more === 0 ? "as in this run"
      : `${plural(Math.abs(more), "link")} ${more > 0 ? "more" : "fewer"} than this run has`;
    say("link", threshold(point.at));
    say("links", point.links ? `Gives ${plural(point.links, "link")}, ${change}.` : "Nothing is linked.");
    say("precision", plusMinus(point.precision, point.pInterval));
    say("recall", plusMinus(point.recall, point.rInterval));
    say("f1", point.f1.toFixed(4));
    link.setAttribute("aria-valuetext", `${threshold(point.at)}: precision ${point.precision.toFixed(4)}, recall ${point.recall.toFixed(4)}`);
    const choices = reviews(point.at);
    let doubt = Math.min(figures.review, point.at);
    if (choices.length) {
      const index = choices.reduce((best, one, i) => (one.at <= wantedReview ? i : best), 0);
      review.max = String(choices.length - 1);
      review.value = String(index);
      doubt = choices[index].at;
      sayDoubt(choices[index], choices[choices.length - 1]);
    }
    draw(point.at, doubt);
    const precision = Math.floor(point.precision * 1e6) / 1e6;
    const anew = box.querySelector("[data-anew]");
    if (!anew) return;
    box.querySelector("[data-precision]").value = String(precision);
    anew.disabled = !point.links || precision < 0.5;
    anew.textContent = anew.disabled ? "Decide anew…" : `Decide anew for a precision of ${precision}…`;
  }

  function sayDoubt(from, to) {
    const pairs = to.pairs - from.pairs;
    const matches = to.matches - from.matches;
    const spread = 1.96 * Math.sqrt(Math.max(0, to.variance - from.variance));
    const total = Math.max(figures.expected, 1e-12);
    const lost = Math.min(1, from.matches / total);
    const lostSpread = Math.min(1, (1.96 * Math.sqrt(from.variance)) / total);
    say("review", threshold(from.at));
    say("doubt", `${plural(pairs, "pair")} to look at, about ${grouped(matches)} ± ${grouped(spread)} of them true; ${(lost * 100).toFixed(2)} ± ${(lostSpread * 100).toFixed(2)}\u202f% of all matches lie below, where nobody looks.`);
    review.setAttribute("aria-valuetext", `${threshold(from.at)}: ${grouped(pairs)} pairs to look at`);
  }

  link.max = String(points.length - 1);
  link.value = String(own);
  link.addEventListener("input", show);
  review.addEventListener("input", () => {
    wantedReview = reviews(points[Number(link.value)].at)[Number(review.value)].at;
    show();
  });
  box.querySelector("[data-back]").addEventListener("click", () => {
    link.value = String(own);
    wantedReview = figures.review;
    show();
  });
  reviewing.hidden = !below.length;
  box.querySelector("[data-movers]").hidden = false;
  show();
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("[data-thresholds]").forEach((box) => {
    if (JSON.parse(box.querySelector("[data-figures]").textContent).points.length) movable(box);
  });
});
