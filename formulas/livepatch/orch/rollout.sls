# From a module to a patched fleet: publish, plan, roll out, report.
#
#   salt-run state.orchestrate livepatch.orch.rollout pillar='{"rollout": {"module": "/srv/incoming/livepatch_2.ko",
#       "level": 2, "target": "hv*", "why": "CVE-2026-1234", "fixes": "CVE-2026-1234", "options": {...}}}'
#
# Every step that is refused or does not end well fails the orchestration, and nothing after it is run; the
# report ("report": "/srv/reports/level-2.html") is written in any case. A module is published in testing and,
# unless "promote" is false, promoted at once. With "promote": false and "allow_testing": true among the options
# the canaries get it while it is in testing, and the rollout pauses before the first wave until somebody has
# promoted the level (livepatch_catalog.promote) and resumed it (livepatch.resume).

{%- set given = pillar.get("rollout", {}) %}
{%- set options = given.get("options", {"profile": "standard"}) %}

{%- if given.get("module") %}
publish:
  salt.runner:
    - name: livepatch_catalog.publish
    - path: {{ given.module | json }}
    - fixes: {{ given.get("fixes", "") | json }}
    - why: {{ given.why | json }}
    - require_in:
      - salt: plan
{%- endif %}

{%- if given.get("promote", True) and given.get("module") %}
promote:
  salt.runner:
    - name: livepatch_catalog.promote
    - level: {{ given.level | json }}
    - why: {{ given.why | json }}
    - require:
      - salt: publish
    - require_in:
      - salt: plan
{%- endif %}

plan:
  salt.runner:
    - name: livepatch.plan
    - tgt: {{ given.target | json }}
    - tgt_type: {{ given.get("tgt_type", "glob") | json }}
    - level: {{ given.level | json }}
{%- for key, value in options.items() %}
    - {{ key }}: {{ value | json }}
{%- endfor %}

rollout:
  salt.runner:
    - name: livepatch.rollout
    - tgt: {{ given.target | json }}
    - tgt_type: {{ given.get("tgt_type", "glob") | json }}
    - level: {{ given.level | json }}
    - why: {{ given.why | json }}
{%- for key, value in options.items() %}
    - {{ key }}: {{ value | json }}
{%- endfor %}
    - require:
      - salt: plan

{%- if given.get("report") %}
report:
  salt.runner:
    - name: livepatch.save_report
    - path: {{ given.report | json }}
    - order: last
{%- endif %}
