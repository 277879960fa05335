# salt-run state.orchestrate livepatch.orch.highstate pillar='{"livepatch_targets": ["host1", "host2"]}'
# Takes the named hosts to the level that is approved for each; it approves nothing itself.
livepatch-sync:
  salt.function:
    - name: saltutil.sync_all
    - tgt: {{ pillar['livepatch_targets'] | json }}
    - tgt_type: list

livepatch-highstate:
  salt.state:
    - tgt: {{ pillar['livepatch_targets'] | json }}
    - tgt_type: list
    - sls: livepatch
    - require:
      - salt: livepatch-sync
