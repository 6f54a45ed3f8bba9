// Copyright (c) 2026 saasops.runbook contributors
// SPDX-License-Identifier: GPL-3.0-or-later
"use strict";
(function () {
  var root = document.documentElement;
  var find = function (id) { return document.getElementById(id); };

  // theme: what the system prefers, until the button says otherwise
  var button = find("theme");
  var prefers = window.matchMedia("(prefers-color-scheme: dark)");
  function dark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : prefers.matches;
  }
  function name() { button.textContent = dark() ? "Light theme" : "Dark theme"; }
  button.hidden = false;
  button.addEventListener("click", function () {
    root.dataset.theme = dark() ? "light" : "dark";
    name();
  });
  prefers.addEventListener("change", name);
  name();

  // on a telephone tables are laid out as cards, which must not cost them what they are to a screen reader
  [["table", "table.cards"], ["rowgroup", ".cards thead, .cards tbody"], ["row", ".cards tr"],
    ["columnheader", ".cards th"], ["cell", ".cards td"]].forEach(function (pair) {
    document.querySelectorAll(pair[1]).forEach(function (item) { item.setAttribute("role", pair[0]); });
  });

  // a link to a run opens it
  function open() {
    var target = location.hash.length > 1 && find(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") {
      if (target.parentNode.hidden && form) { form.reset(); }
      target.open = true;
      target.scrollIntoView();
    }
  }
  window.addEventListener("hashchange", open);

  // paper shows everything
  var closed = [];
  window.addEventListener("beforeprint", function () {
    closed = Array.prototype.slice.call(document.querySelectorAll("details:not([open])"));
    closed.forEach(function (item) { item.open = true; });
  });
  window.addEventListener("afterprint", function () {
    closed.forEach(function (item) { item.open = false; });
    closed = [];
  });

  var form = find("filters");
  if (form) {
    var runs = Array.prototype.map.call(document.querySelectorAll("li.run"), function (item) {
      return { item: item, hosts: JSON.parse(item.dataset.hosts), results: item.dataset.result.split(" "), text: null };
    });
    var filter = function () {
      var verb = find("f-verb").value;
      var result = find("f-result").value;
      var host = find("f-host").value;
      var words = find("f-text").value.toLowerCase().split(/\s+/).filter(Boolean);
      var shown = 0;
      runs.forEach(function (run) {
        if (words.length && run.text === null) {
          run.text = run.item.textContent.toLowerCase();
        }
        var fits = (!verb || run.item.dataset.verb === verb)
          && (!result || run.results.indexOf(result) >= 0)
          && (!host || run.hosts.indexOf(host) >= 0)
          && words.every(function (word) { return run.text.indexOf(word) >= 0; });
        run.item.hidden = !fits;
        shown += fits ? 1 : 0;
      });
      find("count").textContent = shown + " of " + runs.length + " runs shown.";
    };
    form.hidden = false;
    form.addEventListener("input", filter);
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    form.addEventListener("reset", function () { setTimeout(filter, 0); });
    find("unfold").addEventListener("click", function () {
      var all = Array.prototype.slice.call(document.querySelectorAll("li.run:not([hidden]) > details"));
      var every = all.every(function (item) { return item.open; });
      all.forEach(function (item) { item.open = !every; });
      this.textContent = every ? "Open all" : "Close all";
    });
  }
  open();
})();
