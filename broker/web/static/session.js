// A session may end under somebody who types. What was typed stays: that person signs in in another
// tab, and goes on here. For pages with forms that take long to fill in.
const told = document.getElementById("told");
export const person = document.querySelector(".me a").textContent.trim();
let over = false;

// Is there something in a field that its page did not come with? All of a form to keep counts: it
// comes back filled in where a row is added.
function isTyped(field) {
  if (field.type === "hidden" || field.disabled) return false;
  if (field instanceof HTMLSelectElement) return [...field.options].some((one) => one.selected !== one.defaultSelected && one.value);
  if (field.type === "checkbox") return field.checked !== field.defaultChecked;
  return field.value !== field.defaultValue || (field.value !== "" && field.form?.dataset.keep !== undefined);
}

export function typed(within = "main") {
  return [...document.querySelectorAll(`:is(${within}) :is(input, textarea, select)`)].filter(isTyped);
}

function say(kind, ...parts) {
  const words = document.createElement("p");
  words.className = `notice ${kind}`;
  words.append(...parts);
  told.replaceChildren(words);
  words.scrollIntoView({ block: "nearest" });
}

function tell(again = false) {
  if (over && !again) return;
  over = true;
  const link = document.createElement("a");
  Object.assign(link, { href: "/sign-in", target: "_blank", textContent: "Sign in in another tab" });
  say("wait", "Your session is over. Nothing was sent, and what you typed stays here. ", link, ", then come back to this one.");
}

// Takes the token of the session that is there now. Gives whether it is the same person's.
export async function goOn() {
  let session = null;
  try {
    const answer = await fetch("/v1/session");
    if (!answer.ok) { tell(true); return false; }
    session = await answer.json();
  } catch {
    say("bad", "The broker does not answer. What you typed stays here: try again.");
    return false;
  }
  if (session.name !== person) {
    over = true;
    say("bad", `In another tab ${session.name} is signed in now. Nothing was sent: sign in there as ${person}, then come back to this one.`);
    return false;
  }
  document.querySelectorAll('input[name="csrf"]').forEach((field) => { field.value = session.csrf_token; });
  document.body.setAttribute("hx-headers", JSON.stringify({ "Linkage-CSRF": session.csrf_token }));
  if (over) say("good", "You are signed in again. Go on: what you typed is here, and was not sent.");
  over = false;
  return true;
}

document.addEventListener("htmx:beforeOnLoad", (event) => {
  const { xhr } = event.detail;
  if (xhr.status === 401) {
    // Signed in anew in another tab: this page's token is of the session before.
    event.preventDefault();
    over = true;
    goOn();
  } else if (xhr.getResponseHeader("HX-Redirect")?.startsWith("/sign-in")) {
    if (!typed().length) return;
    event.preventDefault();
    tell();
  } else if (over) goOn();
});
// What is sent while it is over is lost: it stays, until somebody is signed in again.
document.addEventListener("submit", (event) => {
  if (!over) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  goOn();
}, true);
document.addEventListener("visibilitychange", () => { if (over && !document.hidden) goOn(); });
window.addEventListener("focus", () => { if (over) goOn(); });
window.addEventListener("beforeunload", (event) => {
  const form = document.querySelector("form[data-keep]");
  if (form && !form.dataset.sent && typed("form[data-keep]").length) event.preventDefault();
});
