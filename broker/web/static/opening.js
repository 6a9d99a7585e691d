// Opens a file of one's own into the text field beside it; nothing is sent until a button is pressed.
"use strict";

document.querySelectorAll("[data-open-into]").forEach((place) => {
  place.hidden = false;
  const input = place.querySelector("input");
  input.addEventListener("change", async () => {
    const [file] = input.files;
    if (file) document.getElementById(place.dataset.openInto).value = await file.text();
  });
});
