// What pages can do more where scripts run; each works without. Nothing here decides anything.
"use strict";

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function everywhere(root, selector, act) {
  if (root.matches && root.matches(selector)) act(root);
  root.querySelectorAll(selector).forEach(act);
}

function enrich(root) {
  // Times, in the viewer's zone; what the server said stays to be seen.
  everywhere(root, "time[datetime]", (time) => {
    if (time.title) return;
    time.title = time.textContent;
    time.textContent = moments.format(new Date(time.dateTime));
  });
  everywhere(root, "[data-zone]", (place) => { place.textContent = zone; });
  everywhere(root, "[data-copy]", (button) => {
    if (!button.hidden || !navigator.clipboard) return;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  });
  everywhere(root, "[data-print]", (button) => {
    button.hidden = false;
    button.addEventListener("click", () => window.print());
  });
  // A destructive act: its button works once the name is typed. The server checks it again.
  everywhere(root, "input[data-must-be]", (input) => {
    const button = input.form.querySelector("button");
    const check = () => { button.disabled = input.value !== input.dataset.mustBe; };
    input.addEventListener("input", check);
    check();
  });
}

document.addEventListener("DOMContentLoaded", () => {
  enrich(document);
  // What was said once is not said again when the page is loaded again.
  const here = new URL(location.href);
  if (!here.searchParams.has("told")) return;
  here.searchParams.delete("told");
  history.replaceState(history.state, "", here);
});
// Parts that renew themselves, by id, as the server wrote them. One that comes again as it was is
// left alone: the focus, what is marked to be copied and what is unfolded stay.
const parts = new Map();
const idsOf = (part) => [part.id, ...(part.getAttribute("hx-select-oob") || "").split(",").map((one) => one.trim().slice(1))].filter(Boolean);
const wrote = (page, id) => { const part = page.getElementById(id); return part ? part.outerHTML : ""; };
document.querySelectorAll('[hx-get][hx-trigger^="every"]').forEach((part) => {
  idsOf(part).forEach((id) => parts.set(id, wrote(document, id)));
});
function isAsBefore(part, text) {
  const page = new DOMParser().parseFromString(text, "text/html");
  const fresh = idsOf(part).map((id) => [id, wrote(page, id)]);
  const same = fresh.length > 0 && fresh.every(([id, words]) => words && words === parts.get(id));
  fresh.forEach(([id, words]) => parts.set(id, words));
  return same;
}
// A notice says what was done last. Where a part then changes by itself, it is said no more: the
// page has gone on since, and "on its way" would stand above what has come back.
let before = null;
const words = (element) => element.textContent.replace(/\s+/g, " ");
document.addEventListener("htmx:beforeSwap", (event) => {
  const { requestConfig, target, xhr } = event.detail;
  if (!requestConfig.triggeringEvent && event.detail.shouldSwap && isAsBefore(requestConfig.elt, xhr.responseText)) {
    event.detail.shouldSwap = false;
    return;
  }
  before = requestConfig.triggeringEvent ? null : { id: target.id, words: words(target) };
});
// Of what htmx put in: after an outerHTML swap the target itself is gone.
document.addEventListener("htmx:load", (event) => {
  const part = event.detail.elt;
  enrich(part);
  if (before && part.id === before.id && words(part) !== before.words) {
    document.querySelectorAll("#told > .good").forEach((notice) => notice.remove());
  }
});
// What a page asks by itself says so: it must not keep a session alive that nobody uses.
document.addEventListener("htmx:configRequest", (event) => {
  if (!event.detail.triggeringEvent) event.detail.headers["Linkage-Poll"] = "yes";
});
// A form sends once: a second click before the answer must not do it twice.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = "yes";
  window.addEventListener("pageshow", () => { delete form.dataset.sent; }, { once: true });
  setTimeout(() => { delete form.dataset.sent; }, 10000);
});
