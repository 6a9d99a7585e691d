// A page that renews itself loads anew where its forms change. Not under somebody who types: then it
// says that it has changed, and what was typed is there again after loading. It stays in this tab.
import { person, typed } from "./session.js";

const KEPT = `typed:${person}:${window.location.pathname}`; // nobody else gets it who signs in here
const told = document.getElementById("changed");

// Loads the page anew. A name that confirms something is typed anew, too.
function reloadKeeping() {
  const kept = typed().filter((field) => field.id && !field.dataset.mustBe).map((field) => [field.id, field.value]);
  if (kept.length) sessionStorage.setItem(KEPT, JSON.stringify(kept));
  window.location.reload();
}

function restore() {
  const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
  sessionStorage.removeItem(KEPT);
  const homeless = [];
  for (const [id, value] of kept) {
    const field = document.getElementById(id);
    if (field) field.value = value;
    else homeless.push(value);
  }
  if (!homeless.length) return;
  const words = document.createElement("blockquote");
  words.textContent = homeless.join(" ");
  told.replaceChildren(notice("You had typed this; there is no field for it any more:", words));
  window.addEventListener("load", () => told.scrollIntoView({ block: "center" }));
}

function notice(text, ...more) {
  const made = document.createElement("div");
  made.className = "notice wait";
  const words = document.createElement("p");
  words.textContent = text;
  made.append(words, ...more);
  return made;
}

const TYPES = "main form input, main form textarea, main form select";

// Said below the form in which somebody types: there it lies over nothing, and moves no field.
function holdBack() {
  if (told.firstChild) return;
  const field = document.activeElement?.matches(TYPES) ? document.activeElement : typed()[0];
  field?.closest("form")?.after(told);
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Load it anew";
  button.addEventListener("click", reloadKeeping);
  told.replaceChildren(notice("This page has changed since you began to type. What you typed stays.", button));
}

document.addEventListener("htmx:beforeOnLoad", (event) => {
  const anew = event.detail.xhr.getResponseHeader("HX-Refresh") === "true";
  if (!anew || !(typed().length || document.activeElement?.matches(TYPES))) return;
  event.preventDefault();
  holdBack();
});

document.addEventListener("portal:reload", reloadKeeping);
restore();
