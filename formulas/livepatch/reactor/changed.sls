# Master configuration:
#   reactor:
#     - 'salt/beacon/*/livepatch/*':
#       - salt://livepatch/reactor/changed.sls
#
# An event is a hint: any minion can send any. So this asks the minion that is named to refresh its grain, and
# nothing else: it approves, blocks and starts nothing.
livepatch-refresh-grain:
  local.saltutil.refresh_grains:
    - tgt: [{{ data['id'] | json }}]
    - tgt_type: list
    - kwarg:
        refresh_pillar: false
