"""The status page's style. Light and dark follow the reader's setting; every text has a contrast of at least 4.5. PURE.

Classes only: the page's policy forbids style in attributes, so that nothing from outside could bring any.
"""

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1b1d20; --faint: #565d66; --line: #d9dde3;
  --link: #1f4e9c; --track: #dde2e8; --over: #7d8ea6; --mark: #1b1d20;
  --good: #17693a; --good-soft: #e1f3e7; --warn: #80500a; --warn-soft: #fdefd2; --bad: #a3261b; --bad-soft: #fce4e1;
  --quiet: #4a515a; --quiet-soft: #e9ecf0; }
@media (prefers-color-scheme: dark) { :root { --page: #131518; --card: #1c1f23; --ink: #e7e9ec; --faint: #a7aeb7;
  --line: #363b42; --link: #9cc2ff; --track: #363c44; --over: #7f92ac; --mark: #fff;
  --good: #7fd6a0; --good-soft: #173324; --warn: #f0c069; --warn-soft: #3a2d12; --bad: #ff9f94; --bad-soft: #43201d;
  --quiet: #bcc3cc; --quiet-soft: #2b3037; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem clamp(.75rem, 2vw, 2rem) 3rem; max-width: 100rem; background: var(--page);
  color: var(--ink); font: .95rem/1.45 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
h1 { font-size: 1.35rem; margin: 0; } h2 { font-size: 1.1rem; margin: 0 0 .6rem; }
a { color: var(--link); } small { display: block; color: var(--faint); font-size: .85em; overflow-wrap: anywhere; }
code { font-size: .95em; overflow-wrap: anywhere; } p { margin: 0; }
.faint { color: var(--faint); } [hidden] { display: none !important; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.skip { position: absolute; left: 1rem; top: -4rem; padding: .5rem 1rem; background: var(--card); z-index: 1; }
.skip:focus { top: .5rem; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; border-radius: 3px; }
header, .bar { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; }
header { margin-bottom: 1rem; } #said { flex: 1; text-align: end; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem; margin: 0 0 1rem; }
.card.bad { border-color: var(--bad); } .card ul { margin: .3rem 0 .5rem; padding-inline-start: 1.2rem; }
.pill { display: inline-block; padding: .1rem .55rem; border-radius: 1rem; font-weight: 600; white-space: nowrap; }
.pill i { font-style: normal; }
.pill.good { color: var(--good); background: var(--good-soft); }
.pill.warn { color: var(--warn); background: var(--warn-soft); }
.pill.bad { color: var(--bad); background: var(--bad-soft); }
.pill.quiet { color: var(--quiet); background: var(--quiet-soft); }
ul.states.states { display: flex; flex-wrap: wrap; gap: .5rem; list-style: none; margin: 0 0 1rem; padding: 0; }
.states a { display: block; border-radius: 1rem; text-decoration: none; }
.states a:hover { text-decoration: underline; } .states [aria-current] { box-shadow: 0 0 0 2px var(--ink); }
.states .all { padding: .1rem .55rem; font-weight: 600; color: var(--ink); background: var(--quiet-soft); }
form { margin-bottom: .6rem; }
input[type=search] { flex: 1; min-width: 8rem; max-width: 28rem; }
input[type=search], button { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--over);
  border-radius: 6px; padding: .3rem .7rem; min-height: 2rem; }
::placeholder { color: var(--faint); opacity: 1; }
button { cursor: pointer; } button:hover { border-color: var(--ink); }
button[aria-disabled=true] { color: var(--faint); border-style: dashed; cursor: default; }
html:not(.live) .live-only, html.live .still-only { display: none; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: start; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .45rem .6rem; border-top: 1px solid var(--line); text-align: start; vertical-align: top; }
thead th { border-top: 0; color: var(--faint); font-weight: 600; white-space: nowrap; }
thead a { color: inherit; } th[aria-sort] a { color: var(--ink); font-weight: 700; }
th[aria-sort=ascending] a::after { content: " ↑" / ""; } th[aria-sort=other] a::after { content: " ↓" / ""; }
tbody th { font-weight: 400; } .number { text-align: end; white-space: nowrap; }
.sites tr.bad > :first-child { box-shadow: inset 3px 0 var(--bad); }
.sites tr.warn > :first-child { box-shadow: inset 3px 0 var(--warn); }
.sites th[scope=row] { min-width: 11rem; max-width: 22rem; overflow-wrap: anywhere; }
.sites td { min-width: 6.5rem; max-width: 24rem; } .sites time, .sites time small { white-space: nowrap; }
.sites td:nth-child(3) { min-width: 11rem; } .sites td:nth-child(6) { min-width: 12rem; overflow-wrap: anywhere; }
.sites p + p { margin-top: .4rem; } details { color: var(--faint); } summary { cursor: pointer; }
.age { display: block; } .track { fill: var(--track); } .over { fill: var(--over); } .mark { fill: var(--mark); }
tr.bad .over { fill: var(--bad); } tr.warn .over { fill: var(--warn); }
.grid { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
.grid .card { margin: 0; }
dl { display: grid; grid-template-columns: auto 1fr; gap: .25rem 1rem; margin: 0; } dt { color: var(--faint); }
dd { margin: 0; text-align: end; overflow-wrap: anywhere; } dd small { white-space: nowrap; }
.parts { table-layout: fixed; margin-top: 1rem; } .parts :is(th, td) { padding: .25rem .3rem; }
.parts td.number { width: 26%; } .parts td.number + td.number { width: 19%; } .part { width: 20%; }
.part svg { display: block; margin-top: .35rem; }
footer { color: var(--faint); margin-top: 1.5rem; }
#lost { color: var(--bad); background: var(--bad-soft); border: 1px solid var(--bad); padding: .5rem 1rem;
  border-radius: 8px; margin-bottom: 1rem; font-weight: 600; }
.old main { opacity: .6; }
@media (max-width: 55rem) {
  .sites thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .sites, .sites tbody { display: block; }
  .sites tr { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: .5rem 1rem; padding: .8rem 0;
    border-top: 1px solid var(--line); }
  .sites th[scope=row], .sites td { display: block; border: 0; padding: 0; min-width: 0; max-width: none; }
  .sites tr.bad, .sites tr.warn { padding-inline-start: .8rem; box-shadow: inset 3px 0 var(--bad); }
  .sites tr.warn { box-shadow: inset 3px 0 var(--warn); } .sites tr > :first-child { box-shadow: none !important; }
  .sites td[data-label]::before { content: attr(data-label); display: block; color: var(--faint); font-size: .85em; }
  .sites td:nth-child(2)::before { content: none; }
  .sites td:nth-child(3), .sites td:nth-child(6) { grid-column: 1 / -1; }
}
@media (max-width: 34rem) { .sites th[scope=row], .sites td:nth-child(2) { grid-column: 1 / -1; } }
@media (prefers-reduced-motion: no-preference) { .over { transition: width .4s; } main { transition: opacity .2s; } }
"""
