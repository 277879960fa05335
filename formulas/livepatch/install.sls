# The dependency, the minion's own configuration, and the units: what a host needs to keep a level over a boot.
{%- from slspath ~ '/map.jinja' import livepatch with context %}

# Into the Python that Salt runs on: the distribution's belongs to its package manager (PEP 668), any other to pip.
livepatch-pyelftools:
{%- if livepatch.python == '/usr/bin/python3' %}
  pkg.installed:
    - name: {{ livepatch.package }}
{%- else %}
  cmd.run:
    - name: {{ livepatch.python }} -m pip install {{ livepatch.pip_options }} pyelftools
{%- endif %}
    - unless: {{ livepatch.python }} -c 'import elftools'
    - reload_modules: true

{#- A host that was off while a level was approved gets there when its minion starts. Where the site has its
    minions do something else at their start, that stays. #}
{%- set config = {'livepatch': livepatch.config} if livepatch.config else {} %}
{%- set at_start = (opts.get('startup_states') or '', opts.get('sls_list') or []) %}
{%- if livepatch.startup and at_start in (('', []), ('sls', [slspath])) %}
{%- do config.update({'startup_states': 'sls', 'sls_list': [slspath]}) %}
{%- endif %}

{%- if livepatch.autoload is not none %}
{%- do config.update({'autoload_dynamic_modules': livepatch.autoload}) %}
{%- endif %}

{%- if config %}
livepatch-minion-config:
  file.serialize:
    - name: {{ livepatch.minion_config }}
    - dataset: {{ config | json }}
    - serializer: yaml
    - mode: '0600'
    - makedirs: true
{%- endif %}

{%- if livepatch.systemd %}
livepatch-boot-script:
  file.managed:
    - name: {{ livepatch.script_dir }}/livepatch-boot.py
    - source: salt://{{ slspath }}/files/livepatch-boot.py
    - mode: '0755'
    - makedirs: true

{#- What the minion goes by: its configuration as it will be, or as it is. #}
{%- set own = livepatch.config if 'state_dir' in livepatch.config else opts.get('livepatch') or {} %}
{%- set started = ('livepatch-disarm.service', 'livepatch-boot.service', 'livepatch-soak.timer') %}
{%- set units = started + ('livepatch-soak.service',) %}
{%- for unit in units %}
{{ unit }}-file:
  file.managed:
    - name: {{ livepatch.unit_dir }}/{{ unit }}
    - source: salt://{{ slspath }}/files/{{ unit }}
    - template: jinja
    - context:
        python: {{ livepatch.python }}
        script_dir: {{ livepatch.script_dir }}
        state_dir: {{ own.get('state_dir', '/var/lib/livepatch') }}
        extension_modules: {{ opts['extension_modules'] }}
{%- endfor %}

livepatch-daemon-reload:
  cmd.run:
    - name: systemctl daemon-reload
    - onchanges:
{%- for unit in units %}
      - file: {{ unit }}-file
{%- endfor %}

# Started too: a unit that is not active is not stopped at shutdown, and stopping livepatch-disarm.service disarms.
{%- for unit in started %}
{{ unit }}-enabled:
  service.running:
    - name: {{ unit }}
    - enable: true
    - require:
      - file: livepatch-boot-script
      - file: {{ unit }}-file
      - cmd: livepatch-daemon-reload
{%- endfor %}

{%- if config and livepatch.restart_minion %}
# The running minion goes by its old configuration until it starts anew; by then this run has long been answered.
livepatch-restart-minion:
  cmd.run:
    - name: systemd-run --on-active={{ livepatch.restart_after }} systemctl restart salt-minion.service
    - order: last
    - onchanges:
      - file: livepatch-minion-config
{%- endif %}
{%- endif %}
