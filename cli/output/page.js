"use strict";

const cards = [...document.querySelectorAll("article")];

function play(sound, seconds) {
  const audio = sound && sound.querySelector("audio");
  if (!audio) return;
  audio.currentTime = seconds;
  audio.play().catch(() => {}); // what is wrong with it is told below
}

// In the waveform a window or a word leads to its beginning, every other place to itself.
document.addEventListener("click", ({ target, clientX }) => {
  const place = target.closest("rect, svg, [data-start]");
  const card = target.closest("article");
  if (!place || !card) return;
  if (place.dataset.start !== undefined) {
    play(card.querySelector(".sound"), Number(place.dataset.start));
  } else if (place instanceof SVGRectElement) {
    play(place.closest(".sound"), place.x.baseVal.value);
  } else {
    const sound = place.closest(".sound");
    const box = place.getBoundingClientRect();
    play(sound, ((clientX - box.left) / box.width) * Number(sound.dataset.seconds));
  }
});

// Events of players do not bubble.
document.addEventListener("play", ({ target }) => {
  for (const other of document.querySelectorAll("audio")) if (other !== target) other.pause();
}, true);

for (const event of ["timeupdate", "seeked"]) {
  document.addEventListener(event, ({ target }) => {
    const line = target.closest(".sound").querySelector("line");
    line.setAttribute("x1", target.currentTime);
    line.setAttribute("x2", target.currentTime);
    const card = target.closest("article");
    for (const marked of card.querySelectorAll(".now")) marked.classList.remove("now");
    for (const answer of card.querySelectorAll(".answer")) {
      for (const kind of ["button", "span"]) {
        const places = [...answer.querySelectorAll(`${kind}[data-start]`)];
        places.findLast((place) => Number(place.dataset.start) <= target.currentTime)?.classList.add("now");
      }
    }
  }, true);
}

document.addEventListener("error", ({ target }) => {
  if (target.nextElementSibling) return;
  const told = document.createElement("small");
  told.textContent = "This sound cannot be played: it was moved, or the browser does not know its kind.";
  target.after(told);
}, true);

let texts;
document.getElementById("filter").addEventListener("input", ({ target }) => {
  texts ??= cards.map((card) => card.textContent.toLowerCase());
  const words = target.value.toLowerCase().split(/\s+/);
  cards.forEach((card, i) => { card.hidden = !words.every((word) => texts[i].includes(word)); });
  const shown = cards.filter((card) => !card.hidden).length;
  document.getElementById("count").textContent = shown < cards.length ? `${shown} of ${cards.length}` : cards.length;
});
