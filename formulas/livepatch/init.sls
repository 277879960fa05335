# Installed, at the approved level, and there after a boot.
{%- from slspath ~ '/map.jinja' import livepatch with context %}

include:
  - .install

livepatch-level:
  livepatch.applied:
    - uncovered: {{ livepatch.uncovered }}
    - unsupported: {{ livepatch.unsupported }}
    - require:
      - livepatch-pyelftools

{%- if livepatch.persist and livepatch.systemd %}
livepatch-kept:
  livepatch.persisted:
    - require:
      - livepatch: livepatch-level
      - service: livepatch-boot.service-enabled
{%- endif %}
