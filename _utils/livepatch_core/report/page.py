"""A rollout's report as one HTML file: no script, nothing fetched, every value escaped."""

from __future__ import annotations

import jinja2

from livepatch_core.catalog.calls import bad_argument
from livepatch_core.report.rollout import Facts, as_text
from livepatch_core.rollout import plantext

# Salt syncs only .py files of the library: a template beside it would stay behind.
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Rollout {{ said.id }}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222;
} table { border-collapse: collapse; margin: .5em 0 1.5em; width: 100%; } th, td { text-align: left; padding:
.25em .7em; border-bottom: 1px solid #ddd; vertical-align: top; } th { background: #f4f4f4; } pre {
background: #f7f7f7; padding: 1em; overflow-x: auto; } .good { color: #17692b; } .bad { color: #a3201a; }
.note { color: #222; } .bar { display: flex; height: 1.2em; border-radius: .3em; overflow: hidden; background:
#eee; } .bar span { display: block; } code { font-size: 90%; } @media (prefers-color-scheme: dark) {
 body { background: #181818; color: #ddd; } th, pre { background: #262626; } th, td { border-color: #444; }
 .good { color: #7fd18f; } .bad { color: #ff8a80; } .note { color: #ddd; }
}
</style></head><body>
<h1>Rollout {{ said.id }}: level {{ said.level }}</h1>
<p class="{{ 'good' if said.state.startswith('completed') else 'bad' if said.state != 'running' else 'note'
}}"> <strong>{{ said.state }}</strong> since {{ said.since }}: {{ said.reason }}</p> <p>Target <code>{{
plan.target }}</code>, started by {{ said.by.who }}: {{ said.by.why }}. Plan <code>{{ hash }}</code>.</p> <div
class="bar" role="img" aria-label="hosts by state"> {%- for place, count in said.counts.items() %} <span
style="flex: {{ count }}; background: {{ colours.get(place, '#9aa5b1') }}" title="{{ count }} {{ place
}}"></span> {%- endfor %}</div> <p>{% for place, count in said.counts.items() %}{{ count }} {{ place }}{{ ", "
if not loop.last }}{% endfor %} of {{ said.targeted }} targeted.</p> <h2>What happened</h2>
<table><tr><th>UTC</th><th></th></tr> {% for line in lines %}<tr><td>{{ line.at }}</td><td class="{{
line.weight }}">{{ line.text }}</td></tr> {% endfor %}</table> {% if verdicts %}<h2>Verdicts of gates</h2>
<table><tr><th>UTC</th><th>Gate</th><th>Verdict</th><th>Reason</th><th>Evidence</th></tr> {% for one in
verdicts %}<tr><td>{{ one.at }}</td><td>{{ one.gate }}{{ " (dry run)" if one.dry_run }}</td> <td>{{
one.verdict }}</td><td>{{ one.reason }}</td><td><code>{{ one.evidence }}</code></td></tr> {% endfor
%}</table>{% endif %} <h2>Hosts</h2>
<table><tr><th>Host</th><th>State</th><th>Wave</th><th>Domain</th><th></th></tr> {% for host in hosts %}<tr>{%
for cell in host %}<td>{{ cell }}</td>{% endfor %}</tr> {% endfor %}</table> <h2>The plan</h2> <pre>{{
plan_text }}</pre> </body></html>
"""
COLOURS = {
    "healthy": "#2e9d4b",
    "already_ok": "#86cf98",
    "pending": "#d5dbe1",
    "rolled_back": "#e0a63a",
    "failed": "#d23f31",
    "stalled": "#e0743a",
    "unreachable": "#8d6fc1",
    "lost_after_patch": "#7a1410",
    "rollback_failed": "#a3201a",
    "needs_reboot": "#a3201a",
}


def written(facts: Facts, form: object) -> str:
    """In the form that was asked for. Raises LivepatchError (argument)."""
    if form not in ("text", "html"):
        raise bad_argument(f"form is {form!r}; a report is text, html or, where it is not saved, data")
    return as_html(facts) if form == "html" else as_text(facts)


def as_html(facts: Facts) -> str:
    template = jinja2.Environment(autoescape=True, undefined=jinja2.Undefined).from_string(PAGE)
    return template.render(
        said=facts.document,
        plan=facts.plan,
        hash=facts.plan_hash,
        lines=facts.lines,
        verdicts=facts.verdicts,
        hosts=facts.hosts,
        plan_text=plantext.as_text(facts.plan),
        colours=COLOURS,
    )
