package browser

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// TestPages opens every page: it is complete, quiet, fits a narrow screen, and can be read in both colour
// schemes and by a screen reader.
func TestPages(t *testing.T) {
	s := serve(t, attacked)
	ctx := tab(t, browser(t))
	for name, path := range s.pages(t) {
		do(t, ctx, chromedp.Navigate(s.URL+path))
		if title := run(t, ctx, chromedp.Title()); !strings.HasSuffix(title, " · Evictgate") {
			t.Errorf("%s: the title is %q", name, title)
		}
		for _, problem := range run(t, ctx, chromedp.Evaluate[[]string](structure)) {
			t.Errorf("%s: %s", name, problem)
		}
		for _, problem := range unnamed(call(t, ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes) {
			t.Errorf("%s: %s", name, problem)
		}
		for _, colours := range []string{"light", "dark"} {
			scheme(t, ctx, colours)
			for _, problem := range run(t, ctx, chromedp.Evaluate[[]string](contrast)) {
				t.Errorf("%s, %s: %s", name, colours, problem)
			}
		}
		for _, width := range []int64{320, 700, 1400} { // 700 is 1400 at a zoom of 200 %
			size(t, ctx, width, 900)
			if over := run(t, ctx, chromedp.Evaluate[int](`document.documentElement.scrollWidth - window.innerWidth`)); over > 0 {
				t.Errorf("%s: at %d px it is %d px too wide", name, width, over)
			}
		}
	}
}

// structure finds what is wrong with headings, landmarks, tables and labels.
const structure = `(() => {
  const problems = [];
  let last = 0;
  const headings = [...document.querySelectorAll("h1, h2, h3, h4")];
  if (headings.filter((h) => h.tagName === "H1").length !== 1) problems.push("not one h1");
  for (const h of headings) {
    const level = Number(h.tagName[1]);
    if (level > last + 1) problems.push("heading " + h.textContent + " jumps from " + last + " to " + level);
    last = level;
  }
  for (const [what, n] of [["main", 1], ["header.top", 1], ["nav[aria-label=Main]", 1], ["footer", 1], ["html[lang]", 1]])
    if (document.querySelectorAll(what).length !== n) problems.push("not " + n + " " + what);
  for (const table of document.querySelectorAll("table")) {
    if (!table.caption?.textContent.trim()) problems.push("a table has no caption");
    for (const th of table.querySelectorAll("th")) if (!th.scope || !th.textContent.trim()) problems.push("a header cell without scope or text: " + th.outerHTML.slice(0, 80));
    for (const row of table.querySelectorAll("tbody tr")) {
      const cells = [...row.children].length, heads = table.querySelectorAll("thead th").length;
      if (cells !== heads) problems.push("a row of " + table.caption.textContent + " has " + cells + " cells and " + heads + " headers");
    }
  }
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of ids) if (ids.filter((i) => i === id).length > 1) problems.push("id " + id + " is there more than once");
  for (const svg of document.querySelectorAll("svg"))
    if (svg.getAttribute("aria-hidden") !== "true" && !(svg.getAttribute("role") === "img" && svg.querySelector(":scope > title") && svg.querySelector(":scope > desc"))) problems.push("a picture without a name: " + svg.outerHTML.slice(0, 80));
  if (document.querySelector("[style], style, script:not([src])")) problems.push("an inline style or script");
  if (document.title === "owned") problems.push("a text was taken for HTML");
  if (document.querySelector("main img, main script, main iframe")) problems.push("a text became an element");
  return problems;
})()`

// contrast finds texts that stand out less than WCAG's 4.5 to 1 from what is behind them.
const contrast = `(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const f = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; }; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] / 255 + below[i] * (1 - top[3] / 255));
  const behind = (e) => { const layers = []; for (; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor)); return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]); };
  const problems = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || e.closest("svg, datalist, option, .skip") || !e.checkVisibility()) continue;
    const back = behind(e), ink = over(rgba(getComputedStyle(e).color), back);
    const [a, b] = [light(ink), light(back)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) problems.add(e.tagName + "." + e.className + " has a contrast of " + ratio.toFixed(2) + ": " + walk.currentNode.data.trim().slice(0, 40));
  }
  return [...problems].slice(0, 10);
})()`

// unnamed finds what a screen reader could not name.
func unnamed(nodes []*accessibility.Node) []string {
	var problems []string
	roles := map[string]int{}
	for _, n := range nodes {
		if n.Ignored || n.Role == nil {
			continue
		}
		role, name := text(n.Role), strings.TrimSpace(text(n.Name))
		roles[role]++
		switch role {
		case "link", "button", "textbox", "combobox", "checkbox", "image", "img", "heading", "table", "columnheader", "rowheader", "form", "DisclosureTriangle", "navigation", "RootWebArea":
			if name == "" {
				problems = append(problems, fmt.Sprintf("a %s has no name (node %s)", role, n.NodeID))
			}
		}
	}
	for _, landmark := range []string{"banner", "main", "navigation", "contentinfo"} {
		if roles[landmark] == 0 {
			problems = append(problems, "the tree has no "+landmark)
		}
	}
	return problems
}

func text(v *accessibility.Value) string {
	if v == nil || len(v.Value) == 0 {
		return ""
	}
	var s string
	if json.Unmarshal([]byte(v.Value), &s) != nil {
		return string(v.Value)
	}
	return s
}

// TestTablesStayTablesOnANarrowScreen: rows are shown as cards there, and are rows for a screen reader.
func TestTablesStayTablesOnANarrowScreen(t *testing.T) {
	s := serve(t, attacked)
	ctx := tab(t, browser(t))
	count := func() map[string]int {
		counts := map[string]int{}
		for _, n := range call(t, ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
			if role := text(n.Role); !n.Ignored && slices.Contains([]string{"table", "row", "cell", "gridcell", "columnheader", "rowheader"}, role) {
				counts[role]++
			}
		}
		return counts
	}
	do(t, ctx, chromedp.Navigate(s.URL+"/stuck"))
	wide := count()
	size(t, ctx, 320, 700)
	narrow := count()
	if wide["table"] == 0 || narrow["table"] != wide["table"] || narrow["row"] != wide["row"] || narrow["rowheader"] != wide["rowheader"] {
		t.Errorf("wide %v, narrow %v", wide, narrow)
	}
}

// TestFilters sets each field of each form, sends it, and finds what the store finds.
func TestFilters(t *testing.T) {
	s := serve(t, attacked)
	ctx := tab(t, browser(t))
	e := s.blocked(t)
	values := map[string]string{
		"since": "2026-11-20", "until": "2026-11-22 12:00", "namespace": "shop", "pod": e.Pod, "workload": "Deployment/api", "node": e.Node, "evictor": "karpenter",
		"user": "ops@example.com", "policy": "night-freeze", "budget": "shop/api", "episode": e.ID, "outcome": "denied", "fate": "deleted", "dry_runs": "true", "tried": "1h",
	}
	for _, path := range []string{"/decisions", "/episodes", "/stuck"} {
		do(t, ctx, chromedp.Navigate(s.URL+path))
		fields := run(t, ctx, chromedp.Evaluate[[]string](`[...document.querySelectorAll(".filters [id]")].map((e) => e.name)`))
		if len(fields) < 11 {
			t.Errorf("%s has only the fields %v", path, fields)
		}
		for _, name := range fields {
			do(t, ctx, chromedp.Navigate(s.URL+path+"?since=7d"))
			if name == "dry_runs" {
				do(t, ctx, chromedp.Click(chromedp.CSS("#f-dry_runs")))
			} else {
				do(t, ctx, chromedp.SetValue(chromedp.CSS("#f-"+name), values[name]))
			}
			if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(".filters button"))); err != nil {
				t.Fatal(err)
			}
			at, err := url.Parse(run(t, ctx, chromedp.Location()))
			if err != nil || at.Query().Get(name) != values[name] {
				t.Errorf("%s: %s is not in the URL: %s", path, name, at)
				continue
			}
			got := run(t, ctx, chromedp.Evaluate[int](`document.querySelectorAll("main table tbody tr").length`))
			if want := s.chosen(t, path, name, values[name]); got != want {
				t.Errorf("%s with %s=%s has %d rows, the store %d", path, name, values[name], got, want)
			}
		}
	}
}

// chosen is how many rows the store has for a filter, on a page.
func (s served) chosen(t *testing.T, path, name, value string) int {
	t.Helper()
	f := store.Filter{Since: now.Add(-7 * 24 * time.Hour)}
	tried := now.Add(-15 * time.Minute)
	switch name {
	case "since":
		f.Since = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	case "until":
		f.Until = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	case "namespace":
		f.Namespace = value
	case "pod":
		f.Pod = value
	case "workload":
		f.Workload = value
	case "node":
		f.Node = value
	case "evictor":
		f.Evictor = value
	case "user":
		f.User = value
	case "policy":
		f.Policy = value
	case "budget":
		f.Budget = value
	case "episode":
		f.Episode = value
	case "outcome":
		f.Outcome = policies.Outcome(value)
	case "fate":
		f.Fate = record.Fate(value)
	case "dry_runs":
		f.DryRuns = true
	case "tried":
		tried = now.Add(-time.Hour)
	}
	var n int
	switch path {
	case "/decisions":
		rows, err := s.store.List(t.Context(), f, store.Page{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		n = len(rows.Rows)
	case "/episodes":
		list, err := s.store.Episodes(t.Context(), f, store.Page{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		n = len(list.Episodes)
	case "/stuck":
		list, err := s.store.Stuck(t.Context(), f, tried)
		if err != nil {
			t.Fatal(err)
		}
		n = len(list)
	}
	return n
}

// TestKeyboard walks over a page by the tabulator: the skip link comes first and works, everything is
// reached in the order in which it stands, and what has the focus shows it.
func TestKeyboard(t *testing.T) {
	s := serve(t, attacked)
	ctx := tab(t, browser(t))
	do(t, ctx, chromedp.Navigate(s.URL+"/stuck"), chromedp.KeyEvent(kb.Tab))
	if got := run(t, ctx, chromedp.Evaluate[string](`document.activeElement.textContent`)); got != "Skip to the content" {
		t.Errorf("the first tab reaches %q", got)
	}
	if y := run(t, ctx, chromedp.Evaluate[float64](`(() => { document.activeElement.getAnimations().forEach((a) => a.finish()); return document.activeElement.getBoundingClientRect().top })()`)); y < 0 {
		t.Errorf("the skip link has the focus and cannot be seen: top %v", y)
	}
	do(t, ctx, chromedp.KeyEvent(kb.Enter), chromedp.KeyEvent(kb.Tab))
	if in := run(t, ctx, chromedp.Evaluate[bool](`document.querySelector("main").contains(document.activeElement)`)); !in {
		t.Error("the skip link does not lead into the content")
	}
	do(t, ctx, chromedp.Navigate(s.URL+"/stuck"))
	reachable := run(t, ctx, chromedp.Evaluate[int](`[...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']")].filter((e) => e.tabIndex >= 0).length`))
	for i := range reachable {
		do(t, ctx, chromedp.KeyEvent(kb.Tab))
		problem := run(t, ctx, chromedp.Evaluate[string](`(() => {
		  const e = document.activeElement, all = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']")].filter((e) => e.tabIndex >= 0);
		  const at = all.indexOf(e), style = getComputedStyle(e);
		  if (at !== `+fmt.Sprint(i)+`) return "is number " + at + ": " + e.outerHTML.slice(0, 80);
		  if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) return "does not show the focus: " + e.outerHTML.slice(0, 80);
		  return "";
		})()`))
		if problem != "" {
			t.Fatalf("tab %d %s", i+1, problem)
		}
	}
}

// TestTimes: the script shows them in the browser's zone; without it, or with a zone in the URL, the
// server's word stands.
func TestTimes(t *testing.T) {
	s := serve(t, attacked)
	ctx := tab(t, browser(t))
	record := s.week.Records[len(s.week.Records)-8]
	path := "/decisions/" + url.PathEscape(record.DecisionID)
	shown := func(path string) string {
		do(t, ctx, chromedp.Navigate(s.URL+path))
		return run(t, ctx, chromedp.TextContent(chromedp.CSS(".story time"))) + " / " + run(t, ctx, chromedp.TextContent(chromedp.CSS("[data-zone-text]")))
	}
	in := func(name string) string {
		location, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		return record.Timestamp.In(location).Format("2006-01-02 15:04:05")
	}
	zone(t, ctx, "Asia/Kolkata")
	for want, path := range map[string]string{
		in("Asia/Kolkata") + " / Times are in Asia/Calcutta, as this browser.": path,
		in("Europe/Berlin") + " / Times are in Europe/Berlin.":                 path + "?tz=Europe/Berlin",
		in("UTC") + " / Times are in UTC.":                                     path + "?tz=UTC",
	} {
		if got := strings.Replace(shown(path), "Asia/Kolkata", "Asia/Calcutta", 1); got != want {
			t.Errorf("%s shows %q, want %q", path, got, want)
		}
	}
	call(t, ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	if got, want := shown(path), in("UTC")+" / Times are in UTC."; got != want {
		t.Errorf("without script: %q, want %q", got, want)
	}
}

// TestWithoutScript follows the ways through the page with JavaScript off.
func TestWithoutScript(t *testing.T) {
	s := serve(t, attacked)
	ctx := tab(t, browser(t))
	call(t, ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	follow := func(selector, want string) {
		t.Helper()
		if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
			t.Fatalf("%s: %v", selector, err)
		}
		if at := run(t, ctx, chromedp.Location()); !strings.Contains(at, want) {
			t.Errorf("%s leads to %s, want %s", selector, at, want)
		}
	}
	do(t, ctx, chromedp.Navigate(s.URL))
	follow(`.windows a[href*="since=7d"]`, "/?since=7d")
	follow(`.stuck-count a`, "/stuck?since=7d")
	follow(`table.stuck tbody th a`, "/episodes/")
	follow(`.decisions tbody th a`, "/decisions/")
	follow(`nav[aria-label=Main] a[href^="/decisions"]`, "/decisions?since=7d")
	follow(`.pages a[rel=next]`, "after=")
	do(t, ctx, chromedp.SendKeys(chromedp.CSS("#tz"), "Asia/Tokyo"))
	follow(`.zone button`, "tz=Asia%2FTokyo")
	follow(`nav[aria-label=Main] a[href^="/policies"]`, "tz=Asia%2FTokyo")
	follow(`nav[aria-label=Main] a[href^="/budgets"]`, "/budgets")
	if visible := run(t, ctx, chromedp.Text(chromedp.CSS("main"))); !strings.Contains(visible, "payments/gateway") {
		t.Errorf("the budgets are not there: %s", visible)
	}
}

// TestExports reads what a page exports back, all of its pages, and compares it with the store.
func TestExports(t *testing.T) {
	s := serve(t, attacked)
	want, err := s.store.List(t.Context(), store.Filter{}, store.Page{Limit: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	var got []store.Row
	for next := "/decisions?format=json&since=all&limit=500"; next != ""; {
		response, err := http.Get(s.URL + next)
		if err != nil {
			t.Fatal(err)
		}
		var page store.Rows
		if err := json.NewDecoder(response.Body).Decode(&page); err != nil {
			t.Fatal(err)
		}
		got = append(got, page.Rows...)
		next = strings.TrimSuffix(strings.TrimPrefix(response.Header.Get("Link"), "<"), `>; rel="next"`)
		_ = response.Body.Close()
	}
	if a, b := encode(t, got), encode(t, want.Rows); a != b {
		t.Errorf("the JSON of %d decisions is not that of the store's %d", len(got), len(want.Rows))
	}
	response, err := http.Get(s.URL + "/decisions?format=csv&since=all")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(response.Body).ReadAll()
	_ = response.Body.Close()
	if err != nil || len(rows) != len(want.Rows)+1 {
		t.Fatalf("%d lines of CSV for %d decisions: %v", len(rows), len(want.Rows), err)
	}
	for i, row := range rows[1:] {
		w := want.Rows[i]
		for name, value := range map[string]string{"decision_id": w.ID, "namespace": w.Namespace, "pod": w.Pod, "user": w.User, "message": w.Message} {
			at := slices.Index(rows[0], name)
			if plain(row[at]) != output.Line(value) {
				t.Errorf("line %d, column %s: %.80q, want %.80q", i, name, row[at], value)
			}
			if row[at] != "" && strings.ContainsAny(row[at][:1], "=+-@\t\r") {
				t.Errorf("line %d: %.40q would be a formula", i, row[at])
			}
		}
	}
}

func plain(cell string) string { return strings.TrimPrefix(cell, "'") }

func encode(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
