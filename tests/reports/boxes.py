"""Texts of a page that overlap or are cut, from the boxes of all text nodes and of all texts drawn in figures.

A text is every visible text node (a box per line) and every text that matplotlib drew as glyphs (`g` with an id
`text_N`, in whose comment the words stand). What lies in a container that scrolls is looked at as far as it shows; the
rest of it can be reached and is not cut, unless `scrolled` asks for that as well. Beside one line of text the next
may touch it: boxes are taken without the outer sixth of their height, in which few letters have ink.
"""

from __future__ import annotations

from typing import Any

LOOK = r"""
([within, ignore, scrolled]) => {
  const width = document.documentElement.clientWidth, found = [], faults = [];
  const style = new Map(), of = (own) => style.get(own) ?? (style.set(own, getComputedStyle(own)), style.get(own));
  const clipped = (value) => value === "hidden" || value === "clip";
  const rolls = (value) => value === "auto" || value === "scroll";
  const words = (text) => JSON.stringify(text.replace(/\s+/g, " ").trim().slice(0, 40));
  const place = (own) => {
    const names = [];
    for (let at = own; at && at !== document.body && names.length < 3; at = at.parentElement) {
      if (at.id) names.unshift("#" + at.id);
      else if (at.classList.length && !names.length) names.unshift(at.tagName.toLowerCase() + "." + at.classList[0]);
    }
    return names.join(" ") || own.tagName.toLowerCase();
  };
  const unseen = (own) => {
    if (!own.checkVisibility({checkOpacity: true, checkVisibilityCSS: true})) return true;
    for (let at = own; at; at = at.parentElement) {
      const {position, clip, clipPath} = of(at), box = position === "absolute" ? at.getBoundingClientRect() : null;
      if (box && (box.right <= 0 || clip === "rect(0px, 0px, 0px, 0px)" || clipPath === "inset(50%)")) return true;
    }
    return false;
  };
  const shown = (own, box) => {
    // the box as far as its containers show it, and whether one of them cuts it for good
    let {left, right, top, bottom} = box, cut = "";
    for (let at = own.nodeType === 1 ? own : own.parentElement; at && at !== document.documentElement; at = at.parentElement) {
      const {overflowX, overflowY, position} = of(at), svg = at.tagName === "svg";
      if (overflowX !== "visible" || overflowY !== "visible") {
        const own = at.getBoundingClientRect();
        const x = left < own.left - 1.5 || right > own.right + 1.5, y = top < own.top - 1.5 || bottom > own.bottom + 1.5;
        if (x && (clipped(overflowX) || (scrolled && rolls(overflowX)))) cut ||= svg ? "by its drawing" : "at the side";
        if (y && clipped(overflowY)) cut ||= svg ? "by its drawing" : "above or below";
        if (overflowX !== "visible") { left = Math.max(left, own.left); right = Math.min(right, own.right); }
        if (overflowY !== "visible") { top = Math.max(top, own.top); bottom = Math.min(bottom, own.bottom); }
      }
      if (position === "fixed") break;
    }
    if (!cut && right > left && (left < -1.5 || right > width + 1.5)) cut = "by the window";
    return {left, right, top, bottom, cut};
  };
  const add = (owner, text, boxes) => {
    for (const box of boxes) {
      if (box.width < 1 || box.height < 1) continue;
      const seen = shown(owner, box), sixth = box.height / 6;
      if (seen.cut) faults.push(`cut ${seen.cut}: ${words(text)} in ${place(owner)}`);
      seen.top = Math.max(seen.top, box.top + sixth); seen.bottom = Math.min(seen.bottom, box.bottom - sixth);
      seen.left += 1; seen.right -= 1;
      if (seen.right > seen.left && seen.bottom > seen.top) found.push({...seen, owner, text, number: found.texts});
    }
    found.texts += 1;
  };
  found.texts = 0;
  const roots = [...document.querySelectorAll(within)];
  for (const root of roots) {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode, owner = node.parentElement;
      if (!node.data.trim() || owner.closest("script, style, noscript, title") || unseen(owner)) continue;
      if (ignore && owner.closest(ignore)) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      add(owner, node.data, range.getClientRects());
    }
    for (const drawn of root.querySelectorAll("svg g[id*='text_']")) {
      if (!/(^|-)text_\d+$/.test(drawn.id) || (ignore && drawn.closest(ignore)) || unseen(drawn)) continue;
      const said = [...drawn.childNodes].find((own) => own.nodeType === 8);
      add(drawn, said ? said.data : "?", [drawn.getBoundingClientRect()]);
    }
  }
  found.sort((a, b) => a.top - b.top);
  let open = [];
  for (const own of found) {
    open = open.filter((other) => other.bottom > own.top);
    for (const other of open)
      if (other.number !== own.number && other.left < own.right && own.left < other.right)
        faults.push(`overlap: ${words(other.text)} in ${place(other.owner)} and ${words(own.text)} in ${place(own.owner)}`);
    open.push(own);
  }
  return {texts: found.texts, faults: [...new Set(faults)]};
}
"""


def text_faults(
    page: Any, within: str = "body", *, ignore: str = "", scrolled: bool = False, fewest: int = 10
) -> list[str]:
    """One line per two texts that overlap and per text that is cut; none where all can be read.

    `page` is a page of playwright; `within` and `ignore` are selectors. `scrolled`: what lies beyond the edge of a container
    that scrolls sideways is cut as well. Raises AssertionError where fewer than `fewest` texts are shown, so that an empty
    page does not pass.
    """
    seen = page.evaluate(LOOK, [within, ignore, scrolled])
    if seen["texts"] < fewest:
        raise AssertionError(f"only {seen['texts']} texts are shown within {within!r}, need {fewest}")
    return seen["faults"]
