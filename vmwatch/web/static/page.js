"use strict";
// What changed comes as pieces of the page; each is put where it belongs, and whoever is in the middle of something stays there.
(() => {
  const page = document.getElementById("live");
  const state = document.getElementById("state");
  const words = page.dataset;
  const ago = new Intl.RelativeTimeFormat(words.language, { numeric: "auto", style: "short" });
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const retryAfter = 30000;

  function relative(time) {
    const seconds = Math.round((new Date(time.dateTime) - Date.now()) / 1000);
    const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) || units[3];
    time.title = time.title || time.textContent;
    const said = ago.format(Math.trunc(seconds / size), unit);
    if (time.textContent !== said) time.textContent = said;
  }

  function tellTimes() {
    document.querySelectorAll("time.relative").forEach(relative);
  }

  // The same button in the new piece: by where it leads and what it is about.
  function twin(place, old) {
    return [...place.querySelectorAll("button, a")].find((one) =>
      one.getAttribute("formaction") === old.getAttribute("formaction") && one.value === old.value &&
      one.getAttribute("href") === old.getAttribute("href"));
  }

  function put(id, html) {
    const place = document.getElementById(id);
    if (!place) return;
    const held = place.contains(document.activeElement) ? document.activeElement : null;
    place.innerHTML = html;
    place.querySelectorAll("time.relative").forEach(relative);
    if (held) (twin(place, held) || document.getElementById(place.closest("section") ? "live" : "needs")).focus();
  }

  function follow() {
    const events = new EventSource(words.events);
    events.addEventListener("parts", (event) => {
      const { process, parts } = JSON.parse(event.data);
      if (process !== words.process) return location.replace("/" + location.search);
      state.textContent = words.live;
      Object.entries(parts).forEach(([id, html]) => put(id, html));
    });
    events.onerror = () => {
      state.textContent = words.lost;
      // Refused (too many live pages, or no longer let in): the page loads itself again now and then instead.
      if (events.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), retryAfter);
    };
    addEventListener("pagehide", () => events.close());
    addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  }

  const address = new URL(location);
  ["told", "of", "why"].forEach((key) => address.searchParams.delete(key));
  history.replaceState(null, "", address);
  page.tabIndex = -1;
  tellTimes();
  setInterval(tellTimes, 1000);
  follow();
})();
