// A link to a place inside closed folds opens them, at the start, at a click and at every change of the address.
function reveal(node) {
  for (let own = node; own; own = own.parentElement) if (own.tagName === "DETAILS") own.open = true;
}

function anchored(hash) {
  try {
    return hash.length > 1 ? document.getElementById(decodeURIComponent(hash.slice(1))) : null;
  } catch {
    return null; // a torn escape names nothing
  }
}

function goTo(hash) {
  const target = anchored(hash);
  if (!target) return;
  reveal(target);
  target.scrollIntoView();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.('a[href^="#"]');
  if (link) reveal(anchored(link.getAttribute("href")));
});
window.addEventListener("hashchange", () => goTo(location.hash));
goTo(location.hash);
