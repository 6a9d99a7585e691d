// A researcher's answer to a question back: signed here with the question's reading key, which
// lies in this browser (linkage.question_messages.Remark).
import { findKey, toBase64 } from "./reading-key.js";
import { goOn } from "./session.js";

// Canonical JSON (RFC 8785) of one level: keys in order; texts and whole numbers as JSON has them.
function canonical(content) {
  return JSON.stringify(content, Object.keys(content).sort());
}

async function signed(key, content) {
  const bytes = new TextEncoder().encode(`Remark\n${canonical(content)}`);
  return { ...content, signature: toBase64(await crypto.subtle.sign({ name: "Ed25519" }, key.sign.privateKey, bytes)) };
}

async function answer(form, key) {
  const { study, question, hash, number } = form.dataset;
  const remark = await signed(key, {
    version: 1, study_id: study, question_id: question, spec_hash: hash, author: "0-reader",
    answers: Number(number), said_at: Math.floor(Date.now() / 1000),
    text: form.elements.text.value.trim().split(/\s+/).join(" "),
  });
  const sent = await fetch(`/v1/studies/${study}/questions/${question}/remarks`, {
    method: "POST",
    headers: { "content-type": "application/json", "linkage-csrf": form.elements.csrf.value },
    body: JSON.stringify(remark),
  });
  if (!sent.ok) {
    const problem = await sent.json();
    throw new Error(`${problem.detail} ${problem.hint ?? ""}`);
  }
}

for (const form of document.querySelectorAll("form[data-answer]")) {
  const key = await findKey(form.dataset.reader);
  if (!key) continue;
  form.hidden = false;
  form.parentElement.querySelector("[data-instead]").hidden = true;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.dataset.sent) return; // pressed twice: the first signs and sends
    if (!(await goOn())) { delete form.dataset.sent; return; }
    try {
      await answer(form, key);
      form.reset();
      document.dispatchEvent(new Event("portal:reload"));  // typed.js keeps other answers
    } catch (fault) {
      const told = form.querySelector("[role=alert]");
      told.textContent = fault.message;
      told.hidden = false;
      delete form.dataset.sent;
    }
  });
}
