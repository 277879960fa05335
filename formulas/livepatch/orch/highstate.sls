# salt-run state.orchestrate livepatch.orch.highstate pillar='{"livepatch_targets": ["host1", "host2"]}'
# Takes the named hosts to the level that is approved for each; it approves nothing itself.
# With "livepatch_sync": false in that pillar the extension is not synced first.
{%- set sync = pillar.get('livepatch_sync', true) %}
{%- if sync %}
livepatch-sync:
  salt.function:
    - name: saltutil.sync_all
    - tgt: {{ pillar['livepatch_targets'] | json }}
    - tgt_type: list
{%- endif %}

livepatch-highstate:
  salt.state:
    - tgt: {{ pillar['livepatch_targets'] | json }}
    - tgt_type: list
    - sls: livepatch
{%- if sync %}
    - require:
      - salt: livepatch-sync
{%- endif %}
