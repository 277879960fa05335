# The dependency, the minion's own configuration, and the units: what a host needs to keep a level over a boot.
{%- from slspath ~ '/map.jinja' import livepatch with context %}

livepatch-pyelftools:
  cmd.run:
    - name: {{ livepatch.python }} -m pip install pyelftools
    - unless: {{ livepatch.python }} -c 'import elftools'

{%- if livepatch.config %}
livepatch-minion-config:
  file.serialize:
    - name: {{ livepatch.minion_config }}
    - dataset:
        livepatch: {{ livepatch.config | json }}
    - serializer: yaml
    - mode: '0600'
{%- endif %}

livepatch-boot-script:
  file.managed:
    - name: {{ livepatch.script_dir }}/livepatch-boot.py
    - source: salt://{{ slspath }}/files/livepatch-boot.py
    - mode: '0755'
    - makedirs: true

{%- for unit in ('livepatch-boot.service', 'livepatch-soak.service', 'livepatch-soak.timer') %}
{{ unit }}-file:
  file.managed:
    - name: {{ livepatch.unit_dir }}/{{ unit }}
    - source: salt://{{ slspath }}/files/{{ unit }}
    - template: jinja
    - context:
        python: {{ livepatch.python }}
    - onchanges_in:
      - cmd: livepatch-daemon-reload
{%- endfor %}

livepatch-daemon-reload:
  cmd.run:
    - name: systemctl daemon-reload

# Started too: a unit that is not active is not stopped at shutdown, and stopping it is what disarms.
{%- for unit in ('livepatch-boot.service', 'livepatch-soak.timer') %}
{{ unit }}-enabled:
  service.running:
    - name: {{ unit }}
    - enable: true
    - require:
      - file: livepatch-boot-script
      - file: {{ unit }}-file
      - cmd: livepatch-daemon-reload
{%- endfor %}
