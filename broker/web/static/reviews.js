// Answers by keyboard, and the next pair at once. Without it each answer loads the page anew.
"use strict";

const KEYS_OFF = "review-keys-off";
let last = Promise.resolve(); // one after another: what comes while the broker is asked waits

const at = (id) => document.getElementById(id);
const keysOn = () => localStorage.getItem(KEYS_OFF) === null;

function showKeys() {
  document.querySelectorAll("kbd").forEach((key) => { key.hidden = !keysOn() && key.closest("button") !== null; });
  document.querySelectorAll(".with-keys").forEach((part) => { part.hidden = false; });
  const button = at("keys-switch");
  button.setAttribute("aria-pressed", String(keysOn()));
  button.textContent = keysOn() ? "Keys on" : "Keys off";
}

function announce() {
  const pair = at("pair");
  at("heard").textContent = pair.dataset.said || pair.textContent.trim();
}

// What the page knows of the next pair, before the server has answered.
function stepAhead() {
  const ahead = at("ahead");
  if (!ahead) return;
  at("pair").replaceWith(ahead.content.firstElementChild.cloneNode(true));
  ahead.remove();
  const { at: path } = at("answer").dataset;
  at("answer").setAttribute("action", `${path}/cases/${at("pair").dataset.case}`);
  announce();
}

// The server's word: all of it, but what is shown already, so that the focus stays where it is.
function settle(text) {
  const told = document.createElement("template");
  told.innerHTML = text;
  const fresh = told.content.getElementById("reading");
  if (!fresh) { location.reload(); return; }
  const shown = at("pair").dataset.case;
  const same = shown && fresh.querySelector("#pair").dataset.case === shown;
  if (same && at("answer")) {
    for (const id of ["how-far", "back"]) {
      const open = at(id).querySelector("details[open]") !== null;
      const focused = at(id).contains(document.activeElement);
      at(id).replaceWith(fresh.querySelector(`#${id}`));
      const details = at(id).querySelector("details");
      if (details && open) details.open = true;
      if (focused) (at(id).querySelector("button") || at("answer").querySelector("button")).focus();
    }
    // As it is written: within a template there is no address that it could be relative to.
    at("answer").setAttribute("action", fresh.querySelector("#answer").getAttribute("action"));
    if (at("ahead")) at("ahead").remove();
    const ahead = fresh.querySelector("#ahead");
    if (ahead) at("heard").before(ahead);
  } else {
    const focused = document.activeElement;
    const value = focused && at("reading").contains(focused) ? (focused.value || "") : null;
    at("reading").replaceWith(fresh);
    if (value !== null) {
      const button = fresh.querySelector(`button[value="${value}"]`) || fresh.querySelector(".answers button");
      (button || at("pair-name")).focus();
    }
    // A live region speaks of what changes in it, not of what it came with.
    setTimeout(announce, 50);
  }
  document.dispatchEvent(new CustomEvent("htmx:afterSwap", { detail: { target: at("reading") } }));
  showKeys();
}

async function send(address, body) {
  const told = at("told");
  try {
    const reply = await fetch(address, { method: "POST", body, headers: { "HX-Request": "true" } });
    const to = reply.headers.get("HX-Redirect");
    if (to) { location.assign(to); return; }
    const text = await reply.text();
    if (reply.ok) { told.replaceChildren(); settle(text); return; }
    told.innerHTML = text;
  } catch {
    told.textContent = "The broker does not answer: your last answer was not kept. Try again.";
  }
  // Not kept: what is shown must be what the server thinks.
  try {
    const reply = await fetch(location.pathname, { headers: { "HX-Request": "true" } });
    if (reply.ok) settle(await reply.text());
  } catch { /* said above */ }
}

function ask(form, answer) {
  const { action } = form;
  const shown = at("pair").dataset.case;
  last = last.then(() => {
    // Another pair came meanwhile than the one that the answer was meant for.
    if (answer && at("pair").dataset.case !== shown) return null;
    const body = new URLSearchParams(new FormData(form));
    if (answer) body.set("answer", answer);
    const sent = send(action, body);
    if (answer) stepAhead();
    return sent;
  });
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.closest("#reading")) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  ask(form, event.submitter && event.submitter.name === "answer" ? event.submitter.value : "");
}, true);

document.addEventListener("keydown", (event) => {
  const inField = event.target.closest("input, textarea, select, [contenteditable]");
  if (!keysOn() || event.repeat || event.ctrlKey || event.altKey || event.metaKey || inField) return;
  if (event.key === "?") {
    const help = at("reading-help");
    help.open = !help.open;
    help.querySelector("summary").focus();
    event.preventDefault();
    return;
  }
  const button = document.querySelector(`#reading button[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (!button) return;
  event.preventDefault();
  ask(button.form, button.name === "answer" ? button.value : "");
});

document.addEventListener("DOMContentLoaded", () => {
  at("keys-switch").addEventListener("click", () => {
    if (keysOn()) localStorage.setItem(KEYS_OFF, "yes"); else localStorage.removeItem(KEYS_OFF);
    showKeys();
  });
  showKeys();
});
