// Opens a file of one's own into the text field beside it; nothing is sent until a button is pressed.
"use strict";

document.querySelectorAll("[data-open-into]").forEach((place) => {
  place.hidden = false;
  const input = place.querySelector("input");
  input.addEventListener("change", async () => {
    const [file] = input.files;
    if (!file) return;
    // What a custodian signs is small; a film or a table of patients would stop the page.
    const large = file.size > 8_000_000;
    input.addEventListener("blur", () => input.setCustomValidity(""), { once: true });
    input.setCustomValidity(large ? "This file is too large to be that. Open the one that the custodian sent." : "");
    if (large) input.reportValidity();
    else document.getElementById(place.dataset.openInto).value = await file.text();
  });
});
