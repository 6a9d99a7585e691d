// Asking a question: opens a file of one's own, and makes the reading key when "Ask" is pressed.
import { makeKey } from "./reading-key.js";
import { goOn } from "./session.js";

const form = document.getElementById("ask");
const button = form.querySelector("[data-ask]");
const refused = form.querySelector("[data-no-key]");

form.querySelector("[data-no-script]").hidden = true;

const place = form.querySelector("[data-open-file]");
place.hidden = false;
place.querySelector("input").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (!file) return;
  const large = file.size > 64 * 1024;
  event.target.addEventListener("blur", () => event.target.setCustomValidity(""), { once: true });
  event.target.setCustomValidity(large ? "This file is too large: a specification has 64 KiB at most." : "");
  if (large) { event.target.reportValidity(); return; }
  form.elements.text.value = await file.text();
  form.elements.text.dispatchEvent(new Event("input", { bubbles: true }));
});

form.addEventListener("submit", async (event) => {
  if (event.submitter !== button || event.defaultPrevented) return;
  event.preventDefault();
  if (form.dataset.sent) return; // pressed twice: the first makes the key and sends
  if (!(await goOn())) { delete form.dataset.sent; return; }
  try {
    const { study, enclave, enclaveSigning } = button.dataset;
    const key = await makeKey({ study, enclave, enclaveSigning });
    form.elements.reader_signing.value = key.signing;
    form.elements.reader_sealing.value = key.sealing;
  } catch (fault) {
    refused.hidden = false;
    refused.focus();
    delete form.dataset.sent;
    return;
  }
  const act = document.createElement("input");
  Object.assign(act, { type: "hidden", name: "act", value: "ask" });
  form.append(act);
  form.submit();
});
