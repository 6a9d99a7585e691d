// Concepts of a criterion: Enter in its search field finds, and what a button changes shows beside.
const form = document.getElementById("ask");

form.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !event.target.matches("[data-find]")) return;
  event.preventDefault(); // else the first button of the form would be pressed
  event.target.parentElement.querySelector("button").click();
});

// A criterion that came anew changes what the question comes to.
form.addEventListener("htmx:load", (event) => {
  if (!event.target.id.startsWith("criterion-")) return;
  const numbers = event.target.querySelector('[name$="-ids"]');
  numbers.dispatchEvent(new Event("input", { bubbles: true }));
});
