// Asking a question: opens a file of one's own, and makes the reading key when "Ask" is pressed.
import { makeKey } from "./reading-key.js";

const form = document.getElementById("ask");
const button = form.querySelector("[data-ask]");
const refused = form.querySelector("[data-no-key]");

form.querySelector("[data-no-script]").hidden = true;

const place = form.querySelector("[data-open-file]");
place.hidden = false;
place.querySelector("input").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (!file) return;
  form.elements.text.value = await file.text();
  form.elements.text.dispatchEvent(new Event("input", { bubbles: true }));
});

form.addEventListener("submit", async (event) => {
  if (event.submitter !== button || event.defaultPrevented) return;
  event.preventDefault();
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
